"""What the command line prints: clean lines, aligned tables, one JSON document."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from appliance.safe_text import clean
from appliance.text_width import cells, cut, pad, wrap

MIN_CELLS = 8  # no column is made narrower


def say(*lines: str) -> None:
    """Print lines on stdout; on a terminal, long ones are wrapped at spaces."""
    for line in lines:
        for piece in _fitted(clean(line).rstrip(), columns() or sys.maxsize):
            _put(piece)


def say_json(document: Any) -> None:
    """Print one JSON document; dataclasses, paths and enums become plain values."""
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    print(json.dumps(plain(document), indent=2, ensure_ascii=not unicode))


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
    """Two columns: a name and what it is; on a terminal, long text is wrapped beneath itself."""
    kept = [(name, clean(text, keep_newlines=True)) for name, text in rows if text != ""]
    width = max((cells(name) for name, _ in kept), default=0)
    room = max(MIN_CELLS, (columns() or sys.maxsize) - width - 2)
    for name, text in kept:
        pieces = (piece for line in text.split("\n") for piece in _fitted(line, room))
        for index, piece in enumerate(pieces):
            _put(f"{pad(name if index == 0 else '', width)}  {piece}")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], stretch: int) -> None:
    """Aligned columns; on a terminal a row stays one line: column number `stretch` is cut first, then its end."""
    lines = [list(head), *([clean(cell) for cell in row] for row in rows)]
    widths = [max(cells(line[i]) for line in lines) for i in range(len(head))]
    whole = columns() or sys.maxsize
    room = whole - sum(widths) - 2 * (len(widths) - 1)
    widths[stretch] = max(min(MIN_CELLS, widths[stretch]), widths[stretch] + min(0, room))
    for line in lines:
        row = "  ".join(pad(cut(cell, width), width) for cell, width in zip(line, widths, strict=True))
        _put(cut(row.rstrip(), whole))


def columns() -> int | None:
    """How wide the terminal is; None where standard output is none, and nothing is cut or wrapped."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _put(line: str) -> None:
    """The one way onto stdout for text: stripped of everything that could command the terminal."""
    print(clean(line).rstrip(), flush=True)


def _fitted(line: str, width: int) -> list[str]:
    """The line wrapped; a path or a hash that is longer stays whole, to be copied."""
    return wrap(line, max([width, *(len(word) for word in line.split() if word.isascii())]))
