"""What a plan is made for: a direction, a machine, a model, and what is known of them beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from appliance.machine.device import Device
from appliance.machine.rates import Calibration, Rates
from models.card import PREVIS, Card, steps_of
from models.geometry import Geometry, snap_pixels

if TYPE_CHECKING:
    from appliance.direction.shot import ShotDirection


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """A direction to be planned on a machine with one model."""

    direction: ShotDirection
    machine: Device  # with what is free on it now
    card: Card = PREVIS
    device_request: str | None = None  # "cpu" | "gpu" | "cuda:N"; None: the fastest device that fits
    package_precision: str | None = None  # of the installed package; None: not installed, so any can still be imported
    packages: frozenset[str] = frozenset({PREVIS.name})  # cards whose weights are installed: ways out of a refusal
    text_cached: bool = False  # the text embedding is stored from an earlier take
    rates: Mapping[str, Rates] = field(default_factory=dict)  # measured on this machine, by device ("cpu", "cuda:0")
    calibration: Calibration | None = None  # what takes really took over what was estimated
    tried_film: Geometry | None = None  # a shorter or smaller film, tried as a way out; None: the direction's

    @property
    def film(self) -> Geometry:
        """The film on the model's grid: 4n+1 frames, sides of whole patches."""
        if self.tried_film is not None:
            return self.tried_film
        stride, form = self.card.space_stride, self.direction.format
        return Geometry(
            self.direction.frames, snap_pixels(form.height, stride), snap_pixels(form.width, stride), stride
        )  # fmt: skip

    @property
    def fps(self) -> float:
        """Frames a second."""
        return float(self.direction.time.fps)

    @property
    def steps(self) -> int:
        """Denoising steps."""
        return steps_of(self.direction.quality, self.card)

    @property
    def is_draft(self) -> bool:
        """Whether speed counts for more than precision."""
        return self.direction.quality == "draft"
