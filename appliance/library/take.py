"""A take: one render of a shot as a row of the library, and its states."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Status(StrEnum):
    """The state of a take."""

    QUEUED = "queued"
    RENDERING = "rendering"
    DELIVERED = "delivered"
    FAILED = "failed"
    CANCELLED = "cancelled"


# Rendering may go back to queued: after a shutdown, a power cut or one crash. The last three states are final.
TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.RENDERING, Status.CANCELLED}),
    Status.RENDERING: frozenset({Status.DELIVERED, Status.FAILED, Status.CANCELLED, Status.QUEUED}),
    Status.DELIVERED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Take:
    """One row of the table of takes. Times are unix seconds, UTC."""

    id: int
    slate: str  # "12C T4"
    scene: str  # "12"
    setup: str  # "C"
    take_number: int  # 4
    action: str  # what happens, in the director's words
    direction_json: str
    device: str | None  # that was asked for: "cpu", "cuda:0"; None: the plan chooses
    model: str | None  # the package: that was asked for, after planning the one that it is rendered with
    model_sha256: str | None  # of that package's data; None until it was planned
    plan_json: str | None
    status: Status
    phase: str  # what the worker is doing: "loading", "rendering", "developing"
    step: int
    steps: int  # 0 until the plan is made
    seed: int
    path: Path | None  # the film
    sha256: str | None  # of the film
    error: str | None  # why it failed, and the way out
    attempt: int  # renders begun, without those that a shutdown or a full disk ended: a second crash is a failure
    fence: int  # fencing token: grows with every claim and release; writes with an older one are refused
    owner: str | None  # "HOST BOOT PID" of the daemon that renders it
    machine: str | None  # the host that renders or rendered it
    lease_until: float | None
    queued_at: float
    started_at: float | None
    ended_at: float | None
    predicted_seconds: float | None
    seconds: float | None  # of the render itself, measured
    predicted_bytes: int | None  # of the memory that it was planned for: the machine's, or a GPU's
    peak_bytes: int | None  # of that memory, measured
    missed_place: str | None  # the device on which an attempt ran out of memory: "cpu", "cuda:0"
    missed_bytes: int | None  # what its plan had predicted
    cancel_requested: bool
    prev_take: int | None  # the take that this one repeats or follows
    axes_measured: int = 0  # axes of its direction that were measured on its film
    axes_within: int = 0  # of those, within the tolerances of the direction

    @property
    def shot(self) -> str:
        """Scene and setup: "12C"."""
        return f"{self.scene}{self.setup}"

    @property
    def model_words(self) -> str:
        """The package that it is rendered with, and the start of its data's hash: "ours, data 3f2a90c1"."""
        data = f", data {self.model_sha256[:16]}" if self.model_sha256 else ""
        return f"{self.model}{data}" if self.model else ""

    @property
    def ended(self) -> bool:
        """Nothing more will happen to this take."""
        return not TRANSITIONS[self.status]


@dataclass(frozen=True, slots=True)
class TakeEvent:
    """A line of the history: of a take, or of the installation (take_id None)."""

    id: int
    take_id: int | None
    at: float  # unix seconds, UTC
    kind: str  # a Status, or "note" | "warning" | "miss"
    text: str
