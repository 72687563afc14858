"""Text and image encoders of an imported model: loaded from its package before denoising, then unloaded.

Text embeddings are small and can be cached (models/events.py: Embedding); then the text encoder is not loaded.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.card import TextCard, reads_text
from models.cost.text_encoder import TOKENS
from models.encoders.clip import VisionCard, load_vision
from models.encoders.umt5 import TextEncoder, text_dtype
from models.errors import BadInput
from models.events import Embedding, Request
from models.loading.load import Model, dtype_on
from models.loading.quantize import load_quantized
from models.loading.streaming import place
from models.placement import Placement
from models.weight_files.package_header import PARTS, TOKENIZER
from models.weight_files.tensors import Package

MOST, MOST_LAYERS = 2**20, 512  # of the sizes that a package may give


def encode_prompts(model: Model, request: Request, where: str) -> tuple[tuple[Tensor, ...], tuple[Embedding, ...]]:
    """The context (1, text_len, text_dim) of each pass, on the model's device; and the embeddings that were not cached.

    Nothing for a card that reads no text. where: "cpu", "gpu" or "streamed", as in events.Settings. Raises BadInput for
    a package whose text encoder is missing or unsound.
    """
    card = model.card
    if not reads_text(card):
        return (), ()
    texts = (request.positive, request.negative)[: card.passes]
    known = {each.text: each for each in request.known if len(each.data) == 2 * each.tokens * card.text_dim > 0}
    missing = [each for each in dict.fromkeys(texts) if each not in known]
    new = _encode_texts(model, missing, where) if missing else ()
    known |= {each.text: each for each in new}
    rows = [
        torch.frombuffer(bytearray(known[each].data), dtype=torch.bfloat16).view(-1, card.text_dim) for each in texts
    ]
    return pad_context(rows, card.text_len).to(model.device).split(1), new


def encode_images(model: Model, pictures: Sequence[Tensor]) -> Tensor:
    """CLIP's tokens of pictures (1, 3, h, w) in 0..1: (1, all their tokens, D), one picture after another."""
    card = VisionCard(**read_sizes(model.package, "vision", VisionCard))
    tower = load_vision(card, model.package.part("vision."), model.device, dtype_on(model.device))
    return torch.cat([tower(picture.to(model.device)) for picture in pictures], 1)


def read_sizes(package: Package, part: str, card: type[TextCard] | type[VisionCard]) -> dict[str, Any]:
    """The sizes of a part, as its package gives them. Raises BadInput where it gives none, or no sound ones."""
    kinds = {field.name: field.type for field in fields(card)}
    try:
        facts = json.loads(package.metadata[part])
        sound = all(
            isinstance(value, str) if kinds[name] == "str" else type(value) in (int, float) and 0 < value <= MOST
            for name, value in facts.items()
        )
        if sound and facts["layers"] <= MOST_LAYERS and facts["dim"] % facts["heads"] == 0:
            return dict(facts)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        sound = False  # raised below, in one message with the other ways to be wrong
    raise BadInput(f"the weights hold no {PARTS[part]} of sound sizes: import the model again, with all of its parts")


def _encode_texts(model: Model, texts: Sequence[str], where: str) -> tuple[Embedding, ...]:
    """Texts through the text encoder, which is unloaded on return."""
    from models.encoders.tokenizer import (  # start-up
        Tokenizer,  # here: a machine that renders or trains the shipped model needs none
    )

    package = model.package
    card = TextCard(**read_sizes(package, "text", TextCard))
    vocabulary = package.tensors.get(TOKENIZER)
    if vocabulary is None:
        raise BadInput("the weights hold no tokenizer: import the model again, with its spiece.model")
    tokenizer = Tokenizer(vocabulary.numpy().tobytes(), card.words, card.tokens)
    device = model.device if where in ("gpu", "streamed") else torch.device("cpu")
    encoder = load_quantized(card, package.part("text."), text_dtype(dtype_on(device)))
    place(encoder, device, Placement(0, "disk") if where == "streamed" else Placement())
    rows = encode_tokens(encoder, [tokenizer.ids(each) for each in texts])
    return tuple(
        Embedding(text, len(row), row.cpu().contiguous().view(torch.uint8).numpy().tobytes())
        for text, row in zip(texts, rows, strict=True)
    )


def encode_tokens(encoder: TextEncoder, texts: Sequence[Sequence[int]]) -> list[Tensor]:
    """The token ids of some texts -> an embedding (n, D) bf16 for each, n its own tokens, on the encoder's device.

    They form one padded batch: streamed layers are copied once for all of them.
    """
    rows = [torch.tensor(numbers) for numbers in texts]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    lengths = torch.tensor([len(numbers) for numbers in texts])
    mask = None if len(lengths.unique()) == 1 else torch.arange(ids.shape[1]) < lengths[:, None]
    with torch.inference_mode():
        embeddings = encoder(ids, mask).to(torch.bfloat16)
    return [embedding[:length] for embedding, length in zip(embeddings, lengths.tolist(), strict=True)]


def pad_context(embeddings: Sequence[Tensor], tokens: int = TOKENS) -> Tensor:
    """Embeddings (n, D) of several texts -> their context (B, tokens, D), padded with zeros that are not masked: they
    pass through the network's text embedding, whose biases make something of them, and take part in attention.
    """
    return torch.stack([F.pad(embedding, (0, 0, 0, tokens - len(embedding))) for embedding in embeddings])
