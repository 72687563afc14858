"""The pictures and footage that a shot refers to: read, checked and measured before the shot is queued."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from appliance.safe_text import one_line
from models.errors import BadInput

_KINDS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")  # of pictures that are brought


_MOST_PIXELS = 64_000_000


def read_picture(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Somebody's picture as (h, w, 3) 8-bit sRGB, the right way up. Where a film of `size` (width, height) is all that
    it is for, it is made smaller by a whole number, to no less than twice that: 16 of a camera's would be 2 GB. Raises
    BadInput for what is none, or too large.
    """
    with _opened(path) as picture:
        upright = ImageOps.exif_transpose(picture).convert("RGB")
        times = min(upright.width // (2 * size[0]), upright.height // (2 * size[1])) if size else 1
        return np.array(upright.reduce(times) if times > 1 else upright)


def look_at(path: Path) -> None:
    """Raises BadInput for what is no picture, or too large, by its first bytes: before a take waits for its turn."""
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
        raise BadInput(f"{path} is no picture that can be read ({one_line(str(error), 120)}): bring {kinds}") from error
