"""The memory of a render: it adds up, shrinks by what is streamed, and agrees with published sizes of its parts."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.card import CARDS, PREVIS, WAN_1_3B, WAN_5B, WAN_14B, WAN_A14B, reads_text
from models.cost import text_encoder as text_sizes
from models.cost.activations import stream_bytes, work_bytes
from models.cost.flops import film_flops
from models.cost.footprint import block_residency_bytes, footprint, package_bytes
from models.cost.transformer import blocks_bytes, weights_bytes
from models.geometry import Geometry
from models.placement import Placement

SMALL, SD, HD = Geometry(33, 128, 224), Geometry(81, 480, 832), Geometry(81, 720, 1280)
GIB, MIB = 2**30, 2**20
ALL, NONE = Placement(), Placement(0, "ram", 8192, 192)

CASES = {
    "card": st.sampled_from(list(CARDS.values())),
    "precision": st.sampled_from(["bf16", "int8", "int4"]),
    "place": st.sampled_from(["cpu", "cuda:0"]),
    "stay": st.none() | st.integers(0, 40),
    "source": st.sampled_from(["ram", "disk"]),
    "rows": st.sampled_from([0, 2048, 8192]),
    "tile": st.sampled_from([0, 192, 256]),
    "attention": st.sampled_from(["sdpa", "int8_f16"]),
    "text": st.sampled_from(["none", "cached", "gpu", "streamed", "cpu"]),
    "batch": st.sampled_from([1, 2]),
}


def snapped(card, frames=81, height=480, width=832):
    return Geometry(frames, height, width, card.space_stride)


@settings(max_examples=50, deadline=None)
@given(**CASES)
def test_items_add_up(card, precision, place, stay, source, rows, tile, attention, text, batch):
    size = footprint(
        card, snapped(card), precision, place, Placement(stay, source, rows, tile), attention, text, batch
    )  # fmt: skip
    items = {name: getattr(size, name) for name in size.__slots__}
    assert all(value >= 0 for value in items.values())
    phases = {
        "forward": items["activation_bytes"] + items["work_bytes"],
        "film": items["vae_bytes"],
        "text": items["text_bytes"],
    }
    always = sum(items[name] for name in ("weights_bytes", "slots_bytes", "coder_bytes", "encoder_bytes"))
    always += items["context_bytes"] + items["reserve_bytes"]
    assert size.total_bytes == always + max(phases.values()) and phases[size.moment] == max(phases.values())
    host = sum(value for name, value in items.items() if name.startswith("host_"))
    assert size.host_bytes == host and (host == 0) == (place == "cpu")
    if place != "cpu":
        waiting = block_residency_bytes(card, precision, stay)[2]
        assert items["host_blocks_bytes"] == (waiting if source == "ram" else 0)


@settings(max_examples=50, deadline=None)
@given(card=CASES["card"], precision=CASES["precision"], stay=st.integers(0, 40))
def test_blocks_stay_or_wait(card, precision, stay):
    stays, slots, waiting = block_residency_bytes(card, precision, stay)
    unpacked = card.dim * card.ffn if precision == "int4" else 0
    assert stays + waiting == weights_bytes(card, precision)
    passing = blocks_bytes(card, precision)[stay:]
    assert slots - unpacked == (2 * max(passing) if passing else 0)


@settings(max_examples=50, deadline=None)
@given(
    n=st.integers(1, 40), h=st.integers(4, 30), w=st.integers(4, 30),
    card=st.sampled_from([PREVIS, WAN_1_3B, WAN_5B, WAN_14B]), place=CASES["place"],
)  # fmt: skip
def test_more_film_never_costs_less(n, h, w, card, place):
    grid = 2 * card.space_stride
    small, longer, wider = (
        Geometry(4 * a + 1, grid * b, grid * c, card.space_stride)
        for a, b, c in ((n, h, w), (n + 1, h, w), (n, h, w + 1))
    )
    for larger in (longer, wider):
        assert footprint(card, larger, "int8", place).total_bytes >= footprint(card, small, "int8", place).total_bytes
        assert film_flops(card, larger, 8) > film_flops(card, small, 8)


def test_less_at_once_takes_less():
    for card, geometry in ((WAN_14B, HD), (WAN_5B, snapped(WAN_5B, 81, 704, 1280)), (WAN_1_3B, SD)):
        whole, least = (footprint(card, geometry, "int8", "cuda:0", how, "int8_f16") for how in (ALL, NONE))
        assert least.total_bytes < whole.total_bytes / 1.7
        assert least.work_bytes < whole.work_bytes and least.vae_bytes < whole.vae_bytes / 4
        assert least.host_bytes > whole.host_bytes


def test_activations_hold_what_is_published():
    """At 720p 14B in bf16: q, k, v 2215 MiB; feed-forward 1993 MiB; the fp32 stream is twice the printed 738 MiB."""
    q_k_v, hidden, stream = 3 * HD.tokens * 5120 * 2, HD.tokens * 13824 * 2, HD.tokens * 5120 * 4
    assert (round(q_k_v / MIB), round(hidden / MIB), round(stream / MIB)) == (2215, 1993, 2 * 738 + 1)
    assert stream < stream_bytes(WAN_14B, HD, 2, 1) < 1.7 * stream
    floats = work_bytes(WAN_14B, HD, "bf16", "sdpa", 1, 0)
    assert max(q_k_v, 2 * hidden) < floats < q_k_v + 3 * hidden
    bare = replace(WAN_14B, layers=8)  # so shallow a network keeps no block in bf16
    assert work_bytes(bare, HD, "int8", "int8_f16", 1, 8192) < 0.75 * work_bytes(WAN_14B, HD, "int8", "sdpa", 1, 8192)


def test_the_text_encoder_as_published():
    assert text_sizes.PARAMETERS == 5_680_910_336
    assert pytest.approx(193, abs=0.1) == text_sizes.LAYER_PARAMETERS / 1e6
    assert pytest.approx(6.7, abs=0.05) == text_sizes.FILE_BYTES / 1e9
    assert text_sizes.embedding_bytes(WAN_14B) == 2 * 4 * MIB and not reads_text(PREVIS)
    assert text_sizes.staying_bytes("gpu") > 10 * text_sizes.reading_bytes(WAN_14B, "streamed") / 2


def test_an_expert_waits_in_its_file():
    """Memory is that of one network, disk that of both."""
    assert footprint(WAN_A14B, SD, "int8", "cuda:0", NONE) == footprint(WAN_14B, SD, "int8", "cuda:0", NONE)
    assert package_bytes(WAN_A14B) - package_bytes(WAN_14B) == weights_bytes(WAN_14B)


def test_the_shipped_model_fits_a_small_machine():
    cost = footprint(PREVIS, SMALL, "int8", "cpu")
    assert cost.total_bytes < GIB
    assert footprint(PREVIS, SMALL, "int8", "cuda:0").activation_bytes < cost.activation_bytes
