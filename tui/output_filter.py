"""The last gate before the terminal: no text, from whatever file or person, may command it.

Textual writes what a widget shows as it is; escape sequences in a shot's text would set another operator's window
title or clipboard. Text is cleaned on its way into and out of the library too; this holds where those were forgotten.
"""

from __future__ import annotations

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from appliance.safe_text import clean


class CleanLines(LineFilter):
    """Every unsafe character of every line drawn becomes U+FFFD; Textual's own control codes pass."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same segments, harmless."""
        return [
            segment if segment.control or (segment.text.isascii() and segment.text.isprintable())
            else Segment(clean(segment.text), segment.style)
            for segment in segments
        ]  # fmt: skip


class NoColours(LineFilter):
    """NO_COLOR means none: Textual's own filter sends greys. Bold, underline and the words are left."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same segments without any colour."""
        return [
            Segment(segment.text, segment.style.without_color if segment.style else None, segment.control)
            for segment in segments
        ]
