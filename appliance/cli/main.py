"""The command line: the parser, and the boundary where errors become one line. A verb imports what it needs when run.

Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted. Errors are one readable line on stderr.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

VERSION = "0.1.0"
OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line that name the help."""

    def error(self, message: str) -> NoReturn:
        """Exit 2 with the message; for an unknown verb, suggest the nearest one."""
        if "invalid choice" in message and message.startswith("argument VERB"):
            message = _unknown_verb(message)
        self.exit(BAD_INPUT, f"rushes: {_clean(message)}; see `{self.prog} --help`\n")


def parser() -> Parser:
    """The parser of every verb. It imports nothing of ours, so that `rushes --help` answers at once."""
    top = Parser(
        prog="rushes",
        description="Directed video on one modest machine: write a shot file, quote it, shoot it, keep the take.",
        epilog="Start here: rushes example; rushes shoot mara_crosses.toml; rushes desk",
    )
    top.add_argument("--version", action="version", version=f"rushes {VERSION}")
    top.add_argument("--debug", action="store_true", help="show the traceback of an error")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)

    def verb(name: str, summary: str, json: bool = False) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        sub.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        if json:
            sub.add_argument("--json", action="store_true", help="print facts as one JSON document")
        return sub

    doctor = verb(
        "doctor",
        "check whether this machine can shoot: device, kernels, weights, encoder, disk, database, daemon",
        json=True,
    )
    doctor.add_argument(
        "--calibrate",
        action="store_true",
        help="first measure how fast its devices are, so that quotes use it; takes some seconds",
    )

    shoot = verb("shoot", "queue shots and follow them until their takes are delivered", json=True)
    shoot.add_argument("files", nargs="+", metavar="FILE", help="shot files; all are checked before any is queued")
    shoot.add_argument("--detach", action="store_true", help="queue and return; the daemon renders in the background")
    _overrides(shoot)

    quote = verb("quote", "estimate time, memory and disk space of shots on this machine, and why", json=True)
    quote.add_argument("files", nargs="+", metavar="FILE", help="shot files (.toml or .json)")
    quote.add_argument(
        "--on", metavar="GPU", help='estimate for a machine with this GPU, from its datasheet: "RTX 3060 12GB"'
    )
    quote.add_argument(
        "--ram", type=float, metavar="GIB", help="with --on: main memory of that machine (default: as this one)"
    )
    _overrides(quote)

    preview = verb("preview", "render the blocking at once, without the model (previs)", json=True)
    preview.add_argument("file", metavar="FILE", help="a shot file (.toml or .json)")
    preview.add_argument("--out", metavar="PATH", help="film to write (default: SHOT.previs.mp4 in this folder)")

    example = verb("example", "list the example shots, or copy one to start from", json=True)
    example.add_argument("name", nargs="?", metavar="NAME", help="the example to copy; without it they are listed")
    example.add_argument("--out", metavar="PATH", help="file to write (default: NAME.toml in this folder)")

    verb("board", "show what renders now, what is queued and what has just ended", json=True)

    takes = verb("takes", "list takes, newest first; words narrow the list", json=True)
    takes.add_argument(
        "words", nargs="*", metavar="WORD", help="only takes with this word in slate, action, state or error"
    )
    states = ("queued", "rendering", "delivered", "failed", "cancelled")
    takes.add_argument("--status", choices=states, help="only takes with this status")
    takes.add_argument("--limit", type=_positive, default=50, metavar="N", help="at most N takes (default 50)")

    take = verb("take", "show one take: state, plan, times, files, what was measured, history, direction", json=True)
    take.add_argument("take", metavar="TAKE", help="its number or slate: 3, 12C-T4")

    cancel = verb("cancel", "cancel a take that is queued or rendering", json=True)
    cancel.add_argument("take", metavar="TAKE", help="its number or slate: 3, 12C-T4")

    retake = verb("retake", "queue a take's direction again with a new seed, and follow it", json=True)
    retake.add_argument("take", metavar="TAKE", help="its number or slate: 3, 12C-T4")
    retake.add_argument("--seed", type=_seed, metavar="N", help="use this seed (default: a new random one)")
    retake.add_argument("--detach", action="store_true", help="queue and return; the daemon renders in the background")

    serve = verb("serve", "run the daemon that renders the queue, in this terminal")
    serve.add_argument("--until-idle", action="store_true", help="exit when the queue has been empty for a while")

    _models(verb("models", "list installed and supported models, import a checkpoint, or check a package", json=True))
    _score(
        verb(
            "score",
            "test how well the model obeys: shoot every control at known values and measure the films",
            json=True,
        )
    )
    verb("desk", "open the director's desk in this terminal")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    if sys.stdout is None:  # closed by the parent process
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (open until the process ends)
    elif isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a character that the encoding lacks is printed as "?"
    try:
        code = _run(parser().parse_args(arguments))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("rushes: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader closed the pipe, as in `rushes takes | head`: not an error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as error:
        if debug:
            import traceback

            traceback.print_exc()
        line, code = _explain(error)
        print(f"rushes: {_clean(line)}", file=sys.stderr)
        return code


def _run(args: argparse.Namespace) -> int:
    match args.verb:
        case "score":
            from appliance.cli import score as verbs  # start-up
        case "doctor" | "serve" | "desk":
            from appliance.cli import machine as verbs  # type: ignore[no-redef]  # start-up
        case "models":
            from appliance.cli import models as verbs  # type: ignore[no-redef]  # start-up
        case "shoot" | "quote" | "preview" | "retake" | "example":
            from appliance.cli import shoot as verbs  # type: ignore[no-redef]  # start-up
        case _:
            from appliance.cli import library as verbs  # type: ignore[no-redef]  # start-up
    return getattr(verbs, args.verb)(args)


def _explain(error: Exception) -> tuple[str, int]:
    """One line and an exit code for an exception."""
    from models.errors import RushesError  # start-up

    if isinstance(error, RushesError):
        return str(error), error.exit_code
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}", FAILED
    kind = type(error).__name__
    return f"{kind}: {error} (a bug in Rushes; add --debug for the traceback)", FAILED


