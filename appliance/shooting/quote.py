"""Quotes: a shot file is read and planned, on this machine or on another by its datasheet."""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from appliance.capability.report import levels_of_stated
from appliance.catalog.installed import InstalledPackage, cards_here
from appliance.catalog.model import model_named, resolve_model, text_is_cached, usable_model
from appliance.direction.document import load_file
from appliance.direction.shot import ShotDirection
from appliance.library.forecast import QueueForecast, forecast
from appliance.library.library import Library
from appliance.library.machines import machine_history
from appliance.machine.device import Device
from appliance.machine.probe import probe
from appliance.planning.calibrated_plan import planned
from appliance.planning.plan import Plan, Refusal, plan
from appliance.planning.request import PlanRequest
from appliance.shooting.checks import check_direction, warnings
from appliance.shooting.plan_words import (
    datasheet_words,
    duration_words,
    film_words,
    obeyed_rows,
    queue_words,
    render_words,
    resource_words,
)
from appliance.units import bytes_words, seconds_words
from models.card import PREVIS
from models.errors import BadInput, RushesError

DEVICE = re.compile(r"cpu|gpu|cuda|cuda:[0-9]{1,3}")
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@dataclass(frozen=True, slots=True)
class Quoted:
    """The direction of a shot file, and its plan or refusal on this machine, or on another (`on`) by its datasheet."""

    path: Path
    direction: ShotDirection
    outcome: Plan | Refusal
    on: Device | None = None
    card: str = "previs"  # name of the model's card
    ahead: QueueForecast | None = None  # the queue before this shot
    package: InstalledPackage | None = None  # the imported model; None: the shipped one, or not installed
    warnings: tuple[str, ...] = ()  # what the film will not show of what is directed

    @property
    def fits(self) -> bool:
        """Whether the machine can shoot it."""
        return isinstance(self.outcome, Plan)

    def require_plan(self) -> Plan:
        """The plan. Raises RushesError with the reason and the remedies where the machine cannot shoot it."""
        if isinstance(self.outcome, Plan):
            return self.outcome
        raise RushesError("; ".join((f"{self.path}: {self.outcome.reason}", *self.outcome.remedies)))

    def headline(self) -> str:
        """The quote in one line: frames, steps, duration, memory."""
        plan = self.require_plan()
        return (
            f"{self.direction.slate}  {plan.frames} frames of {plan.width}x{plan.height}, {plan.steps} steps on"
            f" {plan.device}, about {seconds_words(plan.seconds)}, {bytes_words(plan.memory_bytes)} of memory"
        )

    def rows(self) -> list[tuple[str, str]]:
        """The quote as (name, text), for a page."""
        on = [] if self.on is None else [("on", datasheet_words(self.on))]
        if isinstance(self.outcome, Refusal):
            return [*on, ("refused", self.outcome.reason), *(("try", remedy) for remedy in self.outcome.remedies)]
        plan = self.outcome
        facts = asdict(plan)
        queue = queue_words(plan, self.ahead, time.time())
        return [
            *on,
            ("slate", self.direction.slate),
            ("action", self.direction.text.action.split("\n")[0]),
            *([("warning", "\n".join(self.warnings))] if self.warnings else []),
            ("time", duration_words(plan, self.on is not None)),
            *([("queue", queue)] if queue else []),
            ("needs", resource_words(plan)),
            ("film", film_words(facts)),
            ("plan", render_words(facts)),
            ("why", "\n".join(plan.why)),
            *obeyed_rows(levels_of_stated(self.direction, plan.card)),
            *self._weights(),
        ]

    def _weights(self) -> list[tuple[str, str]]:
        """The package of a model other than the shipped one, or that it is not installed."""
        if self.card == PREVIS.name:
            return []
        if self.package is not None:
            size = f"{bytes_words(self.package.file_bytes)} on disk, in {self.package.precision}"
            return [("weights", f"{self.package.name}, {size}")]
        return [
            ("note", f"{self.card} is not installed; this is an estimate. Install it with `rushes models import PATH`")
        ]

    def to_json(self) -> dict[str, object]:
        """The quote as `rushes quote --json` gives it: `quote` is a plan where it fits, else a refusal."""
        return {
            "file": self.path, "slate": self.direction.slate, "fits": self.fits, "quote": self.outcome,
            "obeyed": levels_of_stated(self.direction, self.card),
            "on": self.on, "model": self.card, "ahead": self.ahead,
            "package": self.package and self.package.summary(), "warnings": self.warnings,
        }  # fmt: skip


