"""Tiles cover a picture once, and are computed from exactly the cells that they depend on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.vae.tiling import fades, spans, tiles


@given(st.integers(1, 400), st.integers(0, 64), st.integers(0, 12))
def test_parts_cover_an_axis_once_and_see_their_reach(length, side, reach):
    parts = spans(length, side, reach)
    assert [cell for part in parts for cell in range(part.kept.start, part.kept.stop)] == list(range(length))
    for part in parts:
        assert not side or part.kept.stop - part.kept.start <= side
        assert part.seen.start == max(0, part.kept.start - reach)
        assert part.seen.stop == min(length, part.kept.stop + reach)


@given(st.integers(1, 99), st.integers(1, 16), st.integers(0, 12))
def test_what_is_kept_is_found_again_in_what_was_seen(length, side, reach):
    pixels = [(cell, pixel) for cell in range(length) for pixel in range(8)]
    for part in spans(length, side, reach):
        seen = pixels[8 * part.seen.start : 8 * part.seen.stop]
        assert seen[part.inside(8)] == pixels[part.outside(8)]


def test_a_picture_is_one_tile_unless_asked_otherwise():
    assert len(tiles(90, 160, 0, 10)) == 1
    assert [len(tiles(90, 160, side, 10)) for side in (32, 90, 160, 1000)] == [15, 2, 1, 1]


@given(st.integers(1, 60), st.integers(0, 20), st.integers(0, 6), st.sampled_from([1, 8]))
def test_the_shares_of_a_pixel_sum_to_one(length, side, reach, scale):
    parts = spans(length, side, reach)
    total = [0.0] * (scale * length)
    for part, shares in zip(parts, fades(parts, scale), strict=True):
        seen = range(*part.around(scale).indices(len(total)))
        assert len(shares) == len(seen) and min(shares) >= 0
        for pixel, share in zip(seen, shares, strict=True):
            total[pixel] += share
    assert total == pytest.approx([1.0] * len(total))


def test_one_part_fades_into_the_next_in_a_straight_line():
    """Ten cells of two pixels in two parts that reach one cell further: four pixels belong to both."""
    left, right = fades(spans(10, 5, 1), 2)
    assert left == pytest.approx([1.0] * 8 + [0.875, 0.625, 0.375, 0.125])
    assert right == pytest.approx([0.125, 0.375, 0.625, 0.875] + [1.0] * 8)


def test_one_part_alone_does_not_fade():
    assert fades(spans(3, 0, 2), 8) == [[1.0] * 24]
