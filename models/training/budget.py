"""Divide a training into a few calls of some minutes each: which call this is, and the minutes of each part.

    START of each call passes before there is footage, FINISH of the last one is for the package and its scores; the
    rest is divided by SHARES. In three calls of nine minutes: 5.9 for the autoencoder, all in the first; 14 for the
    transformer, 2 of them in the first; 2.4 for the decoder and 1.7 for the detail, at the end of the last.

The last call divides its own time among the parts that are left, whatever earlier calls achieved, so it always ends
with a package. Each call renders its own range of seeds. What a seed shows is fixed; which shots a step sees depends on
when they are rendered.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from models.training.shots import scenes
from models.weight_files.safetensors_header import read_header

START, FINISH = 0.08, 0.12  # of a call
TRAINING = 0.98  # of a call: the rest is for the last save
SHARES = {"autoencoder": 0.25, "transformer": 0.58, "decoder": 0.1, "detail": 0.07}
SEEDS = 100_000  # of each call, many more than a call can render


def budgets(calls: int, minutes: float) -> dict[str, float]:
    """Minutes of each part in all, for `calls` calls of `minutes` each."""
    whole = minutes * (calls * (1 - START) - FINISH)
    return {part: share * whole for part, share in SHARES.items()}


def first_seed(call: int) -> int:
    """The first seed of a call; calls count from 0."""
    return scenes.TEST_SEEDS + call * SEEDS


def facts_of(path: Path) -> dict:
    """The facts of a run, without its weights; zeros for one that has not started."""
    fresh = {"step": 0, "seconds": 0.0, "history": [], "done": False}
    return fresh | json.loads(read_header(path).metadata["run"]) if path.exists() else fresh


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a training."""

    runs: Mapping[str, Path]
    budgets: Mapping[str, float]  # minutes
    ends: float  # when training must stop, as time.monotonic() counts
    finish: float  # minutes before `ends` at which the last call starts to write the package
    last: bool

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        return all(facts_of(path)["seconds"] >= 60 * self.minutes(part) for part, path in self.runs.items())

    @property
    def cut_off(self) -> bool:
        """Whether training stops here and another call resumes; the last call always goes on to the package."""
        return not self.last and time.monotonic() >= self.ends

    def minutes(self, part: str) -> float:
        """The total budget of a part when it starts; in the last call, fitted to the time that is left."""
        if not self.last:
            return self.budgets[part]
        left = self._left(part)
        if left == 0:
            return 0.0
        room = max(0.0, (self.ends - time.monotonic()) / 60 - self.finish)
        spent = facts_of(self.runs[part])["seconds"] / 60
        return spent + max(1e-6, room * left / sum(map(self._left, self.runs)))  # at least one step

    def _left(self, part: str) -> float:
        """Minutes of a part's budget that are not spent; 0 for a part that an earlier last call finished."""
        facts = facts_of(self.runs[part])
        return 0.0 if facts["done"] else max(1e-6, self.budgets[part] - facts["seconds"] / 60)
