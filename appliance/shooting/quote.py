"""From a shot file to a quote, and from a take to its successor: what the command line and the desk both do first."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.units import bytes_words, count_words, seconds_words
from models.errors import BadInput, RushesError

if TYPE_CHECKING:
    from appliance.catalog.installed import InstalledPackage
    from appliance.direction.shot import ShotDirection
    from appliance.library.forecast import QueueForecast
    from appliance.library.take import Take
    from appliance.machine.device import Device
    from appliance.planning.plan import Plan, Refusal

DEVICE = re.compile(r"cpu|gpu|cuda|cuda:[0-9]{1,3}")
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@dataclass(frozen=True, slots=True)
class Quoted:
    """A shot file read, and what this machine would do about it, or another (`on`) by a datasheet."""

    path: Path
    direction: ShotDirection
    outcome: Plan | Refusal
    on: Device | None = None
    card: str = "previs"  # the model that was priced
    ahead: QueueForecast | None = None  # what the house has to do before it
    package: InstalledPackage | None = None  # of the house, that holds its weights

    @property
    def fits(self) -> bool:
        """Whether the machine can shoot it."""
        from appliance.planning.plan import Plan  # start-up

        return isinstance(self.outcome, Plan)

    def require_plan(self) -> Plan:
        """The plan. Raises RushesError with the reason and the ways out where the machine cannot shoot it."""
        from appliance.planning.plan import Plan  # start-up

        if isinstance(self.outcome, Plan):
            return self.outcome
        raise RushesError("; ".join((f"{self.path}: {self.outcome.reason}", *self.outcome.remedies)))

    def headline(self) -> str:
        """The quote in one line: what, how long, how big."""
        plan = self.require_plan()
        return (
            f"{self.direction.slate}  {plan.frames} frames of {plan.width}x{plan.height}, {plan.steps} steps on"
            f" {plan.device}, about {seconds_words(plan.seconds)}, {bytes_words(plan.memory_bytes)} of memory"
        )

    def rows(self) -> list[tuple[str, str]]:
        """The quote as (name, text), for a page."""
        elsewhere = [] if self.on is None else [("on", datasheet_words(self.on))]
        if not self.fits:
            return [*elsewhere, ("no", self.outcome.reason), *(("try", way) for way in self.outcome.remedies)]  # type: ignore[union-attr]
        plan, now = self.require_plan(), time.time()
        host = f", {bytes_words(plan.host_bytes)} of the machine's own" if plan.host_bytes else ""
        rests = ", by what was measured here" if plan.measured else ", not measured here yet"
        return [
            *elsewhere,
            ("slate", self.direction.slate),
            ("action", self.direction.text.action.split("\n")[0]),
            ("time", _about(plan) + (rests if self.on is None else ", by the datasheet alone")),
            *self._queue(plan, now),
            ("needs", f"{bytes_words(plan.memory_bytes)} of memory{host}, {bytes_words(plan.disk_bytes)} on disk"),
            ("film", f"{plan.frames} frames of {plan.width}x{plan.height} at {plan.fps:g} fps"),
            ("plan", f"{plan.card}, {plan.steps} steps on {plan.device}, {plan.precision}"),
            ("why", "\n".join(plan.why)),
            *obeyed_words(self.direction, plan.card),
            *self._weights(),
        ]

    def _queue(self, plan: Plan, now: float) -> list[tuple[str, str]]:
        """When it would be done behind what waits already."""
        from appliance.library.forecast import QueueForecast  # start-up

        if self.ahead is None or not self.ahead.takes:
            return []
        ends = QueueForecast(self.ahead.takes + 1, self.ahead.seconds + plan.seconds, self.ahead.unknown)
        return [("queue", f"{ends.words(now)}, with this one")]

    def _weights(self) -> list[tuple[str, str]]:
        """Where the weights are of another model than the one that ships; or that they are not here."""
        from models.card import PREVIS  # start-up

        if self.card == PREVIS.name:
            return []
        if self.package is not None:
            size = f"{bytes_words(self.package.file_bytes)} on disk, in {self.package.precision}"
            return [("weights", f"{self.package.name}, {size}")]
        return [("note", f"no package of {self.card} is here: this is its price; `rushes models import` brings one")]

    def to_json(self) -> dict[str, object]:
        """The quote as `rushes quote --json` gives it: what fits has a plan, what does not has a refusal."""
        from appliance.capability.report import levels_of_stated  # start-up

        return {
            "file": self.path, "slate": self.direction.slate, "fits": self.fits, "quote": self.outcome,
            "obeyed": levels_of_stated(self.direction, self.card),
            "on": self.on, "model": self.card, "ahead": self.ahead,
            "package": self.package,
        }  # fmt: skip


def quote(path: Path, model: str | None = None) -> Quoted:
    """Read a shot file, to be shot with another model where one is named, and plan it. Raises BadInput."""
    return plan_direction(path, read(path, model=model), None)


def read(path: Path, seed: int | None = None, quality: str | None = None, model: str | None = None) -> ShotDirection:
    """The direction of a file, with what was asked in place of its values. The paths of its pictures are from the
    file's own folder, whoever renders it where. Raises BadInput.
    """
    from appliance.direction.document import load_file  # start-up

    asked: dict[str, Any] = {"seed": seed, "quality": quality, "model": model}
    direction = replace(load_file(path), **{name: value for name, value in asked.items() if value is not None})
    folder, refs = path.absolute().parent, direction.refs
    stated = {name: value for name in ("first", "last") if (value := getattr(refs, name)) is not None}
    beside: dict[str, Any] = {name: str((folder / value).resolve()) for name, value in stated.items()}
    beside["keyframes"] = tuple(replace(key, path=str((folder / key.path).resolve())) for key in refs.keyframes)
    return replace(direction, refs=replace(refs, **beside))


def plan_direction(path: Path, direction: ShotDirection, device: str | None, on: Device | None = None) -> Quoted:
    """Plan a direction with what the library knows of this machine's real speed. `device` is what was asked for.

    `on` is another machine (appliance/machine/datasheets.py, elsewhere): nothing that was measured here holds there.
    """
    from appliance.catalog.installed import cards_here  # start-up
    from appliance.catalog.model import chosen, named, words_known  # start-up
    from appliance.library.forecast import forecast  # start-up
    from appliance.library.library import Library  # start-up
    from appliance.library.machines import machine_history  # start-up
    from appliance.machine.probe import probe  # start-up
    from appliance.planning.calibrated_plan import planned  # start-up
    from appliance.planning.plan import plan  # start-up

    direction, card, own = chosen(direction)
    held = None if own is None else own.precision
    if device is not None and not DEVICE.fullmatch(device):
        raise BadInput(f"device is {device!r}: it must be cpu, gpu or cuda:N; `rushes doctor` lists what is here")
    if on is not None:
        if device == "cpu":
            raise BadInput("device is 'cpu': with --on, which names a GPU, it must be gpu or left out")
        there = plan(direction, on, card, None, device or "gpu", packages=cards_here(), held=held)
        return Quoted(path, direction, there, on, card.name, None, own)
    with Library.open() as library:
        known, live = machine_history(library, card), library.board(recent=0)
        read_before = own is not None and words_known(library, named(own.name), direction)
    outcome, _ = planned(direction, probe(), card, known, device, None, cards_here(), held, read_before)
    return Quoted(path, direction, outcome, None, card.name, forecast(live, time.time()), own)


def must_shoot(*quotes: Quoted) -> None:
    """Asked before anything is queued. Raises where a model is not here, or not whole, a picture none, or the machine
    cannot shoot.
    """
    from appliance.catalog.model import to_shoot  # start-up

    for quoted in quotes:
        shown = to_shoot(quoted.direction.model).pictures(quoted.direction)
        quoted.require_plan()
        if paths := [path for path in (shown["first"], shown["last"], *(path for _, path in shown["keys"])) if path]:
            from appliance.capability.reference_pictures import look_at  # start-up

            for path in paths:
                look_at(Path(path))


def again(take: Take, seed: int | None = None) -> ShotDirection:
    """A take's direction with another seed: the given one, or (None) the one that is drawn when it is queued."""
    from appliance.direction.document import from_json  # start-up

    return replace(from_json(take.direction_json), seed=seed)


