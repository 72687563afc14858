"""FLOPs against what is published for Wan and against torch's own counts of our networks."""

import re
from dataclasses import replace

import pytest

from models.card import PREVIS, WAN_1_3B, WAN_5B, WAN_14B, WAN_I2V_480P, WAN_VACE_14B
from models.cost.flops import block_work, coder_flops, film_flops, flops
from models.geometry import Geometry

SD, HD = Geometry(81, 480, 832), Geometry(81, 720, 1280)


@pytest.mark.parametrize(
    ("card", "geometry", "tokens", "tflop"),
    [
        (WAN_1_3B, SD, 32_760, 283),
        (WAN_14B, SD, 32_760, 1678),
        (WAN_I2V_480P, SD, 32_760, 1686),
        (WAN_I2V_480P, HD, 75_600, 6540),
        (WAN_VACE_14B, SD, 32_760, 1678 * 48 / 40),
        (WAN_14B, HD, 75_600, 6523),
        (WAN_5B, Geometry(121, 704, 1280, 16), 27_280, 517),
        (WAN_5B, Geometry(81, 704, 1280, 16), 18_480, 291),
    ],
)
def test_flops_of_one_forward_as_published(card, geometry, tokens, tflop):
    assert geometry.tokens == tokens
    assert flops(card, geometry) / 1e12 == pytest.approx(tflop, rel=0.003)
    assert flops(card, geometry, 50) == 50 * flops(card, geometry)


@pytest.mark.parametrize("channels", [0, 16])
def test_flops_of_our_network_are_what_torch_counts(channels):
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from models.dit.wan import Transformer
    from models.dit.wan_variants import ExtraInputs

    geometry = Geometry(9, 64, 96)
    card = replace(PREVIS, reference_channels=channels)
    network = Transformer(card)
    latents = torch.zeros(1, card.in_channels, *geometry.latent)
    reference = torch.zeros(1, card.reference_channels, *geometry.latent[1:]) if card.reference_channels else None
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # the CPU's fused one is not counted
        network(latents, torch.zeros(1), torch.zeros(1, card.text_len, card.text_dim), ExtraInputs(reference=reference))
    counts = counter.get_flop_counts()
    inside = sum(sum(ops.values()) for name, ops in counts.items() if re.fullmatch(r"Transformer\.blocks\.\d+", name))
    assert flops(card, geometry) == inside


def test_norms_and_residuals_move_what_is_published():
    """Fused: 85 GB in a forward of the 1.3B at 480p, 316 and 729 of the 14B at 480p and 720p."""
    for card, geometry, gigabytes in ((WAN_1_3B, SD, 85), (WAN_14B, SD, 316), (WAN_14B, HD, 729)):
        assert card.layers * block_work(card, geometry).moved_bytes / 1e9 == pytest.approx(gigabytes, rel=0.03)


def test_a_film_is_its_steps_in_all_their_passes_and_its_coding():
    assert film_flops(WAN_14B, SD, 40) == flops(WAN_14B, SD, 80) + coder_flops(WAN_14B, SD)
    assert film_flops(PREVIS, SD, 8) == flops(PREVIS, SD, 8) + coder_flops(PREVIS, SD)
    assert coder_flops(WAN_14B, SD) / 1e12 == pytest.approx(274, rel=0.05)
    assert coder_flops(WAN_14B, HD) / 1e12 == pytest.approx(632, rel=0.05)
