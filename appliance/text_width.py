"""How wide text is on a terminal: counted, padded, cut and wrapped in cells."""

from __future__ import annotations

import unicodedata


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


def wrap(line: str, width: int) -> list[str]:
    """A line in pieces of at most `width` cells, broken at spaces where there are any; indents are kept."""
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
