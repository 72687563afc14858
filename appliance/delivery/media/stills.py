"""The stills of a take: its thumbnail and its filmstrip, as PNG with the AIGC label."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from appliance.delivery.labels import aigc as label
from appliance.delivery.media.verify import VideoFacts

_GUTTER = 3  # pixels between pictures
_PAPER = (18, 18, 20)
_INK = (150, 150, 155)
_SLATE = 15  # height of the line of text below, in pixels
_TALLEST = 180  # pixels of one picture in a strip


def picture_png(rgb: np.ndarray, marked: label.Label | None = None) -> bytes:
    """One picture (h, w, 3), 0..1, as PNG; `marked` adds the AIGC label as XMP."""
    codes = np.rint(np.clip(rgb, 0.0, 1.0) * 255).astype(np.uint8)
    return _png(Image.fromarray(codes), marked)


def filmstrip_png(film: Path, facts: VideoFacts, count: int = 6) -> bytes:
    """`count` frames of a film side by side, first and last included, with its slate and size below, as PNG."""
    wanted = sorted(set(np.linspace(0, facts.frames - 1, max(1, count)).round().astype(int).tolist()))
    scale = min(1.0, _TALLEST / facts.height)
    width, height = max(1, round(facts.width * scale)), max(1, round(facts.height * scale))
    strip = Image.new("RGB", (len(wanted) * (width + _GUTTER) + _GUTTER, height + 2 * _GUTTER + _SLATE), _PAPER)
    for position, picture in enumerate(_decode(film, wanted)):
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.LANCZOS)
        strip.paste(picture, (_GUTTER + position * (width + _GUTTER), _GUTTER))
    ink, font = ImageDraw.Draw(strip), ImageFont.load_default(11)
    size = f"{facts.width}x{facts.height} · {facts.frames} frames · {facts.duration_s:.2f} s at {facts.fps:g} fps"
    for text, x, anchor in (
        (facts.metadata.get("title", ""), _GUTTER + 1, "la"),
        (size, strip.width - _GUTTER, "ra"),
    ):
        wide = text.replace(" ", "  ")  # this typeface has thin spaces
        ink.text((x, strip.height - _SLATE), wide, _INK, font, anchor=anchor)
    value = facts.metadata.get(label.KEY)
    return _png(strip, label.read_label(film) if value else None)


def _decode(film: Path, wanted: list[int]):
    """The frames of these numbers as pictures, in order, decoded in one pass."""
    numbers = set(wanted)
    with av.open(str(film)) as file:
        for number, frame in enumerate(file.decode(video=0)):
            if number in numbers:
                rgb = frame.reformat(
                    format="rgb24", src_colorspace="ITU709", dst_colorspace="ITU709", src_color_range="MPEG",
                    dst_color_range="JPEG",
                )  # fmt: skip
                yield Image.fromarray(rgb.to_ndarray())


def _png(picture: Image.Image, marked: label.Label | None) -> bytes:
    extra = PngImagePlugin.PngInfo()
    if marked is not None:
        extra.add_itxt("XML:com.adobe.xmp", label.xmp(marked))
    data = io.BytesIO()
    picture.save(data, "PNG", pnginfo=extra)
    return data.getvalue()
