"""The verb models: list the models, import a checkpoint, check a package."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator, Mapping
from typing import Any

from appliance.cli.page import facts, say, say_json, table
from appliance.units import bytes_words, count_words

REPORTS = (
    "report",
    "sources",
    "loras",
    "text",
    "vision",
    "vae",
)  # metadata of an imported package that `check --json` gives


def models(args: Namespace) -> int:
    """The installed models and the supported architectures; or `import`, or `check`."""
    if args.action is not None:
        return {"import": import_checkpoint, "check": check}[args.action](args)
    from appliance.catalog.installed import architectures, packages_here, shipped, unfinished_imports  # start-up

    package, others, unfinished = shipped(), packages_here(), unfinished_imports()
    if args.json:
        house = [one.summary() for one in others]
        say_json({"shipped": package.details(), "house": house, "unfinished": unfinished, "known": architectures()})
        return 0
    say("ships with Rushes")
    facts(
        [
            ("  package", str(package.path)),
            ("  card", package.card),
            ("  parameters", f"{package.parameters:,}"),
            ("  size", bytes_words(package.file_bytes)),
            ("  stored as", _stored(package.bytes_by_type)),
            *((f"  {name}", _metadata_words(text)) for name, text in package.metadata.items() if name != "card"),
        ]
    )
    if others:
        say("", "imported")
        own = [
            (one.name, one.card, one.precision, ", ".join(one.parts), bytes_words(one.file_bytes), one.trouble)
            for one in others
        ]
        table(("name", "card", "weights", "parts", "size", ""), own, stretch=5)
    if unfinished:
        say(
            "",
            *(
                f"unfinished import: {path} ({bytes_words(size)}); the same command continues it"
                for path, size in unfinished
            ),
        )
    say("", "supported architectures")
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
            "ships with Rushes" if card.ships else "imported" if card.name in here else "import a checkpoint",
        )
        for card in architectures()
    ]
    table(head, rows, stretch=6)
    return 0


def import_checkpoint(args: Namespace) -> int:
    """Convert a checkpoint to a package of this installation."""
    from appliance.catalog.importer import import_model  # start-up
    from appliance.cli.follow import progress_stream  # start-up

    done = import_model(list(_import_arguments(args)), args.paths, progress_stream(args.json))
    if args.json:
        say_json(done)
        return 0
    say("", f"{done['path']}", "")
    facts((row["network"], _row_words(row)) for row in done["report"])
    say("", "`rushes models check NAME` checks that it is undamaged and shows its sources")
    return 0


def check(args: Namespace) -> int:
    """Check the hash of a package's data, and show its metadata."""
    from appliance.catalog.installed import package_named, verify_data  # start-up

    package = package_named(args.name)
    digest = verify_data(package)
    metadata = package.metadata
    if args.json:
        documents = {name: json.loads(metadata[name]) for name in REPORTS if name in metadata}
        say_json({"package": package.details(), "data_sha256": digest, "whole": True} | documents)
        return 0
    facts(
        [
            ("package", str(package.path)),
            ("undamaged", f"the data has the SHA-256 that the header states: {digest}"),
            ("card", package.card),
            ("weights", f"{metadata['scheme']}: {_stored(package.bytes_by_type)}"),
            ("size", bytes_words(package.file_bytes)),
            ("licence", metadata["licence"]),
            ("origin", metadata.get("origin", "")),
            *(("from", words) for words in _origins(metadata)),
            *(("stored as", words) for words in _forms(json.loads(metadata.get("report", "{}")))),
        ]
    )
    return 0


def _import_arguments(args: Namespace) -> Iterator[str]:
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
    """One network's line of the quantisation report."""
    worst = f"at worst {row['worst']:.2%} ({row['worst_matrix']})"
    reason = f"; {row['why']}" if row["why"] else ""
    return (
        f"{count_words(row['matrices'], 'layer')} in {row['form']}, rounding error {row['mean']:.2%}, {worst}{reason}"
    )


def _origins(metadata: Mapping[str, str]) -> Iterator[str]:
    for source in json.loads(metadata.get("sources", "[]")):
        yield f"{source['file']}, {bytes_words(source['bytes'])}, sha256 {source['sha256']}"
    for lora in json.loads(metadata.get("loras", "[]")):
        yield f"{lora['file']}, merged at {lora['strength']:g}"


def _forms(report: Mapping[str, tuple[str, float]]) -> Iterator[str]:
    """How the matrices are stored, the least exact format first, each with its largest rounding error."""
    forms: dict[str, list[tuple[float, str]]] = {}
    for name, (form, error) in report.items():
        forms.setdefault(form, []).append((error, name))
    for form, errors in sorted(forms.items(), key=lambda item: -max(item[1])[0]):
        error, name = max(errors)
        yield f"{form}: {count_words(len(errors), 'layer')}, rounding error at worst {error:.2%} ({name})"


def _stored(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {bytes_words(size)}" for name, size in sizes.items())


def _metadata_words(text: str) -> str:
    """A metadata value; where it is a JSON object, one line for each of its entries."""
    try:
        table = json.loads(text)
    except ValueError:
        return text
    if not isinstance(table, dict):
        return text
    return "\n".join(_lines(table))


def _lines(table: dict[str, object]) -> Iterator[str]:
    """A line for each entry; nested objects are flattened."""
    for name, value in table.items():
        if isinstance(value, dict) and all(isinstance(item, dict) for item in value.values()):
            yield from _lines(value)
        else:
            yield f"{name.replace('_', ' ')}: {_flat(value)}"


def _flat(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_flat(item)}" for name, item in value.items())
    return " or ".join(map(str, value)) if isinstance(value, list) else str(value)
