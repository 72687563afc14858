"""Films rendered by a worker process of the scorecard while earlier ones are measured; nothing is delivered."""

from __future__ import annotations

import math
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np

from appliance import processes
from appliance.daemon.worker_process import WorkerProcess
from appliance.direction.document import to_json
from appliance.direction.shot import ShotDirection
from appliance.machine.probe import probe
from appliance.planning.plan import Plan, Refusal, plan
from appliance.planning.request import PlanRequest
from appliance.worker.protocol import Failed, FilmDone, FilmOrder
from models.errors import RushesError
from models.stage.blocking import Array

SILENCE_S = 600.0  # without a message from a worker that has an order, before it is given up
WORKER = ("appliance.worker",)


class Films:
    """A worker, and the films ordered from it. A context manager: leaving it ends the worker.

    A direction that is wanted several times is rendered once, and cached until it was fetched as often.
    """

    def __init__(self, package: Path, steps: int | None, wanted: Sequence[ShotDirection]) -> None:
        """`wanted`: every direction that will be fetched, as often as it will be. Raises RushesError."""
        self._package, self._steps, self._machine = package, steps, probe()
        self._left = Counter(map(to_json, wanted))
        self._numbers: dict[str, int] = {}
        self._done: dict[int, Array] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="rushes-score-")
        try:
            log = Path(self._folder.name) / "worker.log"
            self._worker = WorkerProcess(processes.module_command(*WORKER), log)
        except BaseException:
            self._folder.cleanup()
            raise

    def planned(self, direction: ShotDirection) -> Plan:
        """How this machine renders a direction. Raises RushesError where it cannot."""
        outcome = plan(PlanRequest(direction=direction, machine=self._machine))
        if isinstance(outcome, Refusal):
            raise RushesError("; ".join((outcome.reason, *outcome.remedies)))
        return replace(outcome, steps=self._steps or outcome.steps)

    @property
    def count(self) -> int:
        """How many films there are to render."""
        return len(self._left)

    def order(self, direction: ShotDirection) -> None:
        """Asks for a film ahead of its fetching. Raises RushesError."""
        key = to_json(direction)
        if key in self._numbers:
            return
        number = self._numbers[key] = len(self._numbers) + 1
        planned = self.planned(direction)
        self._worker.order(FilmOrder(number, key, planned.to_json(), self._package, self._path(number)))

    def fetch(self, direction: ShotDirection) -> Array:
        """The film of a direction, (T, h, w, 3) uint8, waited for. Raises RushesError when there will be none."""
        self.order(direction)
        key = to_json(direction)
        number = self._numbers[key]
        while number not in self._done:
            self._listen()
        film = self._done[number]
        self._left[key] -= 1
        if self._left[key] <= 0:
            del self._done[number]
        return film

    def _listen(self) -> None:
        """Takes in what the worker says next."""
        reports = self._worker.reports(SILENCE_S)
        if not reports and time.monotonic() - self._worker.heard_at >= SILENCE_S:
            raise RushesError(f"the worker stopped responding (silent for {SILENCE_S:.0f} s) and was ended")
        for report in reports:
            if isinstance(report, Failed):
                raise RushesError(report.error)
            if isinstance(report, FilmDone):
                path = self._path(report.take)
                codes = np.fromfile(path, np.uint8)
                path.unlink()
                if len(codes) != math.prod(report.shape):
                    raise RushesError(f"a film of {len(codes)} bytes came where {report.shape} was stated: try again")
                self._done[report.take] = codes.reshape(report.shape)

    def _path(self, number: int) -> Path:
        return Path(self._folder.name) / f"{number}.rgb24"

    def __enter__(self) -> Films:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.end()
        self._folder.cleanup()
