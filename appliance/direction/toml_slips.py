"""TOML whose errors show the line that is meant, and name the slips of people who do not program."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from typing import Any

from appliance.safe_text import one_line

_LONGEST = 1000  # characters of a line that is searched: no person types more, and a search may take their square
_QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'")
# A pattern, looked for outside quoted texts and comments, and what to write instead. {0} is what was found, {1} the
# same in its narrow form, {2} the code point of its first character.
_SLIPS = (
    (r"[“”„‟«»]", '{0} is a typographic quotation mark: write a straight one, "'),
    (r"(?<![\"'])([\"'])(?![\"'])", "{0} opens a text that does not end on this line: close it with {0}"),
    (r"[‘’‚‛]", '{0} is a typographic quotation mark: write a straight one, "'),
    (r"[＝，：．［］｛｝；＂＃]", "{0} is a full-width character: write the narrow one, {1}"),
    (r"[０-９]+", "{0} is in full-width digits: write {1}"),
    ("[\u00a0\u2000-\u200b\u202f\u3000\ufeff]", "a space in it (U+{2:04X}) is not the space bar's: type it again"),
    (r"[−–—]", "{0} is a dash: write a minus, -"),
    (r"^\s*[\w.-]+\s*:", "between a name and its value stands =, not a colon"),
    (r"=\s*([-+]?\d+,\d+)\s*$", "{0} has a decimal comma: write a point"),
    (r"=\s*(?!(?:true|false|inf|nan)\b)([^\W\d].*?)\s*$", 'a text stands between quotation marks: "{0}"'),
    (r"=\s*$", "a value is missing after ="),
)


def load_toml(text: str) -> dict[str, Any]:
    """`tomllib.loads`. Its error is a ValueError that shows the line and, where a usual slip is in it, names that."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        lines = text.split("\n")  # as tomllib counts them
        at = re.search(r"at line (\d+)", str(error))
        number = min(int(at[1]), len(lines)) if at else max((n for n, line in enumerate(lines, 1) if line.strip()))
        line = lines[number - 1]
        told = f"line {number}, {one_line(line.strip(), 80)}: {slip(line) or error}"
        raise ValueError("".join(char if char.isprintable() else "?" for char in told)) from error


def slip(line: str) -> str | None:
    """What is wrong with a line, and what to write instead; None where none of the usual slips is in it."""
    if len(line) > _LONGEST:
        return None
    plain = _QUOTED.sub('""', line).partition("#")[0]
    for pattern, advice in _SLIPS:
        if found := re.search(pattern, plain):
            what = found[found.lastindex or 0]
            return advice.format(what, unicodedata.normalize("NFKC", what), ord(what[0]))
    return None
