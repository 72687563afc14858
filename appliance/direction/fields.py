"""The table of fields: the type, unit, range and help of each value of a direction, and how it is written.

A dataclass declares its fields with `number`, `choice`, `string`, ... ; the declaration carries a `Spec` (kind, unit,
range, default, help). `read` (parsing.py) turns a supplied value into the typed one or raises BadInput naming the path;
`plain` turns it back into numbers, strings, lists and dicts; `table` lists every field for help and the desk.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field
from functools import lru_cache
from typing import Any

from appliance.safe_text import one_line
from models.errors import BadInput


@dataclass(frozen=True, slots=True)
class Spec:
    """What one field may hold. `None` is allowed where `optional`: not stated, so solved or taken from a preset."""

    kind: str  # "number" "integer" "flag" "text" "word" "choice" "color" "ease"; of fields: "table" "list" "named"
    help: str
    unit: str = ""
    lo: float = -math.inf
    hi: float = math.inf
    size: int = 1  # numbers in the value; 3 is a point
    keyed: bool = False  # may be a list of {t_s, value, ease} instead
    or_word: bool = False  # may be a subject's id instead
    choices: tuple[str, ...] | Callable[[], tuple[str, ...]] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    lines: bool = False  # text may run over several lines
    many: bool = False  # a list of such texts
    most: int = 0  # characters of a text, items of a list
    of: Any = None  # the dataclass of a table, and of the items of a list
    optional: bool = False

    def options(self) -> tuple[str, ...]:
        """The words a choice allows."""
        return self.choices() if callable(self.choices) else self.choices

    def allowed(self) -> str:
        """The range in words: "-360 to 360 deg", "one of draft, take, print"."""
        if self.kind in ("number", "integer"):
            what = f"{tidy(self.lo)} to {tidy(self.hi)}" + (f" {self.unit}" if self.unit else "")
            if self.kind == "integer":
                what = f"a whole number {what}"
            if self.size > 1:
                what = f"{self.size} numbers {what}"
            what += ", or keys [{t_s, value, ease}]" if self.keyed else ""
            return what + (", or a subject's id" if self.or_word else "")
        return {
            "flag": "true or false",
            "text": f"text of at most {self.most} characters"
            if not self.many
            else f"a list of at most {self.most} texts",
            "word": "1 to 32 letters, digits, - or _",
            "choice": f"one of {', '.join(self.options())}",
            "color": "a colour as #rrggbb",
            "ease": "linear, smooth, in, out, hold or exp(a) with a from -20 to 20",
            "list": f"a list of at most {self.most} tables",
            "table": "a table",
            "named": f"at most {self.most} named tables",
        }[self.kind]


@dataclass(frozen=True, slots=True)
class Key:
    """A value at a time. `ease` is the interpolation from the key before; at `t_s` the value is reached."""

    t_s: float
    value: float | tuple[float, ...]
    ease: str = "smooth"


def is_keyed(value: Any) -> bool:
    """Whether a value changes over the shot."""
    return isinstance(value, tuple) and isinstance(value[0], Key)


Keyed = float | tuple[Key, ...]  # constant, or changing over the shot
Point = tuple[float, float, float]
KeyedPoint = Point | tuple[Key, ...]

KEY_TIME = Spec("number", "seconds from the start of the shot", "s", -60, 600)
EASE = Spec("ease", "easing: linear, smooth, in, out, hold or exp(a)")


def _declare(default: Any, spec: Spec) -> Any:
    return field(default=default, metadata={"spec": dataclasses.replace(spec, optional=default is None)})


def number(default: Any, unit: str, lo: float, hi: float, help: str, **more: Any) -> Any:
    """A finite number in lo..hi; `keyed=True`, `size=3`, `or_word=True` widen it."""
    return _declare(default, Spec("number", help, unit, lo, hi, **more))


def integer(default: Any, unit: str, lo: int, hi: int, help: str) -> Any:
    """A whole number in lo..hi."""
    return _declare(default, Spec("integer", help, unit, lo, hi))


def flag(default: Any, help: str) -> Any:
    """True or false."""
    return _declare(default, Spec("flag", help))


def string(default: Any, help: str, most: int = 400, **more: Any) -> Any:
    """Text without terminal control characters; `lines=True` keeps newlines, `many=True` is a list of texts."""
    return _declare(default, Spec("text", help, most=most, **more))


def word(default: Any, help: str) -> Any:
    """An id: 1 to 32 letters, digits, - or _. With MISSING as default it must be stated."""
    return _declare(default, Spec("word", help))


def choice(default: Any, choices: Any, help: str, aliases: Mapping[str, str] | None = None) -> Any:
    """One of a set of words; a word in `aliases` is read as the one it stands for."""
    return _declare(default, Spec("choice", help, choices=choices, aliases=tuple((aliases or {}).items())))


def color(help: str) -> Any:
    """A colour as #rrggbb (sRGB), or None."""
    return _declare(None, Spec("color", help))


