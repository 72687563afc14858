"""What a key does to the library. Each runs on a thread of its own, opens the library, and returns what to tell."""

from __future__ import annotations

from pathlib import Path


def queue(path: Path, model: str | None = None) -> str:
    """Put a shot file, to be shot with another model where one is named, at the end of the queue, and make sure that a
    daemon serves it.
    """
    from appliance.daemon import instance as house  # start-up
    from appliance.library.library import Library  # start-up
    from appliance.shooting.quote import must_shoot, quote  # start-up

    quoted = quote(path, model)
    must_shoot(quoted)
    with Library.open() as library:
        take = library.queue(quoted.direction, predicted_seconds=quoted.require_plan().seconds)
    house.ensure_running()
    return f"{take.slate} is queued"


def cancel(take_id: int) -> str:
    """Ask for the end of a take."""
    from appliance.library.library import Library  # start-up
    from appliance.library.take import Status  # start-up

    with Library.open() as library:
        take = library.request_cancel(take_id)
    return f"{take.slate} is cancelled" if take.status is Status.CANCELLED else f"{take.slate} stops at its next step"


def retake(take_id: int) -> str:
    """Queue a take's direction again with a new seed."""
    from appliance.daemon import instance as house  # start-up
    from appliance.library.library import Library  # start-up
    from appliance.shooting.quote import again, must_shoot, plan_direction  # start-up

    with Library.open() as library:
        old = library.take(take_id)
        quoted = plan_direction(Path(old.slate), again(old), old.device)
        must_shoot(quoted)
        take = library.queue(quoted.direction, old.id, old.device, quoted.require_plan().seconds)
    house.ensure_running()
    return f"{take.slate} is queued, with a new seed"
