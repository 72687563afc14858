"""Every operation against what one would use instead, in the same process, at the shapes of Wan.

    python -m kernels.bench                          on a GPU: a table, and one JSON document on the last line
    python -m kernels.bench --out kernels/measured   the document in a file too
    python -m kernels.bench --only attn              the operations with this in their names
    python -m kernels.bench --dry-run                every case, tiny, on the CPU: proves the script, measures nothing

A memory-bound kernel is held against the copy bandwidth, a product against the bf16 and int8 matrix rates, all measured
in this run on this card. A ratio above 1 means that ours is faster. Each case's result is compared with its twin's
before it is timed; a case that fails is told and the next one begun. A goal that is missed is marked !.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator

import torch

from kernels.bench import report, timing
from kernels.bench.cases import CASES
from kernels.bench.harness import COMPILED, Case, Shape
from kernels.bench.report import Found

# 81 frames at 480p and at 720p, 32,760 and 75,600 tokens, of Wan 1.3B and 14B. First what covers most: a run may end
# early.
FULL = [
    (1536, 12, 8960, (21, 30, 52)), (5120, 40, 13_824, (21, 45, 80)), (5120, 40, 13_824, (21, 30, 52)),
    (1536, 12, 8960, (21, 45, 80)),
]  # fmt: skip
TINY = [(256, 2, 512, (3, 5, 8))]


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and keep."""
    asked = report.asked(report.parser("kernels.bench", __doc__.split("\n")[0]), arguments)
    limits = timing.limits(asked.device)
    document = report.begin("kernels", asked.device, asked.dry_run) | {"limits": limits}
    print(report.headline(document) + "; " + told(limits), flush=True)
    shapes = [Shape(*sizes, asked.device) for sizes in (TINY if asked.dry_run else FULL)]
    steps = {f"{op} {s.tokens}x{s.width}": (op, s) for s in shapes for op in CASES if asked.only in op}
    try:
        for op, shape in report.until(asked.limit, steps, document):
            for row in measured(op, shape, limits, () if asked.compile else (COMPILED,)):
                report.add(document, row)
                print(line(row), flush=True)
    except KeyboardInterrupt:
        document["interrupted"] = True  # what was measured is kept
    return report.conclude(document, asked.out)


def measured(op: str, shape: Shape, limits: Found, skip: tuple[str, ...]) -> Iterator[Found]:
    """The rows of an operation at one shape. What fails is a row too, so that the others are still measured."""
    timing.let_go(shape.device)
    cases = CASES[op](shape)
    while True:
        row: Found = {"op": op, "variant": "", "size": f"{shape.tokens}x{shape.width}"}
        row |= {"reached": {}, "baselines": {}, "goals": ()}
        try:
            measure(next(cases), row, limits, skip, shape.device)
        except StopIteration:
            return
        except Exception as error:  # whatever a kernel may raise on a card that has not seen it
            row["failed"] = timing.first_line(error)
        yield row


def measure(case: Case, row: Found, limits: Found, skip: tuple[str, ...], device: torch.device) -> None:
    """One case into its row: its error, its time and rates, and how long each baseline takes.

    `reached` is, by name, the share of a limit, or how many times as fast as a baseline it is.
    """
    row |= {"variant": case.variant, "size": case.size, "goals": case.goals}
    row["error"] = error = case.error()
    if not math.isfinite(error):
        row["error"], row["failed"] = None, report.NOT_FINITE
        return
    took = timing.seconds(case.ours, device)
    row |= {"ms": 1e3 * took, "gb_s": case.bytes / took / 1e9, "tops": case.ops / took / 1e12}
    row["reached"] = {"copy": case.bytes / took / limits["copy"]}
    if case.ops:
        row["reached"] = {name: case.ops / took / limits[name] for name in ("bf16", "int8", "mixed")}
    for name, baseline in case.baselines.items():
        if name not in skip:
            other = timing.attempt(baseline, device)
            row["baselines"][name] = {"cannot": other} if isinstance(other, str) else {"ms": 1e3 * other}
            if isinstance(other, float):
                row["reached"][name] = other / took


def told(limits: Found) -> str:
    """The card's limits in words."""
    rates = ", ".join(f"{name} {limits[name] / 1e12:,.1f} TOP/s" for name in ("bf16", "int8"))
    return f"copy {limits['copy'] / 1e9:,.0f} GB/s, {rates}"


def line(row: Found) -> str:
    """One case as a line of the table: a ratio that misses its goal is marked."""
    start = f"{row['op'] + ' ' + row['variant']:<28} {row['size']:<18}"
    if "failed" in row:
        return f"{start} FAILED: {row['failed']}"
    rate = f"{row['tops']:7.1f} TOP/s" if row["tops"] else f"{row['gb_s']:7.0f} GB/s "
    return f"{start} {row['ms']:9.3f} ms {rate} error {row['error']:.0e}  {report.outcome(row)}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
