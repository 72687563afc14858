"""Pictures that people bring: read the right way up, and refused in one line where they are none."""

import numpy as np
import pytest
from PIL import Image

from appliance.capability import reference_pictures
from appliance.capability.reference_pictures import read_picture
from models.errors import BadInput

RGB = np.random.default_rng(0).integers(0, 256, (6, 4, 3), np.uint8)


@pytest.mark.parametrize("kind", ["png", "bmp", "tiff"])
def test_a_picture_is_read_as_it_is(tmp_path, kind):
    Image.fromarray(RGB).save(tmp_path / f"a.{kind}")
    assert np.array_equal(read_picture(tmp_path / f"a.{kind}"), RGB)


def test_grey_and_transparent_ones_become_rgb(tmp_path):
    Image.fromarray(RGB[..., 0]).save(tmp_path / "grey.png")
    assert np.array_equal(read_picture(tmp_path / "grey.png"), np.repeat(RGB[..., :1], 3, -1))
    Image.fromarray(np.dstack([RGB, RGB[..., 0]])).save(tmp_path / "clear.png")
    assert read_picture(tmp_path / "clear.png").shape == (6, 4, 3)


def test_a_picture_far_larger_than_its_film_is_made_smaller_and_not_below_twice_its_size(tmp_path):
    """A ramp stays one when each 3x3 pixels become their mean."""
    ramp = np.broadcast_to(np.arange(0, 90, dtype=np.uint8)[None, :, None], (66, 90, 3))
    Image.fromarray(ramp).save(tmp_path / "a.png")
    small = read_picture(tmp_path / "a.png", (14, 10))
    assert np.array_equal(small, np.broadcast_to(np.arange(1, 90, 3)[None, :, None], (22, 30, 3)))
    for size in ((23, 10), (14, 17), (90, 66), (200, 200)):
        assert np.array_equal(read_picture(tmp_path / "a.png", size), ramp)


def test_a_picture_that_was_taken_with_the_camera_turned_is_turned_back(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_picture(tmp_path / "a.png"), np.rot90(RGB, -1))


def test_what_is_no_picture_or_too_large_is_refused_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "text.png").write_text("no picture")
    Image.fromarray(RGB).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:60])
    Image.fromarray(RGB).save(tmp_path / "a.gif")
    for name in ("text.png", "cut.png", "a.gif", "gone.png"):
        with pytest.raises(BadInput, match="not a picture that can be read") as refused:
            read_picture(tmp_path / name)
        assert "\n" not in str(refused.value)
    monkeypatch.setattr(reference_pictures, "_MOST_PIXELS", 23)
    with pytest.raises(BadInput, match="4x6 pixels, the most is 23: make it smaller"):
        read_picture(tmp_path / "whole.png")
