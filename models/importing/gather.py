"""Open and identify the files that were given: single files, shards and folders.

In a folder, an index or a set of shards is one network; any other file is one by itself. A pickle that was given
directly is converted by a sandboxed process (models/weight_files/pickles.py); one inside a folder only where a part is
missing without it. Weights are read here only to hash them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from models.atomic_write import atomic_write
from models.encoders.tokenizer import MAX_BYTES as MAX_TOKENIZER_BYTES
from models.errors import BadInput, RushesError
from models.importing.identify import hints_of
from models.importing.layouts import Found, recognise
from models.importing.sources import INDEX, PICKLES, SHARD, WEIGHTS, Source, open_source
from models.weight_files.file_kind import kind_of
from models.weight_files.pickles import convert

DEPTH = 4  # of folders in folders
VOCABULARIES = ("tokenizer.json", "spiece.model")
PICKLED = {"vae": "vae", "text": "t5", "vision": "clip"}  # part -> what the names of published pickles contain
READ_BYTES = 8 * 2**20
Report = Callable[[str, int, int], None]  # what is being done, bytes done, bytes in all


@dataclass(frozen=True, slots=True)
class GatheredNetwork:
    """A network, and where it comes from."""

    path: Path  # as it was given
    source: Source
    found: Found
    hints: frozenset[str]
    vocabulary: bytes = b""  # a tokenizer that is stored with the weights


@dataclass(slots=True)
class Gathered:
    """Everything that was found in the given paths."""

    networks: list[GatheredNetwork] = field(default_factory=list)
    pickles: list[Path] = field(default_factory=list)  # in folders, not opened yet
    vocabularies: list[tuple[Path, bytes]] = field(default_factory=list)

    def parts(self, part: str) -> list[GatheredNetwork]:
        """The networks of one kind."""
        return [network for network in self.networks if network.found.part == part]


def gather(named: Sequence[tuple[Path, str | None]], work: Path, report: Report) -> Gathered:
    """Open and identify the given paths, each with the expert that it was given as. Converted pickles go to `work`.

    Raises BadInput, in one line with the file's path, for anything that is not a network of Wan.
    """
    found = Gathered()
    for path, expert in named:
        for files in _sources_in(path, found):
            _take(found, files, expert, work, report)
    return found


def fill_in(found: Gathered, missing: Iterable[str], work: Path, report: Report) -> None:
    """Open the pickles in folders that may hold the missing parts."""
    for part in missing:
        for path in [path for path in found.pickles if PICKLED.get(part, "-") in path.name.lower()]:
            found.pickles.remove(path)
            _take(found, (path,), None, work, report)


def hashes(networks: Iterable[GatheredNetwork], work: Path, report: Report) -> list[dict[str, object]]:
    """Every file that is read, with its size and SHA-256, for the package's metadata.

    A file that was hashed before and has not changed since is not read again.
    """
    files = list(dict.fromkeys(path for network in networks for path in network.source.paths))
    sizes = {path: path.stat().st_size for path in files}
    known, total, done = _known(work / "sources.json"), sum(sizes.values()), 0
    manifest: list[dict[str, object]] = []
    for path in files:
        stamp = f"{path.absolute()} {sizes[path]} {path.stat().st_mtime_ns}"
        if stamp not in known:
            digest = hashlib.sha256()
            for data in _chunks(path):
                digest.update(data)
                done += len(data)
                report(f"hashing {path.name}", done, total)
            known[stamp] = digest.hexdigest()
            with atomic_write(work / "sources.json") as table:
                table.write(json.dumps(known).encode())
        manifest.append({"file": path.name, "bytes": sizes[path], "sha256": known[stamp]})
    return manifest


def _take(found: Gathered, files: tuple[Path, ...], expert: str | None, work: Path, report: Report) -> None:
    """Add the networks of one file, or of one set of shards."""
    first, hints = files[0], hints_of(files[0])
    if len(files) == 1 and not first.name.endswith(INDEX) and kind_of(first) == "pickle":
        files = (_converted(first, work, report),)
    source = open_source(*files)
    where = str(first if len(files) == 1 else first.parent)

    def small(name: str) -> bytes:
        return source.read(name).numpy().tobytes()

    if expert is not None:
        hints = hints - {"high", "low"} | {expert}
    for network in recognise(source.tensors, source.metadata, small, where):
        vocabulary = b""
        for name in (name for name in source.tensors if name.endswith("spiece_model") and network.part == "text"):
            if source.tensors[name].shape[0] <= MAX_TOKENIZER_BYTES:
                vocabulary = small(name)
        found.networks.append(GatheredNetwork(Path(where), source, network, hints, vocabulary))


def _converted(path: Path, work: Path, report: Report) -> Path:
    """A pickle as safetensors, converted again only when the pickle has changed."""
    facts = path.stat()
    mark = hashlib.sha256(f"{path.absolute()} {facts.st_size} {facts.st_mtime_ns}".encode()).hexdigest()[:16]
    out = work / f"{mark}.safetensors"
    if not out.exists():
        report(f"converting {path.name}, a pickle, in a sandbox", 0, facts.st_size)
        convert(path, out)
    return out


def _sources_in(path: Path, found: Gathered) -> Iterator[tuple[Path, ...]]:
    """The files of a path, those of one network together."""
    if not path.is_dir():
        if path.name in VOCABULARIES:
            found.vocabularies.append((path, _vocabulary(path)))
        else:
            yield (path,)
        return
    seen = len(found.pickles) + len(found.vocabularies)
    empty = True
    for folder in _folders(path, DEPTH):
        for files in _sources_of(folder, found):
            empty = False
            yield files
    if empty and seen == len(found.pickles) + len(found.vocabularies):
        raise BadInput(f"{path} holds no file that ends in {', '.join((*WEIGHTS, *PICKLES))}; give a folder that does")


def _folders(path: Path, depth: int) -> Iterator[Path]:
    yield path
    if depth:
        try:
            inside = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        except OSError as error:
            raise BadInput(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error
        for folder in inside:
            yield from _folders(folder, depth - 1)


def _sources_of(folder: Path, found: Gathered) -> Iterator[tuple[Path, ...]]:
    inside = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    indexes = [path for path in inside if path.name.endswith(INDEX)]
    stems = [path.name.removesuffix(INDEX) for path in indexes]
    yield from ((index,) for index in indexes)
    shards: dict[str, list[Path]] = {}
    for path in inside:
        match = SHARD.fullmatch(path.name)
        if any(path.name.startswith(stem) for stem in stems) and path.suffix in WEIGHTS:
            continue
        if match:
            shards.setdefault(match[1], []).append(path)
        elif path.suffix in WEIGHTS:
            if not indexes:  # an index may give its shards any names: other files are ignored
                yield (path,)
        elif path.suffix in PICKLES:
            found.pickles.append(path)
        elif path.name in VOCABULARIES:
            found.vocabularies.append((path, _vocabulary(path)))
    yield from (tuple(group) for group in shards.values())


def _vocabulary(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_TOKENIZER_BYTES + 1)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error


def _known(path: Path) -> dict[str, str]:
    try:
        known: Mapping[str, str] = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}  # nothing was hashed yet
    return dict(known)


def _chunks(path: Path) -> Iterator[bytes]:
    try:
        with open(path, "rb", buffering=0) as file:
            while data := file.read(READ_BYTES):
                yield data
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise RushesError(f"{path} can no longer be read: {reason}; check the disk and start again") from error
