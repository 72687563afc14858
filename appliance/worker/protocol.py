"""The messages between the daemon and its worker: frozen dataclasses, written as one JSON document a line.

Orders go to the worker and reports come back. The first report is `Ready`, with the version of this protocol: a daemon
that reads another version does not use that worker (`WrongVersion`). The end of its orders tells a worker to leave.

    daemon                                      worker
                                                Ready
    KnownEmbedding (one for each cached text)
    RenderOrder                                 Progress, Note, EmbeddingRead ... then one of Done, Cancelled, Failed
    FilmOrder (of `rushes score`)               FilmDone or Failed
    CancelOrder (at any time)

Reading is strict: an unknown type, a missing, unknown or mistyped field, and a line longer than LONGEST_LINE_BYTES
raise ProtocolError, which says which. This module is free of torch and numpy, because the daemon imports it.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import json
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from appliance.measuring.result import Measured
from appliance.safe_text import one_line
from models.errors import RushesError
from models.events import Embedding

VERSION = 1  # raised with every change of a message
LONGEST_LINE_BYTES = 8 * 2**20  # an embedding of 512 tokens of 4096 numbers is 5.6 million characters


class ProtocolError(RushesError):
    """A line that is no message of this protocol: its text says what is wrong with it."""


class WrongVersion(ProtocolError):
    """The worker speaks another version of the protocol."""


class FailureKind(StrEnum):
    """What the daemon is to do about an error."""

    BAD_INPUT = "bad_input"  # the take fails: the same direction would fail again
    FAILED = "failed"  # the same
    DISK = "disk"  # the take waits while the disk is full, and fails where it is not
    MEMORY = "memory"  # a smaller plan is tried
    FAULT = "fault"  # the worker process is replaced, and the take is tried once more


@dataclass(frozen=True, slots=True)
class KnownEmbedding:
    """A cached text embedding of the render order that follows: the worker need not run its encoder for this text."""

    take: int
    embedding: Embedding


@dataclass(frozen=True, slots=True)
class RenderOrder:
    """Render a take: write its files under hidden names in the folder of `film`, which the daemon publishes."""

    take: int
    slate: str  # "12C T4"
    direction: str  # its JSON, of appliance/direction/document.py
    plan: str  # its JSON, of appliance/planning/plan.py
    model: str  # the name of the package
    package: Path
    film: Path  # the name that the film will have
    checkpoints: Path | None  # the folder of saved steps; None: steps are not saved
    prompt: str = ""
    negative_prompt: str = ""
    first_frame: Path | None = None  # picture files
    last_frame: Path | None = None
    keyframes: tuple[tuple[int, Path], ...] = ()  # (frame, picture file)


@dataclass(frozen=True, slots=True)
class FilmOrder:
    """Render a direction into one file of raw frames, 8-bit RGB; nothing is delivered."""

    take: int  # a number that the reports repeat
    direction: str
    plan: str
    package: Path
    film: Path


@dataclass(frozen=True, slots=True)
class CancelOrder:
    """Stop rendering a take, or do not begin it."""

    take: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The greeting: torch is loaded, orders are read."""

    version: int = VERSION


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a render is: `step` of `steps` denoising steps are done."""

    take: int
    phase: str  # "loading", "rendering", "developing", ...
    step: int
    steps: int


@dataclass(frozen=True, slots=True)
class Note:
    """A line for the take's history."""

    take: int
    text: str


@dataclass(frozen=True, slots=True)
class EmbeddingRead:
    """A text was encoded; the daemon caches what came of it."""

    take: int
    embedding: Embedding


@dataclass(frozen=True, slots=True)
class Done:
    """A take is rendered and measured, its files are verified and wait under hidden names."""

    take: int
    parts: dict[str, Path]  # by the suffix that each file will have
    sha256: str  # of the film's bytes
    seconds: float
    peak_bytes: int
    measured: tuple[Measured, ...] = ()


@dataclass(frozen=True, slots=True)
class FilmDone:
    """The raw frames of a film order are written."""

    take: int
    shape: tuple[int, int, int, int]  # frames, height, width, 3


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A take was stopped as ordered; it left no files."""

    take: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A take could not be rendered."""

    take: int
    kind: FailureKind
    error: str  # one line for people
    device: str = "cpu"  # of MEMORY: the device that ran out


