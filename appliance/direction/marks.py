"""A subject's track cut into legs from mark to mark."""

from __future__ import annotations

import math
from typing import Any

from appliance.direction.fields import refuse
from appliance.direction.vocabulary import WALK_MPS
from models.errors import BadInput


def legs(track: Any, path: str) -> list[tuple[float, float, float]]:
    """When each mark is left for and reached: (depart_s, arrive_s, metres) from mark i to i + 1. Raises BadInput.

    Without a time they walk at `speed_mps` or 1.2 m/s as soon as they are at the mark before; with a time and a speed
    they wait there, to arrive on time at that speed.
    """
    found: list[tuple[float, float, float]] = []
    now = (track[0].t_s or 0.0) if track else 0.0
    for i in range(1, len(track)):
        mark, before, here = track[i], track[i - 1], f"{path}.track[{i}]"
        metres = math.hypot(mark.x_m - before.x_m, mark.z_m - before.z_m)
        if mark.t_s is None:
            if metres < 1e-6:
                where = "the mark is where the one before is"
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