def ease() -> Any:
    """An easing: linear, smooth, in, out, hold, exp(a)."""
    return _declare("smooth", EASE)


def nested(of: type, help: str) -> Any:
    """A table of fields."""
    return field(default_factory=of, metadata={"spec": Spec("table", help, of=of)})


def listing(of: type, help: str, most: int = 32) -> Any:
    """A list of tables."""
    return _declare((), Spec("list", help, of=of, most=most))


def named(of: type, help: str, most: int = 64) -> Any:
    """Tables by name: each one's name is its `id`."""
    return _declare((), Spec("named", help, of=of, most=most))


@lru_cache(maxsize=64)
def specs(of: type) -> dict[str, Spec]:
    """The fields a dataclass declares, in order."""
    return {f.name: f.metadata["spec"] for f in dataclasses.fields(of) if "spec" in f.metadata}


@lru_cache(maxsize=64)
def defaults(of: type) -> dict[str, Any]:
    """The default of each field; MISSING where it must be stated."""
    made = {f.name: f.default if f.default_factory is MISSING else f.default_factory() for f in dataclasses.fields(of)}
    return {name: made[name] for name in specs(of)}  # frozen values only, so one copy serves all


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table of fields: `moves[].amount_deg`, its spec and its default."""

    path: str
    spec: Spec
    default: Any


def table(of: type, path: str = "") -> Iterator[Row]:
    """Every leaf field under a dataclass, in order of declaration."""
    start = defaults(of)
    for name, spec in specs(of).items():
        here = join(path, name)
        if spec.kind in ("table", "list", "named"):
            yield from table(spec.of, here + {"table": "", "list": "[]", "named": ".*"}[spec.kind])
        else:
            yield Row(here, spec, start[name])


def join(path: str, name: str) -> str:
    """The path of a field in a table: "lens" and "focal_mm" are "lens.focal_mm"."""
    return f"{path}.{name}" if path else name


def tidy(value: float) -> float | int:
    """2.0 as 2: whole numbers are shown and written without a point."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def plain(value: Any, everything: bool = False) -> dict[str, Any]:
    """A dataclass as dicts, lists, numbers and strings: what differs from the defaults, or everything that is stated.

    None is never written: an absent key is read back as not stated.
    """
    found: dict[str, Any] = {}
    of: type = type(value)
    start = defaults(of)
    for name, spec in specs(of).items():
        here = getattr(value, name)
        if here is None or (here == start[name] and not everything):
            continue
        if spec.kind == "table":
            found[name] = plain(here, everything)
        elif spec.kind == "list":
            found[name] = [plain(item, everything) for item in here]
        elif spec.kind == "named":
            found[name] = {item.id: {k: v for k, v in plain(item, everything).items() if k != "id"} for item in here}
        else:
            found[name] = _plain_value(here, everything)
    return found


def _plain_value(value: Any, everything: bool) -> Any:
    if isinstance(value, Key):
        key = {"t_s": tidy(value.t_s), "value": _plain_value(value.value, everything)}
        return key | ({"ease": value.ease} if everything or value.ease != "smooth" else {})
    if isinstance(value, tuple):
        return [_plain_value(item, everything) for item in value]
    return tidy(value) if isinstance(value, float) else value


def refuse(path: str, value: Any, allowed: str, remedy: str) -> BadInput:
    """The error of a field, to be raised: its path, the value, what is allowed, the remedy."""
    return BadInput(f"{path} is {shown(value)}: it must be {allowed}; {remedy}")


def shown(value: Any) -> str:
    """A value as an error shows it: short, on one line, without control characters."""
    if value is None:
        return "not stated"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and abs(value) >= 10**30:
        return "a number of more than 30 digits"
    if isinstance(value, (int, float)):
        return str(tidy(value))
    if isinstance(value, str):
        return f'"{one_line(value, 60)}"'
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, (list, tuple)):
        return one_line(f"[{', '.join(shown(item) for item in value[:4])}{', ...' if len(value) > 4 else ''}]", 80)
    return one_line(f"a {type(value).__name__}", 60)
