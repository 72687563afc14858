"""Down-scaled 8-bit frames buffered while a take is decoded, to measure it when it is done.

At most MOST_ROWS rows and MOST_FRAMES frames: larger pictures are averaged down, of longer films every second (third,
...) frame is buffered: 45 MB at most (129 x 256 x 455 x 3). A shot of the shipped model fits as it is, in 2.8 MB.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import cv2
import numpy as np

from appliance.direction.notes import Tolerances
from appliance.measuring.result import MOST_FRAMES, MOST_ROWS, Measured
from appliance.measuring.take import measure
from models.stage.blocking import Array, Blocking


@dataclass(frozen=True, slots=True)
class Measurement:
    """The measured axes of a take, and how long measuring took."""

    rows: list[Measured]
    seconds: float


class FrameBuffer:
    """The frames of one take, in the order in which they are decoded."""

    def __init__(self, blocking: Blocking) -> None:
        """`blocking`: that of the take."""
        self.every = -(-(blocking.frames - 1) // (MOST_FRAMES - 1)) if blocking.frames > MOST_FRAMES else 1
        share = min(1.0, MOST_ROWS / blocking.height)
        self.size = round(blocking.width * share), round(blocking.height * share)
        self._blocking = blocking
        self._seen = 0
        self._pictures: list[Array] = []

    def add(self, frames: Array) -> None:
        """Buffers the next frames (n, h, w, 3), float in 0..1."""
        for picture in frames:
            if self._seen % self.every == 0:
                codes = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
                small = codes.shape[1::-1] != self.size
                self._pictures.append(cv2.resize(codes, self.size, interpolation=cv2.INTER_AREA) if small else codes)
            self._seen += 1

    def measure(self, tolerances: Tolerances) -> Measurement:
        """Every axis of the take that can be measured."""
        began = time.monotonic()
        film, smaller = np.stack(self._pictures), self._blocking.height / self.size[1]
        rows = measure(film, self._reduced(), tolerances, drift_scale=smaller / self.every)
        return Measurement(rows, time.monotonic() - began)

    def _reduced(self) -> Blocking:
        """The blocking at the size and frames that are buffered."""
        b, every = self._blocking, slice(None, None, self.every)
        lights = tuple(replace(lamp, direction=lamp.direction[every], rgb=lamp.rgb[every]) for lamp in b.lights)
        people = tuple(
            replace(s, position=s.position[every], heading_deg=s.heading_deg[every], stride=s.stride[every],
                    gait=s.gait[every])
            for s in b.subjects
        )  # fmt: skip
        return replace(
            b, fps=b.fps / self.every, width=self.size[0], height=self.size[1], c2w=b.c2w[every],
            focal_mm=b.focal_mm[every], focus_m=b.focus_m[every], ambient=b.ambient[every],
            exposure_ev=b.exposure_ev[every], lights=lights, subjects=people,
        )  # fmt: skip
