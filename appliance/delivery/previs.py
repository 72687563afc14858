"""`rushes preview`: the blocking as a film, rendered by the stage in numpy, without a model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.units import seconds_words
from models.errors import BadInput

if TYPE_CHECKING:
    import numpy as np

    from appliance.direction.shot import ShotDirection
    from models.stage.blocking import Blocking

CHUNK = 8  # frames encoded at a time
SKETCH = ".previs.mp4"


@dataclass(frozen=True, slots=True)
class Previs:
    """The files that were made."""

    path: Path
    filmstrip: Path
    frames: int
    width: int
    height: int
    fps: float
    seconds: float  # to make it

    @property
    def words(self) -> str:
        """Its facts in one line."""
        size = f"{self.frames} frames of {self.width}x{self.height} at {self.fps:g} fps"
        return f"{size}, made in {seconds_words(self.seconds)}"


def render_previs(direction: ShotDirection, target: Path) -> Previs:
    """Writes the previs film of a direction and its filmstrip. Replaces an older previs, but no other file. Raises
    BadInput.
    """
    from appliance.atomic_files import replace, write_part  # start-up
    from appliance.blocking.solve import block  # start-up
    from appliance.delivery.media.mp4 import Mp4Writer  # start-up
    from appliance.delivery.media.stills import filmstrip_png  # start-up
    from appliance.delivery.media.verify import probe_video  # start-up

    started = time.monotonic()
    if not target.parent.is_dir():
        raise BadInput(f"{target.parent} is not a folder: make it, or choose another with --out")
    if target.suffix != ".mp4":
        raise BadInput(f"{target} is not the name of a film: end it in .mp4")
    if target.exists() and not target.name.endswith(SKETCH):
        raise BadInput(f"{target} exists already: name another file with --out; only *{SKETCH} is replaced")
    blocking = block(direction)
    strip = target.with_suffix(".strip.png")
    for old in (target, strip):
        old.unlink(missing_ok=True)
    facts = {"title": f"{direction.slate} previs", "comment": "Rushes previs: rendered by the stage, no model"}
    with Mp4Writer(target, blocking.width, blocking.height, blocking.fps, facts) as writer:
        for frames in _chunks(blocking):
            writer.write(frames)
    replace(write_part(strip, filmstrip_png(target, probe_video(target))), strip)
    return Previs(
        target, strip, blocking.frames, blocking.width, blocking.height, blocking.fps, time.monotonic() - started
    )


def _chunks(blocking: Blocking) -> Iterator[np.ndarray]:
    import numpy as np

    from models.stage.render import render  # start-up

    chunk: list[np.ndarray] = []
    for frame in render(blocking):
        chunk.append(np.asarray(frame.rgb, dtype=np.float32))
        if len(chunk) == CHUNK:
            yield np.stack(chunk)
            chunk = []
    if chunk:
        yield np.stack(chunk)
