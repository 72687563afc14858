"""What a benchmark is asked, whether its goals are met, and the one JSON document that it leaves.

A document says what it is of, and holds rows; a row has figures, or `failed`; `reached` by name, as goals name it; and
its goals. Nothing is left out of it: what failed, what could not run, and what was not begun are in it too. JSON knows
no numbers that are not finite: such a one is null, and its row has failed.
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
Found = dict[str, Any]  # as JSON holds it

NOT_FINITE = "the result is not finite"


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


def parser(module: str, what: str) -> ArgumentParser:
    """The options that both benchmarks have."""
    made = ArgumentParser(prog=f"python -m {module}", description=what)
    made.add_argument(
        "--dry-run", action="store_true", help="walk everything on the CPU at tiny sizes: measures nothing"
    )
    made.add_argument("--only", default="", help="only what has this in its name")
    made.add_argument("--limit", type=float, default=math.inf, help="seconds after which nothing more is begun")
    made.add_argument("--compile", action=BooleanOptionalAction, help="torch.compile as a baseline; on where it can be")
    made.add_argument("--out", type=Path, help="write the JSON document to this file, or into this folder")
    return made


def asked(options: ArgumentParser, arguments: list[str] | None) -> Namespace:
    """The answers: `device` too, and `compile` where nobody said. Ends here where there is nothing to measure on."""
    found = options.parse_args(arguments)
    if not (found.dry_run or torch.cuda.is_available()):
        options.exit(1, "no CUDA device is here: a benchmark needs one; --dry-run walks everything on the CPU\n")
    found.device = torch.device("cpu" if found.dry_run else "cuda:0")
    if not found.dry_run:
        driver.prepare()
    if found.compile is None:  # it launches through a module that it compiles
        found.compile = not found.dry_run and any(map(shutil.which, ("cc", "gcc", "clang")))
    return found


def begin(benchmark: str, device: torch.device, dry_run: bool) -> Found:
    """A document without rows: what is measured, on what and with what."""
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
    """What the numbers below it are of."""
    where = "DRY RUN on the CPU: these times say nothing of a GPU" if document["dry_run"] else document["gpu"]
    return f"{where}; torch {document['torch']}, triton {document['triton']}"


def until(limit_s: float, steps: dict[str, T], document: Found) -> Iterator[T]:
    """The steps that begin before so many seconds have passed; the names of the others go into the document."""
    end = time.monotonic() + limit_s
    for name, step in steps.items():
        if time.monotonic() < end:
            yield step
        else:
            document["not_begun"].append(name)


def add(document: Found, row: Found) -> None:
    """Judges a row's goals by what it reached, and puts it into the document; one with a number that is not finite has
    failed.
    """
    if (kept := finite(row)) != row:
        row |= kept
        row.setdefault("failed", NOT_FINITE)
    row["goals"] = [goal.judge(row["reached"].get(goal.name), document["dry_run"]) for goal in row["goals"]]
    document["rows"].append(row)


def finite(value: Any) -> Any:
    """The same, with null for every number that is not finite, however deep it lies."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(part) for name, part in value.items()}
    if isinstance(value, list):
        return [finite(part) for part in value]
    return value


def outcome(row: Found) -> str:
    """What a row reached, in words: a goal that is missed is marked, and a baseline that could not run named."""
    missed = {goal["goal"] for goal in row["goals"] if goal["met"] is False}
    reached = [f"{name} {value:.3g}{'!' * (name in missed)}" for name, value in row["reached"].items()]
    return ", ".join(reached + [f"{name} cannot" for name, other in row["baselines"].items() if "cannot" in other])


def conclude(document: Found, out: Path | None) -> int:
    """Adds how many goals were met, and what failed; prints the document as the last line and writes it to `out`, a
    file, or a folder where it gets a name of its own. Returns the exit status: 1 where something failed, 130 where
    somebody interrupted.
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
    """The name of a document's file: kernels-nvidia-h200-torch2.11.0-2026-03-01.json."""
    release = document["torch"].partition("+")[0]
    place = "dry-run" if document["dry_run"] else document["gpu"]
    words = f"{document['benchmark']}-{place}-torch{release}-{document['date']}"
    return re.sub(r"[^a-z0-9.]+", "-", words.lower()) + ".json"
