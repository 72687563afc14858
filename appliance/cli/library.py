"""The verbs board, takes, take and cancel."""

from __future__ import annotations

import json
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from appliance.cli.follow import ending
from appliance.cli.page import facts, plain, say, say_json, table
from appliance.delivery.publish import COMPANION_SUFFIXES
from appliance.library.forecast import forecast
from appliance.library.library import Library
from appliance.library.progress import progress
from appliance.library.take import Status, Take
from appliance.measuring.result import HEAD, verdict_words
from appliance.shooting.take_words import cancel_words, progress_words, take_facts
from appliance.units import seconds_words, when

# What `rushes take` shows of appliance/shooting/take_words.take_facts, in this order.
FACTS = ("number", "action", "state", "error", "seed", "model", "plan", "machine", "times", "render time", "memory",
         "out of memory")  # fmt: skip


def board(args: Namespace) -> int:
    """What renders now, what is queued, what has just ended."""
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
        table(("#", "slate", "action", "state", "time left"), rows, stretch=2)
        say("", forecast(takes, now).words(now))
    else:
        say("Nothing is queued. `rushes shoot FILE` queues a shot; `rushes example` gives one to start from.")
    if over:
        say("", "just ended")
        for take in over:
            say(f"  {when(take.ended_at, now)}  {ending(take)}")
    return 0


def takes(args: Namespace) -> int:
    """The takes, newest first."""
    status = Status(args.status) if args.status else None
    found = Library.open().takes(words=tuple(args.words), status=status, limit=args.limit)
    if args.json:
        say_json([record(take) for take in found])
    elif found:
        now = time.time()
        rows = [
            (str(take.id), take.slate, str(take.status), when(take.queued_at, now), _seconds(take.predicted_seconds),
             _seconds(take.seconds), verdict_words(take.axes_within, take.axes_measured), take.action)
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
    known = take_facts(found, time.time())
    paths = [(name, str(path)) for name, path in files(found)]
    facts([*((name, known[name]) for name in FACTS), *paths, ("sha256", known["sha256"])])
    if measures:
        say("", f"measured on its film: {found.axes_within} of {found.axes_measured} within tolerance")
        table(("  axis", *HEAD[1:]), [(f"  {axis}", *cells) for axis, *cells in (row.cells() for row in measures)], 5)
    say("", "history")
    for event in history:
        say(f"  {when(event.at)}  {event.kind:<10} {event.text}")
    say("", "direction", *(f"  {line}" for line in _direction_lines(found)))
    return 0


def cancel(args: Namespace) -> int:
    """Cancel a take."""
    from appliance.shooting import requests  # start-up

    found = requests.cancel(args.take)
    if args.json:
        say_json(record(found))
    else:
        say(f"{found.slate}  {cancel_words(found)}")
    return 0


def record(take: Take) -> dict[str, Any]:
    """A take as one JSON object: direction and plan as objects, the files that are there, times in unix seconds.

    The owner, lease and fence of a take that renders are left out: they only matter between the library and its daemon.
    """
    document = {name: value for name, value in plain(take).items() if name not in ("owner", "lease_until", "fence")}
    document["direction"] = json.loads(document.pop("direction_json"))
    plan = document.pop("plan_json")
    document["plan"] = json.loads(plan) if plan else None
    document["files"] = {name: str(path) for name, path in files(take)}
    return document


def files(take: Take) -> list[tuple[str, Path]]:
    """(name, path) of a delivered take's files that exist: the film, and what was made from it."""
    if take.path is None:
        return []
    made = zip(("filmstrip", "thumbnail", "sidecar"), COMPANION_SUFFIXES, strict=True)
    paths = [("film", take.path), *((name, take.path.with_suffix(suffix)) for name, suffix in made)]
    return [(name, path) for name, path in paths if path.is_file()]


def _live_row(take: Take, now: float) -> tuple[str, str, str, str, str]:
    return str(take.id), take.slate, take.action, progress_words(take, now), progress(take, now).left


def _seconds(seconds: float | None) -> str:
    return seconds_words(seconds) if seconds is not None else ""


def _direction_lines(take: Take) -> list[str]:
    from appliance.direction.document import from_json, to_toml  # start-up

    return to_toml(from_json(take.direction_json)).rstrip().split("\n")
