"""Supplied values read by their spec: typed, in range, without control characters, or refused in one line."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING
from typing import Any

from appliance.direction.fields import EASE, KEY_TIME, Key, Spec, defaults, join, refuse, specs, table, tidy
from appliance.direction.vocabulary import EASES, MOVES, fold
from appliance.safe_text import clean
from models.errors import BadInput

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_RATE = re.compile(r"\s*(\d{1,9})\s*/\s*([1-9]\d{0,8})\s*")
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_EXP = re.compile(r"exp\((-?\d{1,3}(?:\.\d{1,6})?)\)")
MOST_KEYS = 64

# Other names that people write for a field, where similar spelling would not find it.
_MEANT = {
    "aspect": "width and height", "prompt": "text.action", "characters": "cast", "lights": "light", "end": "to_s",
    "start": "from_s", "lens_mm": "focal_mm", "frames": "time.duration_s", "seconds": "duration_s",
    "resolution": "format.width and format.height", "aperture": "t_stop", "iso": "light.exposure_ev",
    "stops": "stops_rel", "degrees": "amount_deg", "metres": "amount_m", "meters": "amount_m",
}  # fmt: skip


def read(spec: Spec, value: Any, path: str) -> Any:
    """The typed value of a field. Raises BadInput with the path, the value, what is allowed and the remedy."""
    if value is None:
        if spec.optional:
            return None
        raise refuse(path, None, spec.allowed(), "state it, or leave the key out")
    if spec.kind == "number" and spec.keyed and _is_keys(value):
        return _keys(spec, value, path)
    if spec.or_word and isinstance(value, str):
        return _word(spec, value, path)
    if spec.kind in ("text", "number") and (spec.many or spec.size > 1):
        return _several(spec, value, path)
    return _READ[spec.kind](spec, value, path)


def build(of: type, given: Any, path: str, **known: Any) -> Any:
    """A dataclass from a table or from such a dataclass, every field read; the caller sets the `known` fields."""
    start = defaults(of)
    return of(
        **{
            name: read(specs(of)[name], value, join(path, name))
            for name, value in stated(of, given, path, known, start)
        }
    )


def stated(
    of: type, given: Any, path: str, known: Mapping[str, Any], start: Mapping[str, Any]
) -> Iterable[tuple[str, Any]]:
    """The (name, value) pairs that a table or dataclass states. Refuses unknown and missing keys."""
    if isinstance(given, of):
        return [(name, getattr(given, name)) for name in specs(of)]
    if not isinstance(given, Mapping):
        raise refuse(path or "the direction", given, f"a table of {', '.join(specs(of))}", "write it as a table")
    for key in given:
        if key not in specs(of) or key in known:
            raise unknown(path, key, [name for name in specs(of) if name not in known])
    pairs = {**given, **known}
    for name, default in start.items():
        if default is MISSING and name not in pairs:
            raise BadInput(f"{join(path, name)} is missing: it is {specs(of)[name].help}; state it")
    return pairs.items()


class UnknownField(BadInput):
    """A key that no field of its table has, nor one like it; a caller that knows all tables may find its place."""

    def __init__(self, where: str, asked: str, advice: str) -> None:
        super().__init__(f"{where} is not a field: {advice}")
        self.where, self.asked = where, asked


def unknown(path: str, key: Any, names: Iterable[str]) -> BadInput:
    """The error of an unknown key, with the nearest field of this table."""
    names, asked = list(names), fold(str(key))
    where = join(path, clean(str(key))[:40])
    if asked in _MEANT:
        return BadInput(f"{where} is not a field: state {_MEANT[asked]} instead")
    if near := _near(asked, names):
        return BadInput(f'{where} is not a field: did you mean "{near}"?')
    if asked in MOVES:
        advice = f'a move is a table of its own, [[moves]] with type = "{asked}"'
    else:
        advice = f"the fields here are {', '.join(names)}"
    return UnknownField(where, asked, advice)


def _near(asked: str, names: Iterable[str]) -> str | None:
    found = difflib.get_close_matches(asked, names, 1, 0.6) or [n for n in names if n.startswith(f"{asked}_")]
    return found[0] if found else None


def path_of(asked: str, of: type) -> str | None:
    """The path of the one field anywhere in `of` whose name is nearest to `asked`; None for none, or more than one."""
    paths = [row.path for row in table(of)]
    name = _near(asked, [path.rpartition(".")[2] for path in paths])
    found = [path for path in paths if path.rpartition(".")[2] == name]
    return found[0] if len(found) == 1 else None


def nearest(value: str, words: Iterable[str]) -> str:
    """Advice on a word that is not one of `words`."""
    words = list(words)
    near = difflib.get_close_matches(fold(value), [fold(w) for w in words], 1, 0.5)
    return f'did you mean "{next(w for w in words if fold(w) == near[0])}"?' if near else "choose one of them"


def _is_keys(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and isinstance(value[0], (Mapping, Key))


def _keys(spec: Spec, value: Any, path: str) -> tuple[Key, ...]:
    if len(value) > MOST_KEYS:
        raise BadInput(f"{path} has {len(value)} keys: at most {MOST_KEYS} are allowed; leave some out")
    value_spec = Spec(spec.kind, spec.help, spec.unit, spec.lo, spec.hi, spec.size)
    keys: list[Key] = []
    for i, item in enumerate(value):
        here = f"{path}[{i}]"
        if isinstance(item, Key):
            item = {"t_s": item.t_s, "value": item.value, "ease": item.ease}
        if not isinstance(item, Mapping):
            raise refuse(here, item, "a key {t_s, value, ease}", "give every key a time")
        for name in item:
            if name not in ("t_s", "value", "ease"):
                raise unknown(here, name, ("t_s", "value", "ease"))
        for name in ("t_s", "value"):
            if name not in item:
                raise BadInput(f"{here}.{name} is missing: a key is {{t_s, value, ease}}; state it")
        key = Key(
            read(KEY_TIME, item["t_s"], f"{here}.t_s"),
            read(value_spec, item["value"], f"{here}.value"),
            _ease(EASE, item.get("ease", "smooth"), f"{here}.ease"),
        )
        if keys and key.t_s <= keys[-1].t_s:
            raise refuse(
                f"{here}.t_s", key.t_s, f"later than the key before, {tidy(keys[-1].t_s)} s", "put the keys in order"
            )
        keys.append(key)
    return tuple(keys)


def _ease(spec: Spec, value: Any, path: str) -> str:
    if isinstance(value, str):
        bare = value.strip().casefold()
        if bare in EASES[:-1]:
            return bare
        found = _EXP.fullmatch(bare)
        if found and abs(float(found[1])) <= 20:
            return bare
    near = nearest(value, EASES[:-1]) if isinstance(value, str) else "write it in quotes"
    raise refuse(path, value, spec.allowed(), near)


def _several(spec: Spec, value: Any, path: str) -> tuple[Any, ...]:
    one = Spec(spec.kind, spec.help, spec.unit, spec.lo, spec.hi, most=400)
    if not isinstance(value, (list, tuple)):
        raise refuse(path, value, spec.allowed(), "write a list in [ ]")
    if spec.size > 1 and len(value) != spec.size:
        raise refuse(path, value, spec.allowed(), f"it has {len(value)}")
    if spec.many and len(value) > spec.most:
        raise BadInput(f"{path} has {len(value)} entries: at most {spec.most} are allowed; leave some out")
    return tuple(_READ[spec.kind](one, item, f"{path}[{i}]") for i, item in enumerate(value))


def _number(spec: Spec, value: Any, path: str) -> float:
    if spec.unit == "frames/s" and isinstance(value, str) and (rate := _RATE.fullmatch(value)):
        value = int(rate[1]) / int(rate[2])  # "24000/1001", as editing programs write it
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise refuse(
            path, value, spec.allowed(), "write a number without quotes" if isinstance(value, str) else "write a number"
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise refuse(
            path,
            value,
            spec.allowed(),
            f"the most is {tidy(spec.hi)}" if value == math.inf else "write a finite number",
        )
    if not spec.lo <= value <= spec.hi:
        raise refuse(
            path, value, spec.allowed(), f"the nearest allowed is {tidy(spec.lo if value < spec.lo else spec.hi)}"
        )
    return float(value) + 0.0  # -0.0 is 0.0: one number, one digest


def _integer(spec: Spec, value: Any, path: str) -> int:
    number = _number(spec, value, path)
    if isinstance(value, int):
        return int(value)
    if not number.is_integer():
        raise refuse(path, value, spec.allowed(), f"try {round(number)}")
    return int(number)


def _flag(spec: Spec, value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise refuse(path, value, spec.allowed(), "write it without quotes")
    return value


def _text(spec: Spec, value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise refuse(path, value, spec.allowed(), "write it in quotes")
    if len(value) > spec.most:
        raise BadInput(f"{path} has {len(value)} characters: at most {spec.most} are allowed; shorten it")
    return clean(value, keep_newlines=spec.lines)


def _word(spec: Spec, value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise refuse(path, value, spec.allowed(), "write it in quotes")
    if not _WORD.fullmatch(value):
        cleaned = re.sub(r"[^A-Za-z0-9_-]+", "_", value).strip("_-")[:32]
        raise refuse(path, value, "1 to 32 letters, digits, - or _", f'try "{cleaned or "mara"}"')
    return value


def _choice(spec: Spec, value: Any, path: str) -> str:
    options = spec.options()
    if isinstance(value, str):
        meant = {fold(option): option for option in options} | {fold(a): word for a, word in spec.aliases}
        if fold(value) in meant:
            return meant[fold(value)]
    raise refuse(
        path, value, spec.allowed(), nearest(value, options) if isinstance(value, str) else "write it in quotes"
    )


def _color(spec: Spec, value: Any, path: str) -> str:
    if not isinstance(value, str) or not _COLOR.fullmatch(value):
        raise refuse(path, value, spec.allowed(), 'like "#8a1f1f"')
    return value.lower()


def _table(spec: Spec, value: Any, path: str) -> Any:
    return build(spec.of, value, path)


def _list(spec: Spec, value: Any, path: str) -> tuple[Any, ...]:
    if isinstance(value, Mapping) or not isinstance(value, (list, tuple)):
        raise refuse(path, value, spec.allowed(), f"head each with [[{path}]]")
    if len(value) > spec.most:
        raise BadInput(f"{path} has {len(value)} entries: at most {spec.most} are allowed; leave some out")
    return tuple(build(spec.of, item, f"{path}[{i}]") for i, item in enumerate(value))


def _named(spec: Spec, value: Any, path: str) -> tuple[Any, ...]:
    if isinstance(value, tuple) and all(isinstance(item, spec.of) for item in value):
        by_name = {item.id: item for item in value}
        if len(by_name) < len(value):
            raise refuse(path, [item.id for item in value], "tables of different names", "rename one of them")
        value = by_name
    if not isinstance(value, Mapping):
        raise refuse(path, value, spec.allowed(), f"head each with [{path}.name]")
    if len(value) > spec.most:
        raise BadInput(f"{path} has {len(value)} entries: at most {spec.most} are allowed; leave some out")
    id_spec = specs(spec.of)["id"]
    return tuple(
        build(spec.of, item, f"{path}.{name}") if isinstance(item, spec.of)
        else build(spec.of, item, f"{path}.{name}", id=_word(id_spec, name, f"a name in {path}"))
        for name, item in value.items()
    )  # fmt: skip


_READ = {
    "number": _number, "integer": _integer, "flag": _flag, "text": _text, "word": _word, "choice": _choice,
    "color": _color, "ease": _ease, "table": _table, "list": _list, "named": _named,
}  # fmt: skip
