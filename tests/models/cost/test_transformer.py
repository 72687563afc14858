"""Parameters and bytes of weights against what is published for Wan and what our networks hold."""

from dataclasses import replace

import pytest

from models.card import CARDS, PREVIS, TINY, WAN_1_3B, WAN_5B, WAN_14B, WAN_A14B, WAN_I2V_A14B
from models.cost.transformer import (
    PRECISIONS,
    block_bytes,
    blocks_bytes,
    matrix_parameters,
    outside_bytes,
    parameters,
    weights_bytes,
)


def test_parameters_of_wan_are_exact():
    assert parameters(WAN_1_3B) == 1_418_996_800
    assert parameters(WAN_14B) == parameters(WAN_A14B) == 14_288_491_584  # an expert
    assert parameters(WAN_I2V_A14B) == 14_288_901_184
    assert parameters(WAN_5B) == 4_999_787_712


def test_parameters_of_the_other_variants():
    """Checked against the shapes of their published key lists, which tests/models/test_wan_shapes.py holds."""
    assert parameters(CARDS["wan2.1-i2v-14b-720p"]) == 16_394_878_784
    assert parameters(CARDS["wan2.1-flf2v-14b"]) - parameters(CARDS["wan2.1-i2v-14b-720p"]) == 514 * 1280
    assert parameters(CARDS["wan2.1-vace-1.3b"]) == 2_153_972_032
    assert parameters(CARDS["wan2.1-vace-14b"]) == 17_337_592_896


@pytest.mark.parametrize("card", [PREVIS, TINY], ids=lambda card: card.name)
def test_parameters_of_ours_are_those_of_the_network(card):
    import torch

    from models.dit.wan import Transformer

    with torch.device("meta"):
        assert parameters(card) == sum(p.numel() for p in Transformer(card).parameters())


@pytest.mark.parametrize(
    ("card", "precision", "gb"),
    [
        (WAN_1_3B, "fp32", 5.68), (WAN_1_3B, "bf16", 2.84), (WAN_1_3B, "int8", 1.45),
        (WAN_14B, "fp32", 57.15), (WAN_14B, "bf16", 28.58), (WAN_14B, "int8", 14.53),
        (WAN_5B, "bf16", 10.00), (WAN_5B, "int8", 5.09),
    ],
)  # fmt: skip
def test_bytes_of_wan_as_published(card, precision, gb):
    """The table counts every block matrix as small, vectors at 2 bytes, and 8 bit without scales: all below 1 %."""
    published = outside_bytes(card, precision) + card.layers * block_bytes(card, precision)
    assert published / 1e9 == pytest.approx(gb, rel=0.012)
    assert weights_bytes(card, precision) >= published


def test_bytes_of_a_block_as_published():
    megabytes = [block_bytes(WAN_14B, precision) / 1e6 for precision in ("bf16", "int8", "int4")]
    assert megabytes == pytest.approx([703, 351, 186], rel=0.03)  # 186: two bytes a group
    assert [block_bytes(WAN_14B, precision, kept=True) for precision in ("bf16", "int8", "int4")] == (
        3 * [block_bytes(WAN_14B, "bf16")]
    )
    assert 8 * 5120**2 + 2 * 5120 * 13824 == matrix_parameters(WAN_14B) == 351_272_960


@pytest.mark.parametrize("card", [PREVIS, WAN_1_3B, WAN_5B, WAN_A14B], ids=lambda card: card.name)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_network_is_its_blocks_and_the_rest(card, precision):
    assert weights_bytes(card, precision) == outside_bytes(card, precision) + sum(blocks_bytes(card, precision))
    wide = [layer for layer, size in enumerate(blocks_bytes(card, precision)) if size == block_bytes(card, "bf16")]
    if precision in ("int8", "int4"):
        assert wide == sorted(card.kept_blocks)


@pytest.mark.parametrize("card", [PREVIS, replace(PREVIS, layers=10)], ids=["shallow", "deep"])
def test_bytes_of_a_quantized_network_are_those_that_are_stored(card):
    from models.dit.wan import Transformer
    from models.loading.quantize import quantize

    stored = quantize(Transformer(card).state_dict(), card)
    assert weights_bytes(card, "int8") == pytest.approx(sum(t.nbytes for t in stored.values()), rel=0.005)


def test_a_precision_that_is_none_is_refused():
    with pytest.raises(ValueError, match="int8"):
        weights_bytes(PREVIS, "int3")
