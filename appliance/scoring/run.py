"""Run a scorecard: commanded and measured values of a model's films, axis by axis, next to three baselines.

    floor     the stage's own film of the same direction: the error of the measurement itself
    dropped   the film of the neutral dose, compared with each dose: a model without the control
    shuffled  the film of another dose, half a round of doses on: a model with the wrong control

Films come from the worker, as takes do; the baselines need no further films. What could not be measured is counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from appliance.blocking.solve import block
from appliance.catalog.installed import read_package
from appliance.measuring.camera import measure_camera
from appliance.measuring.ground_truth import GroundTruth
from appliance.measuring.take import locked_off, standing_drift
from appliance.measuring.track import CameraTrack, asked_camera
from appliance.scoring.axes import AXES, Axis, identity
from appliance.scoring.films import Films
from appliance.scoring.motion import MOVES, flicker, lag_s, pixels
from appliance.scoring.scorecard import Document, Sweep, in_words, row_of, summed_up
from appliance.units import seconds_words
from models.errors import BadInput
from models.stage.blocking import Array

SCHEMA = "rushes-score/1"
MEASURING_S = 2.3  # a film, on one core: ground truth, floor, baselines, identity

Tell = Callable[[str, bool], None]  # a line, and whether it stays when the next one is printed


def axes_named(names: Sequence[str], doses: int = 7) -> list[Axis]:
    """The axes of those names, all of them for none, with so many of their doses (odd: the neutral one is in the
    middle). Raises BadInput.
    """
    by_name = {axis.name: axis for axis in AXES}
    for name in names:
        if name not in by_name:
            raise BadInput(f'axis is "{name}": it must be one of {", ".join(by_name)}')
    chosen = [by_name[name] for name in dict.fromkeys(names)] if names else AXES
    picked = [round(i * 6 / (doses - 1)) for i in range(doses)]
    return [replace(axis, doses=tuple(axis.doses[i] for i in picked)) for axis in chosen]


def score(package: Path, axes: Sequence[Axis], seeds: int, steps: int | None, tell: Tell) -> Document:
    """The scorecard of a package as one JSON document. `tell` is called with its progress. Raises RushesError."""
    began, facts = time.monotonic(), read_package(package)
    shots = [[(seed, dose, axis.shot(dose, seed)) for seed in range(seeds) for dose in axis.doses] for axis in axes]
    with Films(package, steps, [shot for of_axis in shots for *_, shot in of_axis]) as films:
        plan = films.planned(shots[0][0][2])
        seconds = films.count * (plan.seconds + MEASURING_S)
        shape = f"{plan.frames} frames, {plan.steps} steps each"
        tell(f"{films.count} films of {shape}: about {seconds_words(seconds)}", True)
        sweeps = []
        for number, axis in enumerate(axes):
            for _, _, shot in shots[number]:
                films.order(shot)
            ahead = shots[number + 1] if number + 1 < len(shots) else []
            sweep = Sweep(axis)
            for seed in range(seeds):
                of_seed = [shot for of, _, shot in shots[number] if of == seed]
                tell(f"{axis.name}  seed {seed + 1} of {seeds}, axis {number + 1} of {len(axes)}", False)
                rendered = [films.fetch(shot) for shot in of_seed]
                for _, _, shot in ahead:  # the worker renders while these are measured
                    films.order(shot)
                _measure(sweep, [GroundTruth(block(shot)) for shot in of_seed], rendered, seed)
            sweeps.append(sweep)
            tell(in_words(row_of(sweep)), True)
    return {
        "schema": SCHEMA,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "package": {"file": package.name, "card": facts.card, "data_sha256": facts.metadata.get("data_sha256", "")},
        "device": plan.device, "steps": plan.steps, "seeds": seeds,
        "frames": plan.frames, "width": plan.width, "height": plan.height,
        **summed_up(sweeps, plan.frames),
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def _measure(sweep: Sweep, grounds: Sequence[GroundTruth], films: Sequence[Array], seed: int) -> None:
    """Measures all doses of one axis and seed."""
    axis = sweep.axis
    for i, (dose, ground) in enumerate(zip(axis.doses, grounds, strict=True)):
        same = {"floor": ground.film(), "model": films[i]}
        others = {"dropped": films[axis.neutral], "shuffled": films[(i + len(films) // 2) % len(films)]}
        asked = axis.asked(ground.blocking)
        sweep.doses.append(dose)
        sweep.seeds.append(seed)
        sweep.asked.append(asked)
        tracks = {}
        for name, film in (same | others).items():
            track = tracks[name] = measure_camera(film, ground) if axis.curve else None
            value = axis.measured(film, ground) if track is None else _end(axis, track)
            if axis.round and value is not None:
                value = asked + (value - asked + 180) % 360 - 180
            sweep.values[name].append(value)
        for name, film in same.items():
            sweep.known[name].append(identity(film, ground, seed))
            if locked_off(ground.blocking):
                sweep.still[name].append((standing_drift(film, ground), flicker(film, ground)))
        if axis.curve is not None and i != axis.neutral:
            _stray(sweep, ground, tracks)


def _stray(sweep: Sweep, ground: GroundTruth, tracks: dict[str, CameraTrack | None]) -> None:
    """Cross-talk and lag of a camera move."""
    axis, wanted = sweep.axis, asked_camera(ground.blocking)
    assert axis.curve is not None
    asked_px = pixels(wanted, ground.blocking)
    sweep.commanded_px.append(abs(float(asked_px[MOVES.index(axis.name)])))
    for name in ("floor", "model"):
        track = tracks[name]
        whole = track is not None and track.whole
        sweep.strayed_px[name].append(
            pixels(track, ground.blocking) - asked_px if track is not None and whole else np.full(len(MOVES), np.nan)
        )
        if name == "model" and track is not None and whole:
            late = lag_s(axis.curve(wanted), axis.curve(track), ground.blocking.fps)
            sweep.lags_s += [late] if late is not None else []


def _end(axis: Axis, track: CameraTrack) -> float | None:
    assert axis.curve is not None
    return float(axis.curve(track)[-1]) if track.whole else None