def examples() -> list[Path]:
    """The shot files that ship with Rushes, by name."""
    return sorted(EXAMPLES.glob("*.toml"))


def obeyed_words(direction: ShotDirection, card: str) -> list[tuple[str, str]]:
    """(level, fields) of what this direction states: what the model does not obey exactly by name, the rest counted."""
    from appliance.capability.report import levels_of_stated  # start-up

    levels: dict[str, list[str]] = {}
    for name, level in levels_of_stated(direction, card).items():
        levels.setdefault(level, []).append(name)
    exact = len(levels.pop("exact", []))
    named = [(level, ", ".join(levels[level])) for level in ("ignored", "text-only", "approximate") if level in levels]
    return [*named, ("exact", f"{'the other ' if named else ''}{count_words(exact, 'field')} that the shot states")]


def datasheet_words(device: Device) -> str:
    """What a quote for another machine rests on."""
    (gpu,) = device.gpus
    free, total = bytes_words(gpu.free_bytes or 0), bytes_words(gpu.total_bytes or 0)
    ram_free, ram_total = bytes_words(device.ram_free_bytes), bytes_words(device.ram_total_bytes)
    return (
        f"another machine, estimated from the datasheet of {gpu.name}: {free} of its {total} taken as free,"
        f" {ram_free} of {ram_total} RAM, {count_words(device.cores, 'CPU core')} and disk as here"
    )


def _about(plan: Plan) -> str:
    low, high = seconds_words(plan.seconds_low), seconds_words(plan.seconds_high)
    return f"about {seconds_words(plan.seconds)}" + ("" if low == high else f" ({low} to {high})")
