"""One attempt at a take, on the daemon's side: plan it, follow the worker, publish the files, record how it ended."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from appliance import processes
from appliance.atomic_files import sweep
from appliance.catalog.installed import cards_here
from appliance.catalog.model import ShotModel, text_is_cached, usable_model
from appliance.daemon import checkpoints
from appliance.daemon.instance import log
from appliance.daemon.recovery import film_of
from appliance.daemon.worker_process import WorkerDied, WorkerProcess
from appliance.delivery.publish import COMPANION_SUFFIXES, publish_take
from appliance.direction.document import from_json
from appliance.library import embeddings
from appliance.library.connection import LibraryBusy, LibraryFull
from appliance.library.library import Library
from appliance.library.machines import machine_history
from appliance.library.take import Status, Take
from appliance.machine.device import Device
from appliance.machine.probe import probe
from appliance.measuring.result import Measured
from appliance.planning.calibrated_plan import OutOfMemory, kind_of, planned
from appliance.planning.plan import Plan, Refusal
from appliance.planning.request import PlanRequest
from appliance.units import missed_words
from appliance.worker.protocol import (
    Cancelled,
    CancelOrder,
    Done,
    EmbeddingRead,
    Failed,
    FailureKind,
    KnownEmbedding,
    Note,
    Progress,
    RenderOrder,
    Report,
    WrongVersion,
)
from models.errors import RushesError
from models.events import Embedding

T = TypeVar("T")


@dataclass(slots=True)
class StopFlag:
    """Set by SIGTERM and SIGINT."""

    stopping: bool = False


class RenderTake:
    """One attempt at a claimed take. Raises Fenced when the take is somebody else's by now."""

    def __init__(self, library: Library, take: Take, timeouts: Timeouts, stop: StopFlag) -> None:
        self.library = library
        self.take = take
        self.timeouts = timeouts
        self.stop = stop
        self.film = film_of(library, take)
        self.worker_is_spent = False  # it failed, or does not answer: the next take gets a new one
        self.wrong_version = ""  # why the worker cannot be used at all; "" where it can
        self._plan: Plan | None = None
        self._model: ShotModel | None = None
        self._texts = ("", "")
        self._pictures: dict[str, Any] = {}
        self._heartbeat_at = 0.0
        self._seen_version = -1
        self._cancel_sent_at: float | None = None

    def plan(self, device: Device | None = None) -> bool:
        """Plans the take for this machine (None: as it is now); False when it cannot be planned and has failed."""
        miss = missed(self.take)
        try:
            direction = from_json(self.take.direction_json)
            model = usable_model(direction.model)
            pictures = model.pictures(direction)
            history, cached = machine_history(self.library, model.card), text_is_cached(self.library, model, direction)
            request = PlanRequest(
                direction=direction, machine=device or probe(), card=model.card, device_request=self.take.device,
                package_precision=model.package_precision, packages=cards_here(), text_cached=cached,
            )  # fmt: skip
            outcome, nominal_seconds = planned(request, history, miss)
        except RushesError as error:
            self._end(Status.FAILED, error=str(error))
            return False
        if isinstance(outcome, Refusal):
            before = f"it ran out of memory on {miss.device}, and nothing smaller fits: " if miss else ""
            self._end(Status.FAILED, error="; ".join((before + outcome.reason, *outcome.remedies)))
            return False
        self._plan, self._model, self._texts, self._pictures = outcome, model, model.prompts(direction), pictures
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
        """Has the worker render it, and follows it to its end: delivered, failed, cancelled or back in the queue."""
        self._clear_names()
        oom_kills = processes.oom_kills()
        try:
            for order in self._orders():
                worker.order(order)
            worker.heard_at = time.monotonic()
            self._follow(worker)
        except WrongVersion as error:
            self._end_worker(worker)
            self.wrong_version = str(error)
            self._release(f"waits for a worker that fits: {error}", blameless=True)
        except WorkerDied as error:
            self._end_worker(worker)
            if processes.oom_kills() > oom_kills:
                return self._out_of_memory("cpu", str(error))
            self._release(str(error))

    def _orders(self) -> Iterator[KnownEmbedding | RenderOrder]:
        """The render order, and before it the cached embeddings of its texts."""
        assert self._plan is not None and self._model is not None
        if self._model.reader is not None:
            for embedding in embeddings.known(self.library, self._model.reader, self._texts):
                yield KnownEmbedding(self.take.id, embedding)
        yield RenderOrder(
            take=self.take.id,
            slate=self.take.slate,
            direction=self.take.direction_json,
            plan=self._plan.to_json(),
            model=self._model.name,
            package=self._model.path,
            film=self.film,
            checkpoints=self._checkpoints(),
            prompt=self._texts[0],
            negative_prompt=self._texts[1],
            first_frame=_path(self._pictures["first"]),
            last_frame=_path(self._pictures["last"]),
            keyframes=tuple((frame, Path(path)) for frame, path in self._pictures["keys"]),
        )

    def _follow(self, worker: WorkerProcess) -> None:
        assert self._plan is not None
        silence_s = max(self.timeouts.silence_s, self.timeouts.silence_quotes * self._plan.seconds_high)
        while True:
            for report in worker.reports(self.timeouts.poll_s):
                if getattr(report, "take", None) == self.take.id and self._act_on(report):
                    return
            now = time.monotonic()
            if self.stop.stopping:
                self._end_worker(worker)
                return self._release("the daemon was stopped", blameless=True)
            if now - worker.heard_at > silence_s:
                self._end_worker(worker)
                return self._release(f"the worker stopped responding (silent for {silence_s:.0f} s) and was ended")
            if self._cancel_sent_at is not None and now - self._cancel_sent_at > self.timeouts.cancel_s:
                self._end_worker(worker)
                return self._end(Status.CANCELLED, note="the worker did not stop by itself and was ended")
            self._heartbeat(worker, now)

    def _act_on(self, report: Report) -> bool:
        """Acts on one report; True when the take has ended with it."""
        match report:
            case Progress():
                with _log_if_unwritten():
                    self.library.progress(self.take, report.phase, report.step, report.steps)
            case Note():
                with _log_if_unwritten():
                    self.library.note(self.take.id, report.text)
            case EmbeddingRead():
                with _log_if_unwritten():
                    self._cache(report.embedding)
            case Cancelled():
                self._end(Status.CANCELLED, note="stopped as asked")
                return True
            case Done():
                self._deliver(report)
                return True
            case Failed(kind=FailureKind.MEMORY):
                self._out_of_memory(report.device, report.error)
                return True
            case Failed():
                self._failed(report.kind, report.error)
                return True
        return False

    def _cache(self, embedding: Embedding) -> None:
        """Keeps a text's embedding, so that its encoder need not run again."""
        if self._model is not None and self._model.reader is not None:
            try:
                embeddings.store(self.library, self._model.reader, [embedding])
            except (LibraryFull, LibraryBusy):
                raise
            except RushesError as error:
                log(str(error))

    def _failed(self, kind: FailureKind, error: str) -> None:
        if kind in (FailureKind.BAD_INPUT, FailureKind.FAILED):
            self._end(Status.FAILED, error=error)
        elif kind is FailureKind.DISK:
            self._disk_failed(error)
        else:  # a fault is cured, if at all, by a new process
            self.worker_is_spent = True
            self._release(error)

    def _out_of_memory(self, device: str, error: str) -> None:
        """The plan was wrong: that is recorded, and a smaller plan is tried, once."""
        assert self._plan is not None
        self.worker_is_spent = True
        on_plan = device == self._plan.device
        counted = self._plan.memory_bytes if on_plan else self._plan.host_bytes
        what = missed_words(device, counted)
        with _log_if_unwritten():
            self.library.note(self.take.id, what, kind="miss")
        if missed(self.take) is not None:
            return self._end(Status.FAILED, error=f"{what}, after a larger plan had too: {error}")
        self._surely(lambda: self.library.record(self.take, missed_place=device, missed_bytes=counted))
        self._release(f"{what}: the next smaller plan is tried", blameless=True)

    def _disk_failed(self, error: str) -> None:
        if shutil.disk_usage(self.library.path.parent).free < self.timeouts.disk_floor_bytes:
            self._release(error, blameless=True)  # the disk is full for every take: they wait until there is room
        else:
            self._end(Status.FAILED, error=error)  # a quota or a limit, which waiting does not lift

    def _deliver(self, done: Done) -> None:
        """Publishes the files, the film last, then records the take. After a crash between the two, `note_published`
        records it when the next daemon starts.
        """

        def discard() -> None:
            for part in done.parts.values():
                part.unlink(missing_ok=True)

        cancelled = self._surely(lambda: self.library.heartbeat(self.take, self.timeouts.lease_s))  # or Fenced
        if cancelled:
            discard()
            return self._end(Status.CANCELLED, note="stopped as asked, when the film was done")
        try:
            publish_take(self.film, done.parts)
        except RushesError as error:
            discard()
            return self._disk_failed(str(error))
        self._end(
            Status.DELIVERED,
            measured=done.measured,
            path=self.film,
            sha256=done.sha256,
            seconds=done.seconds,
            peak_bytes=done.peak_bytes,
            phase="",
        )

    def _heartbeat(self, worker: WorkerProcess, now: float) -> None:
        """Extends the lease and checks for a cancel: at intervals, and at once when another connection has written."""
        with _log_if_unwritten():
            version = self.library.data_version()
            if version == self._seen_version and now - self._heartbeat_at < self.timeouts.beat_s:
                return
            self._seen_version, self._heartbeat_at = version, now
            if self.library.heartbeat(self.take, self.timeouts.lease_s) and self._cancel_sent_at is None:
                self._cancel_sent_at = now
                worker.order(CancelOrder(self.take.id))

    def _end_worker(self, worker: WorkerProcess) -> None:
        """Ends the worker and removes its half-written files, before the take is recorded as ended."""
        self.worker_is_spent = True
        worker.end()
        sweep(self.film.parent)

    def _end(self, status: Status, note: str = "", measured: Sequence[Measured] = (), **facts: Any) -> None:
        self._surely(lambda: self.library.change(self.take, status, note, measured, **facts))

    def _release(self, reason: str, blameless: bool = False) -> None:
        self._surely(lambda: self.library.release(self.take, reason, blameless))

    def _surely(self, write: Callable[[], T]) -> T:
        """Writes what must be written: tried again while the disk is full or the library busy, until shutdown."""
        while True:
            try:
                return write()
            except (LibraryFull, LibraryBusy) as error:
                log(str(error))
                if self.stop.stopping:
                    raise
                time.sleep(1.0)

    def _checkpoints(self) -> Path | None:
        """The folder where this attempt finds and saves its steps; None when the disk refuses one."""
        try:
            return checkpoints.take_over(self.library, self.take)
        except OSError as error:
            with _log_if_unwritten():
                self.library.note(self.take.id, f"cannot save progress ({error}); rendering without resume")
            return None

    def _clear_names(self) -> None:
        """Removes the pictures and the sidecar that an attempt published before it was cut off without a film."""
        if not self.film.exists():
            for suffix in COMPANION_SUFFIXES:
                self.film.with_suffix(suffix).unlink(missing_ok=True)


