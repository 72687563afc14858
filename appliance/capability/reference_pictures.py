"""Reference pictures of a shot: checked before the shot is queued, and read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

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
        upright = ImageOps.exif_transpose(picture).convert("RGB")
        times = min(upright.width // (2 * size[0]), upright.height // (2 * size[1])) if size else 1
        return np.array(upright.reduce(times) if times > 1 else upright)


def look_at(path: Path) -> None:
    """Raises BadInput for a file that is not a picture, or too large, by its header: before a take is queued."""
    with _opened(path):
        pass


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
