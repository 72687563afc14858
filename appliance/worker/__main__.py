"""The worker: the child process that owns the GPU, or all cores. The only module of the appliance that loads torch.

It reads orders and writes reports, one JSON document a line (appliance/daemon/worker_process.py has them), and stays
warm between takes: models.rendering.render keeps the weights it has loaded. It writes a take's files under hidden
names; the daemon publishes them. Whatever goes wrong becomes one report here, at the one boundary that prints a
traceback (to the daemon's log).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import queue
import resource
import sys
import threading
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from appliance.machine.cgroups import cores
from appliance.processes import die_with_parent
from appliance.safe_text import one_line
from models.errors import BadInput, RushesError

Order = dict[str, Any]
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


class Cancelled(Exception):
    """Somebody asked to stop this take."""


class Line:
    """Both ends of the pipe to the daemon, guarded against whatever a library may print."""

    def __init__(self) -> None:
        self._out = _guard_stdout()
        self.renders: queue.Queue[Order] = queue.Queue()
        self._cancelled: set[int] = set()
        threading.Thread(target=self._read_orders, args=(sys.stdin.buffer,), daemon=True).start()

    def report(self, report: str, **facts: Any) -> None:
        """Sends one report, whole."""
        self._out.write(json.dumps({"report": report, **facts}).encode() + b"\n")
        self._out.flush()

    def check(self, take: int) -> None:
        """Raises Cancelled when this take is no longer wanted."""
        if take in self._cancelled:
            raise Cancelled

    def _read_orders(self, orders: BinaryIO) -> None:
        for text in orders:
            order = json.loads(text)
            if order["order"] == "cancel":
                self._cancelled.add(order["take"])
            else:
                self.renders.put(order)
        os._exit(0)  # the daemon is gone or has let us go; what was half written is swept away by the next one


def _guard_stdout() -> BinaryIO:
    """The real standard output, for reports alone; what Python or C code prints from now on goes to the log."""
    reports = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return reports


def main() -> None:
    """Renders what is ordered, until the orders end."""
    die_with_parent()
    # Memory pressure is to end us, not the desk; whether that is ours to say differs from system to system.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as appliance/machine/device.py numbers them
    line = Line()
    import torch

    torch.set_num_threads(cores())
    line.report("ready")
    while True:
        order = line.renders.get()
        take, fill = order["take"], {"render": render_take, "film": render_film}[order["order"]]
        try:
            line.report("done", take=take, **fill(line, order))
        except Cancelled:
            line.report("cancelled", take=take)
        except Exception as error:
            traceback.print_exc()
            line.report("error", take=take, kind=kind_of(error), error=sentence(error), place=place_of(error, order))


def render_take(line: Line, order: Order) -> dict[str, Any]:
    """Renders one take into hidden files beside its final names; returns what the daemon needs to publish it."""
    from appliance.blocking.solve import block
    from appliance.delivery.media.stills import read_picture
    from appliance.delivery.take_files import TakeFacts, TakeWriter
    from appliance.direction.document import from_json
    from appliance.direction.shot import obeyed
    from appliance.library.embeddings import packed, unpacked
    from appliance.machine.host import find_host
    from appliance.measuring.frames import Kept
    from appliance.planning.plan import Plan
    from models.events import Conditioned, Decoded, Loaded, Noted, Request, Resumed, Settings, Stepped, Worded
    from models.placement import stage_frames
    from models.rendering.render import render

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
    resumed_after, kept = 0, Kept(blocking)
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
                asked=obeyed(direction, plan.card),
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


def render_film(line: Line, order: Order) -> dict[str, Any]:
    """Renders a direction into the file that the order names: 8-bit RGB, frame after frame, nothing else. No delivery:
    it is for `rushes score`.
    """
    import numpy as np

    from appliance.blocking.solve import block
    from appliance.direction.document import from_json
    from appliance.planning.plan import Plan
    from models.events import Decoded, Settings
    from models.rendering.render import render

    blocking, plan = block(from_json(order["direction"])), Plan.from_json(order["plan"])
    assert plan.seed is not None
    settings = Settings(plan.steps, plan.seed, plan.solver, plan.device, plan.attention, plan.placement)
    with open(order["film"], "wb") as film:
        for event in render(blocking, settings, Path(order["package"])):
            line.check(order["take"])
            if isinstance(event, Decoded):
                film.write(np.rint(np.clip(event.frames, 0, 1) * 255).astype(np.uint8).tobytes())
    return {"shape": [blocking.frames, blocking.height, blocking.width, 3]}


_NO_ROOM = ("can't allocate memory", "can't start new thread")


def kind_of(error: BaseException) -> str:
    """What the daemon is to do about an error: "bad_input", "failed", "disk", "memory" or "fault"."""
    import torch

    if isinstance(error, BadInput):
        return "bad_input"
    causes = [error, *_causes(error)]
    if any(isinstance(cause, OSError) and cause.errno in _DISK for cause in causes):
        return "disk"
    if isinstance(error, RushesError):
        return "failed"
    if any(isinstance(cause, (MemoryError, torch.OutOfMemoryError)) for cause in causes):
        return "memory"
    # Neither torch's allocator on the CPU nor a thread without room for its stack has a class of its own for this.
    if isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_ROOM):
        return "memory"
    return "fault"


def place_of(error: BaseException, order: Order) -> str:
    """Where an error happened, as far as memory goes: the GPU that rendered, or the machine itself."""
    import torch

    on_gpu = any(isinstance(cause, torch.OutOfMemoryError) for cause in [error, *_causes(error)])
    return json.loads(order["plan"])["device"] if on_gpu else "cpu"


def sentence(error: BaseException) -> str:
    """One line for people. RushesErrors are that already."""
    if isinstance(error, RushesError):
        return one_line(str(error), limit=1000)
    if kind_of(error) == "memory":
        return "the machine ran out of memory: end other programs, or ask for a shorter or smaller shot"
    return one_line(f"the renderer failed ({type(error).__name__}: {error})", limit=600)


def _causes(error: BaseException) -> list[BaseException]:
    causes: list[BaseException] = []
    cause = error.__cause__
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__
    return causes


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

    from models.cost.footprint import CONTEXT_BYTES

    if device != "cpu":
        return torch.cuda.max_memory_reserved(device) + CONTEXT_BYTES["cuda"]
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in KiB, but in bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main()
