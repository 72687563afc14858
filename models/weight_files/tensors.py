"""Safetensors files: written atomically, and opened as packages only when their data matches the hash in their header.

A package holds everything a model needs under prefixes ("transformer.", "vae.", ...), and its header describes it
(models/weight_files/package_header.py). Any safetensors library reads it.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from models.atomic_write import atomic_write
from models.card import Card
from models.errors import BadInput, RushesError
from models.weight_files.package_header import FORMAT, card_from_json, package_header
from models.weight_files.safetensors_header import NAME, Entry, Header

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class Package:
    """An opened package whose data matches its hash. The tensors are views of the mapped file until they are moved."""

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
    """Write a package, whole or not at all. `metadata` gives scheme, card, licence and training."""
    write(path, tensors, {**metadata, "format": FORMAT})


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, whole or not at all, with the hash of its data in its metadata.

    The same tensors and metadata give the same bytes. Raises RushesError for errors of the disk.
    """
    ordered = sorted(
        tensors.items(), key=lambda item: (-item[1].element_size(), item[0])
    )  # wide ones first, so that all are aligned
    digest, header, offset = hashlib.sha256(), {}, 0
    for name, tensor in ordered:
        if not NAME.fullmatch(name) or tensor.dtype not in DTYPE_NAMES:
            raise ValueError(f"{path} cannot hold {name!r} of {tensor.dtype}: rename or convert it")
        end = offset + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": DTYPE_NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
        digest.update(bytes_of(tensor))
    facts = {**metadata, "data_sha256": digest.hexdigest()}
    text = json.dumps({"__metadata__": dict(sorted(facts.items())), **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    try:
        with atomic_write(path) as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for _, tensor in ordered:
                file.write(bytes_of(tensor))
    except OSError as error:
        raise RushesError(f"cannot write {path}: {error.strerror}; nothing was written") from error


def open_package(path: Path) -> Package:
    """Open a Rushes package and check its data against its hash. Raises BadInput for anything else."""
    header = package_header(path)
    try:
        with open(path, "rb") as file:
            # A private mapping: torch needs writable memory, and no write can reach the file.
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot read {path}: {error}") from error
    tensors = verified_tensors(path, header, data)
    return Package(header.metadata, tensors, hashlib.sha256(memoryview(data)).hexdigest())


def verified_tensors(path: Path, header: Header, data: mmap.mmap | bytearray) -> dict[str, Tensor]:
    """The tensors in a file's bytes, as views of them. Raises BadInput when the data does not match its hash."""
    if hashlib.sha256(memoryview(data)[header.data_start :]).hexdigest() != header.metadata.get("data_sha256"):
        raise BadInput(f"{path} is damaged: its data does not match the hash in its header; copy the file again")
    return {name: _tensor_at(data, header.data_start + entry.begin, entry) for name, entry in header.entries.items()}


def _tensor_at(data: mmap.mmap | bytearray, offset: int, entry: Entry) -> Tensor:
    count, dtype = math.prod(entry.shape), DTYPES[entry.dtype]
    if not count:
        return torch.empty(entry.shape, dtype=dtype)
    if offset % dtype.itemsize:  # another program's header may leave the data unaligned
        aligned = bytearray(memoryview(data)[offset : offset + entry.end - entry.begin])
        return torch.frombuffer(aligned, dtype=dtype).view(entry.shape)
    return torch.frombuffer(data, dtype=dtype, count=count, offset=offset).view(entry.shape)


def bytes_of(tensor: Tensor) -> memoryview:
    """A tensor's data, row by row, as any safetensors reader expects it (little-endian machines)."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
