"""What a safetensors file says of itself, checked before it is believed. Torch-free.

    8 bytes   N, little-endian
    N bytes   JSON: "__metadata__" and each tensor's dtype, shape and place in the data
    the rest  the tensors, one after another without gaps

`read_header` serves every safetensors file a person brings: it bounds and checks the header before anything is
allocated by what the header claims. `package_header` also asks that the file is a model package of ours, whose metadata
gives format, scheme, card, licence, training and data_sha256.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.card import PREDICTIONS, SOLVERS, Card
from models.errors import BadInput

FORMAT = "rushes.package/1"
SCHEMES = (
    "none",
    "w8a8/1",
    "w4a8/1",
)  # how the transformer's matrices are stored: as they are, or by models/loading/quantize.py
MAX_HEADER_BYTES = 16 * 2**20
MAX_TENSORS = 65_536
MAX_DIMENSIONS = 8
NAME = re.compile(r"[A-Za-z0-9._-]{1,256}")
ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
CARD_SIZES = (
    "dim", "ffn", "heads", "layers", "in_channels", "out_channels", "text_dim", "text_len", "freq_dim", "steps",
    "space_stride", "passes", "experts", "frames",
)  # fmt: skip
CARD_EXTRAS = ("image_dim", "image_positions", "vace_channels", "camera_channels", "reference_channels")  # 0: has none


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one tensor lies: bytes `begin` to `end` of the data."""

    dtype: str  # a key of ITEM_BYTES
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a safetensors file says of itself, found to be consistent with itself and with the file's size."""

    metadata: dict[str, str]  # as the file has it: a stranger's may hold control characters
    entries: dict[str, Entry]
    data_start: int  # bytes
    file_bytes: int


def read_header(path: Path, way_out: str = "use another file") -> Header:
    """The checked header of any safetensors file. Raises BadInput, which ends with `way_out`; reads no tensor data."""
    try:
        facts = os.stat(path)
        if not stat.S_ISREG(facts.st_mode):
            raise BadInput(f"{path} is not a file; {way_out}")
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if facts.st_size < 10 or not 2 <= length <= MAX_HEADER_BYTES:
                raise BadInput(f"{path} is not a safetensors file, or not whole; {way_out}")
            if facts.st_size < 8 + length:
                raise BadInput(f"{path} is cut off inside its header, at {facts.st_size} bytes; copy the file again")
            text = file.read(length)
    except FileNotFoundError:
        raise BadInput(f"there is no file {path}; {way_out}") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {(error.strerror or str(error)).lower()}; {way_out}") from error
    data_start = 8 + length
    try:
        metadata, entries = _parse(text)
        data_bytes = _covered(entries)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not a sound safetensors file: {error}; {way_out}") from error
    found = facts.st_size - data_start
    if found < data_bytes:
        raise BadInput(f"{path} is cut off: it should hold {data_bytes} bytes of data and has {found}; copy it again")
    if found > data_bytes:
        extra = f"{found - data_bytes} bytes follow its last tensor"
        raise BadInput(f"{path} is not a sound safetensors file: {extra}; {way_out}")
    return Header(metadata, entries, data_start, facts.st_size)


def package_header(path: Path, way_out: str = "use another file") -> Header:
    """The header of a model package of ours. Raises BadInput, which ends with `way_out`."""
    header = read_header(path, way_out)
    if any(not (c.isprintable() or c == "\n") for pair in header.metadata.items() for c in "".join(pair)):
        raise BadInput(f"{path} is no model package: its metadata holds control characters; {way_out}")
    found = header.metadata.get("format", "none")
    if found != FORMAT:
        raise BadInput(f"{path} is no model package: its format is {found[:40]!r}, not {FORMAT!r}; {way_out}")
    for name in ("card", "data_sha256", "licence", "scheme"):
        if name not in header.metadata:
            raise BadInput(f"{path} does not say its {name}: it was not written by us; {way_out}")
    scheme = header.metadata["scheme"]
    if scheme not in SCHEMES:
        raise BadInput(f"{path} stores its weights as {scheme[:40]!r}, known are {', '.join(SCHEMES)}; {way_out}")
    return header


def card_to_json(card: Card) -> str:
    """A card as the header carries it."""
    return json.dumps(asdict(card), sort_keys=True)


