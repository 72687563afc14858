"""Takes in words: state, ending, facts. The command line and the desk show these."""

from __future__ import annotations

import json

from appliance.library.progress import progress
from appliance.library.take import Status, Take
from appliance.shooting.plan_words import film_words, render_words
from appliance.units import against, bytes_words, missed_words, seconds_words, when


def state_words(take: Take, now: float) -> str:
    """The state of a take: "queued", "rendering 54%", "stopping", "delivered", "FAILED" or "cancelled"."""
    if take.cancel_requested and not take.ended:
        return "stopping"
    if take.status is Status.RENDERING:
        return f"{take.status} {progress(take, now).fraction:.0%}"
    return "FAILED" if take.status is Status.FAILED else str(take.status)


def progress_words(take: Take, now: float) -> str:
    """The state, with the phase of a take that renders: "rendering 54%, step 5/8", "rendering 9%, loading"."""
    if take.status is not Status.RENDERING or take.cancel_requested:
        return state_words(take, now)
    phase = progress(take, now).words
    if phase.startswith(take.status):  # the phase of the denoising steps is called as the state is
        phase = phase.replace(take.status, "step", 1) if phase != take.status else ""
    return ", ".join(filter(None, (state_words(take, now), phase)))


def ending_words(take: Take) -> str:
    """How a take ended, with its duration or the reason."""
    if take.status is Status.DELIVERED:
        return "delivered" + (f" in {seconds_words(take.seconds)}" if take.seconds is not None else "")
    if take.status is Status.FAILED:
        return f"FAILED  {take.error or 'no reason was recorded'}"
    return str(take.status)


def cancel_words(take: Take) -> str:
    """What a request to cancel has done to a take."""
    return "cancelled" if take.status is Status.CANCELLED else "will stop after the current step"


def take_facts(take: Take, now: float) -> dict[str, str]:
    """Name -> text of the facts about a take; "" where there is nothing to say. A page chooses which it shows."""
    counting = take.status is Status.RENDERING and not take.cancel_requested
    left = f", {progress(take, now).left} left" if counting else ""
    plan = json.loads(take.plan_json) if take.plan_json else None
    moments = (("queued", take.queued_at), ("started", take.started_at), ("ended", take.ended_at))
    return {
        "number": str(take.id),
        "state": progress_words(take, now) + left,
        "error": take.error or "",
        "action": take.action,
        "model": take.model_words,
        "plan": f"{film_words(plan)}\n{render_words(plan)}" if plan else "not planned yet",
        "seed": str(take.seed),
        "machine": take.machine or "",
        "times": ", ".join(f"{name} {when(moment, now)}" for name, moment in moments if moment is not None),
        "render time": against(take.seconds, take.predicted_seconds, seconds_words),
        "memory": against(take.peak_bytes, take.predicted_bytes, bytes_words),
        "out of memory": missed_words(take.missed_place, take.missed_bytes),
        "film": str(take.path) if take.path is not None else "",
        "sha256": take.sha256 or "",
    }
