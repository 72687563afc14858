"""Every operation against its baselines, in one process, at the shapes of Wan.

    python -m kernels.bench                          on a GPU: a table, and one JSON document on the last line
    python -m kernels.bench --out kernels/measured   the document in a file too
    python -m kernels.bench --only attn              only operations with this in their names
    python -m kernels.bench --dry-run                every case at tiny sizes on the CPU: tests the script, no figures

A memory-bound kernel is compared with the copy bandwidth, a matrix product with the bf16 and int8 matrix rates, all
measured in the same run on the same GPU. A ratio above 1 means that ours is faster. Each case's result is compared with
its reference before it is timed; a case that fails is reported and the next one runs. A missed goal is marked with !.
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

# 81 frames at 480p and at 720p, 32,760 and 75,600 tokens, of Wan 1.3B and 14B. The most telling first: a run may end
# early.
FULL = [
    (1536, 12, 8960, (21, 30, 52)), (5120, 40, 13_824, (21, 45, 80)), (5120, 40, 13_824, (21, 30, 52)),
    (1536, 12, 8960, (21, 45, 80)),
]  # fmt: skip
TINY = [(256, 2, 512, (3, 5, 8))]


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; write the document where --out says."""
    options = report.parse_options(report.parser("kernels.bench", __doc__.split("\n")[0]), arguments)
    limits = timing.limits(options.device)
    document = report.begin("kernels", options.device, options.dry_run) | {"limits": limits}
    print(report.headline(document) + "; " + describe_limits(limits), flush=True)
    shapes = [Shape(*sizes, options.device) for sizes in (TINY if options.dry_run else FULL)]
    steps = {f"{op} {s.tokens}x{s.width}": (op, s) for s in shapes for op in CASES if options.only in op}
    try:
        for op, shape in report.before_limit(options.limit, steps, document):
            for row in measured(op, shape, limits, () if options.compile else (COMPILED,)):
                report.add(document, row)
                print(table_line(row), flush=True)
    except KeyboardInterrupt:
        document["interrupted"] = True  # what was measured so far is still written
    return report.conclude(document, options.out)


def measured(op: str, shape: Shape, limits: Found, skip: tuple[str, ...]) -> Iterator[Found]:
    """The rows of an operation at one shape. A failure is a row too, so that the others are still measured."""
    timing.free_memory(shape.device)
    cases = CASES[op](shape)
    while True:
        row: Found = {"op": op, "variant": "", "size": f"{shape.tokens}x{shape.width}"}
        row |= {"reached": {}, "baselines": {}, "goals": ()}
        try:
            measure(next(cases), row, limits, skip, shape.device)
        except StopIteration:
            return
        except Exception as error:  # a kernel may raise anything on a GPU it has not run on
            row["failed"] = timing.first_line(error)
        yield row


def measure(case: Case, row: Found, limits: Found, skip: tuple[str, ...], device: torch.device) -> None:
    """Measure one case into its row: error, time, rates, and the time of each baseline.

    `reached` maps the name of a limit to the fraction reached, and of a baseline to how many times as fast ours is.
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


def describe_limits(limits: Found) -> str:
    """The device's limits as text."""
    rates = ", ".join(f"{name} {limits[name] / 1e12:,.1f} TOP/s" for name in ("bf16", "int8"))
    return f"copy {limits['copy'] / 1e9:,.0f} GB/s, {rates}"


def table_line(row: Found) -> str:
    """One case as a line of the table."""
    start = f"{row['op'] + ' ' + row['variant']:<28} {row['size']:<18}"
    if "failed" in row:
        return f"{start} FAILED: {row['failed']}"
    rate = f"{row['tops']:7.1f} TOP/s" if row["tops"] else f"{row['gb_s']:7.0f} GB/s "
    return f"{start} {row['ms']:9.3f} ms {rate} error {row['error']:.0e}  {report.outcome(row)}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
