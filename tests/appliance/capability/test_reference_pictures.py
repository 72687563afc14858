"""Pictures that people bring: read the right way up, and refused in one line where they are none."""

import numpy as np
import pytest
from PIL import Image, ImageCms

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


def test_greys_of_more_than_8_bits_keep_their_tones(tmp_path):
    """A ramp from black to white; Pillow's own conversion makes the first two white and the last black."""
    ramp = np.linspace(0, 1, 60).reshape(6, 10)
    wanted = np.repeat(np.rint(ramp * 255).astype(np.uint8)[..., None], 3, -1)
    Image.fromarray(np.rint(ramp * 65535).astype(np.uint16)).save(tmp_path / "a.png")
    Image.fromarray(np.rint(ramp * 65535).astype(np.uint16)).save(tmp_path / "b.tiff")
    Image.fromarray(ramp.astype(np.float32)).save(tmp_path / "c.tiff")
    for name in ("a.png", "b.tiff", "c.tiff"):
        assert np.array_equal(read_picture(tmp_path / name), wanted), name


@pytest.mark.parametrize("value", [255.0, -1.0, float("nan")])
def test_decimal_numbers_that_are_no_picture_of_0_to_1_are_refused(tmp_path, value):
    Image.fromarray(np.array([[0.5, value]], np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(BadInput, match="where 0 to 1 is black to white: save it as"):
        read_picture(tmp_path / "a.tiff")
    Image.fromarray(np.full((1, 2), np.nan, np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(BadInput, match="from nan to nan"):
        read_picture(tmp_path / "a.tiff")


def test_a_colour_profile_is_followed(tmp_path):
    """In linear codes 0.2158 is the light of 128 in sRGB (IEC 61966-2-1). A profile of sRGB itself changes nothing."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    linear = with_linear_curves(srgb)
    Image.fromarray(np.full((4, 4, 3), 55, np.uint8)).save(tmp_path / "linear.png", icc_profile=linear)
    assert np.abs(read_picture(tmp_path / "linear.png").astype(int) - 128).max() <= 1
    for name in ("own.png", "own.tiff"):
        Image.fromarray(RGB).save(tmp_path / name, icc_profile=srgb)
        assert np.abs(read_picture(tmp_path / name).astype(int) - RGB).max() <= 1
    Image.fromarray(RGB).save(tmp_path / "damaged.png", icc_profile=b"no profile")
    assert np.array_equal(read_picture(tmp_path / "damaged.png"), RGB)
    Image.fromarray(np.dstack([RGB, RGB[..., 0]])).save(tmp_path / "clear.png", icc_profile=srgb)
    assert np.abs(read_picture(tmp_path / "clear.png").astype(int) - RGB).max() <= 1


def with_linear_curves(profile: bytes) -> bytes:
    """An RGB profile whose curves are gamma 1: "curv" with a count of 0 entries (ICC.1:2022, 10.6)."""
    changed = bytearray(profile)
    for at in range(132, 132 + 12 * int.from_bytes(profile[128:132]), 12):
        if profile[at : at + 4] in (b"rTRC", b"gTRC", b"bTRC"):
            offset = int.from_bytes(profile[at + 4 : at + 8])
            changed[offset : offset + 12] = b"curv" + bytes(8)
            changed[at + 8 : at + 12] = (12).to_bytes(4)
    return bytes(changed)


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
