"""Facts and keys as two-column tables."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from appliance.safe_text import clean
from appliance.text_width import wrap

_KEY_NAMES = {
    "slash": "/",
    "fullwidth_solidus": "",
    "question_mark": "?",
    "fullwidth_question_mark": "",
    "escape": "esc",
}


def facts(rows: Sequence[tuple[str, str]], width: int) -> Content:
    """Two columns in `width` cells: names in the quiet colour, then what they are, wrapped beneath itself."""
    names = max((len(name) for name, _ in rows), default=0)
    room = max(8, width - names - 2)
    lines: list[Content] = []
    for name, text in rows:
        shown = [part for line in clean(text, keep_newlines=True).split("\n") for part in wrap(line, room)]
        for index, line in enumerate(shown):
            head = name if index == 0 else ""
            lines.append(Content.assemble((f"{head:<{names}}  ", "$quiet"), line))
    return Content("\n").join(lines)


def key_table(*sources: type) -> list[tuple[str, str]]:
    """(keys, what they do) of the bindings of screens and widgets; help can never disagree with what keys do."""
    rows = []
    for source in sources:
        for binding in source.__dict__["BINDINGS"]:
            names = [_KEY_NAMES.get(key, key) for key in binding.key.split(",")]
            rows.append((" ".join(name for name in names if name), binding.description))
    return rows
