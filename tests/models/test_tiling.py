"""Tiles cover a picture once, and see exactly what they depend on."""

from hypothesis import given
from hypothesis import strategies as st

from models.tiling import spans, tiles


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
