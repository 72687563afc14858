"""The verbs example, quote, preview, shoot and retake."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from appliance.atomic_files import publish, write_part
from appliance.cli.follow import follow, progress_stream
from appliance.cli.library import files, record
from appliance.cli.page import facts, say, say_json
from appliance.daemon import instance
from appliance.library.library import Library
from appliance.library.take import Status
from appliance.machine.datasheets import elsewhere
from appliance.machine.device import Device
from appliance.machine.probe import probe
from appliance.shooting import requests
from appliance.shooting.checks import warnings
from appliance.shooting.quote import examples, read
from appliance.shooting.requests import Overrides, QueuedTake
from appliance.units import seconds_words
from models.errors import BadInput


def example(args: Namespace) -> int:
    """List the example shots, or copy one."""
    shots = examples()
    if args.name is None:
        if args.json:
            say_json({path.stem: str(path) for path in shots})
        else:
            facts((path.stem, _first_comment(path)) for path in shots)
            say("", "`rushes example NAME` copies one to this folder; edit it, then `rushes shoot NAME.toml`")
        return 0
    name = args.name.removesuffix(".toml")
    found = next((path for path in shots if path.stem == name), None)
    if found is None:
        raise BadInput(f"there is no example {args.name!r}: there are {', '.join(path.stem for path in shots)}")
    target = Path(args.out or f"{name}.toml")
    if target.is_dir():
        target = target / f"{name}.toml"
    if target.exists():
        raise BadInput(f"{target} exists already: name another file with --out")
    if not target.parent.is_dir():
        raise BadInput(f"{target.parent} is not a folder: make it, or choose another with --out")
    publish(write_part(target, found.read_bytes()), target)
    if args.json:
        say_json({"copied": str(target)})
    else:
        say(f"{target}", f"next: rushes quote {target}, rushes preview {target}, rushes shoot {target}")
    return 0


def quote(args: Namespace) -> int:
    """What shots would cost on this machine or another. Exit code 1 when one of them cannot be shot there."""
    quotes = requests.quote(_paths(args), _overrides(args), _other_machine(args))
    if args.json:
        say_json([quoted.to_json() for quoted in quotes])
    else:
        for index, quoted in enumerate(quotes):
            if index:
                say("")
            say(f"{quoted.path}")
            facts(quoted.rows())
        planned = [quoted.require_plan().seconds for quoted in quotes if quoted.fits]
        if len(planned) > 1:
            say("", f"together about {seconds_words(sum(planned))}")
    return 0 if all(quoted.fits for quoted in quotes) else 1


def preview(args: Namespace) -> int:
    """The previs: the blocking rendered by the stage, without the model."""
    from appliance.delivery.previs import SKETCH, render_previs  # start-up

    source = Path(args.file)
    target = Path(args.out or ".")
    if target.is_dir():
        target /= f"{source.stem}{SKETCH}"
    direction = read(source)
    film = render_previs(direction, target)
    if args.json:
        say_json(film)
    else:
        say(*map(_warning, warnings(direction)))
        facts([("previs", str(film.path)), ("filmstrip", str(film.filmstrip)), ("film", film.words)])
    return 0


def shoot(args: Namespace) -> int:
    """Queue shot files and follow them to the end. Nothing is queued when one has an error or cannot be shot."""
    return _follow(requests.queue(_paths(args), _overrides(args)), args)


def retake(args: Namespace) -> int:
    """Queue a take's direction again with another seed, and follow it."""
    return _follow([requests.retake(args.take, args.seed)], args)


def _paths(args: Namespace) -> list[Path]:
    return [Path(name) for name in args.files]


def _overrides(args: Namespace) -> Overrides:
    return Overrides(args.seed, args.quality, args.model, args.device)


def _other_machine(args: Namespace) -> Device | None:
    """The machine that --on and --ram describe; None for this one."""
    if args.on is None:
        if args.ram is not None:
            raise BadInput(f"ram is {args.ram:g} without --on: it is the memory of the machine that --on describes")
        return None
    return elsewhere(args.on, args.ram, probe())


def _follow(queued: Sequence[QueuedTake], args: Namespace) -> int:
    """Print the quotes, then wait for the takes, unless --detach is given. Exit code 1 when one was not delivered."""
    takes = [each.take for each in queued]
    if not args.json:
        say(*(line for each in queued for line in (each.quote.headline(), *map(_warning, each.quote.warnings))))
    if args.detach:
        if args.json:
            say_json([record(take) for take in takes])
        else:
            say(*(f"{take.slate}  queued as #{take.id}" for take in takes))
        return 0
    with Library.open() as library:
        ended = follow(library, [take.id for take in takes], instance.ensure_running, progress_stream(args.json))
    if args.json:
        say_json([record(take) for take in ended])
    else:
        for take in ended:
            if take.status is Status.DELIVERED:
                say("", take.slate)
                facts((f"  {name}", str(path)) for name, path in files(take))
    return 0 if all(take.status is Status.DELIVERED for take in ended) else 1


def _warning(text: str) -> str:
    return f"     warning: {text}"


def _first_comment(path: Path) -> str:
    """The first comment line of a shot file, which describes it."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            return line.lstrip("# ").rstrip()
    return ""
