"""One film for a score: rendered into raw frames, nothing delivered."""

from __future__ import annotations

import numpy as np

from appliance.blocking.solve import block
from appliance.direction.document import from_json
from appliance.planning.plan import Plan
from appliance.worker.pipe import WorkerPipe
from appliance.worker.protocol import FilmDone, FilmOrder
from models.events import Decoded, Settings
from models.rendering.render import render


def render_film(pipe: WorkerPipe, order: FilmOrder) -> FilmDone:
    """Renders a direction into the file that the order names: 8-bit RGB, frame after frame, nothing else."""
    blocking, plan = block(from_json(order.direction)), Plan.from_json(order.plan)
    assert plan.seed is not None
    settings = Settings(plan.steps, plan.seed, plan.solver, plan.device, plan.attention, plan.placement)
    with open(order.film, "wb") as film:
        for event in render(blocking, settings, order.package):
            pipe.check(order.take)
            if isinstance(event, Decoded):
                film.write(np.rint(np.clip(event.frames, 0, 1) * 255).astype(np.uint8).tobytes())
    return FilmDone(order.take, (blocking.frames, blocking.height, blocking.width, 3))
