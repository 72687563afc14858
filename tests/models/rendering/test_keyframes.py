"""Keyframes: the mask against Wan's own layout of it, the film of given frames, its chunks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.rendering.keyframes import grey_film, keyframe_mask, keyframes


def film(frames, height=16, width=32):
    return torch.rand(1, 3, frames, height, width, generator=torch.Generator().manual_seed(5)) * 2 - 1


def wans(frames, height, width, at):
    """The mask as wan/image2video.py lays it out: the first frame four times, then by fours."""
    given = torch.zeros(1, frames, height, width)
    given[:, list(at)] = 1
    given = torch.cat([given[:, :1].repeat_interleave(4, 1), given[:, 1:]], 1)
    return given.view(1, -1, 4, height, width).transpose(1, 2)


def test_the_mask_of_nine_frames_by_hand():
    mask = keyframe_mask((3, 1, 1), [0, 3, 8])[0, :, :, 0, 0]
    assert mask.tolist() == [[1, 0, 0], [1, 0, 0], [1, 1, 0], [1, 0, 1]]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 8), st.data())
def test_it_is_wans_for_any_frames(groups, data):
    frames = 4 * groups + 1
    at = data.draw(st.lists(st.integers(0, frames - 1), unique=True))
    assert torch.equal(keyframe_mask((groups + 1, 2, 4), at), wans(frames, 2, 4, at))


def test_kept_frames_stay_and_the_others_are_grey():
    shown = film(9)
    kept, mask = keyframes(shown, [7, 2])
    assert kept.shape == shown.shape and mask.shape == (1, 4, 3, 2, 4)
    for t in range(9):
        assert torch.equal(kept[:, :, t], shown[:, :, t] if t in (2, 7) else torch.zeros(1, 3, 16, 32))
    assert torch.equal(mask, wans(9, 2, 4, [2, 7]))


def test_none_may_be_given():
    kept, mask = keyframes(film(5), [])
    assert not kept.any() and not mask.any()


@pytest.mark.parametrize("frame", [-1, 5])
def test_a_frame_that_the_film_lacks_is_refused(frame):
    with pytest.raises(ValueError, match=f"keyframe {frame} is not a frame of the film: its frames are 0 to 4"):
        keyframes(film(5), [0, frame])


@pytest.mark.parametrize("at", [(0,), (0, 8), (8,), (3,), (1, 2, 4, 6)])
def test_chunks_of_pictures_are_the_film_that_is_kept(at):
    shown = film(9)
    chunks = list(grey_film({t: shown[:, :, t] for t in at}, 9, shown))
    assert [chunk.shape[2] for chunk in chunks] == [1, 4, 4]
    assert torch.equal(torch.cat(chunks, 2), keyframes(shown, at)[0])
