"""Writes the files of a take: film, filmstrip, thumbnail and sidecar, all verified before any is published.

`TakeWriter` takes frames as they are rendered. `finish` decodes the film that was written, compares it with the plan,
puts the content hash in its AIGC label, and leaves hidden parts, which `publish_take` gives their names. An error or a
cancel leaves no files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from appliance.atomic_files import create_part, file_sha256, json_bytes, write_part
from appliance.delivery.labels import aigc as label
from appliance.delivery.media.mp4 import Mp4Writer, frame_rate
from appliance.delivery.media.stills import filmstrip_png, picture_png
from appliance.delivery.media.verify import VideoFacts, probe_video
from appliance.delivery.publish import COMPANION_SUFFIXES
from appliance.delivery.sidecar import TakeFacts, sidecar
from models.atomic_write import part_path
from models.errors import RushesError


@dataclass(frozen=True, slots=True)
class TakeFiles:
    """A take's files, written and verified, still hidden."""

    film: Path  # the name it will have
    parts: dict[str, Path]  # by suffix: ".mp4" and those of publish.COMPANION_SUFFIXES
    sha256: str  # of the film's bytes
    video: VideoFacts


class TakeWriter:
    """Writes the files of one take: `write` frames, then `finish`. A context manager: leaving it without `finish`
    removes everything.
    """

    def __init__(
        self, folder: Path, stem: str, *, width: int, height: int, fps: float, frames: int,
        metadata: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """`frames` is the planned number; `metadata` (title, ...) goes into the film as it is.

        Raises RushesError when the folder cannot be written or the take was already delivered.
        """
        self.film = folder / f"{stem}.mp4"
        if self.film.exists():
            raise RushesError(f"cannot write {self.film}: a take of that name was already delivered; retake it instead")
        self.frames = frames
        self.fps = fps
        self._pending = label.make(stem)
        self._middle: np.ndarray | None = None
        self._open = True
        part = create_part(self.film)
        try:
            entries = dict(metadata or {}) | {label.KEY: self._pending.to_json()}
            self._mp4 = Mp4Writer(part, width, height, fps, entries)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def write(self, frames: np.ndarray) -> None:
        """Appends frames (n, height, width, 3), float, 0..1, display-referred Rec.709."""
        wanted = self.frames // 2 - self._mp4.frames
        if 0 <= wanted < len(frames):
            self._middle = np.array(frames[wanted])
        self._mp4.write(frames)

    def finish(self, facts: TakeFacts) -> TakeFiles:
        """Verifies the film, writes its pictures and its sidecar; all are still hidden. Raises RushesError."""
        part = self._mp4.path
        self._mp4.close()
        video = probe_video(part)
        self._check(video)
        final_label = label.make(self.film.stem, video.frames_sha256, self._pending.content_producer)
        label.settle(part, final_label)
        if label.read_label(part) != final_label:
            raise RushesError(f"{self.film} does not carry the AIGC label that was written into it; render it again")
        video = probe_video(part)  # again: the label has changed the file
        digest = file_sha256(part)
        document = sidecar(facts, self.film, digest, video, final_label)
        assert self._middle is not None  # _check made sure that all frames were written
        companions = (filmstrip_png(part, video), picture_png(self._middle, final_label), json_bytes(document))
        parts = {".mp4": part}
        for suffix, data in zip(COMPANION_SUFFIXES, companions, strict=True):
            parts[suffix] = write_part(self.film.with_suffix(suffix), data)
        self._open = False
        return TakeFiles(self.film, parts, digest, video)

    def abandon(self) -> None:
        """Removes all files of this take."""
        self._open = False
        self._mp4.abandon()
        for suffix in COMPANION_SUFFIXES:
            part_path(self.film.with_suffix(suffix)).unlink(missing_ok=True)

    def _check(self, video: VideoFacts) -> None:
        """Raises RushesError where the film differs from its plan."""
        planned = {
            "frames": self.frames, "width": self._mp4.width, "height": self._mp4.height,
            "fps": float(frame_rate(self.fps)), "codec": "h264", "pix_fmt": "yuv420p", "color_primaries": "bt709",
            "color_transfer": "bt709", "color_matrix": "bt709", "color_range": "limited",
        }  # fmt: skip
        for name, value in planned.items():
            if getattr(video, name) != value:
                written = getattr(video, name)
                raise RushesError(f"{self.film.stem} has {name} {written} where {value} was planned; retake it")

    def __enter__(self) -> TakeWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open:
            self.abandon()
