"""Takes as lines of text: state words that need no colour, and what the details pane says."""

from __future__ import annotations

import json
from collections.abc import Sequence

from appliance.library.progress import progress
from appliance.library.take import Status, Take
from appliance.measuring.result import Measured, verdict_words
from appliance.safe_text import clean
from appliance.text_width import cut, pad
from appliance.units import against, bytes_words, missed_words, seconds_words, when

# The word of every state, by which it is found too, and the style it is drawn with; the word alone is enough.
STATES = {
    Status.QUEUED: ("queued", "waiting"),
    Status.RENDERING: ("RENDER", "render"),
    Status.DELIVERED: ("delivered", "done"),
    Status.FAILED: ("FAILED", "failed"),
    Status.CANCELLED: ("cancelled", "quiet"),
}


def state(take: Take, now: float) -> tuple[str, str]:
    """The state of a take as (words, style): ("RENDER 54%", "render")."""
    word, style = STATES[take.status]
    if take.cancel_requested and not take.ended:
        return "STOPPING", "failed"
    if take.status is Status.RENDERING:
        return f"{word} {progress(take, now).fraction:.0%}", style
    return word, style


def time_words(take: Take, now: float) -> str:
    """What the time column says: a countdown while it renders, how long it took once it is over."""
    if take.status is Status.RENDERING:
        return f"{progress(take, now).left} left"
    if take.status is Status.DELIVERED and take.seconds is not None:
        return seconds_words(take.seconds)
    return ""


def now_line(take: Take, now: float, width: int) -> tuple[str, str, str]:
    """A take that renders as (done, to do, words): a bar whose halves differ without colour, then the numbers."""
    at = progress(take, now)
    cells = max(8, min(60, width - 44))
    full, room = at.full(cells), max(0, min(18, width - cells - 26))
    words = pad(cut(clean(at.words), room), room)
    return "━" * full, "╌" * (cells - full), f"  {at.fraction:4.0%}  {words} {at.left:>6} left"


def plan_words(plan_json: str | None) -> list[str]:
    """What the machine does about a shot, in one or two lines."""
    if not plan_json:
        return ["not planned yet"]
    plan = json.loads(plan_json)
    return [
        f"{plan['frames']} frames of {plan['width']}x{plan['height']} at {plan['fps']:g} fps, {plan['steps']} steps",
        f"{plan['card']} on {plan['device']}, {plan['precision']}",
    ]


def details(take: Take, now: float, measures: Sequence[Measured] = ()) -> list[tuple[str, str]]:
    """(name, text) of everything worth saying about a take, what was measured on it too; text may hold newlines."""
    rows = [("state", state(take, now)[0])]
    if take.status is Status.RENDERING:
        at = progress(take, now)
        rows[0] = ("state", f"{state(take, now)[0]}, {at.words}, {at.left} left")
    if take.error:
        rows.append(("error", take.error))
    if take.path is not None:
        rows.append(("film", str(take.path)))
    if measures:
        told = verdict_words(take.axes_within, take.axes_measured) or "nothing"
        rows.append(("as asked", "\n".join([f"{told} within tolerance", *(row.words() for row in measures)])))
    rows += [
        ("action", take.action or "none given"),
        *_direction(take),
        ("model", take.model_words),
        ("plan", "\n".join(plan_words(take.plan_json))),
        ("seed", str(take.seed)),
        ("times", _times(take, now)),
    ]
    rows.append(("memory", against(take.peak_bytes, take.predicted_bytes, bytes_words)))
    rows.append(("missed", missed_words(take.missed_place, take.missed_bytes)))
    return [(name, clean(text, keep_newlines=True)) for name, text in rows if text]


def _times(take: Take, now: float) -> str:
    parts = [f"queued {when(take.queued_at, now)}"]
    if take.started_at is not None:
        parts.append(f"started {when(take.started_at, now)}")
    if take.ended_at is not None:
        parts.append(f"ended {when(take.ended_at, now)}")
    if take.seconds is not None:
        parts.append(f"rendered in {seconds_words(take.seconds)}")
    if take.predicted_seconds is not None:
        parts.append(f"predicted {seconds_words(take.predicted_seconds)}")
    return ", ".join(parts)


def _direction(take: Take) -> list[tuple[str, str]]:
    """Camera, lens, light and cast of the direction, each as one line where it says something."""
    from appliance.direction.document import from_json  # start-up
    from tui.wording.direction_lines import lines  # start-up

    return lines(from_json(take.direction_json))


def in_full(take: Take, now: float, measures: Sequence[Measured] = ()) -> list[tuple[str, str]]:
    """Everything about a take, the whole direction as the file would say it included."""
    from appliance.direction.document import from_json, to_toml  # start-up

    toml = to_toml(from_json(take.direction_json)).rstrip()
    return [*details(take, now, measures), ("", ""), ("direction", clean(toml, keep_newlines=True))]
