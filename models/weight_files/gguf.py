"""Headers of GGUF files, checked before they are used. Torch-free. Layout: ggml's docs/gguf.md.

    "GGUF"   version (u32)   number of tensors (u64)   number of metadata entries (u64)
    metadata name, type, value: numbers, text, or arrays of them
    tensors  name, sizes (fastest first), block type, offset in the data
    data     each tensor at a multiple of the alignment, one after another

Block types store numbers in groups: models/weight_files/gguf_blocks.py dequantises them. GGUF allows four dimensions;
where a tensor has more, the tools that convert Wan either write five or flatten it and give its shape in the metadata.
"""

from __future__ import annotations

import math
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from models.errors import BadInput
from models.weight_files.safetensors_header import MAX_DIMENSIONS, MAX_TENSORS, NAME, Entry, Header

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_HEAD_BYTES = 64 * 2**20  # a vocabulary of 256 384 words with its scores takes 8 MB
MAX_METADATA = 65_536
MAX_STRINGS = 1_048_576  # in arrays of text: each is skipped one by one, a million take half a second
MAX_TEXT_BYTES = 2**20
ALIGNMENT = 32  # bytes, unless general.alignment gives another
ORIG_SHAPE = "comfy.gguf.orig_shape."
PREFIX = "model.diffusion_model."  # stable-diffusion.cpp writes it before tensor names, but not in the metadata


@dataclass(frozen=True, slots=True)
class Block:
    """A block type: `numbers` numbers in `size` bytes."""

    name: str
    numbers: int
    size: int


TYPES = {
    0: Block("F32", 1, 4), 1: Block("F16", 1, 2), 30: Block("BF16", 1, 2), 28: Block("F64", 1, 8),
    24: Block("I8", 1, 1), 25: Block("I16", 1, 2), 26: Block("I32", 1, 4), 27: Block("I64", 1, 8),
    2: Block("Q4_0", 32, 18), 3: Block("Q4_1", 32, 20), 6: Block("Q5_0", 32, 22), 7: Block("Q5_1", 32, 24),
    8: Block("Q8_0", 32, 34), 20: Block("IQ4_NL", 32, 18),
    10: Block("Q2_K", 256, 84), 11: Block("Q3_K", 256, 110), 12: Block("Q4_K", 256, 144), 13: Block("Q5_K", 256, 176),
    14: Block("Q6_K", 256, 210), 23: Block("IQ4_XS", 256, 136),
}  # fmt: skip
UNSUPPORTED = {
    9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 21: "IQ3_S", 22: "IQ2_S",
    29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
}  # fmt: skip
# Types of metadata values, as codes of the module struct.
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
TEXT, ARRAY = 8, 9


