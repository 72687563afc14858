"""What a GGUF file says of itself, checked before it is believed. Torch-free. Layout: ggml's docs/gguf.md.

    "GGUF"   version (u32)   number of tensors (u64)   number of facts (u64)
    facts    name, type, value: numbers, text, or arrays of them
    tensors  name, sizes (fastest first), block type, place in the data
    data     each tensor at a multiple of the alignment, one after another

Block types are stored numbers in groups: models/weight_files/gguf_blocks.py turns them into floats. GGUF knows four
dimensions; where a tensor has more, the tools that make files of Wan either write five or flatten it and say its shape
beside it.
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
MAX_FACTS = 65_536
MAX_WORDS = 1_048_576  # in arrays of text: each is walked over, a million take half a second
MAX_TEXT_BYTES = 2**20
ALIGNMENT = 32  # bytes, where general.alignment says nothing else
ORIG_SHAPE = "comfy.gguf.orig_shape."
PREFIX = "model.diffusion_model."  # files of stable-diffusion.cpp have it before names, their facts may not


@dataclass(frozen=True, slots=True)
class Block:
    """A way of storing numbers: `numbers` of them in `size` bytes."""

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
UNREAD = {
    9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 21: "IQ3_S", 22: "IQ2_S",
    29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
}  # fmt: skip
# The types of facts, as struct has them.
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
TEXT, ARRAY = 8, 9


def read_gguf(path: Path, way_out: str = "use another file") -> Header:
    """The checked header of a GGUF file. Raises BadInput, which ends with `way_out`; reads no tensor data.

    Shapes are as torch has them, rows first. Facts are kept as text where they are numbers, words or short lists.
    """
    try:
        facts = os.stat(path)
        if not stat.S_ISREG(facts.st_mode):
            raise BadInput(f"{path} is not a file; {way_out}")
        with open(path, "rb") as file:
            return _header(_Cursor(file, min(facts.st_size, MAX_HEAD_BYTES), facts.st_size), facts.st_size)
    except FileNotFoundError:
        raise BadInput(f"there is no file {path}; {way_out}") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {(error.strerror or str(error)).lower()}; {way_out}") from error
    except ValueError as error:
        raise BadInput(f"{path} is not a sound GGUF file: {error}; {way_out}") from error


class _Cursor:
    """Reads on from the start of a file and never past `limit` bytes, so that no claim makes it take more."""

    def __init__(self, file: BinaryIO, limit: int, file_bytes: int) -> None:
        self.file, self.limit, self.file_bytes = file, limit, file_bytes
        self.at = 0
        self.words = 0  # passed over in arrays

    def bytes(self, count: int) -> bytes:
        """The next bytes. Raises ValueError when they are not there."""
        self._spend(count)
        found = self.file.read(count)
        if len(found) != count:
            raise ValueError(f"it is cut off inside its header, at {self.at - count + len(found)} bytes")
        return found

    def skip(self, count: int) -> None:
        """Passes over bytes."""
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
            raise ValueError(f"it holds a text of {length} bytes, the most is {MAX_TEXT_BYTES}")
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
    """Raises ValueError with a reason that fits inside a line."""
    if cursor.bytes(4) != MAGIC:
        raise ValueError("it does not begin with GGUF")
    version = int(cursor.number("I"))
    if version not in VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        what = "it is for big-endian machines" if swapped in VERSIONS else f"its version is {version}"
        raise ValueError(f"{what}, read are the versions 2 and 3 of little-endian machines")
    tensors, facts = cursor.size(), cursor.size()
    if tensors > MAX_TENSORS or facts > MAX_FACTS:
        raise ValueError(f"it claims {tensors} tensors and {facts} facts, the most is {MAX_TENSORS} of each")
    metadata: dict[str, str] = {}
    for _ in range(facts):
        name = cursor.text()
        if name in metadata:
            raise ValueError(f"it names the fact {name[:40]!a} twice")
        metadata[name] = _value(cursor)
    alignment = _alignment(metadata)
    found: dict[str, Entry] = {}
    for _ in range(tensors):
        name, entry = _entry(cursor, metadata)
        if name in found:
            raise ValueError(f"it names the tensor {name} twice")
        if entry.begin % alignment:
            raise ValueError(f"{name} lies at {entry.begin}, which is no multiple of the alignment, {alignment}")
        found[name] = entry
    data_start = cursor.at + -cursor.at % alignment
    _check_cover(found, file_bytes - data_start, alignment)
    return Header(metadata, found, data_start, file_bytes)


def _value(cursor: _Cursor) -> str:
    """One fact as text; of an array that is long or of texts, only how many it has."""
    kind = int(cursor.number("I"))
    if kind == TEXT:
        return cursor.text()
    if kind in NUMBERS:
        return str(cursor.number(NUMBERS[kind]))
    if kind != ARRAY:
        raise ValueError(f"it holds a fact of the unknown type {kind}")
    kind, count = int(cursor.number("I")), cursor.size()
    if kind == TEXT:
        cursor.words += count
        if cursor.words > MAX_WORDS:
            raise ValueError(f"it holds {cursor.words} words in arrays, the most is {MAX_WORDS}")
        for _ in range(count):
            cursor.skip(cursor.size())
    elif kind in NUMBERS:
        code = NUMBERS[kind]
        if count <= MAX_DIMENSIONS:
            return ",".join(str(cursor.number(code)) for _ in range(count))
        cursor.skip(count * struct.calcsize("<" + code))
    else:
        raise ValueError(f"it holds an array of the type {kind}; only numbers and texts are read")
    return f"[{count}]"


def _alignment(metadata: dict[str, str]) -> int:
    said = metadata.get("general.alignment", str(ALIGNMENT))
    if said not in {str(8 << power) for power in range(14)}:
        raise ValueError(f"its alignment is {said[:20]!a}; allowed are powers of two from 8 to 65536")
    return int(said)


def _entry(cursor: _Cursor, metadata: dict[str, str]) -> tuple[str, Entry]:
    """The next tensor's name and facts, checked against themselves."""
    name = cursor.text()
    if not NAME.fullmatch(name):
        raise ValueError(f"a tensor is named {name[:40]!a}; only letters, digits, '.', '_' and '-' are allowed")
    dimensions = int(cursor.number("I"))
    if dimensions > MAX_DIMENSIONS:
        raise ValueError(f"{name} has {dimensions} dimensions, the most is {MAX_DIMENSIONS}")
    shape = tuple(cursor.size() for _ in range(dimensions))[::-1]
    kind, begin = int(cursor.number("I")), cursor.size()
    if kind not in TYPES:
        known = ", ".join(block.name for block in TYPES.values() if block.numbers > 1)
        raise ValueError(f"{name} is stored as {UNREAD.get(kind, f'type {kind}')}, which is not read; read are {known}")
    block, numbers = TYPES[kind], math.prod(shape)
    if any(size >= 2**60 for size in (*shape, begin, numbers)):
        raise ValueError(f"{name} has a shape or a place that is no size")
    if block.numbers > 1 and (not shape or shape[-1] % block.numbers):
        rows = shape[-1] if shape else "no"
        raise ValueError(f"{name} has {rows} columns, which blocks of {block.numbers} ({block.name}) do not fill")
    said = metadata.get(ORIG_SHAPE + name, metadata.get(ORIG_SHAPE + name.removeprefix(PREFIX)))
    if said is not None:
        shape = _orig_shape(name, said, numbers)
    return name, Entry(block.name, shape, begin, begin + numbers // block.numbers * block.size)


def _orig_shape(name: str, said: str, numbers: int) -> tuple[int, ...]:
    """The shape that a flattened tensor had, of which the file says "5120,16,1,2,2"."""
    sizes = said.split(",")
    if not all(size.isascii() and size.isdigit() and len(size) < 19 for size in sizes):
        raise ValueError(f"the original shape of {name} is {said[:40]!a}, which is no shape")
    shape = tuple(map(int, sizes))
    if math.prod(shape) != numbers:
        raise ValueError(f"{name} holds {numbers} numbers, and its original shape would be {said[:40]}")
    return shape


def _check_cover(entries: dict[str, Entry], data_bytes: int, alignment: int) -> None:
    """The tensors must lie one after another, no more than the alignment apart. Raises ValueError."""
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