def card_from_json(text: str) -> Card:
    """The inverse. Raises BadInput when a size is missing, unknown or out of bounds."""
    try:
        facts: dict[str, Any] = json.loads(text)
        lists: dict[str, Any] = {
            name: tuple(facts[name]) for name in ("patch", "guidance", "vace_layers", "levels") if name in facts
        }
        card = Card(**{**facts, **lists})
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadInput(f"the card in these weights cannot be read: {error}; use the original file") from error
    for name in CARD_SIZES:
        value = getattr(card, name)
        if type(value) is not int or not 1 <= value <= 65_536:
            raise BadInput(f"the card in these weights gives {name} as {value!r}; it must be 1 to 65536")
    for name in CARD_EXTRAS:
        value = getattr(card, name)
        if type(value) is not int or not 0 <= value <= 65_536:
            raise BadInput(f"the card in these weights gives {name} as {value!r}; it must be 0 to 65536")
    floats = (card.eps, card.shift, card.fps)
    if not all(type(value) in (int, float) and 0 < value < 1e6 for value in floats):
        raise BadInput(f"the card in these weights gives eps, shift and fps as {floats}; they must be above 0")
    if type(card.boundary) not in (int, float) or not 0 <= card.boundary < 1:
        raise BadInput(f"the card in these weights gives boundary as {card.boundary!r}; it must be 0 or more, below 1")
    pulls = card.guidance
    if len(pulls) != card.experts or not all(type(pull) in (int, float) and 0 < pull <= 100 for pull in pulls):
        raise BadInput(f"the card in these weights gives guidance as {pulls}; it must be one number for each expert")
    if card.solver not in SOLVERS:
        raise BadInput(f"the card in these weights gives solver as {card.solver!r}; it must be {' or '.join(SOLVERS)}")
    sound = all(type(level) in (int, float) and 0 < level <= 1 for level in card.levels)
    if not sound or list(card.levels) != sorted({*card.levels}, reverse=True):
        raise BadInput(f"the card in these weights gives levels as {card.levels}; they must fall from 1 towards 0")
    if card.levels and len(card.levels) != card.steps:
        raise BadInput(f"the card in these weights gives {len(card.levels)} levels for {card.steps} steps")
    hinted = card.vace_layers
    if not all(type(layer) is int for layer in hinted) or list(hinted) != sorted({*hinted} & {*range(card.layers)}):
        raise BadInput(f"the card in these weights gives vace_layers as {hinted}; they must be of its blocks, in order")
    if bool(hinted) != bool(card.vace_channels) or hinted[:1] not in ((), (0,)):
        raise BadInput(f"the card in these weights hints {len(hinted)} blocks by {card.vace_channels} channels")
    if card.patch != (1, 2, 2) or not all(isinstance(name, str) for name in (card.name, card.vae)):
        raise BadInput(f"the card in these weights has patches of {card.patch}; only 1x2x2 is known")
    if card.prediction not in PREDICTIONS:
        known = " or ".join(PREDICTIONS)
        raise BadInput(f"the card in these weights predicts {card.prediction!r}; only {known} is known")
    if card.dim % card.heads or card.head_dim % 2:
        raise BadInput(f"the card in these weights has {card.dim} channels in {card.heads} heads: no even share")
    return card


def _parse(text: bytes) -> tuple[dict[str, str], dict[str, Entry]]:
    """Header bytes -> metadata and entries. Raises ValueError with a reason that fits inside a line."""
    header = table_of(text)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata is not text")
    if len(header) > MAX_TENSORS:
        raise ValueError(f"it holds {len(header)} tensors, more than {MAX_TENSORS}")
    return metadata, {name: _entry(name, facts) for name, facts in header.items()}


def table_of(text: bytes, what: str = "its header") -> dict[str, Any]:
    """A JSON table from a stranger, no key twice. Raises ValueError with a reason that fits inside a line."""
    if text.count(b"{") > 4 * MAX_TENSORS or text.count(b"[") > 4 * MAX_TENSORS:
        raise ValueError(f"{what} holds more than {MAX_TENSORS} tensors")  # before the parser fills the memory
    try:
        table = json.loads(text.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except RecursionError:
        raise ValueError(f"{what} is nested too deeply") from None
    except (UnicodeDecodeError, json.JSONDecodeError):
        raise ValueError(f"{what} is not JSON") from None
    if not isinstance(table, dict):
        raise ValueError(f"{what} is not a table")
    return table


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("it names something twice")
    return table


def _entry(name: str, facts: Any) -> Entry:
    """Check one tensor's name and facts against themselves."""
    if not NAME.fullmatch(name):
        raise ValueError(f"a tensor is named {name[:40]!a}; only letters, digits, '.', '_' and '-' are allowed")
    if not isinstance(facts, dict) or set(facts) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = facts["dtype"], facts["shape"], facts["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise ValueError(f"{name} has the unknown dtype {ascii(dtype)[:20]}; known are {', '.join(ITEM_BYTES)}")
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or any(type(n) is not int or not 0 <= n < 2**60 for n in numbers):
            raise ValueError(f"{name} has a shape or offsets that are no sizes")
    if len(shape) > MAX_DIMENSIONS or len(offsets) != 2:
        raise ValueError(f"{name} has {len(shape)} dimensions and {len(offsets)} offsets")
    begin, end = offsets
    if end - begin != math.prod(shape) * ITEM_BYTES[dtype]:
        raise ValueError(f"{name} has a shape that does not fill its bytes")
    return Entry(dtype, tuple(shape), begin, end)


def _covered(entries: dict[str, Entry]) -> int:
    """The bytes of data, which the tensors must cover exactly once. Raises ValueError."""
    at = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != at:
            raise ValueError(f"{name} overlaps another tensor or leaves a gap")
        at = entry.end
    return at
