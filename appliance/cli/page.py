"""Printing: lines without control characters, two-column facts, aligned tables, one JSON document."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from appliance.safe_text import clean
from appliance.text_width import LEAST_CELLS, cells, cut, pad, two_columns, wrap


def say(*lines: str) -> None:
    """Print lines on stdout; on a terminal, long ones are wrapped at spaces."""
    for line in lines:
        for piece in wrap(clean(line).rstrip(), columns() or sys.maxsize, whole_words=True):
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
    """Two columns, a name and a text; rows without a text are left out; on a terminal, long text is wrapped."""
    shown = [(name, clean(text, keep_newlines=True)) for name, text in rows if text != ""]
    for name, line in two_columns(shown, columns(), whole_words=True):
        _put(f"{name}  {line}")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], stretch: int) -> None:
    """Aligned columns. On a terminal a row stays on one line: column `stretch` is cut first, then the row's end."""
    lines = [list(head), *([clean(cell) for cell in row] for row in rows)]
    widths = [max(cells(line[i]) for line in lines) for i in range(len(head))]
    whole = columns() or sys.maxsize
    room = whole - sum(widths) - 2 * (len(widths) - 1)
    widths[stretch] = max(min(LEAST_CELLS, widths[stretch]), widths[stretch] + min(0, room))
    for line in lines:
        row = "  ".join(pad(cut(cell, width), width) for cell, width in zip(line, widths, strict=True))
        _put(cut(row.rstrip(), whole))


def columns() -> int | None:
    """Width of the terminal in cells; None where stdout is no terminal: nothing is then cut or wrapped."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _put(line: str) -> None:
    """Print one line on stdout, without control characters. All text but JSON goes through here."""
    print(clean(line).rstrip(), flush=True)
