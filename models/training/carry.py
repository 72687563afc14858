"""A training as a few small files, from which another call or another machine can resume.

    FOLDER/manifest.json              a record of each call; the size and hash of every other file
    FOLDER/transformer-HASH-0.shard   the bytes of one safetensors file of a run, cut to the largest allowed size

Of a run only its averaged weights are carried: matrices in bfloat16, vectors (norms, biases, statistics), which are
small, as they are. The current weights and the optimiser's moments are left out: they are ten times that size, and a
warm-up from the average replaces them. The manifest is written last and names its files by their hash, so the folder
holds one complete training whenever the writer is stopped.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from models.atomic_write import atomic_write, replace
from models.errors import BadInput, RushesError
from models.training import run
from models.training.budget import facts_of

MANIFEST, FORMAT = "manifest.json", "rushes.training/1"
SHARD_BYTES = 15 * 2**20  # a file may have 16 MiB
MAX_FILES, MAX_BYTES = 8, 64 * 2**20


class CarriedRun:
    """The runs of a working folder, by name, and the folder that carries them.

    calls: the record of each call so far (`release.call`).
    """

    def __init__(self, folder: Path, runs: dict[str, Path]) -> None:
        self.folder, self.runs = folder, runs
        self.calls: list[dict[str, Any]] = []
        self._shards: dict[str, list[dict[str, Any]]] = {}
        self._seen: dict[str, int] = {}  # mtime (ns) of the run file that each set of shards was cut from

    def read(self) -> None:
        """Copy the carried runs into the working folder, unless it holds later ones.

        Raises BadInput for an incomplete folder.
        """
        path = self.folder / MANIFEST
        if not path.exists():
            return
        try:
            manifest = json.loads(path.read_bytes())
            if manifest["format"] != FORMAT:
                raise BadInput(
                    f"{path} has the format {manifest['format']!r}, not {FORMAT!r}; empty {self.folder} or use another"
                )
            self.calls, self._shards = manifest["calls"], manifest["runs"]
            carried = {n: (self.runs[n], b"".join(map(self._checked, shards))) for n, shards in self._shards.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(
                f"{path} is not a valid manifest of a training ({error}); copy the folder again, or empty it"
            ) from error
        for name, (target, data) in carried.items():
            part = target.with_suffix(".carried")
            _write(part, data)
            if facts_of(target)["step"] < facts_of(part)["step"]:
                replace(part, target)
                self._seen[name] = target.stat().st_mtime_ns
            else:
                part.unlink()

    def write(self) -> None:
        """Update the folder from the runs. Raises RushesError where it would become too large."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, path in self.runs.items():
            if path.exists() and self._seen.get(name) != path.stat().st_mtime_ns:
                written = path.stat().st_mtime_ns
                self._shards[name] = self._cut(name, compact(path))
                self._seen[name] = written
        shards = [shard for run in self._shards.values() for shard in run]
        manifest = json.dumps({"format": FORMAT, "calls": self.calls, "runs": self._shards}, indent=1).encode()
        count, size = len(shards) + 1, sum(shard["bytes"] for shard in shards) + len(manifest)
        if count > MAX_FILES or size > MAX_BYTES:
            most = f"at most {MAX_FILES} files of {MAX_BYTES} bytes are allowed"
            raise RushesError(f"{self.folder} would hold {count} files of {size} bytes, {most}; use a smaller card")
        _write(self.folder / MANIFEST, manifest)
        for old in {*self.folder.glob("*.shard"), *self.folder.glob("*.part")}:
            if old.name not in {shard["name"] for shard in shards}:
                old.unlink()

    def _cut(self, name: str, data: bytes) -> list[dict[str, Any]]:
        """Write a run's file as shards."""
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
            what = f"holds {len(data)} bytes that do not match the {shard['bytes']} bytes and hash in {MANIFEST}"
            raise BadInput(f"{path} {what}; copy the folder again, or empty it to start from the beginning")
        return data


def compact(path: Path) -> bytes:
    """A run's file in the form in which it is carried."""
    tensors, facts = run.read_all(path)
    return save(carried(tensors), {"run": json.dumps(facts)})


def carried(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a run's file that are carried, in their carried form."""
    return {
        name: tensor.to(torch.bfloat16 if tensor.dim() > 1 else tensor.dtype)
        for name, tensor in tensors.items()
        if name.startswith("ema.")
    }


def _write(path: Path, data: bytes) -> None:
    with atomic_write(path) as file:
        file.write(data)
