"""Facts and keys as two-column tables."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from appliance.safe_text import clean
from appliance.text_width import two_columns

_KEY_NAMES = {
    "slash": "/",
    "fullwidth_solidus": "",
    "question_mark": "?",
    "fullwidth_question_mark": "",
    "escape": "esc",
}


def facts(rows: Sequence[tuple[str, str]], width: int) -> Content:
    """Two columns in `width` cells: names in the quiet colour, texts wrapped beneath themselves."""
    shown = [(name, clean(text, keep_newlines=True)) for name, text in rows]
    return Content("\n").join(
        Content.assemble((f"{name}  ", "$quiet"), line) for name, line in two_columns(shown, width)
    )


def key_table(*sources: type) -> list[tuple[str, str]]:
    """(keys, description) of the bindings of screens and widgets: the help page lists exactly the keys that work."""
    rows = []
    for source in sources:
        for binding in source.__dict__["BINDINGS"]:
            names = [_KEY_NAMES.get(key, key) for key in binding.key.split(",")]
            rows.append((" ".join(name for name in names if name), binding.description))
    return rows
