"""A training as a few small files, to go on with where nothing else comes along: another machine, another call.

    FOLDER/manifest.json              what was done in each call; every other file, its bytes and its hash
    FOLDER/transformer-HASH-0.shard   the bytes of one safetensors file of a run, cut where a file would grow too large

Of a run its averaged weights: matrices in bfloat16, vectors (norms, biases, statistics), which weigh nothing, as they
are. The weights under the average and the optimiser's moments stay behind: they would be ten times that, and a warm-up
from the average makes them again. The manifest is written last and names its files by their hash, so the folder holds
one training, whole, whenever the writer is stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from models.errors import BadInput, RushesError
from models.training import run as state
from models.training.budget import facts_of

MANIFEST, FORMAT = "manifest.json", "rushes.training/1"
SHARD_BYTES = 15 * 2**20  # of the 16 MiB that a file may have
MOST_FILES, MOST_BYTES = 8, 64 * 2**20


class CarriedRun:
    """The runs of a working folder, by name, and the folder that carries them.

    calls: what each call so far says of itself (`package.call`).
    """

    def __init__(self, folder: Path, runs: dict[str, Path]) -> None:
        self.folder, self.runs = folder, runs
        self.calls: list[dict[str, Any]] = []
        self._shards: dict[str, list[dict[str, Any]]] = {}
        self._seen: dict[str, int] = {}  # the writing of each run's file that its shards are of, in ns

    def read(self) -> None:
        """Bring the carried runs into the working folder, where that does not hold later ones.

        Raises BadInput for a folder that is not whole.
        """
        path = self.folder / MANIFEST
        if not path.exists():
            return
        try:
            manifest = json.loads(path.read_bytes())
            if manifest["format"] != FORMAT:
                raise BadInput(f"{path} has the format {manifest['format']!r}, not {FORMAT!r}; empty {self.folder}")
            self.calls, self._shards = manifest["calls"], manifest["runs"]
            held = {n: (self.runs[n], b"".join(map(self._checked, shards))) for n, shards in self._shards.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(f"{path} is no manifest of a training ({error}); carry it again, or empty it") from error
        for name, (target, data) in held.items():
            part = target.with_suffix(".carried")
            _write(part, data)
            if facts_of(target)["step"] < facts_of(part)["step"]:
                os.replace(part, target)
                self._seen[name] = target.stat().st_mtime_ns
            else:
                part.unlink()

    def write(self) -> None:
        """Bring the folder up to date with the runs. Raises RushesError where it would be more than can be carried."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, path in self.runs.items():
            if path.exists() and self._seen.get(name) != path.stat().st_mtime_ns:
                written = path.stat().st_mtime_ns
                self._shards[name] = self._cut(name, compact(path))
                self._seen[name] = written
        shards = [shard for run in self._shards.values() for shard in run]
        manifest = json.dumps({"format": FORMAT, "calls": self.calls, "runs": self._shards}, indent=1).encode()
        count, size = len(shards) + 1, sum(shard["bytes"] for shard in shards) + len(manifest)
        if count > MOST_FILES or size > MOST_BYTES:
            most = f"at most {MOST_FILES} files of {MOST_BYTES} bytes"
            raise RushesError(f"{self.folder} would hold {count} files of {size} bytes, {most}; use a smaller card")
        _write(self.folder / MANIFEST, manifest)
        for old in {*self.folder.glob("*.shard"), *self.folder.glob("*.part")}:
            if old.name not in {shard["name"] for shard in shards}:
                old.unlink()

    def _cut(self, name: str, data: bytes) -> list[dict[str, Any]]:
        """Write the shards of a run."""
        shards = []
        for index, at in enumerate(range(0, len(data), SHARD_BYTES)):
            piece = data[at : at + SHARD_BYTES]
            digest = hashlib.sha256(piece).hexdigest()
            path = self.folder / f"{name}-{digest[:12]}-{index}.shard"
            if not path.exists():
                _write(path, piece)
            shards.append({"name": path.name, "bytes": len(piece), "sha256": digest})
        return shards

    def _checked(self, shard: dict[str, Any]) -> bytes:
        path = self.folder / Path(shard["name"]).name
        data = path.read_bytes() if path.exists() else b""
        if hashlib.sha256(data).hexdigest() != shard["sha256"]:
            what = f"holds {len(data)} bytes, not the {shard['bytes']} that {MANIFEST} names by their hash"
            raise BadInput(f"{path} {what}; carry the folder again, or empty it to begin anew")
        return data


def compact(path: Path) -> bytes:
    """A run's file as it is carried."""
    tensors, facts = state.whole(path)
    return save(carried(tensors), {"run": json.dumps(facts)})


def carried(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What is carried of the tensors of a run's file."""
    return {
        name: tensor.to(torch.bfloat16 if tensor.dim() > 1 else tensor.dtype)
        for name, tensor in tensors.items()
        if name.startswith("ema.")
    }


def _write(path: Path, data: bytes) -> None:
    """Write under a temporary name, then replace."""
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
