"""Takes as lines of text for the desk: states with their style, the progress bar, the details pane."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.library.progress import progress
from appliance.library.take import Status, Take
from appliance.measuring.result import Measured, verdict_words
from appliance.safe_text import clean
from appliance.shooting.take_words import state_words, take_facts
from appliance.text_width import cut, pad
from appliance.units import seconds_words

# The style that the state of a take is drawn with (desk.tcss). The word alone is enough to tell the states apart.
STYLES = {
    Status.QUEUED: "waiting",
    Status.RENDERING: "render",
    Status.DELIVERED: "done",
    Status.FAILED: "failed",
    Status.CANCELLED: "quiet",
}
STATE_CELLS = 13  # of "rendering 54%", the longest


def state(take: Take, now: float) -> tuple[str, str]:
    """The state of a take as (words, style): ("rendering 54%", "render")."""
    stopping = take.cancel_requested and not take.ended
    return state_words(take, now), "failed" if stopping else STYLES[take.status]


def time_words(take: Take, now: float) -> str:
    """The time column: a countdown while the take renders, its duration once it is delivered."""
    if take.status is Status.RENDERING:
        return f"{progress(take, now).left} left"
    if take.status is Status.DELIVERED and take.seconds is not None:
        return seconds_words(take.seconds)
    return ""


def now_line(take: Take, now: float, width: int) -> tuple[str, str, str]:
    """The progress bar of a rendering take as (done, to do, words); its two parts differ without colour."""
    at = progress(take, now)
    cells = max(8, min(60, width - 44))
    full, room = at.full(cells), max(0, min(18, width - cells - 26))
    words = pad(cut(clean(at.words), room), room)
    return "━" * full, "╌" * (cells - full), f"  {at.fraction:4.0%}  {words} {at.left:>6} left"


def details(take: Take, now: float, measures: Sequence[Measured] = ()) -> list[tuple[str, str]]:
    """(name, text) of the facts about a take, its direction and what was measured on it; text may hold newlines."""
    facts = take_facts(take, now)
    within = verdict_words(take.axes_within, take.axes_measured) or "nothing"
    measured = "\n".join([f"{within} within tolerance", *(row.words() for row in measures)]) if measures else ""
    rows = [
        *((name, facts[name]) for name in ("state", "error", "film")),
        ("as asked", measured),
        ("action", take.action or "none given"),
        *_direction(take),
        *((name, facts[name]) for name in ("model", "plan", "seed", "times", "render time", "memory", "out of memory")),
    ]
    return [(name, clean(text, keep_newlines=True)) for name, text in rows if text]


def in_full(take: Take, now: float, measures: Sequence[Measured] = ()) -> list[tuple[str, str]]:
    """The details of a take, then its whole direction as a shot file."""
    from appliance.direction.document import from_json, to_toml  # start-up

    toml = to_toml(from_json(take.direction_json)).rstrip()
    return [*details(take, now, measures), ("", ""), ("direction", clean(toml, keep_newlines=True))]


def _direction(take: Take) -> list[tuple[str, str]]:
    """(department, text) of a take's direction."""
    from appliance.direction.document import from_json  # start-up
    from tui.wording.direction_lines import lines  # start-up

    return lines(from_json(take.direction_json))
