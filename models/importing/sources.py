"""Weight files as one table of tensors: a file, several, a folder, or shards with an index; safetensors or GGUF.

    source = open_source(Path("/media/disk/wan"))
    for name, (dtype, shape) in source.tensors.items():
        weight = source.read(name)

Opening reads and checks headers only. Each tensor is read on request into its own memory, so that no more than one is
in memory at a time. Files are read and not mapped: when a disk is unplugged, a mapping kills the process.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from models.errors import BadInput, RushesError
from models.weight_files.file_kind import kind_of
from models.weight_files.gguf import read_gguf
from models.weight_files.gguf_blocks import BLOCKS, dequantize
from models.weight_files.safetensors_header import MAX_HEADER_BYTES, NAME, Entry, Header, read_header, table_of
from models.weight_files.tensors import DTYPES

INDEX = ".safetensors.index.json"
WEIGHTS = (".safetensors", ".gguf")
PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle")
SHARD = re.compile(r"(.+)-[0-9]{5}-of-([0-9]{5})\.(safetensors|gguf)")
MAX_FILES = 1024
WAY_OUT = "fetch the file again, or use another"
READERS: dict[str, Callable[[Path, str], Header]] = {"safetensors": read_header, "gguf": read_gguf}


class Stored(NamedTuple):
    """A tensor in its file: the dtype or block type ("BF16", "F8_E4M3", "Q4_K" ...), and its shape."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    """One opened file."""

    path: Path
    header: Header
    stamp: tuple[int, ...]  # to notice when the file changes after its header was checked


@dataclass(frozen=True, slots=True)
class Source:
    """Weight files whose headers were checked. Names and metadata are as in the files."""

    kind: str  # "safetensors" or "gguf"
    paths: tuple[Path, ...]
    metadata: dict[str, str]  # printable; of several files, the first that has an entry wins
    tensors: dict[str, Stored]
    _parts: dict[str, _Part]  # the file of each tensor

    def read(self, name: str) -> Tensor:
        """One tensor as stored, or float32 from GGUF's blocks. Raises BadInput; RushesError when the disk fails."""
        if name not in self._parts:
            raise BadInput(f"{self.paths[0]} has no tensor {name[:80]!a}; use the complete file")
        part = self._parts[name]
        entry = part.header.entries[name]
        data = _bytes_at(part, entry)
        if entry.dtype in BLOCKS:
            return dequantize(data, entry.dtype).view(entry.shape)
        if entry.dtype == "BOOL":
            return data.view(entry.shape) != 0  # untrusted bytes may be neither 0 nor 1
        return data.view(DTYPES[entry.dtype]).view(entry.shape)


def open_source(*paths: Path) -> Source:
    """Open weights: a file, several, a folder of them, or an index of shards. Raises BadInput, in one line.

    All shards must be there, with or without an index, and hold what the index says. No tensor may be in two files.
    """
    files, index = _files(paths)
    parts = [_opened(path) for path in files]
    kinds = {kind for kind, _ in parts}
    if len(kinds) > 1:
        raise BadInput(f"{files[0].parent} holds both safetensors and GGUF files; give the files of one kind")
    metadata: dict[str, str] = {}
    tensors: dict[str, Stored] = {}
    holders: dict[str, _Part] = {}
    for _, part in parts:
        metadata = {**{_plain(key): _plain(value) for key, value in part.header.metadata.items()}, **metadata}
        for name, entry in part.header.entries.items():
            if name in holders:
                both = f"{holders[name].path} and {part.path.name}"
                raise BadInput(f"{both} both hold the tensor {name}; give only files that belong together")
            tensors[name], holders[name] = Stored(entry.dtype, entry.shape), part
    for name, shard in index.items():
        if name not in holders or holders[name].path.name != shard:
            raise BadInput(f"{files[0].parent / shard} does not hold {name}, though its index lists it; {WAY_OUT}")
    if not tensors:
        raise BadInput(f"{files[0]} holds no tensors; {WAY_OUT}")
    return Source(kinds.pop(), tuple(files), metadata, tensors, holders)


def refuse_pickle(path: Path) -> BadInput:
    """The refusal of a pickle."""
    return BadInput(
        f"{path} is a pickle, which can run any program when it is opened, so it is not supported here; use the same "
        "weights as safetensors or GGUF"
    )


def _files(paths: Iterable[Path]) -> tuple[list[Path], dict[str, str]]:
    """The files of `paths` without duplicates, and the contents of their indexes: tensor name -> file name."""
    files: dict[Path, None] = {}
    index: dict[str, str] = {}
    for path in paths:
        found: Iterable[Path] = (path,)
        if path.is_dir():
            found = _in_folder(path)
        for file in found:
            if file.name.endswith(INDEX):
                shards = _index(file)
                index |= shards
                files |= dict.fromkeys(file.parent / shard for shard in sorted(set(shards.values())))
            else:
                files[file] = None
    if not files:
        raise BadInput("no weight file was given; give one, or a folder of them")
    if len(files) > MAX_FILES:
        raise BadInput(f"{len(files)} weight files were given; give at most {MAX_FILES}")
    _all_shards(files)
    return list(files), index


