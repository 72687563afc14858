"""What an operator brings -> the networks in it: files, shards and folders opened, recognised and hashed.

A folder is looked through as projects lay theirs out: one with an index or shards is one network, any other file is one
of its own. A pickle that is named is converted by a child that can do nothing else (models/weight_files/pickles.py);
one that lies in a folder only where a network is missing without it. Nothing here reads weights, but for their hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from models.encoders.tokenizer import MAX_BYTES as MAX_TOKENIZER_BYTES
from models.errors import BadInput, RushesError
from models.importing.identify import hints_of
from models.importing.layouts import Found, recognise
from models.importing.sources import INDEX, PICKLES, SHARD, WEIGHTS, Source, open_source
from models.weight_files.file_kind import kind_of
from models.weight_files.pickles import convert

DEPTH = 4  # of folders in folders
VOCABULARIES = ("tokenizer.json", "spiece.model")
PICKLED = {"vae": "vae", "text": "t5", "vision": "clip"}  # how the names of published pickles tell what is inside
READ_BYTES = 8 * 2**20
Report = Callable[[str, int, int], None]  # what is done, bytes of it, bytes in all


@dataclass(frozen=True, slots=True)
class Brought:
    """A network, and where it came from."""

    path: Path  # as it was named
    source: Source
    found: Found
    hints: frozenset[str]
    vocabulary: bytes = b""  # a tokenizer that lies with the weights


@dataclass(slots=True)
class Gathered:
    """Everything that was found."""

    networks: list[Brought] = field(default_factory=list)
    pickles: list[Path] = field(default_factory=list)  # in folders, not opened yet
    vocabularies: list[tuple[Path, bytes]] = field(default_factory=list)

    def parts(self, part: str) -> list[Brought]:
        """The networks of one kind."""
        return [brought for brought in self.networks if brought.found.part == part]


def gather(named: Sequence[tuple[Path, str | None]], work: Path, report: Report) -> Gathered:
    """Open and recognise what was named; with each path, the expert it is said to be. Converted pickles go to `work`.

    Raises BadInput, in one line that names the file, for what is no network of Wan.
    """
    found = Gathered()
    for path, expert in named:
        for files in _sources_in(path, found):
            _take(found, files, expert, work, report)
    return found


def fill_in(found: Gathered, missing: Iterable[str], work: Path, report: Report) -> None:
    """Open the pickles of folders that may hold what is still missing."""
    for part in missing:
        for path in [path for path in found.pickles if PICKLED.get(part, "-") in path.name.lower()]:
            found.pickles.remove(path)
            _take(found, (path,), None, work, report)


def hashes(networks: Iterable[Brought], work: Path, report: Report) -> list[dict[str, object]]:
    """Every file that is read, with its size and SHA-256: what the package remembers of its origin.

    A file that was hashed before, and has not changed since, is not read again.
    """
    files = list(dict.fromkeys(path for brought in networks for path in brought.source.paths))
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
            (work / "sources.json").write_text(json.dumps(known))
        manifest.append({"file": path.name, "bytes": sizes[path], "sha256": known[stamp]})
    return manifest


def _take(found: Gathered, files: tuple[Path, ...], expert: str | None, work: Path, report: Report) -> None:
    """One network's files, or one file of several networks."""
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
        found.networks.append(Brought(Path(where), source, network, hints, vocabulary))


def _converted(path: Path, work: Path, report: Report) -> Path:
    """A pickle as safetensors, made once for as long as the pickle stays as it is."""
    facts = path.stat()
    mark = hashlib.sha256(f"{path.absolute()} {facts.st_size} {facts.st_mtime_ns}".encode()).hexdigest()[:16]
    out = work / f"{mark}.safetensors"
    if not out.exists():
        report(f"converting {path.name}, a pickle, apart", 0, facts.st_size)
        convert(path, out)
    return out


def _sources_in(path: Path, found: Gathered) -> Iterator[tuple[Path, ...]]:
    """What belongs together, of what a path names."""
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
        raise BadInput(f"{path} holds no file that ends in {', '.join((*WEIGHTS, *PICKLES))}; name a folder that does")


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
            if not indexes:  # beside an index, which names its shards as it likes, others are not guessed at
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
        return {}  # nothing was hashed yet, or the last write was cut off: it is hashed again
    return dict(known)


def _chunks(path: Path) -> Iterator[bytes]:
    try:
        with open(path, "rb", buffering=0) as file:
            while data := file.read(READ_BYTES):
                yield data
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise RushesError(f"{path} can no longer be read: {reason}; check the disk and start again") from error
