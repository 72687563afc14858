"""How long a call takes, what the card itself can do, and whether a goal was met: what both benchmarks share.

A call is timed by CUDA events around it, after one call that is not counted, with the L2 cache flushed before each; the
median counts. The flush also keeps the card busy while the processor prepares the launch, so that what is timed is the
card's work and not Python's.
"""

from __future__ import annotations

import datetime
import json
import platform
import re
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

Run = Callable[[], object]
Found = dict[str, Any]  # as JSON holds it

FLUSH_BYTES = 512 * 2**20  # more than any L2 cache; written at 3 TB/s in 180 us, longer than a launch is prepared
BUDGET_S = 0.15  # of repetitions that are timed: 30 of a kernel of 5 ms, 3 of an attention of 300 ms
FEWEST, MOST = 3, 30


def seconds(run: Run, device: torch.device) -> float:
    """The median time of one call."""
    lap = _cuda_lap(device) if device.type == "cuda" else _cpu_lap
    run()
    took: list[float] = []
    while len(took) < FEWEST or (sum(took) < BUDGET_S and len(took) < MOST and device.type == "cuda"):
        took.append(lap(run))
    return statistics.median(took)


def _cpu_lap(run: Run) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def _cuda_lap(device: torch.device) -> Callable[[Run], float]:
    torch.cuda.synchronize(device)
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


def limits(device: torch.device) -> dict[str, float]:
    """The card's own limits as this run sees them, a second: bytes of a copy, read and write both counted; operations
    of a bf16 and of an int8 product; and of attention half of whose products are int8 and half bf16.
    """
    side = 8192 if device.type == "cuda" else 128
    source = torch.empty(2 * side**2 * 8, dtype=torch.uint8, device=device)  # 1 GiB
    target = torch.empty_like(source)
    left, right = (torch.randn(side, side // 2, device=device).bfloat16() for _ in range(2))
    q, w = (torch.randint(-127, 128, (side, side // 2), dtype=torch.int8, device=device) for _ in range(2))
    bf16 = side**3 / seconds(lambda: left @ right.t(), device)
    int8 = side**3 / seconds(lambda: torch._int_mm(q, w.t()), device)
    copy = 2 * source.nbytes / seconds(lambda: target.copy_(source), device)
    return {"copy": copy, "bf16": bf16, "int8": int8, "mixed": 2 / (1 / bf16 + 1 / int8)}


class Goal(NamedTuple):
    """So much of one of the card's limits, or so many times as fast as a baseline; or an error of at most so much."""

    name: str
    bound: float
    at_most: bool = False

    def judge(self, reached: float | None, dry_run: bool = False) -> Found:
        """The goal and what was reached. `met` is null where nothing was measured: a dry run measures nothing."""
        met = None
        if reached is not None and not dry_run:
            met = reached <= self.bound if self.at_most else reached >= self.bound
        bound = "at_most" if self.at_most else "at_least"
        return {"goal": self.name, bound: self.bound, "reached": reached, "met": met}


def ratios(took: float, baselines: dict[str, float | str]) -> dict[str, float]:
    """How many times as long each baseline took, of those that ran."""
    return {name: other / took for name, other in baselines.items() if isinstance(other, float)}


def facts(benchmark: str, device: torch.device, dry_run: bool) -> Found:
    """What is measured, on what and with what: the head of a document."""
    try:
        from triton import __version__ as triton_version
    except ImportError:
        triton_version = None
    on_gpu = device.type == "cuda"
    return {
        "benchmark": benchmark,
        "dry_run": dry_run,
        "gpu": torch.cuda.get_device_name(device) if on_gpu else None,
        "capability": list(torch.cuda.get_device_capability(device)) if on_gpu else None,
        "torch": torch.__version__,
        "triton": triton_version,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
    }


def headline(document: Found) -> str:
    """What the numbers below it are of."""
    where = "DRY RUN on the CPU: these times say nothing of a GPU" if document["dry_run"] else document["gpu"]
    return f"{where}; torch {document['torch']}, triton {document['triton']}"


def can_compile(device: torch.device) -> bool:
    """Whether torch.compile has what it needs: a GPU, and a C compiler for what it launches with."""
    return device.type == "cuda" and any(map(shutil.which, ("cc", "gcc", "clang")))


def conclude(document: Found, out: Path | None) -> int:
    """Adds how many goals were met, and what failed; prints the document as the last line and writes it to `out`, a
    file, or a folder where it gets a name of its own. Returns the exit status: 1 when something of ours failed.
    """
    goals = [goal for row in document["rows"] for goal in row.get("goals", [])]
    failed = sum("failed" in row for row in document["rows"])
    document["goals"] = {
        "met": sum(goal["met"] is True for goal in goals),
        "missed": sum(goal["met"] is False for goal in goals),
        "not_measured": sum(goal["met"] is None for goal in goals),
    }
    document["failed"] = failed
    text = json.dumps(document, allow_nan=False)
    if out is not None:
        (out / name_of(document) if out.is_dir() else out).write_text(text + "\n")
    print(text, flush=True)
    return 1 if failed else 0


def name_of(document: Found) -> str:
    """The name of a document's file: kernels-nvidia-h200-torch2.11.0-2026-03-01.json."""
    release = document["torch"].partition("+")[0]
    place = "dry-run" if document["dry_run"] else document["gpu"]
    words = f"{document['benchmark']}-{place}-torch{release}-{document['date']}"
    return re.sub(r"[^a-z0-9.]+", "-", words.lower()) + ".json"