def _in_folder(folder: Path) -> list[Path]:
    """The index in a folder, else all its weight files. Folders inside it are not searched."""
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise BadInput(f"{folder} cannot be read: {(error.strerror or str(error)).lower()}") from error
    indexes = [path for path in inside if path.name.endswith(INDEX)]
    if len(indexes) > 1:
        names = ", ".join(path.name for path in indexes[:4])
        raise BadInput(f"{folder} holds {len(indexes)} shard indexes: {names}; give the one to use")
    if indexes:
        return indexes
    files = [path for path in inside if path.suffix in WEIGHTS and not path.name.startswith(".")]
    if not files:
        pickles = [path for path in inside if path.suffix in PICKLES and path.is_file()]
        if pickles:
            raise refuse_pickle(pickles[0])
        folders = [path.name for path in inside if path.is_dir() and not path.name.startswith(".")]
        inner = (
            f"; it contains the folders {', '.join(folders[:8])}: give one of them"
            if folders
            else "; give a folder that does"
        )
        raise BadInput(f"{folder} holds no file that ends in {' or '.join(WEIGHTS)}{inner}")
    return files


def _index(path: Path) -> dict[str, str]:
    """An index: tensor name -> shard, which must be in the folder of the index. Raises BadInput."""
    try:
        if path.stat().st_size > MAX_HEADER_BYTES:
            raise ValueError(f"it is larger than {MAX_HEADER_BYTES} bytes")
        shards = table_of(path.read_bytes(), "it").get("weight_map")
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {(error.strerror or str(error)).lower()}; {WAY_OUT}") from error
    except ValueError as error:
        raise BadInput(f"{path} is not a valid shard index: {error}; {WAY_OUT}") from error
    if not isinstance(shards, dict) or not shards:
        raise BadInput(f"{path} is not a valid shard index: it has no weight_map; {WAY_OUT}")
    for name, shard in shards.items():
        if not NAME.fullmatch(name):
            raise BadInput(f"{path} lists a tensor {name[:40]!a}; only letters, digits, '.', '_' and '-' are allowed")
        if not isinstance(shard, str) or not NAME.fullmatch(shard) or Path(shard).suffix != ".safetensors":
            raise BadInput(
                f"{path} places {name} in {str(shard)[:60]!a}; only the name of a safetensors file in the "
                "same folder is allowed"
            )
    missing = sorted({shard for shard in shards.values() if not (path.parent / shard).exists()})
    if missing:
        raise BadInput(f"{path.parent / missing[0]} is missing, though {path.name} lists it; copy all shards")
    return shards


def _all_shards(files: Iterable[Path]) -> None:
    """Raises BadInput when a file is a shard by its name and another shard was not given."""
    named = {path.absolute() for path in files}
    for path in named:
        match = SHARD.fullmatch(path.name)
        if not match:
            continue
        stem, count, ending = match.groups()
        for number in range(1, min(int(count), MAX_FILES) + 1):
            other = path.with_name(f"{stem}-{number:05}-of-{count}.{ending}")
            if other not in named:
                raise BadInput(
                    f"{path} is one of {int(count)} shards and {other.name} was not given; give the folder "
                    "of all shards"
                )


def _opened(path: Path) -> tuple[str, _Part]:
    kind = kind_of(path)
    if kind == "pickle":
        raise refuse_pickle(path)
    header = READERS[kind](path, WAY_OUT)
    try:
        part = _Part(path, header, _stamp(os.stat(path)))
    except OSError as error:
        raise _gone(path, error) from error
    if part.stamp[0] != header.file_bytes:
        raise _gone(path, "it changed while it was read")
    return kind, part


def _bytes_at(part: _Part, entry: Entry) -> Tensor:
    """The bytes of one tensor, (bytes,) uint8. Raises RushesError when the disk fails or the file has changed."""
    try:
        with open(part.path, "rb", buffering=0) as file:
            if _stamp(os.fstat(file.fileno())) != part.stamp:
                raise _gone(part.path, "it changed since it was opened")
            data = torch.empty(entry.end - entry.begin, dtype=torch.uint8)
            view = data.numpy().data
            file.seek(part.header.data_start + entry.begin)
            at = 0
            while at < len(view):
                count = file.readinto(view[at:])
                if not count:
                    raise _gone(part.path, "it ended early")
                at += count
    except OSError as error:
        raise _gone(part.path, error) from error
    return data


def _stamp(facts: os.stat_result) -> tuple[int, ...]:
    return facts.st_size, facts.st_mtime_ns, facts.st_ino, facts.st_dev


def _gone(path: Path, why: OSError | str) -> RushesError:
    reason = why if isinstance(why, str) else (why.strerror or str(why)).lower()
    return RushesError(f"{path} can no longer be read: {reason}; check the disk and start again")


def _plain(text: str) -> str:
    """Text that is safe to show: unprintable characters are replaced."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)
