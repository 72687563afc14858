"""Every operation against what one would use instead, in the same process, at the shapes of Wan.

    python -m kernels.bench                          on a GPU: a table, and one JSON document on the last line
    python -m kernels.bench --out kernels/measured   the document in a file too
    python -m kernels.bench --only attn              the operations with this in their names
    python -m kernels.bench --dry-run                every case, tiny, on the CPU: proves the script, measures nothing

A memory-bound kernel is held against the copy bandwidth, a product against the bf16 and int8 matrix rates, all measured
in this run on this card. A ratio above 1 means that ours is faster. Each case's result is compared with its twin's
before it is timed; a case that fails is told and the next one begun.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from kernels import timing
from kernels.bench_cases import CASES, COMPILED, Case, Shape
from kernels.timing import Found

# 81 frames at 480p and at 720p, 32,760 and 75,600 tokens, of Wan 1.3B and 14B. First what covers most: a run may end
# early.
FULL = [
    (1536, 12, 8960, (21, 30, 52)), (5120, 40, 13_824, (21, 45, 80)), (5120, 40, 13_824, (21, 30, 52)),
    (1536, 12, 8960, (21, 45, 80)),
]  # fmt: skip
TINY = [(256, 2, 512, (3, 5, 8))]


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(prog="python -m kernels.bench", description=__doc__.split("\n")[0])
    parser.add_argument("--dry-run", action="store_true", help="walk every case on the CPU at tiny sizes")
    parser.add_argument("--only", default="", help="only operations whose name holds this")
    parser.add_argument("--limit", type=float, default=math.inf, help="seconds after which no operation is begun")
    parser.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, help="torch.compile as a baseline too; on where it can be"
    )
    parser.add_argument("--out", type=Path, help="write the JSON document to this file, or into this folder")
    asked = parser.parse_args(arguments)
    if not (asked.dry_run or torch.cuda.is_available()):
        parser.exit(1, "no CUDA device is here: a benchmark needs one; --dry-run walks the cases on the CPU\n")
    device = torch.device("cpu" if asked.dry_run else "cuda:0")
    skip = () if (timing.can_compile(device) if asked.compile is None else asked.compile) else (COMPILED,)
    end = time.monotonic() + asked.limit
    limits = timing.limits(device)
    document = timing.facts("kernels", device, asked.dry_run) | {"limits": limits, "rows": [], "not_begun": []}
    print(timing.headline(document) + "; " + told(limits), flush=True)
    for shape in (Shape(*sizes, device) for sizes in (TINY if asked.dry_run else FULL)):
        for op in (name for name in CASES if asked.only in name):
            if time.monotonic() > end:
                document["not_begun"].append(f"{op} {shape.tokens}x{shape.width}")
                continue
            for row in measured(op, shape, limits, skip):
                row["goals"] = [goal.judge(row["reached"].get(goal.name), asked.dry_run) for goal in row["goals"]]
                document["rows"].append(row)
                print(line(row), flush=True)
    return timing.conclude(document, asked.out)


def measured(op: str, shape: Shape, limits: Found, skip: tuple[str, ...]) -> Iterator[Found]:
    """The rows of an operation at one shape. What fails is a row too, so that the others are still measured."""
    cases = CASES[op](shape)
    while True:
        row: Found = {"op": op, "variant": "", "size": f"{shape.tokens}x{shape.width}", "reached": {}, "goals": ()}
        try:
            measure(next(cases), row, limits, skip, shape.device)
        except StopIteration:
            return
        except Exception as error:  # whatever a kernel may raise on a card that has not seen it
            row["failed"] = timing.first_line(error)
        yield row


def measure(case: Case, row: Found, limits: Found, skip: tuple[str, ...], device: torch.device) -> None:
    """One case into its row: its error, its time and rates, and how long each baseline takes.

    `reached` is by name the share of each limit and how many times as fast as each baseline it is.
    """
    row |= {"variant": case.variant, "size": case.size, "goals": case.goals}
    row["error"] = error = case.error()
    if not math.isfinite(error):
        row["error"], row["failed"] = None, "the result is not finite"
        return
    took = timing.seconds(case.ours, device)
    baselines = {name: timing.attempt(run, device) for name, run in case.baselines.items() if name not in skip}
    reached = {"copy": case.bytes / took / limits["copy"]}
    if case.ops:
        reached |= {name: case.ops / took / limits[name] for name in ("bf16", "int8", "mixed")}
    row |= {"ms": 1e3 * took, "gb_s": case.bytes / took / 1e9, "tops": case.ops / took / 1e12}
    row["baselines"] = {
        name: {"cannot": other} if isinstance(other, str) else {"ms": 1e3 * other} for name, other in baselines.items()
    }
    row["reached"] = reached | timing.ratios(took, baselines)


def told(limits: Found) -> str:
    """The card's limits in words."""
    rates = ", ".join(f"{name} {limits[name] / 1e12:,.1f} TOP/s" for name in ("bf16", "int8"))
    return f"copy {limits['copy'] / 1e9:,.0f} GB/s, {rates}"


def line(row: Found) -> str:
    """One case as a line of the table: a ratio that misses its goal is marked."""
    start = f"{row['op'] + ' ' + row['variant']:<28} {row['size']:<18}"
    if "failed" in row:
        return f"{start} FAILED: {row['failed']}"
    missed = {goal["goal"] for goal in row["goals"] if goal["met"] is False}
    rate = f"{row['tops']:7.1f} TOP/s" if row["tops"] else f"{row['gb_s']:7.0f} GB/s "
    reached = [
        f"{name} {value:.2f}{'!' * (name in missed)}"
        for name, value in row["reached"].items()
        if row["tops"] == 0 or name != "copy"
    ]
    reached += [f"{name} cannot" for name, other in row["baselines"].items() if "cannot" in other]
    return f"{start} {row['ms']:9.3f} ms {rate} error {row['error']:.0e}  {', '.join(reached)}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
