"""Time and peak memory of a call, and the device's own limits: what both benchmarks measure with.

`seconds` times a call by CUDA events around it, after one call that is not counted, with the L2 cache flushed before
each; the median counts. The flush also keeps the GPU busy while the host prepares the launch, so that the GPU's work is
timed and not Python's. `wall_seconds` times by the host's clock.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")
Run = Callable[[], object]

FLUSH_BYTES = 512 * 2**20  # more than any L2 cache; at 3 TB/s written in 180 us, longer than a launch takes
BUDGET_S = 0.15  # for timed repetitions: 30 of a kernel of 5 ms, 3 of an attention of 300 ms
FEWEST, MOST = 3, 30


def seconds(run: Run, device: torch.device) -> float:
    """The median time of one call with a cold L2 cache; on a GPU its own time, without the launch."""
    if device.type == "cuda":
        return _median_lap(_cuda_lap(device), run, BUDGET_S, MOST)
    return _median_lap(_clock_lap(device), run, 0.0, FEWEST)


def wall_seconds(run: Run, device: torch.device, budget_s: float) -> float:
    """The median time of one call by the host's clock, launch and synchronisation included, over as many calls as fit
    the budget, at least three."""
    return _median_lap(_clock_lap(device), run, budget_s)


def _median_lap(lap: Callable[[Run], float], run: Run, budget_s: float, most: float = math.inf) -> float:
    """The median over at least FEWEST and at most `most` calls that fit the budget; one before them is not counted."""
    lap(run)
    took: list[float] = []
    while len(took) < FEWEST or (sum(took) < budget_s and len(took) < most):
        took.append(lap(run))
    return statistics.median(took)


def _clock_lap(device: torch.device) -> Callable[[Run], float]:
    def lap(run: Run) -> float:
        begin = time.perf_counter()
        run()
        wait(device)
        return time.perf_counter() - begin

    return lap


def _cuda_lap(device: torch.device) -> Callable[[Run], float]:
    flush = torch.empty(FLUSH_BYTES, dtype=torch.int8, device=device)

    def lap(run: Run) -> float:
        flush.zero_()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3

    return lap


def wait(device: torch.device) -> None:
    """Block until all work queued on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def attempt(run: Run, device: torch.device) -> float | str:
    """The median time of one call, or one line that says why there is none (no library for this GPU, out of memory)."""
    try:
        return seconds(run, device)
    except Exception as error:  # a library may raise anything on a GPU that it does not support
        return first_line(error)


def first_line(error: BaseException) -> str:
    """The type of an error and the first line of its message."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"


def peak_of(run: Callable[[], T], device: torch.device) -> tuple[T, int | None]:
    """What a call returns, and its peak GPU memory in bytes above what was allocated before; None on the CPU."""
    if device.type != "cuda":
        return run(), None
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    result = run()
    torch.cuda.synchronize(device)
    return result, torch.cuda.max_memory_allocated(device) - before


def free_memory(device: torch.device) -> None:
    """Free GPU memory that earlier work no longer needs; compiled modules are reference cycles, hence gc."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


def limits(device: torch.device) -> dict[str, float]:
    """The device's limits measured in this run, per second: bytes copied (read and write both counted); operations of a
    bf16 and of an int8 product; and "mixed", of attention with half its products in int8 and half in bf16.
    """
    side = 8192 if device.type == "cuda" else 128
    source = torch.empty(16 * side**2, dtype=torch.uint8, device=device)  # 1 GiB
    target = torch.empty_like(source)
    left, right = (torch.randn(side, side // 2, device=device).bfloat16() for _ in range(2))
    q, w = (torch.randint(-127, 128, (side, side // 2), dtype=torch.int8, device=device) for _ in range(2))
    bf16 = side**3 / seconds(lambda: left @ right.t(), device)
    int8 = side**3 / seconds(lambda: torch._int_mm(q, w.t()), device)
    copy = 2 * source.nbytes / seconds(lambda: target.copy_(source), device)
    return {"copy": copy, "bf16": bf16, "int8": int8, "mixed": 2 / (1 / bf16 + 1 / int8)}
