"""Import a checkpoint as a package: `python -m models.importing FOLDER PATH... [options]`.

    gather   open and identify the given files        models/importing/gather.py
    plan     refuse, or lay out every tensor          models/importing/plan.py
    convert  group by group, resumable                models/importing/convert.py, models/weight_files/package_writer.py
    publish  FOLDER/NAME.safetensors, whole or not at all

A separate process: the command line and the desk start it, read one line of JSON for each event, and never load torch.
Its last line is {"event": "done"} or {"event": "error"}.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from models.errors import BadInput, RushesError
from models.importing.convert import converted, why
from models.importing.gather import Gathered, fill_in, gather, hashes
from models.importing.identify import Answers, distillation_of, hints_of
from models.importing.plan import Planned, file_words, missing, planned
from models.importing.sources import Source, open_source
from models.weight_files.package_header import SCHEMES, TOKENIZER
from models.weight_files.package_writer import PART, PackageWriter, TensorSpec, group

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
SPARE_BYTES = 2**30  # of the disk that must stay free
ROOM = 4096  # bytes of the header for metadata that is known at the end, besides the report
PUBLISHED = "Apache-2.0, as Wan publishes this model; whoever imports this file is responsible for its licence"
REPORT_SECONDS = 0.2


class Reporter:
    """Prints events, a line of JSON each; progress at most a few times a second."""

    def __init__(self) -> None:
        self._last = 0.0

    def say(self, event: str, **facts: Any) -> None:
        """One event."""
        print(json.dumps({"event": event, **facts}, default=str), flush=True)

    def progress(self, what: str, done: int, total: int) -> None:
        """The progress of something, in bytes."""
        now = time.monotonic()
        if now - self._last > REPORT_SECONDS or done >= total:
            self._last = now
            self.say("progress", what=what, done=done, of=total)


def run_import(args: argparse.Namespace, reporter: Reporter) -> Path:
    """Import the files. Raises BadInput or RushesError in one line; finished work is kept for the next try."""
    folder: Path = args.folder
    named: list[tuple[Path, str | None]] = [(path, None) for path in args.paths]
    named += [(path, expert) for expert, path in (("high", args.high), ("low", args.low)) if path is not None]
    if not named:
        raise BadInput("no file was given: give the files of a model, or the folder that holds them")
    if args.name is not None and not NAME.fullmatch(args.name):
        raise BadInput(f"--name is {args.name!r}: it must be letters, digits, '.', '_' and '-', at most 80")
    _require_free_name(folder, args.name)
    work = folder / f".importing-{args.name or _work_name(named)}"
    with _locked(work):
        found = gather(named, work, reporter.progress)
        for network in found.networks:
            facts = network.found
            reporter.say("found", part=facts.part, path=network.path, layout=facts.layout, stored=facts.stored)
        plan = _complete(found, args, work, reporter)
        name = args.name or plan.card.name
        _require_free_name(folder, name)
        for left in plan.left_out:
            reporter.say("left out", text=left)
        writer = _writer(plan, args, work, reporter)
        return _write(plan, writer, folder / f"{name}.safetensors", args, reporter)


def _complete(found: Gathered, args: argparse.Namespace, work: Path, reporter: Reporter) -> Planned:
    """The plan, after opening pickles for missing parts. Raises BadInput where parts are missing, unless --partial."""
    loras = [_lora(text, expert) for expert, texts in _loras(args).items() for text in texts]
    distilled = (distillation_of(hints_of(lora[0].paths[0])) for lora in loras)
    by_lora = next((method for method in distilled if method), None)
    answers = Answers(args.card, args.distilled or by_lora)
    plan = planned(found, answers, args.precision, loras)
    lacks = missing(plan)
    if lacks and found.pickles:
        fill_in(found, lacks, work, reporter.progress)
        plan = planned(found, answers, args.precision, loras)
        lacks = missing(plan)
    if lacks and not args.partial:
        parts = " and ".join(file_words(part) for part in lacks)
        raise BadInput(
            f"{plan.card.name} needs {parts}: give the missing files too, or use --partial to import without them"
        )
    return plan


def _writer(plan: Planned, args: argparse.Namespace, work: Path, reporter: Reporter) -> PackageWriter:
    """The writer of the package. Raises RushesError where the disk has too little room."""
    groups = [each for network in plan.networks for each, _ in network.groups()]
    if plan.vocabulary:
        groups.append(group("tokenizer", [TensorSpec(TOKENIZER, "U8", (len(plan.vocabulary),))]))
    size = sum(each.bytes for each in groups)
    partial = work / PART
    room = shutil.disk_usage(work).free + (partial.stat().st_size if partial.exists() else 0)
    if room < size + SPARE_BYTES:
        needs, has = (f"{count / 1e9:.1f} GB" for count in (size + SPARE_BYTES, room))
        raise RushesError(
            f"{work.parent} has {has} free, but the import needs {needs}: free some space, then import again"
        )
    metadata = plan.metadata | {
        "licence": args.licence or PUBLISHED,
        "origin": args.origin or "",
        "sources": json.dumps(hashes(plan.sources, work, reporter.progress)),
        "loras": json.dumps([_lora_facts(lora.source, by) for one in plan.networks for lora, by in one.loras]),
    }
    matrices = [network.prefix + name for network in plan.networks for name, shape in network.shapes.items() if shape]
    writer = PackageWriter(work, groups, metadata, ROOM + sum(len(name) + 48 for name in matrices))
    if writer.done:
        reporter.say("resumed", done=writer.done_bytes, of=writer.data_bytes)
    card = plan.card
    reporter.say(
        "begun", card=card.name, bytes=writer.header_bytes + writer.data_bytes, steps=card.steps, passes=card.passes
    )
    return writer


def _write(plan: Planned, writer: PackageWriter, path: Path, args: argparse.Namespace, reporter: Reporter) -> Path:
    steps = [(network, names) for network in plan.networks for _, names in network.groups()]
    for network, names in steps[writer.done :]:
        current = writer.groups[writer.done]
        tensors, note = converted(network, names)
        writer.write(tensors, note)
        reporter.progress(current.name, writer.done_bytes, writer.data_bytes)
    if writer.done < len(writer.groups):
        writer.write({TOKENIZER: torch.frombuffer(bytearray(plan.vocabulary), dtype=torch.uint8)}, {})
    report = _report(plan, writer)
    facts = {
        "training": json.dumps({"imported": time.strftime("%Y-%m-%d", time.gmtime())}),
        "report": json.dumps(report),
    }
    digest = writer.publish(path, facts)
    reporter.say("done", path=path, card=plan.card.name, data_sha256=digest, report=_summary(plan, report))
    return path


def _report(plan: Planned, writer: PackageWriter) -> dict[str, list[Any]]:
    """Of each matrix: its stored form, and the relative error |stored - weight| / |weight|."""
    report: dict[str, list[Any]] = {}
    for note in writer.notes:
        report |= {name: list(facts) for name, facts in note.items()}
    return report


def _summary(plan: Planned, report: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """The report by stored form and reason: number of matrices, mean error, worst error and its matrix."""
    groups: dict[tuple[str, str, str], list[tuple[float, str]]] = {}
    for name, (form, error) in report.items():
        network = next(each for each in plan.networks if name.startswith(each.prefix))
        reason = "" if form in ("int8", "int4") else why(network, name.removeprefix(network.prefix))
        groups.setdefault((network.prefix.rstrip("."), form, reason), []).append((error, name))
    return [
        {
            "network": network, "form": form, "why": reason, "matrices": len(errors),
            "mean": round(sum(error for error, _ in errors) / len(errors), 5), "worst": max(errors)[0],
            "worst_matrix": max(errors)[1],
        }
        for (network, form, reason), errors in groups.items()
    ]  # fmt: skip


def _require_free_name(folder: Path, name: str | None) -> None:
    if name is not None and (folder / f"{name}.safetensors").exists():
        raise BadInput(
            f"there is already a model {name}: choose another name with --name, or delete {folder / name}.safetensors"
        )


def _work_name(named: Sequence[tuple[Path, str | None]]) -> str:
    """Importing the same files again resumes in the same folder."""
    return hashlib.sha256("\n".join(str(path.absolute()) for path, _ in named).encode()).hexdigest()[:8]


def _loras(args: argparse.Namespace) -> dict[str | None, list[str]]:
    return {None: args.lora, "high": args.lora_high, "low": args.lora_low}


def _lora(text: str, expert: str | None) -> tuple[Source, float, str | None]:
    """FILE or FILE:STRENGTH."""
    path, colon, strength = text.rpartition(":")
    if not colon or Path(text).exists():
        path, strength = text, "1"
    try:
        by = float(strength)
    except ValueError:
        by = float("nan")
    if not -10 <= by <= 10:
        raise BadInput(
            f"--lora {text!r} has the strength {strength!r}: it must be a number from -10 to 10, as in FILE:0.8"
        )
    return open_source(Path(path)), by, expert


def _lora_facts(source: Source, strength: float) -> dict[str, Any]:
    facts = source.paths[0].stat()
    return {"file": source.paths[0].name, "bytes": facts.st_size, "mtime_ns": facts.st_mtime_ns, "strength": strength}


@contextmanager
def _locked(work: Path) -> Iterator[None]:
    """Lock a working folder for one import. Raises RushesError when another import has it."""
    try:
        work.mkdir(mode=0o770, parents=True, exist_ok=True)
        lock = os.open(work / ".lock", os.O_RDWR | os.O_CREAT, 0o660)
    except OSError as error:
        raise RushesError(f"cannot write in {work.parent}: {(error.strerror or str(error)).lower()}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise RushesError(f"another import is running in {work}: wait for it, or choose another --name") from None
    finally:
        if work.exists() and [path.name for path in work.iterdir()] == [".lock"]:  # nothing to resume from
            shutil.rmtree(work)
        os.close(lock)


def parser() -> argparse.ArgumentParser:
    """The options, as `rushes models import` passes them on."""
    top = argparse.ArgumentParser(prog="models.importing")
    top.add_argument("folder", type=Path)
    top.add_argument("paths", type=Path, nargs="*")
    top.add_argument("--name")
    top.add_argument("--precision", choices=tuple(SCHEMES), default="int8")
    for flag in ("--high", "--low"):
        top.add_argument(flag, type=Path)
    for flag in ("--lora", "--lora-high", "--lora-low"):
        top.add_argument(flag, action="append", default=[])
    for flag in ("--card", "--distilled", "--licence", "--origin"):
        top.add_argument(flag)
    top.add_argument("--partial", action="store_true")
    top.add_argument("--with-parent", action="store_true", help="end when standard input ends")
    return top


def _end_with_parent() -> None:
    """Exit when standard input ends. Unbuffered: the lock of a buffer would be held when the interpreter exits."""
    while os.read(0, 4096):
        pass
    os._exit(1)


def main(argv: list[str] | None = None) -> int:
    """Run one import; the exit code is that of the error."""
    args, reporter = parser().parse_args(argv), Reporter()
    if args.with_parent:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        with torch.inference_mode():
            run_import(args, reporter)
    except RushesError as error:
        reporter.say("error", text=str(error), code=error.exit_code)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
