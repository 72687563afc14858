"""What the command line prints: clean lines, aligned tables, one JSON document."""

from __future__ import annotations

import json
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from appliance.text import clean


def say(*lines: str) -> None:
    """Print lines on stdout, stripped of everything that could command the terminal."""
    for line in lines:
        print(clean(line).rstrip(), flush=True)


def say_json(document: Any) -> None:
    """Print one JSON document; dataclasses, paths and enums become plain values."""
    print(json.dumps(plain(document), indent=2, ensure_ascii=False))


def plain(value: Any) -> Any:
    """A value as JSON can hold it: dataclass -> dict, path -> str, tuple -> list, text cleaned."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, (Path, str)):
        return clean(str(value), keep_newlines=True)
    return value


def facts(rows: Iterable[tuple[str, str]]) -> None:
    """Two columns: a name and what it is."""
    kept = [(name, text) for name, text in rows if text != ""]
    width = max((cells(name) for name, _ in kept), default=0)
    for name, text in kept:
        first, *more = text.split("\n")
        say(f"{pad(name, width)}  {first}", *(f"{' ' * width}  {line}" for line in more))


def table(head: Sequence[str], rows: Sequence[Sequence[str]], stretch: int) -> None:
    """Aligned columns; on a terminal the column number `stretch` is cut so that a row stays one line."""
    lines = [list(head), *([clean(cell) for cell in row] for row in rows)]
    widths = [max(cells(line[i]) for line in lines) for i in range(len(head))]
    if sys.stdout.isatty():
        room = shutil.get_terminal_size().columns - sum(widths) - 2 * (len(widths) - 1)
        widths[stretch] = max(12, widths[stretch] + min(0, room))
    for line in lines:
        say("  ".join(pad(cut(cell, width), width) for cell, width in zip(line, widths, strict=True)).rstrip())


def cells(text: str) -> int:
    """How many terminal cells a text takes: East Asian wide characters take two, combining marks none."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def pad(text: str, width: int) -> str:
    """The text, filled with spaces to `width` cells."""
    return text + " " * max(0, width - cells(text))


def cut(text: str, width: int) -> str:
    """The text in at most `width` cells; what is cut off shows as an ellipsis."""
    if cells(text) <= width:
        return text
    kept, used = [], 0
    for char in text:
        used += cells(char)
        if used > width - 1:
            break
        kept.append(char)
    return "".join(kept) + "…"
