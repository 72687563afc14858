"""Write a package group by group in bounded memory, so that an interrupted writer can resume.

    work/package.part    the package: space for the header, reserved from the start, then the data
    work/journal.jsonl   a hash of the layout; then a line for each group that is on the disk

Sizes are known before a tensor is read, and so is every tensor's offset. A group (a block of a network) is contiguous:
it streams from a disk in one read. The journal stores with every group the hash of all data so far; on resuming, the
data is read and hashed again, and only groups whose hash matches are kept. The header, which needs the hash of all
data, is written last, and only then the file gets its final name.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor

from models.atomic_write import replace
from models.errors import RushesError
from models.weight_files.package_header import FORMAT
from models.weight_files.safetensors_header import ITEM_BYTES, NAME
from models.weight_files.tensors import DTYPE_NAMES, bytes_of

PART, JOURNAL = "package.part", "journal.jsonl"
PAGE = 4096  # bytes; the data begins on a page
READ_BYTES = 8 * 2**20
WIDE_FIRST = {dtype: -size for dtype, size in ITEM_BYTES.items()}  # every tensor of a group is aligned to its numbers


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """The name, dtype and shape of a tensor that will be written."""

    name: str
    dtype: str  # as safetensors names it
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Its size."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


@dataclass(frozen=True, slots=True)
class Group:
    """Tensors that are written, and read again, together."""

    name: str
    specs: tuple[TensorSpec, ...]

    @property
    def bytes(self) -> int:
        """Their size."""
        return sum(spec.bytes for spec in self.specs)


def group(name: str, specs: Sequence[TensorSpec]) -> Group:
    """A group in the order in which it is stored, widest dtype first. Raises ValueError for a forbidden name."""
    for spec in specs:
        if not NAME.fullmatch(spec.name):
            raise ValueError(f"a package cannot hold a tensor named {spec.name!r}: rename it")
    return Group(name, tuple(sorted(specs, key=lambda spec: (WIDE_FIRST[spec.dtype], spec.name))))


class PackageWriter:
    """A package being written: `done` groups of it are on the disk, each with a note of the caller's.

    metadata: what is known from the start; metadata that is added at the end may take `room` bytes more.
    """

    def __init__(self, work: Path, groups: Sequence[Group], metadata: Mapping[str, str], room: int) -> None:
        self.work, self.groups = work, tuple(groups)
        self.metadata = {**metadata, "format": FORMAT, "data_sha256": "0" * 64}
        self.entries, self.data_bytes = _entries(self.groups)
        self.header_bytes = -(-(len(self._header(self.metadata)) + room) // PAGE) * PAGE
        self.notes: list[Any] = []
        self._digest = hashlib.sha256()
        self._end = self.header_bytes
        with _explain_os_errors(work):
            work.mkdir(mode=0o770, parents=True, exist_ok=True)
            self._resume()

    @property
    def done(self) -> int:
        """Groups that are on the disk."""
        return len(self.notes)

    @property
    def done_bytes(self) -> int:
        """Bytes of data that are on the disk."""
        return self._end - self.header_bytes

    def write(self, tensors: Mapping[str, Tensor], note: Any) -> None:
        """Write the next group, all of it, and a note about it (JSON). Raises RushesError for errors of the disk."""
        current = self.groups[self.done]
        if set(tensors) != {spec.name for spec in current.specs}:
            raise ValueError(f"{current.name} holds {sorted(tensors)[:3]} ..., not the tensors that were announced")
        with _explain_os_errors(self.work), open(self.work / PART, "r+b") as file:
            file.seek(self._end)
            for spec in current.specs:
                tensor = tensors[spec.name]
                if (DTYPE_NAMES[tensor.dtype], tuple(tensor.shape)) != (spec.dtype, spec.shape):
                    raise ValueError(f"{spec.name} is {tensor.dtype} {tuple(tensor.shape)}, announced was {spec}")
                data = bytes_of(tensor)
                file.write(data)
                self._digest.update(data)
            self._end = file.tell()
            _flush(file)
            with open(self.work / JOURNAL, "ab") as journal:
                line = {"group": current.name, "end": self._end, "sha256": self._digest.hexdigest(), "note": note}
                journal.write(json.dumps(line).encode() + b"\n")
                _flush(journal)
        self.notes.append(note)

    def publish(self, path: Path, metadata: Mapping[str, str]) -> str:
        """Write the final metadata, give the package its name, remove the working folder. Returns the data's hash."""
        if self.done < len(self.groups):
            raise ValueError(f"{self.done} of {len(self.groups)} groups are written")
        digest = self._digest.hexdigest()
        header = self._header({**self.metadata, **metadata, "data_sha256": digest})
        if len(header) > self.header_bytes:
            raise ValueError(f"the header takes {len(header)} bytes, announced were {self.header_bytes}")
        with _explain_os_errors(path):
            with open(self.work / PART, "r+b") as file:
                file.write(header + b" " * (self.header_bytes - len(header)))
                file.seek(0)
                file.write((self.header_bytes - 8).to_bytes(8, "little"))
            replace(self.work / PART, path)
        shutil.rmtree(self.work, ignore_errors=True)
        return digest

    def _header(self, metadata: Mapping[str, str]) -> bytes:
        text = {"__metadata__": dict(sorted(metadata.items())), **self.entries}
        return b"\0" * 8 + json.dumps(text, separators=(",", ":")).encode()

    def _resume(self) -> None:
        """Keep the groups of an interrupted writer of the same layout whose hashes match; otherwise start again."""
        layout = hashlib.sha256(self._header(self.metadata) + str(self.header_bytes).encode()).hexdigest()
        lines = _lines(self.work / JOURNAL)
        if lines[:1] == [{"plan": layout}] and (self.work / PART).exists():
            with open(self.work / PART, "rb") as file:
                for line, current in zip(lines[1:], self.groups, strict=False):
                    digest = self._hashed(file, current.bytes)
                    if digest is None or digest.hexdigest() != line.get("sha256"):
                        break
                    self._digest, self._end = digest, self._end + current.bytes
                    self.notes.append(line["note"])
        with open(self.work / JOURNAL, "wb") as journal:
            journal.write(json.dumps({"plan": layout}).encode() + b"\n")
            for line in lines[1 : 1 + self.done]:
                journal.write(json.dumps(line).encode() + b"\n")
            _flush(journal)
        with open(self.work / PART, "r+b" if self.done else "wb") as file:
            file.truncate(self._end)
            _flush(file)

    def _hashed(self, file: BinaryIO, count: int) -> Any:
        """The hash of all data up to the end of the group that starts at `_end`; None where the file ends before."""
        digest = self._digest.copy()
        file.seek(self._end)
        while count:
            data = file.read(min(count, READ_BYTES))
            if not data:
                return None
            digest.update(data)
            count -= len(data)
        return digest


def _entries(groups: Sequence[Group]) -> tuple[dict[str, Any], int]:
    """The header's entry of every tensor, and the bytes of all."""
    entries: dict[str, Any] = {}
    at = 0
    for spec in (spec for each in groups for spec in each.specs):
        if spec.name in entries:
            raise ValueError(f"{spec.name} would be written twice")
        entries[spec.name] = {"dtype": spec.dtype, "shape": list(spec.shape), "data_offsets": [at, at + spec.bytes]}
        at += spec.bytes
    return entries, at


def _lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a journal, up to the first incomplete one."""
    lines: list[dict[str, Any]] = []
    try:
        for text in path.read_bytes().splitlines():
            lines.append(json.loads(text))
    except (FileNotFoundError, ValueError):
        return lines  # an incomplete line: what follows it does not count
    return lines


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextlib.contextmanager
def _explain_os_errors(path: Path) -> Iterator[None]:
    """Errors of the operating system as a RushesError of one line."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise RushesError(f"cannot write {path}: {reason}; make room, then import again: it resumes") from error