Order = KnownEmbedding | RenderOrder | FilmOrder | CancelOrder
Report = Ready | Progress | Note | EmbeddingRead | Done | FilmDone | Cancelled | Failed
ORDERS: dict[str, type[Order]] = {
    "embedding": KnownEmbedding,
    "render": RenderOrder,
    "film": FilmOrder,
    "cancel": CancelOrder,
}
REPORTS: dict[str, type[Report]] = {
    "ready": Ready,
    "progress": Progress,
    "note": Note,
    "embedding": EmbeddingRead,
    "done": Done,
    "film": FilmDone,
    "cancelled": Cancelled,
    "failed": Failed,
}
_TYPES = {message: name for messages in (ORDERS, REPORTS) for name, message in messages.items()}


def encode(message: Order | Report) -> bytes:
    """A message as one line, with its newline. Raises ProtocolError when it would be too long."""
    document = {"type": _TYPES[type(message)], **_plain(message)}
    line = json.dumps(document, allow_nan=False).encode() + b"\n"
    _check_length(line)
    return line


def decode_order(line: bytes) -> Order:
    """The order in a line. Raises ProtocolError."""
    return _decode(line, ORDERS, "order")


def decode_report(line: bytes) -> Report:
    """The report in a line. Raises ProtocolError, and WrongVersion for the greeting of another version."""
    return _decode(line, REPORTS, "report")


def _decode(line: bytes, messages: Mapping[str, type], what: str) -> Any:
    _check_length(line)
    try:
        document = json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not a JSON {what}: {one_line(line[:80].decode(errors='replace'))}") from error
    if not isinstance(document, dict):
        raise ProtocolError(f"not a JSON {what}: a {type(document).__name__} instead of an object")
    name = document.pop("type", None)
    message = messages.get(name) if isinstance(name, str) else None
    if message is None:
        raise ProtocolError(
            f"unknown type of {what} {one_line(json.dumps(name), limit=80)}; it is one of {', '.join(messages)}"
        )
    version = document.get("version")
    if message is Ready and type(version) is int and version != VERSION:  # its other fields may be unknown here
        raise WrongVersion(
            f"the worker speaks protocol version {version}, this daemon version {VERSION}; Rushes was updated while "
            "the daemon ran, or two copies of it are mixed: stop the daemon, then start it again"
        )
    return _value(message, document, name)


def _check_length(line: bytes) -> None:
    if len(line) > LONGEST_LINE_BYTES + 1:  # and the newline
        raise ProtocolError(f"a message longer than {LONGEST_LINE_BYTES // 2**20} MiB")


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (tuple, list)):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value) if isinstance(value, Path) else value


def _value(kind: Any, value: Any, where: str) -> Any:
    """The value of type `kind` that a JSON value stands for; `where` names its field. Raises ProtocolError."""
    if get_origin(kind) in (Union, types.UnionType):  # X | None
        if value is None:
            return None
        (kind,) = (each for each in get_args(kind) if each is not types.NoneType)
    origin, inner = get_origin(kind), get_args(kind)
    if origin is tuple and isinstance(value, list):
        if inner[-1] is Ellipsis:
            inner = inner[:1] * len(value)
        if len(inner) == len(value):
            each = enumerate(zip(inner, value, strict=True))
            return tuple(_value(kind, item, f"{where}[{at}]") for at, (kind, item) in each)
    elif origin is dict and isinstance(value, dict):
        return {name: _value(inner[1], item, f"{where}.{name}") for name, item in value.items()}
    elif dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return _dataclass(kind, value, where)
    elif kind is float and type(value) in (int, float) and abs(value) <= sys.float_info.max:  # false for NaN
        return float(value)
    elif kind is int and type(value) is int and abs(value) < 2**63:  # SQLite's integers
        return value
    elif isinstance(kind, type) and isinstance(value, str):
        if kind is bytes:
            with contextlib.suppress(ValueError):
                return base64.b64decode(value, validate=True)
        if kind is str or (kind is Path and "\0" not in value):
            return kind(value)
        if issubclass(kind, StrEnum) and value in list(kind):
            return kind(value)
        if issubclass(kind, StrEnum):
            raise ProtocolError(f"{one_line(f'{where} is {value!r}', limit=200)}, not one of {', '.join(kind)}")
    shown = one_line(json.dumps(value), limit=80)
    raise ProtocolError(f"{one_line(where, limit=120)} is {shown}, not {getattr(kind, '__name__', kind)}")


def _dataclass(kind: Any, document: dict[str, Any], where: str) -> Any:
    known = _fields(kind)
    for name in (*known, *document):
        if name not in document or name not in known:
            wrong = "is missing" if name in known else "is an unknown field"
            raise ProtocolError(f"{one_line(f'{where}.{name}', limit=120)} {wrong}")
    return kind(**{name: _value(known[name], item, f"{where}.{name}") for name, item in document.items()})


@functools.cache
def _fields(kind: Any) -> dict[str, Any]:
    """Field -> type of a dataclass."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}