def _models(sub: argparse.ArgumentParser) -> None:
    """The arguments of `rushes models`, `rushes models import` and `rushes models check`."""
    actions = sub.add_subparsers(
        dest="action", metavar="ACTION", help="import or check; without one, the models are listed"
    )

    def action(name: str, summary: str) -> argparse.ArgumentParser:
        one = actions.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        one.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        one.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON document")
        return one

    imports = action(
        "import", "convert a Wan checkpoint to a package: safetensors, GGUF or PyTorch files of any layout"
    )
    imports.add_argument("paths", nargs="*", metavar="PATH", help="the checkpoint's files, or their folder")
    imports.add_argument("--name", metavar="NAME", help="name of the package (default: its card)")
    imports.add_argument(
        "--precision", choices=("int8", "int4", "bf16"), default="int8", help="weights of the blocks (default int8)"
    )
    imports.add_argument("--card", metavar="NAME", help="its card in `rushes models`, where the files do not tell")
    imports.add_argument("--high", metavar="PATH", help="Wan 2.2 A14B: the high-noise expert, used for the first steps")
    imports.add_argument("--low", metavar="PATH", help="Wan 2.2 A14B: the low-noise expert, used for the last steps")
    methods = "how it was distilled to few steps: lightx2v, mean-flow, fastwan or rcm; base: it was not"
    imports.add_argument("--distilled", metavar="METHOD", help=f"where its name does not tell, {methods}")
    for flag, whose in (
        ("--lora", "the model"),
        ("--lora-high", "the high-noise expert"),
        ("--lora-low", "the low-noise expert"),
    ):
        text = f"merge a LoRA into {whose} with a strength (default 1); may be repeated"
        imports.add_argument(flag, action="append", default=[], metavar="FILE[:STRENGTH]", help=text)
    imports.add_argument(
        "--partial", action="store_true", help="import although parts that the model needs are missing"
    )
    imports.add_argument("--licence", metavar="TEXT", help="licence of these weights (default: that of Wan)")
    imports.add_argument("--origin", metavar="TEXT", help="where they came from; stored in the package")

    check = action("check", "check that a package is undamaged, and show its contents, licence and sources")
    check.add_argument("name", metavar="NAME", help="its name in `rushes models`")


def _overrides(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--seed", type=_seed, metavar="N", help="replaces the file's seed: the same seed gives the same film"
    )
    sub.add_argument(
        "--quality", choices=("draft", "take", "print"), help="replaces the file's quality: more steps take longer"
    )
    sub.add_argument(
        "--model",
        metavar="NAME",
        help="replaces the file's model: a name in `rushes models` (default: the shipped model)",
    )
    sub.add_argument("--device", metavar="DEVICE", help="cpu, gpu or cuda:N (default: the plan chooses)")


def _score(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--axis", nargs="+", metavar="NAME", help='only these controls: pan, walk, "key azimuth" (default: all)'
    )
    sub.add_argument("--seeds", type=_positive, default=2, metavar="N", help="films of each value (default 2)")
    sub.add_argument("--doses", type=int, choices=(3, 5, 7), default=7, help="values of each control (default 7)")
    sub.add_argument("--steps", type=_positive, metavar="N", help="denoising steps of a film (default: as of a take)")
    sub.add_argument("--model", metavar="PACKAGE", help="package file to score (default: the shipped model)")
    sub.add_argument(
        "--out", metavar="FOLDER", help="where the JSON document and the picture are written (default: this folder)"
    )
    sub.add_argument(
        "--record", action="store_true", help="store the scores next to the weights, and in their TRAINING.md"
    )


def _seed(text: str) -> int:
    return _integer(text, 0, 2**63 - 1)


def _positive(text: str) -> int:
    return _integer(text, 1, 1_000_000)


def _integer(text: str, low: int, high: int) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"{value} is not within {low} to {high}")
    return value


def _unknown_verb(message: str) -> str:
    import difflib
    import re

    found = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message, re.S)
    if not found:
        return message
    near = difflib.get_close_matches(found[1], re.findall(r"[a-z]+", found[2]), n=1)
    return f"{found[1]!r} is not a verb" + (f": did you mean `rushes {near[0]}`?" if near else "")


def _clean(line: str) -> str:
    from appliance.safe_text import one_line  # start-up

    return one_line(line, limit=2000)
