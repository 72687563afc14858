"""What is proved of a direction before it is queued, so that the worker cannot be the first to refuse it."""

from __future__ import annotations

from pathlib import Path

from appliance.direction.shot import ShotDirection
from models.errors import BadInput


def check_direction(direction: ShotDirection) -> None:
    """Solve the blocking and look for the reference pictures. Raises BadInput for what the render would refuse."""
    from appliance.blocking.solve import block  # start-up

    block(direction)
    refs = direction.refs
    stated = [("refs.first", refs.first), ("refs.last", refs.last)]
    stated += [(f"refs.keyframes[{i}].path", key.path) for i, key in enumerate(refs.keyframes)]
    for field, path in stated:
        if path is not None and not Path(path).is_file():
            raise BadInput(f"{field} is {path}, and there is no such file: give the path of a picture")


def warnings(direction: ShotDirection) -> tuple[str, ...]:
    """What the film will not show of what is directed, one line each, with a change that would help where one was
    found by trying. Raises BadInput for a direction that cannot be solved.
    """
    from appliance.blocking.solve import block  # start-up
    from appliance.blocking.visibility import problems, remedy  # start-up

    found = problems(block(direction), direction.frame.subject)
    if not found:
        return ()
    change = remedy(direction)
    advice = f"; {change} avoids it" if change else ""
    return (*(str(each) for each in found[:-1]), f"{found[-1]}{advice}")
