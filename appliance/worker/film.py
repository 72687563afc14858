"""One film for a score: rendered and measured, nothing delivered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from appliance.worker.protocol import Line, Order


def render_film(line: Line, order: Order) -> dict[str, Any]:
    """Renders a direction into the file that the order names: 8-bit RGB, frame after frame, nothing else. No delivery:
    it is for `rushes score`.
    """
    import numpy as np

    from appliance.blocking.solve import block  # start-up
    from appliance.direction.document import from_json  # start-up
    from appliance.planning.plan import Plan  # start-up
    from models.events import Decoded, Settings  # start-up
    from models.rendering.render import render  # torch

    blocking, plan = block(from_json(order["direction"])), Plan.from_json(order["plan"])
    assert plan.seed is not None
    settings = Settings(plan.steps, plan.seed, plan.solver, plan.device, plan.attention, plan.placement)
    with open(order["film"], "wb") as film:
        for event in render(blocking, settings, Path(order["package"])):
            line.check(order["take"])
            if isinstance(event, Decoded):
                film.write(np.rint(np.clip(event.frames, 0, 1) * 255).astype(np.uint8).tobytes())
    return {"shape": [blocking.frames, blocking.height, blocking.width, 3]}