def missed(take: Take) -> OutOfMemory | None:
    """The plan of an earlier attempt that ran out of memory."""
    return None if take.missed_place is None else OutOfMemory(take.missed_place, take.missed_bytes or 0)


def _path(picture: str | None) -> Path | None:
    return Path(picture) if picture else None


@contextlib.contextmanager
def _log_if_unwritten() -> Iterator[None]:
    """For progress and notes: when the library cannot be written they are lost, and the take goes on."""
    try:
        yield
    except (LibraryFull, LibraryBusy) as error:
        log(str(error))


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long the daemon waits for what (seconds), and the disk space that it leaves free."""

    poll_s: float = 0.2  # between checks of the queue, of cancels and of the clock
    beat_s: float = 5.0  # between extensions of the lease
    lease_s: float = 60.0
    silence_s: float = 180.0  # a worker that sends no report for so long is ended (it may load weights that long),
    silence_quotes: float = 1.0  # or for this many times the longest time that the take was quoted at
    version_s: float = 60.0  # between tries of a worker that spoke another version of the protocol
    cancel_s: float = 20.0  # from ordering a worker to stop to ending it
    worker_idle_s: float = 300.0  # a warm worker keeps its memory this long after its last take
    leave_s: float = 20.0  # with until_idle: an empty queue for this long ends the daemon
    upkeep_s: float = 300.0  # between checkpoints of the library's write-ahead log
    disk_floor_bytes: int = 256 * 2**20  # below this much free space no take is begun
