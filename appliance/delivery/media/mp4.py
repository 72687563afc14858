"""Writes an H.264 MP4 frame by frame, as it is rendered; the same frames give the same bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np

from appliance.atomic_files import disk_error
from appliance.delivery.labels import aigc as label
from appliance.delivery.media.yuv import yuv420
from appliance.safe_text import clean
from models.errors import BadInput, RushesError

_BT709, _LIMITED = 1, 1  # ITU-T H.273 code points: primaries, transfer and matrix are all 1
_THREADS = 4  # fixed: x264's choices depend on it, and equal frames must give equal bytes
# x264's macroblock tree reads uninitialised memory with AVX-512 where a row is not a multiple of 16 blocks: 16
# encodings of one film 224 pixels wide gave 11 different files. Without it all are the same, and a third larger.
_X264 = "mbtree=0"


def frame_rate(fps: float) -> Fraction:
    """The exact rate of a rounded one: 16.0 is 16, 23.976 and 23.98 are 24000/1001."""
    for rate in (Fraction(round(fps)), Fraction(round(fps * 1.001) * 1000, 1001)):
        if abs(float(rate) - fps) < 5e-3:  # two decimals, as people write them
            return rate
    return Fraction(fps).limit_denominator(1001)


class Mp4Writer:
    """Writes (n, height, width, 3) pictures in 0..1 to an MP4: H.264 High yuv420p crf 16, BT.709, a closed GOP each
    second, index first.

    `metadata` is written as it is given; without an `AIGC` entry a pending label is added. A context manager: an error
    inside removes the file. Raises RushesError for disk errors, BadInput for odd sizes.
    """

    def __init__(
        self, path: Path, width: int, height: int, fps: float, metadata: Mapping[str, str] | None = None
    ) -> None:
        if width % 2 or height % 2 or width < 16 or height < 16:
            raise BadInput(f"a film of {width}x{height} pixels cannot be encoded: sides must be even and at least 16")
        if not (math.isfinite(fps) and 1 <= fps <= 240):
            raise BadInput(f"a film of {fps} frames a second cannot be encoded: the rate must be 1 to 240")
        self.path, self.width, self.height = path, width, height
        self.rate = frame_rate(fps)
        self.frames = 0
        movflags = "+faststart+use_metadata_tags+write_colr"  # without use_metadata_tags the label is dropped silently
        options = {"movflags": movflags, "video_track_timescale": str(_timescale(self.rate))}
        try:
            self._file = av.open(str(path), "w", format="mp4", options=options)
        except OSError as error:
            raise disk_error(error, path) from error
        for key, value in ({label.KEY: label.make(path.stem).to_json()} | dict(metadata or {})).items():
            self._file.metadata[key] = clean(value)
        self._stream = self._open_stream()

    def _open_stream(self):
        options = {"crf": "16", "preset": "medium", "profile": "high", "x264-params": _X264}
        stream = self._file.add_stream("libx264", rate=self.rate, options=options)
        stream.width, stream.height, stream.pix_fmt = self.width, self.height, "yuv420p"
        codec = stream.codec_context
        codec.thread_count = _THREADS
        codec.gop_size = max(1, round(self.rate))
        codec.max_b_frames = 2
        codec.sample_aspect_ratio = Fraction(1, 1)
        codec.color_primaries = codec.color_trc = codec.colorspace = _BT709
        codec.color_range = _LIMITED
        return stream

    def write(self, frames: np.ndarray) -> None:
        """Appends frames (n, height, width, 3), 0..1. Raises RushesError for numbers that are not finite."""
        if frames.ndim != 4 or frames.shape[1:] != (self.height, self.width, 3):
            raise ValueError(f"frames are {frames.shape}, not (n, {self.height}, {self.width}, 3)")
        for rgb in frames:
            if not np.isfinite(rgb).all():
                raise RushesError(
                    f"frame {self.frames} of {self.path.name} has numbers that are not finite: the render went wrong; "
                    "retake it, and if it happens again run `rushes doctor`"
                )
            frame = av.VideoFrame.from_ndarray(yuv420(rgb), "yuv420p")
            frame.color_primaries = frame.color_trc = frame.colorspace = _BT709
            frame.color_range = _LIMITED
            frame.pts, frame.time_base = self.frames, 1 / self.rate
            self._mux(frame)
            self.frames += 1

    def close(self) -> None:
        """Flushes the encoder and writes the index."""
        if self.frames == 0:
            raise RushesError(f"{self.path.name} has no frames: nothing was rendered; retake it")
        self._mux(None)
        try:
            self._file.close()
        except OSError as error:
            raise disk_error(error, self.path) from error

    def abandon(self) -> None:
        """Removes the file. May be called at any time, also after an error."""
        with suppress(OSError):  # closing writes an index, which a full disk may refuse
            self._file.close()
        self.path.unlink(missing_ok=True)

    def _mux(self, frame: av.VideoFrame | None) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._file.mux(packet)
        except OSError as error:
            raise disk_error(error, self.path) from error

    def __enter__(self) -> Mp4Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            try:
                self.close()
            except BaseException:
                self.abandon()
                raise
        else:
            self.abandon()


def _timescale(rate: Fraction) -> int:
    """Ticks a second that hold every frame exactly, and fine enough for players: 16 is 16000, 24000/1001 is 24000."""
    return rate.numerator if rate.numerator >= 1000 else rate.numerator * 1000
