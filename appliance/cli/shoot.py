"""The verbs that turn a shot file into something: example, quote, preview, shoot, retake."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from appliance.atomic_files import publish, write_part
from appliance.cli.follow import follow, progress_stream
from appliance.cli.library import files, record
from appliance.cli.page import facts, say, say_json
from appliance.daemon import instance as house
from appliance.library.library import Library
from appliance.library.take import Status, Take
from appliance.machine.device import Device
from appliance.machine.probe import probe
from appliance.shooting.quote import Quoted, again, examples, must_shoot, plan_direction, read
from appliance.units import seconds_words
from models.errors import BadInput


def example(args: Namespace) -> int:
    """List the shots that ship, or copy one to start from."""
    shots = examples()
    if args.name is None:
        if args.json:
            say_json({path.stem: str(path) for path in shots})
        else:
            facts((path.stem, _first_comment(path)) for path in shots)
            say("", "`rushes example NAME` copies one here; edit it, then `rushes shoot NAME.toml`")
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
    """What shots will cost here, or on another card. Exit code 1 when one of them cannot be shot there."""
    quotes = _quotes(args, _elsewhere(args))
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
    """The blocking rendered by the stage: exact, at once, without the model."""
    from appliance.delivery.previs import SKETCH, render_previs  # start-up

    source = Path(args.file)
    target = Path(args.out or ".")
    if target.is_dir():
        target /= f"{source.stem}{SKETCH}"
    film = render_previs(read(source), target)
    if args.json:
        say_json(film)
    else:
        facts([("previs", str(film.path)), ("filmstrip", str(film.filmstrip)), ("film", film.words)])
    return 0


def shoot(args: Namespace) -> int:
    """Check every file, quote, queue, follow to the end. Nothing is queued when one file is bad or does not fit."""
    quotes = _quotes(args)
    must_shoot(*quotes)
    for quoted in quotes:
        if not args.json:
            say(quoted.headline())
    with Library.open() as library:
        takes = [
            library.queue(quoted.direction, device=args.device, predicted_seconds=quoted.require_plan().seconds)
            for quoted in quotes
        ]
        return _render(library, takes, args)


def retake(args: Namespace) -> int:
    """A take's direction again, with another seed."""
    with Library.open() as library:
        old = library.take(args.take)
        direction = again(old, args.seed)
        quoted = plan_direction(Path(old.slate), direction, old.device)
        must_shoot(quoted)
        if not args.json:
            say(quoted.headline())
        seconds = quoted.require_plan().seconds
        return _render(library, [library.queue(direction, old.id, old.device, seconds)], args)


def _elsewhere(args: Namespace) -> Device | None:
    """The machine that --on and --ram describe; None for this one."""
    from appliance.machine.datasheets import elsewhere  # start-up

    if args.on is None:
        if args.ram is not None:
            raise BadInput(f"ram is {args.ram:g} without --on: it is the memory beside the card that --on names")
        return None
    return elsewhere(args.on, args.ram, probe())


def _quotes(args: Namespace, on: Device | None = None) -> list[Quoted]:
    """Every file read and planned; all that is wrong with any of them is said together."""
    wrong: list[str] = []
    directions = []
    for name in args.files:
        try:
            directions.append((Path(name), read(Path(name), args.seed, args.quality, args.model)))
        except BadInput as error:
            wrong.append(str(error))
    if wrong:
        raise BadInput(wrong[0] if len(wrong) == 1 else f"{len(wrong)} files are not right: " + " | ".join(wrong))
    return [plan_direction(path, direction, args.device, on) for path, direction in directions]


def _render(library: Library, takes: Sequence[Take], args: Namespace) -> int:
    house.ensure_running()
    if args.detach:
        if args.json:
            say_json([record(take) for take in takes])
        else:
            say(*(f"{take.slate}  queued as #{take.id}" for take in takes))
        return 0
    ended = follow(library, [take.id for take in takes], house.ensure_running, progress_stream(args.json))
    if args.json:
        say_json([record(take) for take in ended])
    else:
        for take in ended:
            if take.status is Status.DELIVERED:
                say("", take.slate)
                facts((f"  {name}", str(path)) for name, path in files(take))
    return 0 if all(take.status is Status.DELIVERED for take in ended) else 1


def _first_comment(path: Path) -> str:
    """What a shot file says of itself in its first comment line."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            return line.lstrip("# ").rstrip()
    return ""
