"""A take: one render of a shot, as a row of the library, and the states it may be in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Status(StrEnum):
    """Where a take stands."""

    QUEUED = "queued"
    RENDERING = "rendering"
    DELIVERED = "delivered"
    FAILED = "failed"
    CANCELLED = "cancelled"


# Rendering may go back to queued: the box was switched off, or the worker died once. The last three are for ever.
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
    device: str | None  # the one that was asked for: "cpu", "cuda:0"; None: the plan chooses
    model: str | None  # the package that was asked for, then the one that it was planned with
    model_sha256: str | None  # of that package's data; None until it was planned
    plan_json: str | None
    status: Status
    phase: str  # what the worker is doing, in a word or two: "loading", "drafting", "developing"
    step: int
    steps: int  # 0 until the plan is made
    seed: int
    path: Path | None  # the film
    sha256: str | None  # of the film
    error: str | None  # why it failed, and the way out
    attempt: int  # renders begun that count against it: a second crash is a failure
    fence: int  # grows with every claim; who holds an older one is refused
    owner: str | None
    machine: str | None  # that renders or rendered it
    lease_until: float | None
    queued_at: float
    started_at: float | None
    ended_at: float | None
    predicted_seconds: float | None
    seconds: float | None  # of the render itself, measured
    predicted_bytes: int | None  # of the memory it was planned for: the machine's, or a GPU's
    peak_bytes: int | None  # of that memory at its highest, measured
    missed_place: str | None  # where an attempt ran out of memory in spite of its plan: "cpu", "cuda:0"
    missed_bytes: int | None  # that plan's prediction
    cancel_requested: bool
    prev_take: int | None  # the take that this one repeats or follows
    axes_measured: int = 0  # of what was asked, on its own film
    axes_within: int = 0  # of those, within the tolerances of its direction

    @property
    def shot(self) -> str:
        """Scene and setup: "12C"."""
        return f"{self.scene}{self.setup}"

    @property
    def model_words(self) -> str:
        """The package that it is or was shot with, and what of its hash tells it from others: "ours, data 3f2a90c1"."""
        data = f", data {self.model_sha256[:16]}" if self.model_sha256 else ""
        return f"{self.model}{data}" if self.model else ""

    @property
    def ended(self) -> bool:
        """Nothing more will happen to this take."""
        return not TRANSITIONS[self.status]


@dataclass(frozen=True, slots=True)
class TakeEvent:
    """One thing that happened to a take, or to the house (take_id None), in the order it happened."""

    id: int
    take_id: int | None
    at: float  # unix seconds, UTC
    kind: str  # a Status, or "note" | "warning"
    text: str
