"""Filters for every line before it is written to the terminal: no escape sequences, and no colour under NO_COLOR.

Textual writes the text of a widget unchanged, so escape sequences in a shot's text would set another operator's window
title or clipboard. Text is cleaned on its way into and out of the library too; this filter is the last defence.
"""

from __future__ import annotations

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from appliance.safe_text import clean


class CleanLines(LineFilter):
    """Replaces every control or direction-changing character by U+FFFD; Textual's own control segments pass."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The segments with their text cleaned."""
        return [
            segment if segment.control or (segment.text.isascii() and segment.text.isprintable())
            else Segment(clean(segment.text), segment.style)
            for segment in segments
        ]  # fmt: skip


class NoColours(LineFilter):
    """Removes every colour; Textual's own NO_COLOR filter still sends greys. Bold and underline are kept."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The segments without colour."""
        return [
            Segment(segment.text, segment.style.without_color if segment.style else None, segment.control)
            for segment in segments
        ]
