"""What a director asks for: quote shot files, queue them, retake a take, cancel one.

The command line and the desk call these functions. Each opens the library itself, so it may run on any thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.daemon import instance
from appliance.direction.document import from_json
from appliance.library.library import Library
from appliance.library.take import Take
from appliance.machine.device import Device
from appliance.shooting.quote import Quoted, check_shootable, plan_direction, read
from models.errors import BadInput


@dataclass(frozen=True, slots=True)
class Overrides:
    """Values that replace those of a shot file, and the device to render on; None leaves the choice as it is."""

    seed: int | None = None
    quality: str | None = None
    model: str | None = None  # name of a package
    device: str | None = None  # "cpu", "gpu" or "cuda:N"; None: the plan chooses


@dataclass(frozen=True, slots=True)
class QueuedTake:
    """A take at the end of the queue, and the quote that it was queued with."""

    take: Take
    quote: Quoted


def quote(paths: Sequence[Path], overrides: Overrides | None = None, on: Device | None = None) -> list[Quoted]:
    """Read and plan shot files, for this machine or for another (`on`). Raises one BadInput that names every error in
    every file.
    """
    given = overrides or Overrides()
    errors: list[str] = []
    directions = []
    for path in paths:
        try:
            directions.append((path, read(path, given.seed, given.quality, given.model)))
        except BadInput as error:
            errors.append(str(error))
    if errors:
        raise BadInput(errors[0] if len(errors) == 1 else f"{len(errors)} files have errors: " + " | ".join(errors))
    return [plan_direction(path, direction, given.device, on) for path, direction in directions]


def queue(paths: Sequence[Path], overrides: Overrides | None = None) -> list[QueuedTake]:
    """Put shot files at the end of the queue and make sure that a daemon runs. Nothing is queued where one of them has
    an error or cannot be shot: raises RushesError.
    """
    quotes = quote(paths, overrides)
    check_shootable(*quotes)
    device = overrides.device if overrides else None
    with Library.open() as library:
        queued = [_queue(library, quoted, device) for quoted in quotes]
    instance.ensure_running()
    return queued


def retake(reference: str | int, seed: int | None = None) -> QueuedTake:
    """Queue a take's direction again, on the same device, with `seed` or (None) a new one drawn when it is queued.

    Raises RushesError where there is no such take or it can no longer be shot.
    """
    with Library.open() as library:
        old = library.take(reference)
        direction = replace(from_json(old.direction_json), seed=seed)
        quoted = plan_direction(Path(old.slate), direction, old.device)
        check_shootable(quoted)
        queued = _queue(library, quoted, old.device, old.id)
    instance.ensure_running()
    return queued


def cancel(reference: str | int) -> Take:
    """Cancel a take: at once while it waits, after the current step while it renders. Returns the take as it then is.

    Raises BadInput where there is no such take or it has ended.
    """
    with Library.open() as library:
        return library.request_cancel(library.take(reference).id)


def _queue(library: Library, quoted: Quoted, device: str | None, prev_take: int | None = None) -> QueuedTake:
    seconds = quoted.require_plan().seconds
    return QueuedTake(library.queue(quoted.direction, prev_take, device, seconds), quoted)
