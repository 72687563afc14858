"""From prompts to context as in diffusers' pipeline of Wan, independent of the other prompts in the batch."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from models.card import TINY as FILM
from models.card import TextCard
from models.dit.wan import Transformer
from models.encoders.names import original_text_name
from models.encoders.tokenizer import Tokenizer
from models.loading.quantize import load_quantized
from models.loading.streaming import place
from models.placement import Placement
from models.rendering.encode import encode_tokens, pad_context

CARD = TextCard("umt5-tiny", words=800, dim=32, ffn=48, heads=4, layers=2)
TEXTS = ["  A woman\n walks, &amp;amp; turns.  ", "", "Licensed " * 300]


@pytest.fixture(scope="module")
def theirs():
    """transformers' encoder, whose weights ours are."""
    from transformers import UMT5Config, UMT5EncoderModel

    torch.manual_seed(0)
    network = UMT5EncoderModel(UMT5Config(
        vocab_size=CARD.words, d_model=CARD.dim, d_kv=8, d_ff=CARD.ffn, num_layers=CARD.layers, num_heads=CARD.heads,
    )).eval()  # fmt: skip
    with torch.no_grad():
        for name, weight in network.named_parameters():
            wide = weight.dim() > 1 and "bias" not in name
            weight.copy_(
                torch.randn_like(weight) / weight.shape[1] ** 0.5 if wide else 1 + 0.3 * torch.randn_like(weight)
            )
    return network


@pytest.fixture(scope="module")
def encoder(theirs):
    return load_quantized(CARD, {original_text_name(name): tensor for name, tensor in theirs.state_dict().items()})


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


def test_words_become_what_diffusers_makes_of_them(spiece, theirs, encoder):
    from diffusers import WanPipeline
    from transformers import PreTrainedTokenizerFast

    ours = Tokenizer(spiece(), CARD.words)
    their_tokenizer = PreTrainedTokenizerFast(tokenizer_object=ours._engine, pad_token="<pad>", eos_token="</s>")
    pipeline = SimpleNamespace(tokenizer=their_tokenizer, text_encoder=theirs, _execution_device="cpu")
    with torch.no_grad():
        expected = WanPipeline._get_t5_prompt_embeds(pipeline, TEXTS, max_sequence_length=512)
    embeddings = encode_tokens(encoder, [ours.ids(text) for text in TEXTS])
    assert [len(embedding) for embedding in embeddings[1:]] == [1, 512] and len(embeddings[0]) < 40
    context = pad_context(embeddings)
    assert context.shape == expected.shape == (3, 512, CARD.dim) and context.dtype == torch.bfloat16
    assert relative(context, expected) < 0.003  # bf16 has 8 bits
    assert torch.equal(context == 0, expected == 0)


def test_a_text_is_the_same_alone_and_in_company(encoder):
    texts = [[5, 9, 2, 17, 1], [44, 1], [3] * 30 + [1]]
    together = encode_tokens(encoder, texts)
    for text, embedding in zip(texts, together, strict=True):
        (alone,) = encode_tokens(encoder, [text])
        assert alone.shape == embedding.shape == (len(text), CARD.dim)
        assert relative(alone, embedding) < 0.004


def test_streamed_layers_read_the_same(encoder):
    streamed = load_quantized(CARD, encoder.state_dict())
    place(streamed, torch.device("cpu"), Placement(0))
    for ours, right in zip(
        encode_tokens(streamed, [[5, 1], [7, 8, 1]]), encode_tokens(encoder, [[5, 1], [7, 8, 1]]), strict=True
    ):
        assert torch.equal(ours, right)


@torch.no_grad()
def test_the_zeros_that_fill_a_text_up_are_seen():
    """A network that masked them, or was not given them, would make another film of the same words."""
    from dataclasses import replace

    card = replace(FILM, text_dim=CARD.dim, text_len=24)
    network = Transformer(card)
    generator = torch.Generator().manual_seed(0)
    for weight in network.parameters():
        weight.copy_(
            torch.randn(weight.shape, generator=generator) / (weight[0].numel() if weight.dim() > 1 else 2) ** 0.5
        )
    words = torch.randn(9, CARD.dim, generator=generator)
    x, t = torch.randn(1, card.in_channels, 1, 4, 4, generator=generator), torch.tensor([500.0])
    network.eval()
    filled = network(x, t, pad_context([words], 24))
    assert torch.equal(filled, network(x, t, words[None]))  # the network fills up what is not
    fewer = Transformer(replace(card, text_len=9))
    fewer.load_state_dict(network.state_dict())
    assert relative(fewer(x, t, words[None]), filled) > 0.01
