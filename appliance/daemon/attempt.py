"""One take, from claimed to ended, on the daemon's side: plan it, follow the worker, publish, note how it went."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from appliance import processes as process
from appliance.atomic_files import sweep
from appliance.daemon import checkpoints
from appliance.daemon.instance import log
from appliance.daemon.recovery import film_of
from appliance.daemon.worker_process import WorkerDied, WorkerProcess
from appliance.delivery.publish import BESIDE, publish_take
from appliance.library.connection import LibraryBusy, LibraryFull
from appliance.library.library import Library
from appliance.library.take import Status, Take
from appliance.measuring.result import Measured, measured_of
from appliance.units import bytes_words
from models.errors import RushesError

if TYPE_CHECKING:
    from appliance.catalog.model import Model
    from appliance.machine.device import Device
    from appliance.planning.calibrated_plan import OutOfMemory
    from appliance.planning.plan import Plan

T = TypeVar("T")


@dataclass(slots=True)
class StopFlag:
    """What the daemon has been told by signals."""

    stopping: bool = False


class RenderTake:
    """The life of one claimed take. Raises Fenced when the take turns out to be somebody else's by now."""

    def __init__(self, library: Library, take: Take, patience: Timeouts, orders: StopFlag) -> None:
        self.library = library
        self.take = take
        self.patience = patience
        self.orders = orders
        self.film = film_of(library, take)
        self.worker_is_spent = False  # it failed, or does not answer: the next take gets a new one
        self._plan: Plan | None = None
        self._model: Model | None = None
        self._texts = ("", "")
        self._pictures: dict[str, Any] = {}
        self._beaten_at = 0.0
        self._seen_version = -1
        self._cancel_asked_at: float | None = None

    def plan(self, device: Device | None = None) -> bool:
        """Decides what this machine (None: as it is now) does about the direction; False when that ended the take."""
        from appliance.catalog.installed import cards_here  # start-up
        from appliance.catalog.model import to_shoot, words_known  # start-up
        from appliance.direction.document import from_json  # start-up
        from appliance.library.machines import machine_history  # start-up
        from appliance.machine.probe import probe  # start-up
        from appliance.planning.calibrated_plan import kind_of, planned  # start-up
        from appliance.planning.plan import Refusal  # start-up

        miss = missed(self.take)
        try:
            direction = from_json(self.take.direction_json)
            model = to_shoot(direction.model)
            pictures = model.pictures(direction)
            known, read_before = machine_history(self.library, model.card), words_known(self.library, model, direction)
            outcome, nominal_seconds = planned(
                direction, device or probe(), model.card, known, self.take.device, miss, cards_here(), model.held,
                read_before,
            )  # fmt: skip
        except RushesError as error:
            self._end(Status.FAILED, error=str(error))
            return False
        if isinstance(outcome, Refusal):
            before = f"it ran out of memory on {miss.place}, and nothing smaller fits: " if miss else ""
            self._end(Status.FAILED, error="; ".join((before + outcome.reason, *outcome.remedies)))
            return False
        self._plan, self._model, self._texts, self._pictures = outcome, model, model.texts(direction), pictures
        facts = {
            "plan_json": outcome.to_json(),
            "model": model.name,
            "model_sha256": model.sha256,
            "card": model.card.name,
            "precision": outcome.precision,
            "device_kind": kind_of(outcome.device),
            "predicted_seconds": outcome.seconds,
            "nominal_seconds": nominal_seconds,
            "predicted_bytes": outcome.memory_bytes,
        }
        self._surely(lambda: self.library.record(self.take, phase="starting", step=0, steps=outcome.steps, **facts))
        return True

    def with_worker(self, worker: WorkerProcess) -> None:
        """Has the worker render it, and sees it to its end: delivered, failed, cancelled or back in the queue."""
        assert self._plan is not None and self._model is not None
        self._clear_names()
        oom_kills = process.oom_kills()
        try:
            worker.order(
                order="render",
                take=self.take.id,
                slate=self.take.slate,
                direction=self.take.direction_json,
                plan=self._plan.to_json(),
                model=self._model.name,
                package=str(self._model.path),
                words=self._words(self._model),
                pictures=self._pictures,
                film=str(self.film),
                checkpoints=self._checkpoints(),
            )
            worker.heard_at = time.monotonic()
            self._follow(worker)
        except WorkerDied as error:
            self._take_from(worker)
            if process.oom_kills() > oom_kills:
                return self._out_of_memory("cpu", str(error))
            self._release(str(error))

    def _follow(self, worker: WorkerProcess) -> None:
        assert self._plan is not None
        silence_s = max(self.patience.silence_s, self.patience.silence_quotes * self._plan.seconds_high)
        while True:
            for report in worker.reports(self.patience.poll_s):
                if report.get("take") == self.take.id and self._heed(report):
                    return
            now = time.monotonic()
            if self.orders.stopping:
                self._take_from(worker)
                return self._release("the daemon was stopped", blameless=True)
            if now - worker.heard_at > silence_s:
                self._take_from(worker)
                return self._release(f"the renderer gave no sign of life for {silence_s:.0f} s and was ended")
            if self._cancel_asked_at is not None and now - self._cancel_asked_at > self.patience.cancel_s:
                self._take_from(worker)
                return self._end(Status.CANCELLED, note="the renderer did not stop by itself and was ended")
            self._beat(worker, now)

    def _heed(self, report: dict[str, Any]) -> bool:
        """Acts on one report; True when the take has ended with it."""
        match report:
            case {"report": "progress", "phase": phase, "step": step, "steps": steps}:
                with _not_now():
                    self.library.progress(self.take, str(phase), int(step), int(steps))
            case {"report": "note", "text": text}:
                with _not_now():
                    self.library.note(self.take.id, str(text))
            case {"report": "words", "embedding": embedding}:
                with _not_now():
                    self._keep(embedding)
            case {"report": "cancelled"}:
                self._end(Status.CANCELLED, note="stopped as asked")
                return True
            case {"report": "done"}:
                self._deliver(report)
                return True
            case {"report": "error", "kind": "memory", "error": error}:
                self._out_of_memory(str(report.get("place", "cpu")), str(error))
                return True
            case {"report": "error", "kind": kind, "error": error}:
                self._failed(str(kind), str(error))
                return True
        return False

    def _words(self, model: Model) -> dict[str, Any]:
        """What the model is told in words, with what its encoder made of them before."""
        from appliance.library.embeddings import known  # start-up
        from appliance.worker.protocol import packed  # start-up

        positive, negative = self._texts
        before = known(self.library, model.reader, self._texts) if model.reader else ()
        return {"positive": positive, "negative": negative, "known": [packed(each) for each in before]}

    def _keep(self, embedding: Any) -> None:
        """Words that were read need not be read again."""
        from appliance.library.embeddings import keep  # start-up
        from appliance.worker.protocol import unpacked  # start-up

        if self._model is not None and self._model.reader is not None:
            try:
                keep(self.library, self._model.reader, [unpacked(embedding)])
            except (LibraryFull, LibraryBusy):
                raise
            except RushesError as error:
                log(str(error))

    def _failed(self, kind: str, error: str) -> None:
        if kind in ("bad_input", "failed"):  # the same again would end the same
            self._end(Status.FAILED, error=error)
        elif kind == "disk":
            self._disk_failed(error)
        else:  # "fault": cured, if at all, by a new process
            self.worker_is_spent = True
            self._release(error)

    def _out_of_memory(self, place: str, error: str) -> None:
        """The plan was wrong: the miss is written down, and a smaller plan is tried, once."""
        assert self._plan is not None
        self.worker_is_spent = True
        on_plan = place == self._plan.device
        counted = self._plan.memory_bytes if on_plan else self._plan.host_bytes
        what = f"{place} ran out of memory where {bytes_words(counted)} had been predicted"
        with _not_now():
            self.library.note(self.take.id, what, kind="miss")
        if missed(self.take) is not None:
            return self._end(Status.FAILED, error=f"{what}, after a larger plan had too: {error}")
        self._surely(lambda: self.library.record(self.take, missed_place=place, missed_bytes=counted))
        self._release(f"{what}: the next smaller plan is tried", blameless=True)

    def _disk_failed(self, error: str) -> None:
        import shutil

        if shutil.disk_usage(self.library.path.parent).free < self.patience.disk_floor_bytes:
            self._release(error, blameless=True)  # the disk is full for everybody: takes wait until there is room
        else:
            self._end(Status.FAILED, error=error)  # a quota or a limit, which waiting does not lift

    def _deliver(self, report: dict[str, Any]) -> None:
        """Names for the files, the film last; then the library. A crash between the two is put right at the start."""
        parts = {suffix: Path(part) for suffix, part in report["parts"].items()}

        def discard() -> None:
            for part in parts.values():
                part.unlink(missing_ok=True)

        cancelled = self._surely(lambda: self.library.heartbeat(self.take, self.patience.lease_s))  # or Fenced
        if cancelled:
            discard()
            return self._end(Status.CANCELLED, note="stopped as asked, when the film was done")
        try:
            publish_take(self.film, parts)
        except RushesError as error:
            discard()
            return self._disk_failed(str(error))
        self._end(
            Status.DELIVERED,
            measured=measured_of(report.get("measured")),
            path=self.film,
            sha256=report["sha256"],
            seconds=report["seconds"],
            peak_bytes=report["peak_bytes"],
            phase="",
        )

    def _beat(self, worker: WorkerProcess, now: float) -> None:
        """Extends the lease and looks for a wish to cancel: in time, and at once when somebody else has written."""
        with _not_now():
            version = self.library.data_version()
            if version == self._seen_version and now - self._beaten_at < self.patience.beat_s:
                return
            self._seen_version, self._beaten_at = version, now
            if self.library.heartbeat(self.take, self.patience.lease_s) and self._cancel_asked_at is None:
                self._cancel_asked_at = now
                worker.order(order="cancel", take=self.take.id)

    def _take_from(self, worker: WorkerProcess) -> None:
        """Ends the worker; what it had half written goes before the take is said to have ended."""
        self.worker_is_spent = True
        worker.end()
        sweep(self.film.parent)

    def _end(self, status: Status, note: str = "", measured: Sequence[Measured] = (), **facts: Any) -> None:
        self._surely(lambda: self.library.change(self.take, status, note, measured, **facts))

    def _release(self, reason: str, blameless: bool = False) -> None:
        self._surely(lambda: self.library.release(self.take, reason, blameless))

    def _surely(self, write: Callable[[], T]) -> T:
        """Writes what must be written, waiting for room on a full disk for as long as the daemon may live."""
        while True:
            try:
                return write()
            except (LibraryFull, LibraryBusy) as error:
                log(str(error))
                if self.orders.stopping:
                    raise
                time.sleep(1.0)

    def _checkpoints(self) -> str | None:
        """The folder where this attempt finds and saves its steps; None when the disk refuses one: it does without."""
        try:
            return str(checkpoints.take_over(self.library, self.take))
        except OSError as error:
            with _not_now():
                self.library.note(self.take.id, f"its steps are not saved: {error}")
            return None

    def _clear_names(self) -> None:
        """Pictures and page of an attempt that was cut off while it published; without their film they are nothing."""
        if not self.film.exists():
            for suffix in BESIDE:
                self.film.with_suffix(suffix).unlink(missing_ok=True)


