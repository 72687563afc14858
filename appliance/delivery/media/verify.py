"""Facts of a film, from decoding every frame and not from its header."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import av

from appliance.atomic_files import disk_error
from appliance.delivery.labels.mp4_boxes import top_level
from models.errors import BadInput

_NAMES = {0: "rgb", 1: "bt709", 2: "unknown", 5: "bt470bg", 6: "smpte170m", 9: "bt2020nc", 13: "srgb"}  # H.273
_RANGES = {0: "unknown", 1: "limited", 2: "full"}


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """The facts of one film."""

    frames: int
    width: int  # pixels
    height: int
    fps: float
    duration_s: float
    codec: str
    profile: str
    pix_fmt: str
    color_primaries: str
    color_transfer: str
    color_matrix: str
    color_range: str
    metadata: dict[str, str]
    file_bytes: int
    frames_sha256: str  # of size, pixel format and every frame's Y, U and V planes


def probe_video(path: Path) -> VideoFacts:
    """Decodes a whole film. Raises BadInput when it is missing, cut short or does not decode."""
    try:
        size = path.stat().st_size
        top_level(path)
    except OSError as error:
        raise disk_error(error, path, "read") from error
    try:
        with av.open(str(path), options={"err_detect": "explode"}) as file:
            return _facts(path, file, size)
    except (av.error.FFmpegError, IndexError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadInput(f"{path} is not a playable film ({reason}): render it again") from error


def _facts(path: Path, file, size: int) -> VideoFacts:
    if len(file.streams.video) != 1:
        raise BadInput(f"{path} has {len(file.streams.video)} video tracks where a film has one: render it again")
    stream = file.streams.video[0]
    codec = stream.codec_context
    digest = hashlib.sha256(f"{codec.width}x{codec.height} {codec.pix_fmt}\n".encode())
    frames = damaged = 0
    frame = None
    for frame in file.decode(stream):
        damaged += frame.is_corrupt
        digest.update(frame.to_ndarray().tobytes())
        frames += 1
    if frame is None or damaged or frames != stream.frames:
        raise BadInput(f"{path} is damaged: {frames - damaged} of its {stream.frames} frames decode; render it again")
    return VideoFacts(
        frames=frames,
        width=codec.width,
        height=codec.height,
        fps=float(stream.average_rate),
        duration_s=float(frames / stream.average_rate),
        codec=codec.name,
        profile=codec.profile or "",
        pix_fmt=codec.pix_fmt,
        color_primaries=_NAMES.get(int(frame.color_primaries), "other"),
        color_transfer=_NAMES.get(int(frame.color_trc), "other"),
        color_matrix=_NAMES.get(int(frame.colorspace), "other"),
        color_range=_RANGES.get(int(frame.color_range), "other"),
        metadata=dict(file.metadata),
        file_bytes=size,
        frames_sha256=digest.hexdigest(),
    )
