"""Weights on disk: one safetensors file that says in its header what it is, checked before it is believed.

    8 bytes   N, little-endian
    N bytes   JSON: "__metadata__" (format, scheme, card, licence, training, data_sha256) and each tensor's place
    the rest  the tensors, one after another without gaps

A package holds everything a model needs under prefixes ("transformer.", "vae.", "conditions."). Any safetensors library
reads it. `read_header` serves every safetensors file a person brings, also those that are no package of ours: it bounds
and checks the header before anything is allocated by what the header claims.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.card import FORMAT, Card
from models.errors import BadInput, RushesError

SCHEMES = ("none", "w8a8/1")  # how the transformer's matrices are stored: as they are, or by models/quantize.py
MAX_HEADER_BYTES = 16 * 2**20
MAX_TENSORS = 65_536
MAX_DIMENSIONS = 8
NAME = re.compile(r"[A-Za-z0-9._-]{1,256}")
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
CARD_SIZES = (
    "dim", "ffn", "heads", "layers", "in_channels", "out_channels", "text_dim", "text_len", "freq_dim", "steps",
)  # fmt: skip
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one tensor lies: bytes `begin` to `end` of the data."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a safetensors file says of itself, found to be consistent with itself and with the file's size."""

    metadata: dict[str, str]
    entries: dict[str, Entry]
    data_start: int  # bytes


@dataclass(frozen=True, slots=True)
class Package:
    """An opened package whose data hash was proved. The tensors are views of the mapped file until they are moved."""

    metadata: dict[str, str]
    tensors: dict[str, Tensor]
    sha256: str  # of the whole file, as sha256sum prints it

    @property
    def card(self) -> Card:
        """The sizes of the network inside. Raises BadInput."""
        return card_from_json(self.metadata["card"])

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors under a prefix such as "vae.", without it."""
        return {name.removeprefix(prefix): t for name, t in self.tensors.items() if name.startswith(prefix)}


def save(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a package whole or not at all. `metadata` gives scheme, card, licence and training."""
    write(path, tensors, {**metadata, "format": FORMAT})


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file whole or not at all; the hash of its data is added to its metadata.

    The same tensors and metadata give the same bytes. Raises RushesError when the disk refuses.
    """
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))  # wide ones first: aligned
    digest, header, offset = hashlib.sha256(), {}, 0
    for name, tensor in ordered:
        if not NAME.fullmatch(name) or tensor.dtype not in DTYPE_NAMES:
            raise ValueError(f"{path} cannot hold {name!r} of {tensor.dtype}: rename or convert it")
        end = offset + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": DTYPE_NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
        digest.update(_bytes_of(tensor))
    facts = {**metadata, "data_sha256": digest.hexdigest()}
    text = json.dumps({"__metadata__": dict(sorted(facts.items())), **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for _, tensor in ordered:
                file.write(_bytes_of(tensor))
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise RushesError(f"cannot write {path}: {error.strerror}; nothing was left behind") from error


def open_package(path: Path) -> Package:
    """Open one of our packages and prove its data whole. Raises BadInput, in one line, for anything that is not."""
    header = read_header(path)
    if header.metadata.get("format") != FORMAT:
        found = header.metadata.get("format", "none")
        raise BadInput(
            f"{path} is not a package of ours: its format is {found[:40]!r}, not {FORMAT!r}; convert it first"
        )
    missing = sorted({"scheme", "card", "licence", "data_sha256"} - header.metadata.keys())
    if missing:
        raise BadInput(f"{path} does not say its {missing[0]}; it was not written by us: use the original file")
    if header.metadata["scheme"] not in SCHEMES:
        raise BadInput(f"{path} stores its weights as {header.metadata['scheme'][:40]!r}; known: {', '.join(SCHEMES)}")
    try:
        with open(path, "rb") as file:
            # A private mapping: torch wants memory it may write to, and no write can reach the file.
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot read {path}: {error}") from error
    tensors = proved_tensors(path, header, data)
    return Package(header.metadata, tensors, hashlib.sha256(memoryview(data)).hexdigest())


def proved_tensors(path: Path, header: Header, data: mmap.mmap | bytearray) -> dict[str, Tensor]:
    """The tensors in a file's bytes, as views of them. Raises BadInput when the data is not what the header hashed."""
    if hashlib.sha256(memoryview(data)[header.data_start :]).hexdigest() != header.metadata.get("data_sha256"):
        raise BadInput(f"{path} is damaged: its data does not match the hash in its header; copy the file again")
    return {name: _tensor_at(data, header.data_start + entry.begin, entry) for name, entry in header.entries.items()}


def _tensor_at(data: mmap.mmap | bytearray, offset: int, entry: Entry) -> Tensor:
    count = math.prod(entry.shape)
    if not count:
        return torch.empty(entry.shape, dtype=entry.dtype)
    if offset % entry.dtype.itemsize:  # another program's header may leave the data unaligned
        aligned = bytearray(memoryview(data)[offset : offset + entry.end - entry.begin])
        return torch.frombuffer(aligned, dtype=entry.dtype).view(entry.shape)
    return torch.frombuffer(data, dtype=entry.dtype, count=count, offset=offset).view(entry.shape)


