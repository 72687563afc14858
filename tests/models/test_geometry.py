"""The grid rules against a table worked out by hand, and what snapping promises."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.geometry import Geometry, snap_frames, snap_pixels


@pytest.mark.parametrize(
    ("seconds", "fps", "frames"),
    [
        (2.0, 16, 33),
        (5.0, 16, 81),
        (0.0, 16, 5),
        (0.1, 16, 5),
        (1.0, 24, 25),
        (0.5, 12, 9),
        (10.0, 30, 301),
        (1.06, 16, 17),
        (3.0, 25, 77),
        (3.0, 30, 93),
        (3.0, 30000 / 1001, 93),
        (1.125, 16, 21),
    ],
)
def test_snapped_frames_by_hand(seconds, fps, frames):
    assert snap_frames(seconds, fps) == frames


@pytest.mark.parametrize(
    ("pixels", "snapped"), [(225, 224), (224, 224), (231, 224), (233, 240), (1, 16), (0, 16), (720, 720), (1080, 1088)]
)
def test_snapped_pixels_by_hand(pixels, snapped):
    assert snap_pixels(pixels) == snapped


@settings(max_examples=50, deadline=None)
@given(st.floats(0.25, 60), st.floats(8, 60))
def test_snapped_frames_hold_the_whole_length_and_at_most_three_more(seconds, fps):
    frames, asked = snap_frames(seconds, fps), round(seconds * fps)
    assert frames % 4 == 1 and frames >= 5
    assert frames == 5 or asked <= frames <= asked + 3


@pytest.mark.parametrize("fps", [12, 15, 16, 24000 / 1001, 24, 25, 30000 / 1001, 30])
@pytest.mark.parametrize("seconds", [1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 10, 12, 15, 20])
def test_no_common_length_comes_out_short_of_a_frame(seconds, fps):
    """The count of an edit of that length, rounded to whole frames as editing programs round it."""
    assert snap_frames(seconds, fps) >= round(seconds * fps)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 9000), st.integers(0, 9000))
def test_snapping_once_is_enough(high, wide):
    high, wide = snap_pixels(high), snap_pixels(wide)
    assert (snap_pixels(high), snap_pixels(wide)) == (high, wide)
    Geometry(5, high, wide)  # on the grid


@pytest.mark.parametrize(
    ("size", "latent", "grid", "tokens"),
    [
        ((33, 128, 224), (9, 16, 28), (9, 8, 14), 1008),
        ((81, 480, 832), (21, 60, 104), (21, 30, 52), 32760),  # Wan at 480p
        ((81, 720, 1280), (21, 90, 160), (21, 45, 80), 75600),  # Wan at 720p
        ((1, 16, 16), (1, 2, 2), (1, 1, 1), 1),
        ((5, 128, 224), (2, 16, 28), (2, 8, 14), 224),
    ],
)
def test_both_grids_by_hand(size, latent, grid, tokens):
    geometry = Geometry(*size)
    assert (geometry.latent, geometry.grid, geometry.tokens) == (latent, grid, tokens)


@pytest.mark.parametrize(
    ("size", "latent", "grid", "tokens"),
    [
        ((121, 704, 1280), (31, 44, 80), (31, 22, 40), 27280),  # Wan 2.2 5B at 720p
        ((81, 480, 832), (21, 30, 52), (21, 15, 26), 8190),
    ],
)
def test_cells_of_sixteen_pixels_by_hand(size, latent, grid, tokens):
    geometry = Geometry(*size, stride=16)
    assert (geometry.latent, geometry.grid, geometry.tokens) == (latent, grid, tokens)
    assert [snap_pixels(pixels, 16) for pixels in (720, 704, 1, 1080)] == [704, 704, 32, 1088]
    with pytest.raises(ValueError, match="height is 720: it must be a multiple of 32"):
        Geometry(81, 720, 1280, stride=16)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ((32, 128, 224), "frames is 32: a shot has 4n\\+1 frames; use snap_frames"),
        ((0, 128, 224), "frames is 0"),
        ((-3, 128, 224), "frames is -3"),
        ((33, 120, 224), "height is 120: it must be a multiple of 16; use snap_pixels"),
        ((33, 128, 0), "width is 0"),
        ((33, 128, -16), "width is -16"),
    ],
)
def test_off_the_grid_is_an_error_that_says_so(size, said):
    with pytest.raises(ValueError, match=said):
        Geometry(*size)
