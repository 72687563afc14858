"""How long a call takes, how much memory, and what the card itself can do: what both benchmarks measure with.

A call is timed by CUDA events around it, after one call that is not counted, with the L2 cache flushed before each; the
median counts. The flush also keeps the card busy while the processor prepares the launch, so that what is timed is the
card's work and not Python's.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")
Run = Callable[[], object]

FLUSH_BYTES = 512 * 2**20  # more than any L2 cache; written at 3 TB/s in 180 us, longer than a launch is prepared
BUDGET_S = 0.15  # of repetitions that are timed: 30 of a kernel of 5 ms, 3 of an attention of 300 ms
FEWEST, MOST = 3, 30


def seconds(run: Run, device: torch.device) -> float:
    """The median time of one call."""
    on_gpu = device.type == "cuda"
    lap = _cuda_lap(device) if on_gpu else _cpu_lap
    run()
    took: list[float] = []
    while len(took) < FEWEST or (on_gpu and sum(took) < BUDGET_S and len(took) < MOST):
        took.append(lap(run))
    return statistics.median(took)


def _cpu_lap(run: Run) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


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


def attempt(run: Run, device: torch.device) -> float | str:
    """The median time of one call, or in one line why there is none: no library for this card, no room."""
    try:
        return seconds(run, device)
    except Exception as error:  # whatever a library may raise on a card that it does not know
        return first_line(error)


def first_line(error: BaseException) -> str:
    """What kind of error, and the first line of what it says."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"


def peak_of(run: Callable[[], T], device: torch.device) -> tuple[T, int | None]:
    """What a call returns, and the bytes of a GPU's memory that it took at most beside those taken before."""
    if device.type != "cuda":
        return run(), None
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    made = run()
    torch.cuda.synchronize(device)
    return made, torch.cuda.max_memory_allocated(device) - before


def let_go(device: torch.device) -> None:
    """Gives back to a GPU what earlier work no longer needs; compiled modules hold themselves until they are sought."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


def limits(device: torch.device) -> dict[str, float]:
    """The card's own limits as this run sees them, a second: bytes of a copy, read and write both counted; operations
    of a bf16 and of an int8 product; and of attention, half of whose products are int8 and half bf16.
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
