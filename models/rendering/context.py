"""Words -> the context that a Wan network reads.

    numbers = tokenizer.ids(text)            models/encoders/tokenizer.py
    embeddings = read(encoder, numbers)      one pass of the layers for all texts, each at its own length
    context = filled_up(embeddings)          zeros to 512, which the network was trained to see

An embedding is bf16 wherever it comes from, so that a text read now and one remembered make the same film.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from models.cost.text_encoder import TOKENS
from models.encoders.umt5 import TextEncoder


def read(encoder: TextEncoder, texts: Sequence[Sequence[int]]) -> list[Tensor]:
    """The numbers of some texts -> an embedding (n, D) bf16 for each, n its own tokens, on the encoder's device.

    They pass through the layers together: where the layers stream, all are copied once.
    """
    rows = [torch.tensor(numbers) for numbers in texts]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    lengths = torch.tensor([len(numbers) for numbers in texts])
    mask = None if len(lengths.unique()) == 1 else torch.arange(ids.shape[1]) < lengths[:, None]
    with torch.inference_mode():
        embeddings = encoder(ids, mask).to(torch.bfloat16)
    return [embedding[:length] for embedding, length in zip(embeddings, lengths.tolist(), strict=True)]


def filled_up(embeddings: Sequence[Tensor], tokens: int = TOKENS) -> Tensor:
    """Embeddings (n, D) of several texts -> their context (B, tokens, D). The zeros that fill each up are no mask: they
    pass through the network's own layers for text, whose biases make something of them, and take part in attention.
    """
    return torch.stack([F.pad(embedding, (0, 0, 0, tokens - len(embedding))) for embedding in embeddings])