def read_header(path: Path) -> Header:
    """The checked header of any safetensors file. Raises BadInput; reads no tensor data."""
    try:
        facts = os.stat(path)
        if not stat.S_ISREG(facts.st_mode):
            raise BadInput(f"{path} is not a file; give the path of a .safetensors file")
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if facts.st_size < 10 or not 2 <= length <= MAX_HEADER_BYTES:
                raise BadInput(f"{path} is not a safetensors file, or not whole; give a .safetensors file")
            if facts.st_size < 8 + length:
                raise BadInput(f"{path} is cut off inside its header, at {facts.st_size} bytes; copy the file again")
            text = file.read(length)
    except FileNotFoundError:
        raise BadInput(f"there is no file {path}; check the path") from None
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error
    try:
        metadata, entries = _parse(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not a sound safetensors file: {error}; give a .safetensors file") from error
    _check_layout(path, entries, facts.st_size - 8 - length)
    return Header(metadata, entries, 8 + length)


def card_to_json(card: Card) -> str:
    """A card as the header carries it."""
    return json.dumps(asdict(card), sort_keys=True)


def card_from_json(text: str) -> Card:
    """The inverse. Raises BadInput when a size is missing, unknown or out of bounds."""
    try:
        facts = json.loads(text)
        card = Card(**{key: tuple(value) if key == "patch" else value for key, value in facts.items()})
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(f"the card in these weights cannot be read: {error}; use the original file") from error
    for name in CARD_SIZES:
        value = getattr(card, name)
        if type(value) is not int or not 1 <= value <= 65_536:
            raise BadInput(f"the card in these weights gives {name} as {value!r}; it must be 1 to 65536")
    floats = (card.eps, card.shift, card.fps)
    if not all(type(value) in (int, float) and 0 < value < 1e6 for value in floats):
        raise BadInput(f"the card in these weights gives eps, shift and fps as {floats}; they must be above 0")
    if card.patch != (1, 2, 2) or not all(isinstance(name, str) for name in (card.name, card.vae)):
        raise BadInput(f"the card in these weights has patches of {card.patch}; only 1x2x2 is known")
    if card.dim % card.heads or card.head_dim % 2:
        raise BadInput(f"the card in these weights has {card.dim} channels in {card.heads} heads: no even share")
    return card


def _parse(text: bytes) -> tuple[dict[str, str], dict[str, Entry]]:
    """Header bytes -> metadata and entries. Raises ValueError with a reason that fits inside a line."""
    if text.count(b"{") > 4 * MAX_TENSORS or text.count(b"[") > 4 * MAX_TENSORS:
        raise ValueError(f"its header holds more than {MAX_TENSORS} tensors")  # before the parser fills the memory
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except RecursionError:
        raise ValueError("its header is nested too deeply") from None
    except (UnicodeDecodeError, json.JSONDecodeError):
        raise ValueError("its header is not JSON") from None
    if not isinstance(header, dict):
        raise ValueError("its header is not a table")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata is not text")
    if any(not (c.isprintable() or c == "\n") for pair in metadata.items() for c in "".join(pair)):
        raise ValueError("its metadata holds control characters")
    if len(header) > MAX_TENSORS:
        raise ValueError(f"it holds {len(header)} tensors, more than {MAX_TENSORS}")
    return metadata, {_name(name): _entry(name, facts) for name, facts in header.items()}


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("its header names something twice")
    return table


def _name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(f"a tensor is named {name[:40]!a}; only letters, digits, '.', '_' and '-' are allowed")
    return name


def _entry(name: str, facts: Any) -> Entry:
    """Check one tensor's facts against themselves."""
    if not isinstance(facts, dict) or set(facts) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name} is not described by dtype, shape and data_offsets")
    if not isinstance(facts["dtype"], str) or facts["dtype"] not in DTYPES:
        raise ValueError(f"{name} has the unknown dtype {ascii(facts['dtype'])[:20]}")
    dtype, shape, offsets = DTYPES[facts["dtype"]], facts["shape"], facts["data_offsets"]
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or any(type(n) is not int or not 0 <= n < 2**60 for n in numbers):
            raise ValueError(f"{name} has a shape or offsets that are no sizes")
    if len(shape) > MAX_DIMENSIONS or len(offsets) != 2:
        raise ValueError(f"{name} has {len(shape)} dimensions and {len(offsets)} offsets")
    begin, end = offsets
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name} has a shape that does not fill its bytes")
    return Entry(dtype, tuple(shape), begin, end)


def _check_layout(path: Path, entries: dict[str, Entry], data_bytes: int) -> None:
    """The tensors must cover the data exactly once. Raises BadInput."""
    at = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != at:
            raise BadInput(f"{path} is not a sound safetensors file: {name} overlaps another tensor or leaves a gap")
        at = entry.end
    if at > data_bytes:
        raise BadInput(f"{path} is cut off: it should hold {at} bytes of data and has {data_bytes}; copy it again")
    if at < data_bytes:
        raise BadInput(f"{path} is not a sound safetensors file: {data_bytes - at} bytes follow its last tensor")


def _bytes_of(tensor: Tensor) -> memoryview:
    """A tensor's data, row by row, as any safetensors reader expects it (little-endian machines)."""
    return memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
