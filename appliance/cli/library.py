"""The verbs that read and change the library: board, takes, take, cancel."""

from __future__ import annotations

import json
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from appliance.cli.follow import ending
from appliance.cli.page import facts, plain, say, say_json, table
from appliance.delivery.publish import BESIDE
from appliance.library.forecast import forecast
from appliance.library.library import Library
from appliance.library.progress import progress
from appliance.library.take import Status, Take
from appliance.measuring.result import HEAD, verdict_words
from appliance.units import against, bytes_words, missed_words, seconds_words, when


def board(args: Namespace) -> int:
    """What renders now, what is next, what just happened."""
    library = Library.open()
    takes = library.board()
    if args.json:
        say_json([record(take) for take in takes])
        return 0
    going = [take for take in takes if take.status is Status.RENDERING]
    waiting = [take for take in takes if take.status is Status.QUEUED]
    over = [take for take in takes if take.ended]
    now = time.time()
    if going or waiting:
        rows = [_live_row(take, now) for take in (*going, *waiting)]
        table(("#", "slate", "action", "state", "left"), rows, stretch=2)
        say("", forecast(takes, now).words(now))
    else:
        say("Nothing is queued. `rushes shoot FILE` queues a shot; `rushes example` gives one to start from.")
    if over:
        say("", "just ended")
        for take in over:
            say(f"  {when(take.ended_at, now)}  {ending(take)}")
    return 0


def takes(args: Namespace) -> int:
    """Takes, newest first."""
    status = Status(args.status) if args.status else None
    found = Library.open().takes(words=tuple(args.words), status=status, limit=args.limit)
    if args.json:
        say_json([record(take) for take in found])
    elif found:
        now = time.time()
        rows = [
            (str(take.id), take.slate, str(take.status), when(take.queued_at, now), _quoted(take), _length(take),
             verdict_words(take.axes_within, take.axes_measured), take.action)
            for take in found
        ]  # fmt: skip
        table(("#", "slate", "state", "queued", "quoted", "took", "as asked", "action"), rows, stretch=7)
        if not args.words and args.status is None and (left := forecast(found, now)).takes:
            say("", left.words(now))
    elif args.words or args.status:
        say("No take matches.")
    else:
        say("No takes yet. `rushes shoot FILE` makes the first; `rushes example` gives a shot to start from.")
    return 0


def take(args: Namespace) -> int:
    """One take in full."""
    library = Library.open()
    found = library.take(args.take)
    history, measures = library.events(found.id), library.measures(found.id).get(found.id, ())
    if args.json:
        say_json({**record(found), "events": plain(history), "measures": [row.to_json() for row in measures]})
        return 0
    say(f"{found.slate}  {found.status}", "")
    facts(
        [
            ("number", str(found.id)),
            ("action", found.action),
            ("state", _state(found)),
            ("error", found.error or ""),
            ("seed", str(found.seed)),
            ("model", found.model_words),
            ("plan", _plan_words(found)),
            ("machine", found.machine or ""),
            ("queued", when(found.queued_at)),
            ("started", when(found.started_at)),
            ("ended", when(found.ended_at)),
            ("time", against(found.seconds, found.predicted_seconds, seconds_words)),
            ("memory", against(found.peak_bytes, found.predicted_bytes, bytes_words)),
            ("missed", missed_words(found.missed_place, found.missed_bytes)),
            *((name, str(path)) for name, path in files(found)),
            ("sha256", found.sha256 or ""),
        ]
    )
    if measures:
        say("", f"measured on its film: {found.axes_within} of {found.axes_measured} within tolerance")
        table(("  axis", *HEAD[1:]), [(f"  {axis}", *cells) for axis, *cells in (row.cells() for row in measures)], 5)
    say("", "history")
    for event in history:
        say(f"  {when(event.at)}  {event.kind:<10} {event.text}")
    say("", "direction", *(f"  {line}" for line in _direction_lines(found)))
    return 0


def cancel(args: Namespace) -> int:
    """Cancel a take; one that has ended already is bad input."""
    library = Library.open()
    found = library.request_cancel(library.take(args.take).id)
    if args.json:
        say_json(record(found))
    elif found.status is Status.CANCELLED:
        say(f"{found.slate}  cancelled")
    else:
        say(f"{found.slate}  will stop at its next step")
    return 0


def record(take: Take) -> dict[str, Any]:
    """A take as one JSON object: direction and plan as objects, the files that are there, times in unix seconds.

    Who renders it, and under which lease, is the library's own business and left out.
    """
    document = {name: value for name, value in plain(take).items() if name not in ("owner", "lease_until", "fence")}
    document["direction"] = json.loads(document.pop("direction_json"))
    plan = document.pop("plan_json")
    document["plan"] = json.loads(plan) if plan else None
    document["files"] = {name: str(path) for name, path in files(take)}
    return document


def files(take: Take) -> list[tuple[str, Path]]:
    """What lies on disk for a delivered take: the film and what was made of it."""
    if take.path is None:
        return []
    beside = zip(("filmstrip", "thumbnail", "sidecar"), BESIDE, strict=True)
    there = [("film", take.path), *((name, take.path.with_suffix(suffix)) for name, suffix in beside)]
    return [(name, path) for name, path in there if path.is_file()]


def _live_row(take: Take, now: float) -> tuple[str, str, str, str, str]:
    at = progress(take, now)
    if take.cancel_requested:
        state = "cancelling"
    elif take.status is Status.QUEUED:
        state = "waiting"
    else:
        state = f"{at.fraction:.0%} {at.words}"
    return str(take.id), take.slate, take.action, state, at.left


def _quoted(take: Take) -> str:
    return seconds_words(take.predicted_seconds) if take.predicted_seconds is not None else ""


def _length(take: Take) -> str:
    return seconds_words(take.seconds) if take.seconds is not None else ""


def _state(take: Take) -> str:
    if take.status is Status.RENDERING:
        at = progress(take, time.time())
        return f"rendering, {at.fraction:.0%}, {at.words}, {at.left} left" + (
            ", cancelling" if take.cancel_requested else ""
        )
    return str(take.status)


def _plan_words(take: Take) -> str:
    if not take.plan_json:
        return ""
    plan = json.loads(take.plan_json)
    return (
        f"{plan['card']} on {plan['device']}, {plan['frames']} frames of {plan['width']}x{plan['height']}"
        f" at {plan['fps']:g} fps, {plan['steps']} steps, {plan['precision']}"
    )


def _direction_lines(take: Take) -> list[str]:
    from appliance.direction.document import from_json, to_toml  # start-up

    return to_toml(from_json(take.direction_json)).rstrip().split("\n")
