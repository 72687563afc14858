"""One take, rendered, delivered and measured."""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from appliance.machine.cgroups import cores
from appliance.safe_text import one_line
from appliance.worker.protocol import Line, Order


def render_take(line: Line, order: Order) -> dict[str, Any]:
    """Renders one take into hidden files beside its final names; returns what the daemon needs to publish it."""
    from appliance.blocking.solve import block  # start-up
    from appliance.capability.reference_pictures import read_picture  # start-up
    from appliance.capability.report import levels_of_stated  # start-up
    from appliance.delivery.take_files import TakeFacts, TakeWriter  # start-up
    from appliance.direction.document import from_json  # start-up
    from appliance.machine.host import find_host  # start-up
    from appliance.measuring.frames import FrameBuffer  # start-up
    from appliance.planning.plan import Plan  # start-up
    from appliance.worker.protocol import packed, unpacked  # start-up
    from models.events import (  # start-up
        Conditioned,
        Decoded,
        Loaded,
        Noted,
        Request,
        Resumed,
        Settings,
        Stepped,
        Worded,
    )  # start-up
    from models.placement import stage_frames  # start-up
    from models.rendering.render import render  # torch

    began = time.monotonic()
    _reset_peak()
    take, film = order["take"], Path(order["film"])
    checkpoints = Path(order["checkpoints"]) if order["checkpoints"] else None
    direction, plan = from_json(order["direction"]), Plan.from_json(order["plan"])

    def progress(phase: str, step: int) -> None:
        line.check(take)
        line.report("progress", take=take, phase=phase, step=step, steps=plan.steps)

    assert plan.seed is not None  # drawn when the take was queued
    progress("blocking", 0)
    blocking = block(replace(direction, format=replace(direction.format, width=plan.width, height=plan.height)))
    words = order["words"]
    known = tuple(unpacked(each) for each in words["known"])
    size, paths = (plan.width, plan.height), order["pictures"]
    first, last = (paths[name] and read_picture(Path(paths[name]), size) for name in ("first", "last"))
    keys = {frame: read_picture(Path(path), size) for frame, path in paths["keys"]}
    request = Request(words["positive"], words["negative"], known, first, last, keys)
    at_once = stage_frames(blocking.height, blocking.width, find_host().ram_free_bytes, cores())
    placement = replace(plan.placement, stage_frames=plan.placement.stage_frames or at_once)
    settings = Settings(
        plan.steps, plan.seed, plan.solver, plan.device, plan.attention, placement, batch=plan.batch, text=plan.text
    )
    parts = ("loading", "reading", "conditioning", "rendering", "developing", "measuring", "total")
    timings = dict.fromkeys(parts, 0.0)
    digests = {"weights_sha256": "", "kernels_sha256": ""}
    resumed_after, kept = 0, FrameBuffer(blocking)
    progress("loading", 0)
    with TakeWriter(
        film.parent, film.stem, width=plan.width, height=plan.height, fps=plan.fps, frames=plan.frames,
        metadata={"title": order["slate"]},
    ) as writer:  # fmt: skip
        for event in render(blocking, settings, Path(order["package"]), checkpoints, request):
            line.check(take)
            match event:
                case Worded():
                    timings["reading"] += event.seconds
                    for embedding in event.embeddings:
                        line.report("words", take=take, embedding=packed(embedding))
                case Loaded():
                    timings["loading"] += event.seconds
                    digests = {"weights_sha256": event.weights_sha256, "kernels_sha256": event.kernels_sha256}
                    progress("conditioning", 0)
                case Conditioned():
                    timings["conditioning"] += event.seconds
                    progress("rendering", 0)
                case Noted():
                    line.report("note", take=take, text=event.text)
                case Resumed():
                    resumed_after = event.index
                    line.report("note", take=take, text=f"resumed after step {event.index} of {event.of}")
                    progress("rendering", event.index)
                case Stepped():
                    timings["rendering"] += event.seconds
                    progress("rendering" if event.index < event.of else "developing", event.index)
                case Decoded():
                    timings["developing"] += event.seconds
                    writer.write(event.frames)
                    kept.add(event.frames)
                    progress("developing", plan.steps)
        progress("measuring", plan.steps)
        measured = _measured(line, take, kept, direction.tolerances, timings)
        progress("delivering", plan.steps)
        timings["total"] = time.monotonic() - began  # but for the proving of the film, which writes this down
        peak_bytes = _peak(plan.device)
        files = writer.finish(
            TakeFacts(
                take=order["slate"],
                take_id=take,
                direction=json.loads(order["direction"]),
                asked=levels_of_stated(direction, plan.card),
                blocking_sha256=blocking.digest(),
                plan=json.loads(order["plan"]),
                model=order["model"],
                seed=plan.seed,
                timings_s=timings,
                peak_bytes=peak_bytes,
                resumed_after=resumed_after,
                measured=measured,
                **digests,
            )
        )
    return {
        "parts": {suffix: str(part) for suffix, part in files.parts.items()},
        "sha256": files.sha256,
        "seconds": time.monotonic() - began,
        "peak_bytes": peak_bytes,
        "measured": measured,
    }


def _measured(line: Line, take: int, kept: Any, tolerances: Any, timings: dict[str, float]) -> list[dict[str, Any]]:
    """What the take's own pictures say of its direction. A failed measurement is noted, and costs nothing else."""
    try:
        look = kept.measure(tolerances)
    except Exception as error:
        traceback.print_exc()
        line.report("note", take=take, text=one_line(f"not measured ({type(error).__name__}: {error})", limit=300))
        return []
    timings["measuring"] = look.seconds
    return [row.to_json() for row in look.rows]


def _reset_peak() -> None:
    """Begins the measure of this take's memory anew, where the kernel can; else the peak is the process's so far."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


def _peak(device: str) -> int:
    """Bytes at the highest: of the GPU that rendered, or of this process.

    On a GPU what the allocator held, and the context as it is predicted: no program can tell its own from others'.
    """
    import torch

    from models.cost.footprint import CONTEXT_BYTES  # start-up

    if device != "cpu":
        return torch.cuda.max_memory_reserved(device) + CONTEXT_BYTES["cuda"]
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in KiB, but in bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
