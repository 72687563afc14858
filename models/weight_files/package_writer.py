"""A package written group by group, in bounded memory, so that a writer that is killed goes on where it was.

    work/package.part    the package: its header is as long from the start as it will be at the end, then the data
    work/journal.jsonl   what it will hold; then a line for each group that is on the disk

Sizes are known before a tensor is read, so every tensor's place is. A group (a block of a network) lies in one run of
bytes: it streams from a disk as such. The hash of all data so far goes with every group into the journal; going on, the
data is read and hashed again, and only what the journal proves is kept. The header, which needs the hash of everything,
is written last, and the file gets its name only then.
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

from models.errors import RushesError
from models.weight_files.package_header import FORMAT
from models.weight_files.safetensors_header import ITEM_BYTES, NAME
from models.weight_files.tensors import DTYPE_NAMES, bytes_of

PART, JOURNAL = "package.part", "journal.jsonl"
PAGE = 4096  # bytes; the data begins on a page
READ_BYTES = 8 * 2**20
WIDE_FIRST = {dtype: -size for dtype, size in ITEM_BYTES.items()}  # every tensor of a group is aligned to its numbers


@dataclass(frozen=True, slots=True)
class Place:
    """One tensor to come."""

    name: str
    dtype: str  # as safetensors names it
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """What it takes."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


@dataclass(frozen=True, slots=True)
class Group:
    """Tensors that are written, and read again, together."""

    name: str
    places: tuple[Place, ...]

    @property
    def bytes(self) -> int:
        """What they take."""
        return sum(place.bytes for place in self.places)


def group(name: str, places: Sequence[Place]) -> Group:
    """A group in the order in which it will lie. Raises ValueError for a name that no package may hold."""
    for place in places:
        if not NAME.fullmatch(place.name):
            raise ValueError(f"a package cannot hold {place.name!r}: rename it")
    return Group(name, tuple(sorted(places, key=lambda place: (WIDE_FIRST[place.dtype], place.name))))


class PackageWriter:
    """A package on its way: `done` groups of it are on the disk, with what was noted of each.

    metadata: what is known from the start; what is known at the end may take `room` bytes more.
    """

    def __init__(self, work: Path, groups: Sequence[Group], metadata: Mapping[str, str], room: int) -> None:
        self.work, self.groups = work, tuple(groups)
        self.metadata = {**metadata, "format": FORMAT, "data_sha256": "0" * 64}
        self.entries, self.data_bytes = _entries(self.groups)
        self.header_bytes = -(-(len(self._header(self.metadata)) + room) // PAGE) * PAGE
        self.notes: list[Any] = []
        self._digest = hashlib.sha256()
        self._end = self.header_bytes
        with _told(work):
            work.mkdir(mode=0o770, parents=True, exist_ok=True)
            self._go_on()

    @property
    def done(self) -> int:
        """Groups that are on the disk."""
        return len(self.notes)

    @property
    def done_bytes(self) -> int:
        """Bytes of data that are on the disk."""
        return self._end - self.header_bytes

    def write(self, tensors: Mapping[str, Tensor], note: Any) -> None:
        """The next group, all of it, and what is to be remembered of it. Raises RushesError when the disk refuses."""
        current = self.groups[self.done]
        if set(tensors) != {place.name for place in current.places}:
            raise ValueError(f"{current.name} holds {sorted(tensors)[:3]} ..., which is not what was announced")
        with _told(self.work), open(self.work / PART, "r+b") as file:
            file.seek(self._end)
            for place in current.places:
                tensor = tensors[place.name]
                if (DTYPE_NAMES[tensor.dtype], tuple(tensor.shape)) != (place.dtype, place.shape):
                    raise ValueError(f"{place.name} is {tensor.dtype} {tuple(tensor.shape)}, announced was {place}")
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
        """Give the package its last metadata and its name; the working folder goes. Returns the hash of the data."""
        if self.done < len(self.groups):
            raise ValueError(f"{self.done} of {len(self.groups)} groups are written")
        digest = self._digest.hexdigest()
        header = self._header({**self.metadata, **metadata, "data_sha256": digest})
        if len(header) > self.header_bytes:
            raise ValueError(f"the header takes {len(header)} bytes, announced were {self.header_bytes}")
        with _told(path):
            with open(self.work / PART, "r+b") as file:
                file.write(header + b" " * (self.header_bytes - len(header)))
                file.seek(0)
                file.write((self.header_bytes - 8).to_bytes(8, "little"))
                _flush(file)
            os.replace(self.work / PART, path)
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        shutil.rmtree(self.work, ignore_errors=True)
        return digest

    def _header(self, metadata: Mapping[str, str]) -> bytes:
        text = {"__metadata__": dict(sorted(metadata.items())), **self.entries}
        return b"\0" * 8 + json.dumps(text, separators=(",", ":")).encode()

    def _go_on(self) -> None:
        """Keep what an earlier writer of the very same package left behind and the journal proves; begin anew else."""
        plan = hashlib.sha256(self._header(self.metadata) + str(self.header_bytes).encode()).hexdigest()
        lines = _lines(self.work / JOURNAL)
        if lines[:1] == [{"plan": plan}] and (self.work / PART).exists():
            with open(self.work / PART, "rb") as file:
                for line, current in zip(lines[1:], self.groups, strict=False):
                    digest = self._hashed(file, current.bytes)
                    if digest is None or digest.hexdigest() != line.get("sha256"):
                        break
                    self._digest, self._end = digest, self._end + current.bytes
                    self.notes.append(line["note"])
        with open(self.work / JOURNAL, "wb") as journal:
            journal.write(json.dumps({"plan": plan}).encode() + b"\n")
            for line in lines[1 : 1 + self.done]:
                journal.write(json.dumps(line).encode() + b"\n")
            _flush(journal)
        with open(self.work / PART, "r+b" if self.done else "wb") as file:
            file.truncate(self._end)
            _flush(file)

    def _hashed(self, file: BinaryIO, count: int) -> Any:
        """The hash of all data up to the end of the group that begins at `_end`; None where the file ends before."""
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
    """What the header says of every tensor, and the bytes of all."""
    entries: dict[str, Any] = {}
    at = 0
    for place in (place for each in groups for place in each.places):
        if place.name in entries:
            raise ValueError(f"{place.name} would be written twice")
        entries[place.name] = {"dtype": place.dtype, "shape": list(place.shape), "data_offsets": [at, at + place.bytes]}
        at += place.bytes
    return entries, at


def _lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a journal, up to the first that is torn."""
    lines: list[dict[str, Any]] = []
    try:
        for text in path.read_bytes().splitlines():
            lines.append(json.loads(text))
    except (FileNotFoundError, ValueError):
        return lines  # a line that was not written whole: what follows it does not count
    return lines


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """What a disk refuses, in one line."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise RushesError(f"cannot write {path}: {reason}; make room, then import again: it goes on") from error
