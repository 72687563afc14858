"""A subject's track as legs from mark to mark, with departure and arrival times."""

from __future__ import annotations

import math
from typing import Any

from appliance.direction.fields import refuse
from appliance.direction.vocabulary import WALK_MPS
from models.errors import BadInput


def legs(track: Any, path: str) -> list[tuple[float, float, float]]:
    """(depart_s, arrive_s, metres) of the leg from mark i to mark i + 1. Raises BadInput.

    Without a time they leave at once, at `speed_mps` or 1.2 m/s; with a time and a speed they leave so late that they
    arrive on time at that speed.
    """
    found: list[tuple[float, float, float]] = []
    now = (track[0].t_s or 0.0) if track else 0.0
    for i in range(1, len(track)):
        mark, before, here = track[i], track[i - 1], f"{path}.track[{i}]"
        metres = math.hypot(mark.x_m - before.x_m, mark.z_m - before.z_m)
        if mark.t_s is None:
            if metres < 1e-6:
                where = "the mark is at the position of the one before"
                raise BadInput(f"{here}.t_s is missing: {where}; state until when they stay")
            depart, arrive = now, now + metres / (mark.speed_mps or WALK_MPS)
        else:
            arrive = mark.t_s
            depart = arrive - metres / mark.speed_mps if mark.speed_mps and metres > 1e-6 else now
            if arrive <= now or depart < now - 1e-9:
                allowed = f"later than {now + (metres / mark.speed_mps if mark.speed_mps else 0):.2f} s"
                raise refuse(f"{here}.t_s", mark.t_s, allowed, "give them more time, or a higher speed_mps")
            if metres / (arrive - max(depart, now)) > 12:
                too_fast = f"{metres:.1f} m by then is faster than 12 m/s"
                raise refuse(f"{here}.t_s", mark.t_s, f"at least {now + metres / 12:.2f} s", too_fast)
        depart = max(depart, now)
        found.append((depart, arrive, metres))
        now = arrive
    return found
