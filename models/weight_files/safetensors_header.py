"""Headers of safetensors files, checked before they are used. Torch-free.

    8 bytes   N, little-endian
    N bytes   JSON: "__metadata__" and each tensor's dtype, shape and offsets in the data
    the rest  the tensors, one after another without gaps

`read_header` reads any safetensors file: it checks the header before memory is allocated for what the header claims.
`package_header` (models/weight_files/package_header.py) also requires that the file is a Rushes package.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import BadInput

MAX_HEADER_BYTES = 16 * 2**20
MAX_TENSORS = 65_536
MAX_DIMENSIONS = 8
NAME = re.compile(r"[A-Za-z0-9._-]{1,256}")
ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor: its dtype, its shape, and the bytes `begin` to `end` of the data."""

    dtype: str  # a key of ITEM_BYTES
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """A checked header: consistent with itself and with the file's size."""

    metadata: dict[str, str]  # as in the file: it may hold control characters
    entries: dict[str, Entry]
    data_start: int  # bytes
    file_bytes: int


def read_header(path: Path, way_out: str = "use another file") -> Header:
    """The checked header of any safetensors file. Raises BadInput, which ends with `way_out`; reads no tensor data."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise BadInput(f"{path} is not a file; {way_out}")
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if status.st_size < 10 or not 2 <= length <= MAX_HEADER_BYTES:
                raise BadInput(f"{path} is not a safetensors file, or is incomplete; {way_out}")
            if status.st_size < 8 + length:
                raise BadInput(f"{path} is cut off inside its header, at {status.st_size} bytes; copy the file again")
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
        raise BadInput(f"{path} is not a valid safetensors file: {error}; {way_out}") from error
    found = status.st_size - data_start
    if found < data_bytes:
        raise BadInput(f"{path} is cut off: it should hold {data_bytes} bytes of data and has {found}; copy it again")
    if found > data_bytes:
        extra = f"{found - data_bytes} bytes follow its last tensor"
        raise BadInput(f"{path} is not a valid safetensors file: {extra}; {way_out}")
    return Header(metadata, entries, data_start, status.st_size)


def _parse(text: bytes) -> tuple[dict[str, str], dict[str, Entry]]:
    """Header bytes -> metadata and entries. Raises ValueError with a reason of one line."""
    header = table_of(text)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata is not text")
    if len(header) > MAX_TENSORS:
        raise ValueError(f"it holds {len(header)} tensors, more than {MAX_TENSORS}")
    return metadata, {name: _entry(name, found) for name, found in header.items()}


def table_of(text: bytes, what: str = "its header") -> dict[str, Any]:
    """An untrusted JSON object without duplicate keys. Raises ValueError with a reason of one line."""
    if text.count(b"{") > 4 * MAX_TENSORS or text.count(b"[") > 4 * MAX_TENSORS:
        raise ValueError(f"{what} holds more than {MAX_TENSORS} tensors")  # before the parser uses up memory
    try:
        table = json.loads(text.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except RecursionError:
        raise ValueError(f"{what} is nested too deeply") from None
    except (UnicodeDecodeError, json.JSONDecodeError):
        raise ValueError(f"{what} is not JSON") from None
    if not isinstance(table, dict):
        raise ValueError(f"{what} is not a JSON object")
    return table


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("it has the same key twice")
    return table


def _entry(name: str, found: Any) -> Entry:
    """One tensor's entry, checked for consistency."""
    if not NAME.fullmatch(name):
        raise ValueError(f"a tensor is named {name[:40]!a}; only letters, digits, '.', '_' and '-' are allowed")
    if not isinstance(found, dict) or set(found) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = found["dtype"], found["shape"], found["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise ValueError(f"{name} has the unknown dtype {ascii(dtype)[:20]}; supported are {', '.join(ITEM_BYTES)}")
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or any(type(n) is not int or not 0 <= n < 2**60 for n in numbers):
            raise ValueError(f"{name} has a shape or offsets that are not whole numbers from 0 on")
    if len(shape) > MAX_DIMENSIONS or len(offsets) != 2:
        raise ValueError(f"{name} has {len(shape)} dimensions and {len(offsets)} offsets")
    begin, end = offsets
    if end - begin != math.prod(shape) * ITEM_BYTES[dtype]:
        raise ValueError(f"{name} has a shape that does not match its number of bytes")
    return Entry(dtype, tuple(shape), begin, end)


def _covered(entries: dict[str, Entry]) -> int:
    """The bytes of data, which the tensors must cover exactly once. Raises ValueError."""
    at = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != at:
            raise ValueError(f"{name} overlaps another tensor or leaves a gap")
        at = entry.end
    return at
