"""Removes control characters from text of people and files, so that a terminal never executes it.

Applied before a row or a sidecar is written, and again before anything is printed, because another program may have
written the library.
"""

from __future__ import annotations

REPLACEMENT = "\ufffd"

# Ranges of code points that control a terminal, are invisible, or reorder text. Inclusive on both ends.
_UNSAFE = (
    (0x0000, 0x001F),  # C0: escape, bell, carriage return, tab, newline
    (0x007F, 0x009F),  # DEL and C1: one-character CSI, OSC and DCS
    (0x00AD, 0x00AD),  # soft hyphen: invisible
    (0x061C, 0x061C),  # Arabic letter mark (bidi)
    (0x180E, 0x180E),  # Mongolian vowel separator: invisible
    (0x200B, 0x200F),  # zero-width space, joiners, bidi marks
    (0x2028, 0x202E),  # line and paragraph separators, bidi embeddings and overrides
    (0x2060, 0x206F),  # word joiner, invisible operators, bidi isolates, deprecated format characters
    (0xD800, 0xDFFF),  # lone surrogates: they cannot be encoded, so they would break the next write
    (0xFEFF, 0xFEFF),  # byte order mark
    (0xFFF9, 0xFFFB),  # interlinear annotation
    (0xE0000, 0xE007F),  # tags: a whole invisible alphabet
)
_TABLE = {code: REPLACEMENT for first, last in _UNSAFE for code in range(first, last + 1)}
_TABLE_WITH_NEWLINES = {code: new for code, new in _TABLE.items() if code != 0x0A}


def clean(text: str, keep_newlines: bool = False) -> str:
    """The same text with every unsafe character as U+FFFD, one for one; newlines stay where they are asked for."""
    if keep_newlines:
        return text.replace("\r\n", "\n").translate(_TABLE_WITH_NEWLINES)
    return text.translate(_TABLE)


def one_line(text: str, limit: int = 400) -> str:
    """Any text as one clean line of at most `limit` characters."""
    line = clean(" ".join(text.split()))
    return line if len(line) <= limit else line[: limit - 1] + "…"
