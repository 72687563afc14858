"""Options of a benchmark, its goals, and the one JSON document that it writes.

A document says what was measured on what, and holds rows; a row has figures, or `failed`; `reached` by the names that
goals use; and its goals. Nothing is left out: what failed, could not run or was not begun is listed too. JSON has no
non-finite numbers: such a number is null, and its row has failed.
"""

from __future__ import annotations

import datetime
import json
import math
import platform
import re
import shutil
import time
from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from kernels.toolchain import driver

T = TypeVar("T")
Found = dict[str, Any]  # a JSON object

NOT_FINITE = "the result is not finite"


class Goal(NamedTuple):
    """A bound: the fraction of a device limit, the speed relative to a baseline, or an error (`at_most`)."""

    name: str
    bound: float
    at_most: bool = False

    def judge(self, reached: float | None, dry_run: bool = False) -> Found:
        """The goal as a JSON object, with what was reached. `met` is None where nothing was measured (a dry run)."""
        met = None
        if reached is not None and not dry_run:
            met = reached <= self.bound if self.at_most else reached >= self.bound
        bound = "at_most" if self.at_most else "at_least"
        return {"goal": self.name, bound: self.bound, "reached": reached, "met": met}


def parser(module: str, what: str) -> ArgumentParser:
    """The options that both benchmarks have."""
    made = ArgumentParser(prog=f"python -m {module}", description=what)
    made.add_argument(
        "--dry-run",
        action="store_true",
        help="run everything on the CPU at tiny sizes: tests the script, measures nothing",
    )
    made.add_argument("--only", default="", help="only cases with this in their names")
    made.add_argument("--limit", type=float, default=math.inf, help="seconds after which no further case is begun")
    made.add_argument(
        "--compile",
        action=BooleanOptionalAction,
        help="torch.compile as a baseline; by default where a C compiler is installed",
    )
    made.add_argument("--out", type=Path, help="write the JSON document to this file, or into this folder")
    return made


def parse_options(argument_parser: ArgumentParser, arguments: list[str] | None) -> Namespace:
    """Parse; adds `device`, and a default for `compile`. Exits with status 1 where there is no CUDA device."""
    parsed = argument_parser.parse_args(arguments)
    if not (parsed.dry_run or torch.cuda.is_available()):
        argument_parser.exit(1, "no CUDA device is here: a benchmark needs one; --dry-run runs everything on the CPU\n")
    parsed.device = torch.device("cpu" if parsed.dry_run else "cuda:0")
    if not parsed.dry_run:
        driver.prepare()
    if parsed.compile is None:  # its launcher is a module that it compiles
        parsed.compile = not parsed.dry_run and any(map(shutil.which, ("cc", "gcc", "clang")))
    return parsed


def begin(benchmark: str, device: torch.device, dry_run: bool) -> Found:
    """A document without rows: benchmark, device and versions."""
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
        "rows": [],
        "not_begun": [],
        "interrupted": False,
    }


def headline(document: Found) -> str:
    """Device and versions that the printed figures are for."""
    where = "DRY RUN on the CPU: these times say nothing about a GPU" if document["dry_run"] else document["gpu"]
    return f"{where}; torch {document['torch']}, triton {document['triton']}"


def before_limit(limit_s: float, steps: dict[str, T], document: Found) -> Iterator[T]:
    """The steps that can begin within the limit; the names of the others are listed in the document."""
    end = time.monotonic() + limit_s
    for name, step in steps.items():
        if time.monotonic() < end:
            yield step
        else:
            document["not_begun"].append(name)


def add(document: Found, row: Found) -> None:
    """Judge a row's goals and add it to the document. A row with a non-finite number has failed."""
    if (cleaned := finite(row)) != row:
        row |= cleaned
        row.setdefault("failed", NOT_FINITE)
    row["goals"] = [goal.judge(row["reached"].get(goal.name), document["dry_run"]) for goal in row["goals"]]
    document["rows"].append(row)


def finite(value: Any) -> Any:
    """A copy with None for every non-finite number, at any depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(part) for name, part in value.items()}
    if isinstance(value, list):
        return [finite(part) for part in value]
    return value


def outcome(row: Found) -> str:
    """A row's ratios as text: a missed goal is marked with !, a baseline that could not run is named."""
    missed = {goal["goal"] for goal in row["goals"] if goal["met"] is False}
    reached = [f"{name} {value:.3g}{'!' * (name in missed)}" for name, value in row["reached"].items()]
    return ", ".join(reached + [f"{name} cannot" for name, other in row["baselines"].items() if "cannot" in other])


def conclude(document: Found, out: Path | None) -> int:
    """Count goals and failures, print the document as the last line, and write it to `out`, a file or a folder.

    Returns the exit status: 1 where something failed, 130 after an interrupt.
    """
    met = [goal["met"] for row in document["rows"] for goal in row["goals"]]
    document["goals"] = {"met": met.count(True), "missed": met.count(False), "not_measured": met.count(None)}
    document["failed"] = sum("failed" in row for row in document["rows"])
    text = json.dumps(finite(document), allow_nan=False)
    if out is not None:
        (out / name_of(document) if out.is_dir() else out).write_text(text + "\n")
    print(text, flush=True)
    return 130 if document["interrupted"] else int(document["failed"] > 0)


def name_of(document: Found) -> str:
    """The file name of a document: kernels-nvidia-h200-torch2.11.0-2026-03-01.json."""
    release = document["torch"].partition("+")[0]
    device = "dry-run" if document["dry_run"] else document["gpu"]
    name = f"{document['benchmark']}-{device}-torch{release}-{document['date']}"
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()) + ".json"
