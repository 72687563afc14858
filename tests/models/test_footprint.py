"""Bytes and FLOPs against what is published for Wan 2.1, and against torch's own counts of our networks."""

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.card import PREVIS, TINY, WAN_1_3B, WAN_5B, WAN_14B, WAN_A14B, WAN_I2V_A14B
from models.footprint import (
    AUTOENCODERS,
    activation_bytes,
    film_flops,
    flops,
    footprint,
    parameters,
    vae_bytes,
    weights_bytes,
)
from models.geometry import Geometry

SMALL = Geometry(33, 128, 224)
SD = Geometry(81, 480, 832)
HD = Geometry(81, 720, 1280)
GIB, MIB = 2**30, 2**20


def test_parameters_of_wan_are_exact():
    assert parameters(WAN_1_3B) == 1_418_996_800
    assert parameters(WAN_14B) == parameters(WAN_A14B) == 14_288_491_584  # an expert
    assert parameters(WAN_I2V_A14B) == 14_288_901_184
    assert parameters(WAN_5B) == 4_999_787_712


@pytest.mark.parametrize("card", [PREVIS, TINY], ids=lambda card: card.name)
def test_parameters_of_ours_are_those_of_the_network(card):
    import torch

    from models.transformer import Transformer

    with torch.device("meta"):
        assert parameters(card) == sum(p.numel() for p in Transformer(card).parameters())


@pytest.mark.parametrize(
    ("card", "precision", "gb"),
    [
        (WAN_1_3B, "fp32", 5.68),
        (WAN_1_3B, "bf16", 2.84),
        (WAN_1_3B, "int8", 1.45),
        (WAN_14B, "fp32", 57.15),
        (WAN_14B, "bf16", 28.58),
        (WAN_14B, "int8", 14.53),
    ],
)
def test_bytes_of_wan_as_published(card, precision, gb):
    """The table counts every block matrix as small; its 8 bit has no scales, which are below 0.3 %."""
    assert weights_bytes(card, precision, kept_blocks=0) / 1e9 == pytest.approx(gb, rel=0.008)
    assert weights_bytes(card, precision) >= weights_bytes(card, precision, kept_blocks=0)


@pytest.mark.parametrize("card", [PREVIS, replace(PREVIS, layers=10)], ids=["shallow", "deep"])
def test_bytes_of_a_quantized_network_are_those_that_are_stored(card):
    from models.quantize import quantize
    from models.transformer import Transformer

    stored = quantize(Transformer(card).state_dict(), card)
    assert weights_bytes(card, "int8") == pytest.approx(
        sum(t.nbytes for t in stored.values()), rel=0.02
    )  # vectors: fp32


def test_a_precision_that_is_none_is_refused():
    with pytest.raises(ValueError, match="int8"):
        weights_bytes(PREVIS, "int3")


@pytest.mark.parametrize(
    ("card", "geometry", "tokens", "tflop"),
    [(WAN_1_3B, SD, 32_760, 283), (WAN_14B, SD, 32_760, 1678), (WAN_14B, HD, 75_600, 6523)],
)
def test_flops_of_one_forward_as_published(card, geometry, tokens, tflop):
    assert geometry.tokens == tokens
    assert flops(card, geometry) / 1e12 == pytest.approx(tflop, rel=0.001)
    assert flops(card, geometry, 50) == 50 * flops(card, geometry)


def test_flops_of_our_network_are_what_torch_counts():
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from models.transformer import Transformer

    geometry = Geometry(9, 64, 96)
    network = Transformer(PREVIS)
    latents = torch.zeros(1, PREVIS.in_channels, *geometry.latent)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # the CPU's fused one is not counted
        network(latents, torch.zeros(1), torch.zeros(1, PREVIS.text_len, PREVIS.text_dim))
    counts = counter.get_flop_counts()
    inside = sum(sum(ops.values()) for name, ops in counts.items() if re.fullmatch(r"Transformer\.blocks\.\d+", name))
    assert flops(PREVIS, geometry) == inside


def test_our_autoencoder_costs_what_torch_counts():
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from models.vae import VAE

    coder = AUTOENCODERS["previs"]
    with torch.device("meta"):
        vae = VAE()
        film, latents = torch.empty(1, 3, 9, 64, 96), torch.empty(1, 16, 3, 8, 12)
    assert coder.parameters == sum(p.numel() for p in vae.parameters())
    cells = 3 * 8 * 12
    with FlopCounterMode(display=False) as counter:
        vae.encode(film)
    assert counter.get_total_flops() == cells * coder.encoder.flops_a_cell
    with FlopCounterMode(display=False) as counter:
        vae.decode(latents)
    assert counter.get_total_flops() == cells * coder.decoder.flops_a_cell


def test_wans_decoder_has_the_published_weights_and_memory():
    decoder = AUTOENCODERS["wan2.1"].decoder
    assert decoder.weights / 1e6 == pytest.approx(73.3, abs=0.1)
    assert vae_bytes(WAN_1_3B, SD) / GIB == pytest.approx(7.61, rel=0.02)
    assert vae_bytes(WAN_1_3B, HD) / GIB == pytest.approx(17.55, rel=0.02)


def test_activations_hold_what_is_published():
    """At 720p 14B in bf16: q, k, v 2215 MiB; feed-forward 1993 MiB; the fp32 stream is twice the printed 738 MiB."""
    q_k_v, hidden, stream = 3 * HD.tokens * 5120 * 2, HD.tokens * 13824 * 2, HD.tokens * 5120 * 4
    assert (round(q_k_v / MIB), round(hidden / MIB), round(stream / MIB)) == (2215, 1993, 2 * 738 + 1)
    assert activation_bytes(WAN_14B, HD, 2) > 2 * stream + max(q_k_v, 2 * hidden)
    assert activation_bytes(WAN_14B, HD, 2) < 14 * GIB


def test_the_shipped_model_fits_a_small_machine():
    cost = footprint(PREVIS, SMALL, "int8", "cpu")
    assert cost.total_bytes < GIB
    assert cost.total_bytes == cost.weights_bytes + max(cost.activation_bytes, cost.vae_bytes) + cost.reserve_bytes
    assert footprint(PREVIS, SMALL, "int8", "cuda:0").activation_bytes < cost.activation_bytes


@settings(max_examples=50, deadline=None)
@given(
    n=st.integers(1, 40), h=st.integers(4, 60), w=st.integers(4, 60), card=st.sampled_from([PREVIS, WAN_1_3B, WAN_14B])
)
def test_more_film_never_costs_less(n, h, w, card):
    small, longer, wider = (
        Geometry(4 * a + 1, 16 * b, 16 * c) for a, b, c in ((n, h, w), (n + 1, h, w), (n, h, w + 1))
    )
    for larger in (longer, wider):
        assert footprint(card, larger).total_bytes > footprint(card, small).total_bytes
        assert film_flops(card, larger, 8) > film_flops(card, small, 8)
