"""Reference pictures of a shot: checked before the shot is queued, and read."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps

from appliance.safe_text import one_line
from models.errors import BadInput

_KINDS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")  # accepted image formats
_MOST_PIXELS = 64_000_000


def read_picture(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """A picture file as (h, w, 3) 8-bit sRGB, turned upright by its EXIF. With `size` (width, height of the film) it is
    reduced by a whole factor, to at least twice that: 16 of a camera's would be 2 GB. Raises BadInput for what is not a
    picture, or too large.
    """
    with _opened(path) as picture:
        upright = _srgb(ImageOps.exif_transpose(picture), path)
        times = min(upright.width // (2 * size[0]), upright.height // (2 * size[1])) if size else 1
        return np.array(upright.reduce(times) if times > 1 else upright)


def _srgb(picture: Image.Image, path: Path) -> Image.Image:
    """A picture of any mode as 8-bit sRGB, by its colour profile where it has one.

    Pillow's own `convert` clips 16-bit greys at 255 and takes floats for 0..255: the first come out white, the second,
    0..1 as films write them, black. Such greys are scaled here: 16-bit by 257, floats by 255.
    """
    if picture.mode.startswith("I;16") or picture.mode == "I":
        return _grey(np.asarray(picture).astype(np.float32) / 257)
    if picture.mode == "F":
        values = np.asarray(picture)
        low, high = np.fmin.reduce(values, axis=None), np.fmax.reduce(values, axis=None)
        if not (np.isfinite(values).all() and low >= -0.01 and high <= 1.01):
            raise BadInput(
                f"{path} holds decimal numbers from {low:g} to {high:g}, some of them perhaps not finite, where 0 to 1 "
                "is black to white: save it as 8-bit or 16-bit PNG"
            )
        return _grey(values * 255)
    if profile := picture.info.get("icc_profile"):
        usable = picture.convert({"LA": "L", "P": "RGB", "PA": "RGB", "RGBA": "RGB"}.get(picture.mode, picture.mode))
        with contextlib.suppress(ImageCms.PyCMSError, OSError):  # a damaged profile, or one for other channels: ignored
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(usable, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
    return picture.convert("RGB")


def _grey(values: np.ndarray) -> Image.Image:
    """Values 0..255 as a picture of three equal channels."""
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8)).convert("RGB")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path, formats=_KINDS) as picture:
            if picture.width * picture.height > _MOST_PIXELS:
                raise BadInput(
                    f"{path} has {picture.width}x{picture.height} pixels, the most is {_MOST_PIXELS:,}: make it smaller"
                )
            yield picture
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        kinds = ", ".join(_KINDS)
        raise BadInput(
            f"{path} is not a picture that can be read ({one_line(str(error), 120)}): use {kinds}"
        ) from error
