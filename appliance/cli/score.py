"""The verb score: how well a model obeys."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance import paths
from appliance.atomic_files import json_bytes, replace, write_part
from appliance.cli.page import columns, facts, say, say_json, table
from appliance.safe_text import clean
from appliance.text_width import cut
from models.errors import BadInput

if TYPE_CHECKING:
    from typing import TextIO

SCORES, PICTURE = "rushes-score.json", "rushes-score.png"
RECORD, PAGE, HEADING = "SCORES.json", "TRAINING.md", "## Scorecard"


def score(args: Namespace) -> int:
    """Shoot every control at known values, measure the films, and write a table, a JSON document and a picture."""
    from appliance.scoring.run import axes_named  # start-up
    from appliance.scoring.run import score as scored  # start-up

    axes, out, package = (
        axes_named(args.axis or (), args.doses),
        Path(args.out or "."),
        Path(args.model or paths.weights()),
    )
    if not out.is_dir():
        raise BadInput(f"{out} is not a folder: make it, or choose another with --out")
    page = package.parent / PAGE
    if args.record and not page.is_file():
        raise BadInput(f"there is no {PAGE} next to {package} to record the scores in: leave --record out")
    if args.record and (args.axis or args.doses < 7):
        raise BadInput("--record needs a complete scorecard: leave --axis and --doses out")
    progress = _Progress(sys.stderr if args.json else sys.stdout)
    try:
        document = scored(package, axes, args.seeds, args.steps, progress)
    finally:
        progress.done()
    _write(document, out)
    if args.record:
        record(document, package.parent)
    if args.json:
        say_json(document)
    else:
        _show(document, out)
    return 0


def record(document: dict[str, Any], folder: Path) -> None:
    """Stores a scorecard next to its weights: SCORES.json complete, and its table as a section of TRAINING.md."""
    from appliance.scoring.page import markdown  # start-up

    page = folder / PAGE
    before, _, rest = page.read_text(encoding="utf-8").partition(f"{HEADING}\n")
    _, mark, after = rest.partition("\n## ")
    text = f"{before.rstrip()}\n\n{markdown(document)}" + (f"\n## {after}" if mark else "")
    replace(write_part(folder / RECORD, json_bytes(document)), folder / RECORD)
    replace(write_part(page, text.encode()), page)


def _write(document: dict[str, Any], out: Path) -> None:
    from appliance.scoring.page import picture  # start-up

    for name, data in ((SCORES, json_bytes(document)), (PICTURE, picture(document))):
        replace(write_part(out / name, data), out / name)


def _show(document: dict[str, Any], out: Path) -> None:
    from appliance.scoring.page import HEAD, cross_talk_rows, remarks, table_rows  # start-up

    say("")
    table(HEAD, table_rows(document), stretch=0)
    say("")
    facts(remarks(document))
    if crossed := cross_talk_rows(document):
        say("", f"cross-talk: {document['cross_talk']['what']}; in brackets the error of measuring")
        table(("commanded", *document["cross_talk"]["moves"]), crossed, stretch=0)
    say("")
    facts([("document", str(out / SCORES)), ("picture", str(out / PICTURE))])


class _Progress:
    """Progress in lines; on a terminal a line that is not lasting is replaced by the next."""

    def __init__(self, out: TextIO) -> None:
        self._out, self._live = out, out.isatty()

    def __call__(self, text: str, lasting: bool) -> None:
        if self._live:
            line = cut(clean(text), (columns() or 80) - 1)
            self._out.write(f"\r\x1b[K{line}" + ("\n" if lasting else ""))
        elif lasting:
            self._out.write(f"{clean(text)}\n")
        self._out.flush()

    def done(self) -> None:
        """Clear the line in progress."""
        if self._live:
            self._out.write("\r\x1b[K")
            self._out.flush()
