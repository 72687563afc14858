"""The command line: one parser, one error boundary; each verb imports what it needs when it runs.

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
    """argparse, with errors of one line that say where help is."""

    def error(self, message: str) -> NoReturn:
        """Exit 2 with the message; an unknown verb is answered with the nearest known one."""
        if "invalid choice" in message and message.startswith("argument VERB"):
            message = _unknown_verb(message)
        self.exit(BAD_INPUT, f"rushes: {_clean(message)}; `{self.prog} --help` says more\n")


def parser() -> Parser:
    """The whole command line. Kept free of imports: `rushes --help` must answer at once."""
    top = Parser(
        prog="rushes",
        description="Directed video on one modest machine: block it, quote it, shoot it, keep the take.",
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

    doctor = verb("doctor", "say whether this machine can shoot: device, disk, weights, database, daemon", json=True)
    doctor.add_argument(
        "--calibrate", action="store_true", help="first measure what its devices do, for quotes; takes some seconds"
    )

    shoot = verb("shoot", "queue shots and follow them to their takes", json=True)
    shoot.add_argument("files", nargs="+", metavar="FILE", help="shot files; all are checked before any is queued")
    shoot.add_argument("--detach", action="store_true", help="queue and return; the daemon renders on")
    _overrides(shoot)

    quote = verb("quote", "say what shots will cost here in time, memory and disk, and why", json=True)
    quote.add_argument("files", nargs="+", metavar="FILE", help="shot files (.toml, or .json)")
    quote.add_argument("--on", metavar="GPU", help='for another card, by its datasheet: "RTX 3060 12GB"')
    quote.add_argument("--ram", type=float, metavar="GIB", help="with --on: memory of that machine (default: as here)")
    _overrides(quote)

    preview = verb("preview", "render the blocking exactly and at once (previs, no model)", json=True)
    preview.add_argument("file", metavar="FILE", help="a shot file (.toml, or .json)")
    preview.add_argument("--out", metavar="PATH", help="the film to write (default: SHOT.previs.mp4 in this folder)")

    example = verb("example", "list the example shots, or copy one to start from", json=True)
    example.add_argument("name", nargs="?", metavar="NAME", help="which one to copy")
    example.add_argument("--out", metavar="PATH", help="where to (default: NAME.toml in this folder)")

    verb("board", "show what renders now, what is next and what just happened", json=True)

    takes = verb("takes", "list takes, newest first; words narrow it", json=True)
    takes.add_argument(
        "words", nargs="*", metavar="WORD", help="found in the slate, the action, the state or the error"
    )
    states = ("queued", "rendering", "delivered", "failed", "cancelled")
    takes.add_argument("--status", choices=states, help="only those that stand so")
    takes.add_argument("--limit", type=_positive, default=50, metavar="N", help="at most so many (default 50)")

    take = verb("take", "show one take: direction, plan, timings, files, history", json=True)
    take.add_argument("take", metavar="TAKE", help="its number or slate: 3, 12C-T4")

    cancel = verb("cancel", "cancel a take that is queued or rendering", json=True)
    cancel.add_argument("take", metavar="TAKE", help="its number or slate: 3, 12C-T4")

    retake = verb("retake", "queue a take's direction again, with a new seed, and follow it", json=True)
    retake.add_argument("take", metavar="TAKE", help="its number or slate: 3, 12C-T4")
    retake.add_argument("--seed", type=_seed, metavar="N", help="use this seed (default: a new one is drawn)")
    retake.add_argument("--detach", action="store_true", help="queue and return; the daemon renders on")

    serve = verb("serve", "run the daemon that renders the queue")
    serve.add_argument("--until-idle", action="store_true", help="leave when nothing has been queued for a while")

    _models(verb("models", "list the models that are here and known, bring one in, or prove one whole", json=True))
    _score(verb("score", "shoot known doses of every control and measure what the films show of them", json=True))
    verb("desk", "open the director's desk in this terminal")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    if sys.stdout is None:  # whoever started us closed it
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (for as long as we run)
    elif isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a letter that the terminal's encoding lacks shows as "?"
    try:
        code = _run(parser().parse_args(arguments))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("rushes: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader left, as `rushes takes | head` does: no failure of ours
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
    """One line and an exit code for whatever was raised."""
    from models.errors import RushesError  # start-up

    if isinstance(error, RushesError):
        return str(error), error.exit_code
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}", FAILED
    kind = type(error).__name__
    return f"{kind}: {error} (a fault of Rushes; add --debug to see where)", FAILED


def _models(sub: argparse.ArgumentParser) -> None:
    """`rushes models`, `rushes models import`, `rushes models check`."""
    actions = sub.add_subparsers(dest="action", metavar="ACTION", help="import or check; without one: list them")

    def action(name: str, summary: str) -> argparse.ArgumentParser:
        one = actions.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        one.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        one.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON document")
        return one

    bring = action("import", "make a package of a Wan checkpoint: safetensors, GGUF or torch's own files, any layout")
    bring.add_argument("paths", nargs="*", metavar="PATH", help="the model's files, or the folder that holds them")
    bring.add_argument("--name", metavar="NAME", help="what to call it (default: its card)")
    bring.add_argument("--precision", choices=("int8", "int4", "bf16"), default="int8", help="of the blocks' matrices")
    bring.add_argument("--card", metavar="NAME", help="which model it is, where no file tells")
    bring.add_argument("--high", metavar="PATH", help="the expert that works while the film is mostly noise")
    bring.add_argument("--low", metavar="PATH", help="the expert that finishes it")
    ways = "it was distilled to few steps: lightx2v, mean-flow, fastwan or rcm; base: it was not"
    bring.add_argument("--distilled", metavar="WAY", help=f"where its name does not tell, {ways}")
    for flag, whose in (("--lora", "the model"), ("--lora-high", "that expert"), ("--lora-low", "that expert")):
        text = f"merge a LoRA into {whose}, at a strength (default 1)"
        bring.add_argument(flag, action="append", default=[], metavar="FILE[:STRENGTH]", help=text)
    bring.add_argument("--partial", action="store_true", help="import what is here, though the model needs more")
    bring.add_argument("--licence", metavar="TEXT", help="under which these weights are (default: Wan's own)")
    bring.add_argument("--origin", metavar="TEXT", help="where they came from; the package keeps it")

    check = action("check", "prove that a package is whole, and tell what is in it and where it came from")
    check.add_argument("name", metavar="NAME", help="of `rushes models`")


def _overrides(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--seed", type=_seed, metavar="N", help="in place of the file's: which film of all it allows")
    sub.add_argument("--quality", choices=("draft", "take", "print"), help="in place of the file's: more steps, longer")
    sub.add_argument("--model", metavar="NAME", help="in place of the file's: of `rushes models` (default: what ships)")
    sub.add_argument("--device", metavar="DEVICE", help="cpu, gpu or cuda:N (default: the plan chooses)")


def _score(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--axis", nargs="+", metavar="NAME", help='only these: pan, walk, "key azimuth" (default: all)')
    sub.add_argument("--seeds", type=_positive, default=2, metavar="N", help="films of each dose (default 2)")
    sub.add_argument("--doses", type=int, choices=(3, 5, 7), default=7, help="of each axis (default 7)")
    sub.add_argument("--steps", type=_positive, metavar="N", help="of a film (default: as of a take)")
    sub.add_argument("--model", metavar="PACKAGE", help="score this file of weights (default: the one renders use)")
    sub.add_argument("--out", metavar="FOLDER", help="where the document and the picture go (default: this folder)")
    sub.add_argument("--record", action="store_true", help="keep the scores beside the weights, in TRAINING.md too")


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

    asked = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message, re.S)
    if not asked:
        return message
    near = difflib.get_close_matches(asked[1], re.findall(r"[a-z]+", asked[2]), n=1)
    return f"{asked[1]!r} is not a verb" + (f": perhaps `rushes {near[0]}`" if near else "")


def _clean(line: str) -> str:
    from appliance.safe_text import one_line  # start-up

    return one_line(line, limit=2000)