def missed(take: Take) -> OutOfMemory | None:
    """The plan of an earlier attempt that ran out of memory."""
    from appliance.planning.calibrated_plan import OutOfMemory  # start-up

    return None if take.missed_place is None else OutOfMemory(take.missed_place, take.missed_bytes or 0)


@contextlib.contextmanager
def _not_now() -> Iterator[None]:
    """Progress that cannot be written is not worth a take: the next one will tell."""
    try:
        yield
    except (LibraryFull, LibraryBusy) as error:
        log(str(error))


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long the daemon waits for what. Seconds, and bytes of disk."""

    poll_s: float = 0.2  # between looks at the queue, at cancels and at the clock
    beat_s: float = 5.0  # between extensions of the lease
    lease_s: float = 60.0
    silence_s: float = 180.0  # a worker may load weights this long without a word,
    silence_quotes: float = 1.0  # or for this many times the longest that the take was quoted at
    cancel_s: float = 20.0  # from asking a worker to stop to ending it
    worker_idle_s: float = 300.0  # a warm worker keeps its memory this long after its last take
    leave_s: float = 20.0  # with until_idle: an empty queue for this long ends the daemon
    upkeep_s: float = 300.0  # between checkpoints of the library
    disk_floor_bytes: int = 256 * 2**20  # below this much free space no take is begun