def read(path: Path, seed: int | None = None, quality: str | None = None, model: str | None = None) -> ShotDirection:
    """The direction of a shot file; a seed, quality or model given here replaces the file's.

    Relative paths of reference pictures are resolved against the file's own folder, because the daemon that reads them
    runs elsewhere. Raises BadInput, also for a blocking that cannot be solved and a picture that is not there.
    """
    given: dict[str, Any] = {"seed": seed, "quality": quality, "model": model}
    direction = replace(load_file(path), **{name: value for name, value in given.items() if value is not None})
    folder, refs = path.absolute().parent, direction.refs
    stated = {name: value for name in ("first", "last") if (value := getattr(refs, name)) is not None}
    resolved: dict[str, Any] = {name: str((folder / value).resolve()) for name, value in stated.items()}
    resolved["keyframes"] = tuple(replace(key, path=str((folder / key.path).resolve())) for key in refs.keyframes)
    direction = replace(direction, refs=replace(refs, **resolved))
    try:
        check_direction(direction)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error
    return direction


def plan_direction(path: Path, direction: ShotDirection, device: str | None, on: Device | None = None) -> Quoted:
    """Plan a direction with the rates and durations measured on this machine. `device` is the one requested, if any.

    `on` describes another machine (appliance/machine/datasheets.py, elsewhere); measurements made here do not apply.
    """
    direction, card, own = resolve_model(direction)
    hidden = warnings(direction)
    held = None if own is None else own.precision
    if device is not None and not DEVICE.fullmatch(device):
        raise BadInput(f"device is {device!r}: it must be cpu, gpu or cuda:N; `rushes doctor` lists what is here")
    if on is not None:
        if device == "cpu":
            raise BadInput("device is 'cpu': with --on, which names a GPU, it must be gpu or left out")
        request = PlanRequest(
            direction=direction, machine=on, card=card, device_request=device or "gpu", package_precision=held,
            packages=cards_here(),
        )  # fmt: skip
        there = plan(request)
        return Quoted(path, direction, there, on, card.name, None, own, hidden)
    with Library.open() as library:
        known, live = machine_history(library, card), library.board(recent=0)
        read_before = own is not None and text_is_cached(library, model_named(own.name), direction)
    request = PlanRequest(
        direction=direction, machine=probe(), card=card, device_request=device, package_precision=held,
        packages=cards_here(), text_cached=read_before,
    )  # fmt: skip
    outcome, _ = planned(request, known)
    return Quoted(path, direction, outcome, None, card.name, forecast(live, time.time()), own, hidden)


def check_shootable(*quotes: Quoted) -> None:
    """Checks quotes before any is queued. Raises RushesError where the model is not installed or incomplete, the
    machine refused the plan, or a reference picture cannot be read.
    """
    for quoted in quotes:
        pictures = usable_model(quoted.direction.model).pictures(quoted.direction)
        quoted.require_plan()
        keys = (path for _, path in pictures["keys"])
        if paths := [path for path in (pictures["first"], pictures["last"], *keys) if path]:
            from appliance.capability.reference_pictures import read_picture  # start-up

            for path in paths:
                read_picture(Path(path))  # whole, as the worker will: a header says nothing of a file that was cut off


def examples() -> list[Path]:
    """The shot files that ship with Rushes, by name."""
    return sorted(EXAMPLES.glob("*.toml"))
