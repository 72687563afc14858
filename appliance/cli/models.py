"""The verb about models: what is here, bringing one in, proving one whole."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator, Mapping
from typing import Any

from appliance.cli.page import facts, say, say_json, table
from appliance.units import bytes_words, count_words

REPORTS = ("report", "sources", "loras", "text", "vision", "vae")  # of an imported package: told by `check`


def models(args: Namespace) -> int:
    """The models that are here, and the architectures that Rushes knows; or `import`, or `check`."""
    if args.action is not None:
        return {"import": bring_in, "check": check}[args.action](args)
    from appliance.catalog.installed import house, known, shipped, waiting  # start-up

    package, others, unfinished = shipped(), house(), waiting()
    if args.json:
        say_json({"shipped": package, "house": others, "unfinished": unfinished, "known": known()})
        return 0
    say("here")
    facts(
        [
            ("  package", str(package.path)),
            ("  card", package.card),
            ("  parameters", f"{package.parameters:,}"),
            ("  size", bytes_words(package.file_bytes)),
            ("  stored as", _stored(package.bytes_by_type)),
            *((f"  {name}", _spelled(text)) for name, text in package.metadata.items() if name != "card"),
        ]
    )
    if others:
        say("", "the house's own")
        own = [
            (one.name, one.card, one.precision, ", ".join(one.parts), bytes_words(one.file_bytes), one.trouble)
            for one in others
        ]
        table(("name", "card", "weights", "holds", "size", ""), own, stretch=5)
    if unfinished:
        say("", *(f"an import is not finished: {path} ({bytes_words(size)})" for path, size in unfinished))
    say("", "known architectures")
    head = ("card", "layers", "width", "heads", "parameters", "int8 weights", "")
    here = {one.card for one in others}
    rows = [
        (
            card.name,
            str(card.layers),
            str(card.dim),
            str(card.heads),
            f"{card.parameters / 1e9:.2f} G" if card.parameters >= 1e9 else f"{card.parameters / 1e6:.1f} M",
            bytes_words(card.int8_bytes),
            "ships with Rushes"
            if card.ships
            else "is here"
            if card.name in here
            else "the house brings the checkpoint",
        )
        for card in known()
    ]
    table(head, rows, stretch=6)
    return 0


def bring_in(args: Namespace) -> int:
    """Import a checkpoint into the house."""
    from appliance.catalog.importer import bring_in  # start-up
    from appliance.cli.follow import progress_stream  # start-up

    done = bring_in(list(_passed_on(args)), args.paths, progress_stream(args.json))
    if args.json:
        say_json(done)
        return 0
    say("", f"{done['path']}", "")
    facts((row["network"], _row_words(row)) for row in done["report"])
    say("", "`rushes models check NAME` proves it whole, and tells where it came from")
    return 0


def check(args: Namespace) -> int:
    """Prove a package whole, and tell all that it says of itself."""
    from appliance.catalog.installed import named, prove  # start-up

    package = named(args.name)
    digest = prove(package)
    said = package.metadata
    if args.json:
        documents = {name: json.loads(said[name]) for name in REPORTS if name in said}
        say_json({"package": package, "data_sha256": digest, "whole": True} | documents)
        return 0
    facts(
        [
            ("package", str(package.path)),
            ("whole", f"its data has the hash that its header gives: {digest}"),
            ("card", package.card),
            ("weights", f"{said['scheme']}: {_stored(package.bytes_by_type)}"),
            ("size", bytes_words(package.file_bytes)),
            ("licence", said["licence"]),
            ("origin", said.get("origin", "")),
            *(("from", words) for words in _origins(said)),
            *(("stored as", words) for words in _forms(json.loads(said.get("report", "{}")))),
        ]
    )
    return 0


def _passed_on(args: Namespace) -> Iterator[str]:
    """The arguments of models/importing/__main__.py."""
    for flag in ("name", "precision", "card", "high", "low", "distilled", "licence", "origin"):
        if (value := getattr(args, flag)) is not None:
            yield from (f"--{flag}", value)
    for flag in ("lora", "lora_high", "lora_low"):
        for value in getattr(args, flag):
            yield from (f"--{flag.replace('_', '-')}", value)
    if args.partial:
        yield "--partial"


def _row_words(row: Mapping[str, Any]) -> str:
    """One line of the quantization report."""
    worst = f"the worst {row['worst']:.2%} ({row['worst_matrix']})"
    kept = f"; {row['why']}" if row["why"] else ""
    return f"{count_words(row['matrices'], 'layer')} in {row['form']}, off by {row['mean']:.2%}, {worst}{kept}"


def _origins(said: Mapping[str, str]) -> Iterator[str]:
    for source in json.loads(said.get("sources", "[]")):
        yield f"{source['file']}, {bytes_words(source['bytes'])}, sha256 {source['sha256']}"
    for lora in json.loads(said.get("loras", "[]")):
        yield f"{lora['file']}, merged at {lora['strength']:g}"


def _forms(report: Mapping[str, tuple[str, float]]) -> Iterator[str]:
    """How the matrices are stored, the least exact first, and the worst of each form."""
    forms: dict[str, list[tuple[float, str]]] = {}
    for name, (form, error) in report.items():
        forms.setdefault(form, []).append((error, name))
    for form, errors in sorted(forms.items(), key=lambda item: -max(item[1])[0]):
        error, name = max(errors)
        yield f"{form}: {count_words(len(errors), 'layer')}, the worst {name} by {error:.2%}"


def _stored(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {bytes_words(size)}" for name, size in sizes.items())


def _spelled(text: str) -> str:
    """A fact of a package's header: where it is a table in JSON, a line for each of its entries."""
    try:
        table = json.loads(text)
    except ValueError:
        return text
    if not isinstance(table, dict):
        return text
    return "\n".join(_lines(table))


def _lines(table: dict[str, object]) -> Iterator[str]:
    """A line for each entry; a table of tables gives one for each of these."""
    for name, value in table.items():
        if isinstance(value, dict) and all(isinstance(item, dict) for item in value.values()):
            yield from _lines(value)
        else:
            yield f"{name.replace('_', ' ')}: {_flat(value)}"


def _flat(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_flat(item)}" for name, item in value.items())
    return " or ".join(map(str, value)) if isinstance(value, list) else str(value)
