"""How far a take is and how long it has left: one pure function, for the command line and the desk."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.library.take import Status, Take
from appliance.units import clock

BEFORE_STEPS = 0.35  # share of a render before its first step (loading, the stage): 0.2 to 0.6 measured on CPUs
AFTER_STEPS = 0.05  # share after its last step: decoding, encoding, publishing
DELIVERING = 0.97  # the film is rendered and being encoded, verified and published


@dataclass(frozen=True, slots=True)
class Progress:
    """What a progress bar shows."""

    fraction: float  # 0..1
    left_seconds: float | None  # None: not known yet
    words: str  # "drafting 5/8"

    def bar(self, width: int) -> str:
        """The fraction as `width` cells of ASCII: "[#####-----]" is 12 wide."""
        full = self.full(width - 2)
        return f"[{'#' * full}{'-' * (max(1, width - 2) - full)}]"

    def full(self, cells: int) -> int:
        """How many of a bar's cells are full."""
        return min(max(1, cells), round(self.fraction * max(1, cells)))

    @property
    def left(self) -> str:
        """The countdown, or "--" while there is nothing to count from."""
        return "--" if self.left_seconds is None else clock(self.left_seconds)


def progress(take: Take, now: float) -> Progress:
    """The progress of `take` at `now` (unix seconds).

    The share of work comes from the steps done. The time left starts as the plan's prediction and moves towards what is
    measured as the work proceeds, so that a wrong prediction is corrected.
    """
    if take.status is Status.QUEUED:
        return Progress(0.0, take.predicted_seconds, "waiting")
    if take.status is not Status.RENDERING:
        return Progress(1.0 if take.status is Status.DELIVERED else 0.0, 0.0, str(take.status))
    words = f"{take.phase} {take.step}/{take.steps}" if 0 < take.step < take.steps else take.phase
    elapsed = max(0.0, now - take.started_at) if take.started_at is not None else 0.0
    share = _share(take)
    if take.predicted_seconds is None:
        left = elapsed * (1 - share) / share if share > BEFORE_STEPS else None
        return Progress(share, left, words)
    if share <= BEFORE_STEPS:
        # No step is done, so all of their time is still to come, however late it is.
        left = max(take.predicted_seconds - elapsed, (1 - BEFORE_STEPS) * take.predicted_seconds)
        share = min(BEFORE_STEPS, elapsed / take.predicted_seconds) if take.predicted_seconds > 0 else 0.0
    else:
        # share * (elapsed / share) + (1 - share) * predicted: measured and predicted totals, weighed by the work done
        total = elapsed + (1 - share) * take.predicted_seconds
        left = (1 - share) * total
    return Progress(share, left, words)


def _share(take: Take) -> float:
    if not take.steps:
        return 0.0
    if take.phase == "delivering":
        return DELIVERING
    return BEFORE_STEPS + (1 - BEFORE_STEPS - AFTER_STEPS) * min(1.0, take.step / take.steps)
