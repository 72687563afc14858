"""A training in a few calls of so many minutes each: which call this is, and what its minutes are for.

    START of each call goes by until there is footage, FINISH of the last one for the package and its scores; the rest
    is SHARES of the parts. In three calls of nine minutes: 5.9 for the autoencoder, all in the first; 14 for the
    transformer, 2 of them in the first; 2.4 for the decoder and 1.7 for the detail, at the end of the last.

What is left when the last call comes is divided in its time, whatever the calls before had done, so it ends in a
package. Each call has footage of its own: seeds that no other call draws. What a seed shows is fixed; which shots a
step sees depends on when they are rendered.
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
    """Minutes of each part in all, of so many calls of so many minutes."""
    whole = minutes * (calls * (1 - START) - FINISH)
    return {part: share * whole for part, share in SHARES.items()}


def first_seed(call: int) -> int:
    """Where the seeds of a call begin; the first is call 0."""
    return scenes.TEST_SEEDS + call * SEEDS


def facts_of(path: Path) -> dict:
    """What is known of a run, without its weights; of one that has not begun, that."""
    fresh = {"step": 0, "seconds": 0.0, "history": [], "done": False}
    return fresh | json.loads(read_header(path).metadata["run"]) if path.exists() else fresh


@dataclass(frozen=True, slots=True)
class Call:
    """One call, the last of its training or not."""

    runs: Mapping[str, Path]
    budgets: Mapping[str, float]  # minutes
    ends: float  # when training must stop, as time.monotonic() counts
    finish: float  # minutes before that, in the last call, when the package must be begun
    last: bool

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        return all(facts_of(path)["seconds"] >= 60 * self.minutes(part) for part, path in self.runs.items())

    @property
    def cut_off(self) -> bool:
        """Whether another call must go on; the last one goes on to the package, come what may."""
        return not self.last and time.monotonic() >= self.ends

    def minutes(self, part: str) -> float:
        """The budget of a part in all, as it is when the part begins: in the last call, to fit what time is left."""
        if not self.last:
            return self.budgets[part]
        left = self._left(part)
        if left == 0:
            return 0.0
        room = max(0.0, (self.ends - time.monotonic()) / 60 - self.finish)
        spent = facts_of(self.runs[part])["seconds"] / 60
        return spent + max(1e-6, room * left / sum(map(self._left, self.runs)))  # a step at least

    def _left(self, part: str) -> float:
        """Minutes of a part's budget that were not spent; none of one that an earlier last call called done."""
        facts = facts_of(self.runs[part])
        return 0.0 if facts["done"] else max(1e-6, self.budgets[part] - facts["seconds"] / 60)
