"""One take: rendered, delivered under hidden names, and measured."""

from __future__ import annotations

import contextlib
import json
import time
import traceback
from dataclasses import replace
from pathlib import Path

import torch

from appliance.blocking.solve import block
from appliance.capability.reference_pictures import read_picture
from appliance.capability.report import levels_of_stated
from appliance.delivery.take_files import TakeFacts, TakeWriter
from appliance.direction.document import from_json
from appliance.direction.shot import ShotDirection
from appliance.machine.cgroups import cores
from appliance.machine.host import find_host
from appliance.measuring.frames import FrameBuffer
from appliance.measuring.result import Measured, measured_of
from appliance.planning.plan import Plan
from appliance.safe_text import one_line
from appliance.worker.pipe import WorkerPipe
from appliance.worker.protocol import Done, EmbeddingRead, Note, Progress, RenderOrder
from models.cost.footprint import CONTEXT_BYTES, peak_resident_bytes
from models.events import Conditioned, Decoded, Loaded, Noted, Request, Resumed, Settings, Stepped, TextEncoded
from models.placement import stage_frames
from models.rendering.render import render

# The parts of a render that the sidecar has the seconds of. "reading" is the text encoder, "developing" the decoder.
TIMED_PARTS = ("loading", "reading", "conditioning", "rendering", "developing", "measuring", "total")


def render_take(pipe: WorkerPipe, order: RenderOrder) -> Done:
    """Renders one take into hidden files next to its final names; returns what the daemon needs to publish them."""
    began = time.monotonic()
    _reset_peak()
    take = order.take
    direction, plan = from_json(order.direction), Plan.from_json(order.plan)

    def progress(phase: str, step: int) -> None:
        pipe.check(take)
        pipe.report(Progress(take, phase, step, plan.steps))

    assert plan.seed is not None  # drawn when the take was queued
    progress("blocking", 0)
    blocking = block(replace(direction, format=replace(direction.format, width=plan.width, height=plan.height)))
    request = _request(order, (plan.width, plan.height), pipe)
    at_once = stage_frames(blocking.height, blocking.width, find_host().ram_free_bytes, cores())
    placement = replace(plan.placement, stage_frames=plan.placement.stage_frames or at_once)
    settings = Settings(
        plan.steps, plan.seed, plan.solver, plan.device, plan.attention, placement, batch=plan.batch, text=plan.text
    )
    timings = dict.fromkeys(TIMED_PARTS, 0.0)
    digests = {"weights_sha256": "", "kernels_sha256": ""}
    resumed_after, buffer = 0, FrameBuffer(blocking)
    progress("loading", 0)
    with TakeWriter(
        order.film.parent, order.film.stem, width=plan.width, height=plan.height, fps=plan.fps, frames=plan.frames,
        metadata={"title": order.slate},
    ) as writer:  # fmt: skip
        for event in render(blocking, settings, order.package, order.checkpoints, request):
            pipe.check(take)
            match event:
                case TextEncoded():
                    timings["reading"] += event.seconds
                    for embedding in event.embeddings:
                        pipe.report(EmbeddingRead(take, embedding))
                case Loaded():
                    timings["loading"] += event.seconds
                    digests = {"weights_sha256": event.weights_sha256, "kernels_sha256": event.kernels_sha256}
                    progress("conditioning", 0)
                case Conditioned():
                    timings["conditioning"] += event.seconds
                    progress("rendering", 0)
                case Noted():
                    pipe.report(Note(take, event.text))
                case Resumed():
                    resumed_after = event.index
                    pipe.report(Note(take, f"resumed after step {event.index} of {event.of}"))
                    progress("rendering", event.index)
                case Stepped():
                    timings["rendering"] += event.seconds
                    progress("rendering" if event.index < event.of else "developing", event.index)
                case Decoded():
                    timings["developing"] += event.seconds
                    writer.write(event.frames)
                    buffer.add(event.frames)
                    progress("developing", plan.steps)
        progress("measuring", plan.steps)
        measured = _measure(pipe, take, buffer, direction, timings)
        progress("delivering", plan.steps)
        timings["total"] = time.monotonic() - began  # without `finish`, which writes this down
        peak_bytes = _peak(plan.device)
        files = writer.finish(
            TakeFacts(
                take=order.slate,
                take_id=take,
                direction=json.loads(order.direction),
                asked=levels_of_stated(direction, plan.card),
                blocking_sha256=blocking.digest(),
                plan=json.loads(order.plan),
                model=order.model,
                seed=plan.seed,
                timings_s=timings,
                peak_bytes=peak_bytes,
                resumed_after=resumed_after,
                measured=[row.to_json() for row in measured],
                **digests,
            )
        )
    return Done(take, files.parts, files.sha256, time.monotonic() - began, peak_bytes, measured)


def _request(order: RenderOrder, size: tuple[int, int], pipe: WorkerPipe) -> Request:
    """The prompt, its cached embeddings and the reference pictures of an order."""
    first = order.first_frame and read_picture(order.first_frame, size)
    last = order.last_frame and read_picture(order.last_frame, size)
    keys = {frame: read_picture(path, size) for frame, path in order.keyframes}
    return Request(order.prompt, order.negative_prompt, pipe.known(order.take), first, last, keys)


def _measure(
    pipe: WorkerPipe, take: int, buffer: FrameBuffer, direction: ShotDirection, timings: dict[str, float]
) -> tuple[Measured, ...]:
    """What the take's own pictures say of its direction. A failed measurement is noted, and costs nothing else."""
    try:
        measurement = buffer.measure(direction.tolerances)
    except Exception as error:
        traceback.print_exc()
        pipe.report(Note(take, one_line(f"not measured ({type(error).__name__}: {error})", limit=300)))
        return ()
    timings["measuring"] = measurement.seconds
    return measured_of([row.to_json() for row in measurement.rows])  # only finite numbers


def _reset_peak() -> None:
    """Resets the peak of this process's memory where the kernel can; else the peak is since the process began."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


def _peak(device: str) -> int:
    """Peak bytes of the GPU that rendered, or of this process.

    On a GPU: what the allocator reserved, and the predicted size of the context, which no program can measure alone.
    """
    if device != "cpu":
        return torch.cuda.max_memory_reserved(device) + CONTEXT_BYTES["cuda"]
    return peak_resident_bytes()