def read_gguf(path: Path, way_out: str = "use another file") -> Header:
    """The checked header of a GGUF file. Raises BadInput, which ends with `way_out`; reads no tensor data.

    Shapes are in torch's order, rows first. Metadata is kept as text: numbers, strings, and short lists of numbers.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise BadInput(f"{path} is not a file; {way_out}")
        with open(path, "rb") as file:
            return _header(_Cursor(file, min(status.st_size, MAX_HEAD_BYTES), status.st_size), status.st_size)
    except FileNotFoundError:
        raise BadInput(f"there is no file {path}; {way_out}") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {(error.strerror or str(error)).lower()}; {way_out}") from error
    except ValueError as error:
        raise BadInput(f"{path} is not a valid GGUF file: {error}; {way_out}") from error


class _Cursor:
    """Reads a file from its start and never past `limit` bytes, whatever sizes the file claims."""

    def __init__(self, file: BinaryIO, limit: int, file_bytes: int) -> None:
        self.file, self.limit, self.file_bytes = file, limit, file_bytes
        self.at = 0
        self.strings = 0  # skipped in arrays

    def bytes(self, count: int) -> bytes:
        """The next bytes. Raises ValueError when the file ends before."""
        self._spend(count)
        found = self.file.read(count)
        if len(found) != count:
            raise ValueError(f"it is cut off inside its header, at {self.at - count + len(found)} bytes")
        return found

    def skip(self, count: int) -> None:
        """Skip bytes."""
        self._spend(count)
        self.file.seek(self.at)

    def number(self, code: str) -> int | float:
        """The next number, little-endian."""
        return struct.unpack("<" + code, self.bytes(struct.calcsize("<" + code)))[0]

    def size(self) -> int:
        """The next count or length."""
        return int(self.number("Q"))

    def text(self) -> str:
        """The next text."""
        length = self.size()
        if length > MAX_TEXT_BYTES:
            raise ValueError(f"it holds a text of {length} bytes; at most {MAX_TEXT_BYTES} are allowed")
        try:
            return self.bytes(length).decode()
        except UnicodeDecodeError:
            raise ValueError(f"the text at {self.at - length} bytes is not UTF-8") from None

    def _spend(self, count: int) -> None:
        if count > self.limit - self.at:
            short = self.limit == self.file_bytes
            raise ValueError("it is cut off inside its header" if short else f"its header is over {self.limit} bytes")
        self.at += count


def _header(cursor: _Cursor, file_bytes: int) -> Header:
    """Raises ValueError with a reason of one line."""
    if cursor.bytes(4) != MAGIC:
        raise ValueError("it does not start with GGUF")
    version = int(cursor.number("I"))
    if version not in VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        what = "it is for big-endian machines" if swapped in VERSIONS else f"its version is {version}"
        raise ValueError(f"{what}; only the little-endian versions 2 and 3 are supported")
    tensors, count = cursor.size(), cursor.size()
    if tensors > MAX_TENSORS or count > MAX_METADATA:
        raise ValueError(f"it claims {tensors} tensors and {count} metadata entries; at most {MAX_TENSORS} are allowed")
    metadata: dict[str, str] = {}
    for _ in range(count):
        name = cursor.text()
        if name in metadata:
            raise ValueError(f"it has the metadata entry {name[:40]!a} twice")
        metadata[name] = _value(cursor)
    alignment = _alignment(metadata)
    found: dict[str, Entry] = {}
    for _ in range(tensors):
        name, entry = _entry(cursor, metadata)
        if name in found:
            raise ValueError(f"it has the tensor {name} twice")
        if entry.begin % alignment:
            raise ValueError(
                f"{name} is at offset {entry.begin}, which is not a multiple of the alignment, {alignment}"
            )
        found[name] = entry
    data_start = cursor.at + -cursor.at % alignment
    _check_cover(found, file_bytes - data_start, alignment)
    return Header(metadata, found, data_start, file_bytes)


def _value(cursor: _Cursor) -> str:
    """One metadata value as text; of a long array or one of strings, only its length: "[150]"."""
    kind = int(cursor.number("I"))
    if kind == TEXT:
        return cursor.text()
    if kind in NUMBERS:
        return str(cursor.number(NUMBERS[kind]))
    if kind != ARRAY:
        raise ValueError(f"it has a metadata entry of the unknown type {kind}")
    kind, count = int(cursor.number("I")), cursor.size()
    if kind == TEXT:
        cursor.strings += count
        if cursor.strings > MAX_STRINGS:
            raise ValueError(f"it holds {cursor.strings} strings in arrays; at most {MAX_STRINGS} are allowed")
        for _ in range(count):
            cursor.skip(cursor.size())
    elif kind in NUMBERS:
        code = NUMBERS[kind]
        if count <= MAX_DIMENSIONS:
            return ",".join(str(cursor.number(code)) for _ in range(count))
        cursor.skip(count * struct.calcsize("<" + code))
    else:
        raise ValueError(f"it holds an array of type {kind}; only numbers and strings are supported")
    return f"[{count}]"


def _alignment(metadata: dict[str, str]) -> int:
    text = metadata.get("general.alignment", str(ALIGNMENT))
    if text not in {str(8 << power) for power in range(14)}:
        raise ValueError(f"its alignment is {text[:20]!a}; allowed are powers of two from 8 to 65536")
    return int(text)


def _entry(cursor: _Cursor, metadata: dict[str, str]) -> tuple[str, Entry]:
    """The next tensor's name and entry, checked for consistency."""
    name = cursor.text()
    if not NAME.fullmatch(name):
        raise ValueError(f"a tensor is named {name[:40]!a}; only letters, digits, '.', '_' and '-' are allowed")
    dimensions = int(cursor.number("I"))
    if dimensions > MAX_DIMENSIONS:
        raise ValueError(f"{name} has {dimensions} dimensions; at most {MAX_DIMENSIONS} are allowed")
    shape = tuple(cursor.size() for _ in range(dimensions))[::-1]
    kind, begin = int(cursor.number("I")), cursor.size()
    if kind not in TYPES:
        known = ", ".join(block.name for block in TYPES.values() if block.numbers > 1)
        stored = UNSUPPORTED.get(kind, f"type {kind}")
        raise ValueError(f"{name} is stored as {stored}, which is not supported; supported are {known}")
    block, numbers = TYPES[kind], math.prod(shape)
    if any(size >= 2**60 for size in (*shape, begin, numbers)):
        raise ValueError(f"{name} has a shape or an offset that is too large")
    if block.numbers > 1 and (not shape or shape[-1] % block.numbers):
        rows = shape[-1] if shape else "no"
        raise ValueError(f"{name} has {rows} columns, not a multiple of {block.name}'s blocks of {block.numbers}")
    original = metadata.get(ORIG_SHAPE + name, metadata.get(ORIG_SHAPE + name.removeprefix(PREFIX)))
    if original is not None:
        shape = _orig_shape(name, original, numbers)
    return name, Entry(block.name, shape, begin, begin + numbers // block.numbers * block.size)


def _orig_shape(name: str, text: str, numbers: int) -> tuple[int, ...]:
    """The original shape of a flattened tensor, which the metadata gives as "5120,16,1,2,2"."""
    sizes = text.split(",")
    if not all(size.isascii() and size.isdigit() and len(size) < 19 for size in sizes):
        raise ValueError(f"the original shape of {name} is {text[:40]!a}, which is not a shape")
    shape = tuple(map(int, sizes))
    if math.prod(shape) != numbers:
        raise ValueError(f"{name} holds {numbers} numbers, which does not fit its original shape {text[:40]}")
    return shape


def _check_cover(entries: dict[str, Entry], data_bytes: int, alignment: int) -> None:
    """Tensors must follow one another, less than the alignment apart. Raises ValueError."""
    at = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin < at:
            raise ValueError(f"{name} overlaps another tensor")
        if entry.begin - at >= alignment:
            raise ValueError(f"{entry.begin - at} bytes before {name} belong to no tensor")
        at = entry.end
    if data_bytes < at:
        raise ValueError(f"it is cut off: it should hold {at} bytes of data and has {max(data_bytes, 0)}")
    if data_bytes - at >= alignment:
        raise ValueError(f"{data_bytes - at} bytes follow its last tensor")
