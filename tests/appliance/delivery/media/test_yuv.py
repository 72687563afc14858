"""RGB to YUV against BT.709 written out in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.delivery.media.yuv import yuv420

BARS = {  # 100 % bars, 8-bit limited range, BT.709: published code values
    "white": ((1, 1, 1), (235, 128, 128)),
    "black": ((0, 0, 0), (16, 128, 128)),
    "yellow": ((1, 1, 0), (219, 16, 138)),
    "cyan": ((0, 1, 1), (188, 154, 16)),
    "green": ((0, 1, 0), (173, 42, 26)),
    "magenta": ((1, 0, 1), (78, 214, 230)),
    "red": ((1, 0, 0), (63, 102, 240)),
    "blue": ((0, 0, 1), (32, 240, 118)),
}


def planes(rgb):
    h, w = rgb.shape[:2]
    flat = yuv420(rgb).reshape(-1)
    return flat[: h * w].reshape(h, w), *(flat[h * w :].reshape(2, h // 2, w // 2))


@pytest.mark.parametrize("name", BARS)
def test_bars(name):
    rgb, codes = BARS[name]
    got = planes(np.broadcast_to(np.float32(rgb), (16, 32, 3)))
    assert [set(np.unique(plane).tolist()) for plane in got] == [{code} for code in codes]


@settings(max_examples=50, deadline=None)
@given(rgb=st.tuples(*[st.floats(-0.5, 1.5, width=32)] * 3))
def test_any_flat_colour_is_within_half_a_code(rgb):
    r, g, b = np.clip(np.float64(rgb), 0, 1)
    luma = 0.2126 * r + 0.7152 * g + 0.0722 * b
    wanted = 16 + 219 * luma, 128 + 224 * (b - luma) / 1.8556, 128 + 224 * (r - luma) / 1.5748
    for plane, code in zip(planes(np.broadcast_to(np.float32(rgb), (4, 4, 3))), wanted, strict=True):
        assert np.abs(plane - code).max() <= 0.5 + 1e-4


def test_a_grey_ramp_has_no_colour_and_no_bias():
    ramp = np.repeat(np.linspace(0, 1, 512, dtype=np.float32)[None, :, None], 3, 2).repeat(4, 0)
    luma, cb, cr = planes(ramp)
    assert (cb == 128).all() and (cr == 128).all()
    error = luma - (16 + 219 * ramp[..., 0].astype(np.float64))
    assert np.abs(error).max() <= 0.5 + 1e-4 and abs(error.mean()) < 0.02


def test_chroma_sits_on_the_left_column():
    """1 2 1 about every even column: red in column 4 reaches its own sample only, red in column 5 both neighbours."""
    rgb = np.zeros((4, 12, 3), np.float32)
    rgb[:, 4, 0] = 1.0
    cr = planes(rgb)[2][0].astype(int) - 128
    assert cr.tolist() == [0, 0, 56, 0, 0, 0]  # 112 * 0.5
    rgb = np.zeros((4, 12, 3), np.float32)
    rgb[:, 5, 0] = 1.0
    assert (planes(rgb)[2][0].astype(int) - 128).tolist() == [0, 0, 28, 28, 0, 0]  # 112 * 0.25 each side
