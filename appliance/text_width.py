"""The width of text on a terminal, in cells: counted, padded, cut and wrapped."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator

LEAST_CELLS = 8  # no column is made narrower


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


def wrap(line: str, width: int, whole_words: bool = False) -> list[str]:
    """A line in pieces of at most `width` cells, broken at spaces where there are any; indents are kept.

    With `whole_words` an ASCII word that is longer, such as a path or a hash, stays in one piece, to be copied.
    """
    if whole_words:
        width = max([width, *(len(word) for word in line.split() if word.isascii())])
    if cells(line) <= width:
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    pieces: list[str] = []
    piece = indent
    for word in line.split():
        glue = "" if piece == indent else " "
        while cells(piece) + cells(glue + word) > width:
            if glue:
                pieces.append(piece)
                piece, glue = indent, ""
                continue
            head, used = 0, cells(piece)
            while head < len(word) and used + cells(word[head]) <= width:
                used += cells(word[head])
                head += 1
            head = max(1, head)
            pieces.append(piece + word[:head])
            piece, word = indent, word[head:]
        piece += glue + word
    return [*pieces, piece]


def two_columns(
    rows: Iterable[tuple[str, str]], width: int | None, whole_words: bool = False
) -> Iterator[tuple[str, str]]:
    """(name, text) rows as lines of two columns in `width` cells: names padded to the widest, text wrapped beneath
    itself; None wraps nothing. A text may hold newlines. `whole_words` as of `wrap`.
    """
    rows = list(rows)
    names = max((cells(name) for name, _ in rows), default=0)
    room = max((cells(text) for _, text in rows), default=0) if width is None else width - names - 2
    for name, text in rows:
        pieces = (piece for line in text.split("\n") for piece in wrap(line, max(LEAST_CELLS, room), whole_words))
        for index, piece in enumerate(pieces):
            yield pad(name if index == 0 else "", names), piece
