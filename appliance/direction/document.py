"""A direction as TOML (one shot a file, what its director stated) and as JSON (every value, for the record).

Lossless both ways: `from_toml(to_toml(d)) == d` and `from_json(to_json(d)) == d`. Files are untrusted: at most 1 MiB,
UTF-8, no NaN, no key twice, and every value read by its spec.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from appliance.direction.fields import plain
from appliance.direction.shot import ShotDirection, from_plain
from appliance.direction.toml_slips import load_toml
from appliance.safe_text import one_line
from models.errors import BadInput

MOST_BYTES = 1 << 20


def load_file(path: Path) -> ShotDirection:
    """The direction in a file, by its suffix: .json, else TOML. Raises BadInput that begins with the file's name."""
    name = one_line(str(path), 120)
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise BadInput(f"{name}: there is no such file; check the name, or copy a shot with `rushes example`") from None
    except IsADirectoryError:
        raise BadInput(f"{name}: it is a folder; name a shot file in it") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadInput(f"{name}: it cannot be read: {one_line(reason).lower()}; name another file") from error
    if len(data) > MOST_BYTES:
        raise BadInput(f"{name}: it is larger than 1 MiB, the most a shot file may be; is it a shot file?")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{name}: byte {error.start} is not UTF-8 text; is it a shot file?") from error
    if "\0" in text:
        raise BadInput(f"{name}: byte {data.index(0)} is not text; is it a shot file?")
    if not text.strip():
        raise BadInput(f"{name}: it is empty; copy a shot with `rushes example` and edit that")
    try:
        return from_json(text) if path.suffix.lower() == ".json" else from_toml(text)
    except BadInput as error:
        raise BadInput(f"{name}: {error}") from error


def from_toml(text: str) -> ShotDirection:
    """A direction from TOML. Raises BadInput."""
    return from_plain(_parse(load_toml, text, "TOML"))


def from_json(text: str) -> ShotDirection:
    """A direction from JSON. Raises BadInput."""
    return from_plain(_parse(_strict_json, text, "JSON"))


def to_json(direction: ShotDirection) -> str:
    """Every stated value, defaults too: a record that a later default cannot change."""
    return json.dumps(plain(direction, everything=True), ensure_ascii=False, allow_nan=False)


def to_toml(direction: ShotDirection) -> str:
    """The slate and what differs from the defaults, in the order and form in which people type it."""
    lines: list[str] = []
    _write_table({"scene": direction.scene, "setup": direction.setup} | plain(direction), "", lines)
    return "\n".join(lines).lstrip("\n") + "\n"


def _parse(parse, text: str, form: str) -> Any:
    try:
        if len(text.encode(errors="surrogatepass")) > MOST_BYTES:
            raise BadInput(f"the {form} is larger than 1 MiB, the most a direction may be")
        return parse(text)
    except RecursionError:
        raise BadInput(f"the {form} is nested too deeply for a direction; flatten it") from None
    except ValueError as error:  # what both parsers raise; the text names only the position
        raise BadInput(f"it is not valid {form}: {one_line(str(error), 320)}") from error


def _strict_json(text: str) -> Any:
    def once(pairs):
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is stated twice")
        return found

    def finite(name):
        raise ValueError(f"{name} is not a number")

    return json.loads(text, object_pairs_hook=once, parse_constant=finite)


def _write_table(data: Mapping[str, Any], path: str, lines: list[str]) -> None:
    for name, value in data.items():
        if not isinstance(value, Mapping) and not _is_tables(path, name, value):
            lines.append(f"{name} = {_inline(value, top=True)}")
    for name, value in data.items():
        here = f"{path}.{name}" if path else name
        if isinstance(value, Mapping):
            if not value or any(not isinstance(item, Mapping) for item in value.values()):
                lines += ["", f"[{here}]"]
            _write_table(value, here, lines)
        elif _is_tables(path, name, value):
            for item in value:
                lines += ["", f"[[{here}]]"]
                _write_table(item, here, lines)


def _is_tables(path: str, name: str, value: Any) -> bool:
    """Lists of tables get headers at the top level; keys and marks stay inline, one a line."""
    return not path and isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def _inline(value: Any, top: bool = False) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name} = {_inline(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        if top and len(value) > 1 and isinstance(value[0], Mapping):
            return "[\n" + "".join(f"  {_inline(item)},\n" for item in value) + "]"
        return "[" + ", ".join(_inline(item) for item in value) + "]"
    return repr(value)


def _string(value: str) -> str:
    if "\n" in value and '"""' not in value and "\\" not in value and not value.endswith('"'):
        return f'"""\n{value}"""'
    return json.dumps(value, ensure_ascii=False)  # the escapes of JSON are escapes of TOML
