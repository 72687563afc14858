"""Denoising saved to disk step by step, so that a render that is interrupted resumes where it stopped.

One safetensors file a step, the last two kept, each whole on disk before the next step begins. A file is used when its
header says exactly what this render would have written there and its data matches the hash in it. Anything else is
skipped, and a disk that refuses is only reported: neither ever ends a render.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from models.errors import BadInput, RushesError
from models.rendering.sampler import CACHE_NUMBERS, State
from models.weight_files.safetensors_header import read_header
from models.weight_files.tensors import DTYPES, verified_tensors, write

FORMAT = "rushes.checkpoint/1"
NAME = re.compile(r"step-(\d{1,9})\.safetensors")


class Checkpoints:
    """The saved steps of one render, in a folder that exists and that nothing else writes to."""

    def __init__(self, folder: Path, key: str) -> None:
        """`key` names everything that the latents are computed from: states of another key are not this render's."""
        self.folder = folder
        self.key = key
        self._refused = False

    def newest(self, start: State) -> tuple[State, list[str]]:
        """The newest state to resume from, `start` itself where there is none; and why newer ones were skipped.

        Files that a killed render left half written are removed.
        """
        skipped: list[str] = []
        try:
            for part in self.folder.glob(".*.part"):
                part.unlink(missing_ok=True)
            saved = self._saved()
        except OSError:
            return start, []  # the same trouble is reported when the first step is saved
        for index in sorted(saved, reverse=True):
            try:
                return self._read(saved[index], index, start), skipped
            except (OSError, RushesError) as error:
                skipped.append(f"saved step {index} is not used: {str(error).partition(';')[0]}")
        return start, skipped

    def save(self, state: State) -> str | None:
        """Save a state, then remove all but it and the one before. Where the disk refuses: why, the first time.

        The next step is tried again: each is a file of its own, and a full disk may have room by then.
        """
        # "said" and "facts" are the step cache's names in the file format.
        tensors = {"latent": state.latent, **_numbered("history", state.history), **_numbered("said", state.cached)}
        tensors = {name: tensor.cpu() for name, tensor in tensors.items()}
        if state.cache_numbers:
            tensors["facts"] = torch.tensor(state.cache_numbers, dtype=torch.float64)
        try:
            write(self.folder / f"step-{state.index}.safetensors", tensors, self._header(state.index, state.of))
            saved = self._saved()
            before = max((index for index in saved if index < state.index), default=None)
            for index in saved.keys() - {state.index, before}:
                saved[index].unlink(missing_ok=True)
        except (OSError, RushesError) as error:
            first, self._refused = not self._refused, True
            return f"cannot save progress; continuing without resume: {error}" if first else None
        return None

    def _header(self, index: int, of: int) -> dict[str, str]:
        return {"format": FORMAT, "key": self.key, "index": str(index), "of": str(of)}

    def _saved(self) -> dict[int, Path]:
        """The files named like a step, by step. Raises OSError."""
        found = ((NAME.fullmatch(path.name), path) for path in self.folder.iterdir())
        return {int(match[1]): path for match, path in found if match}

    def _read(self, path: Path, index: int, start: State) -> State:
        """A state on the device of `start`. Raises BadInput or OSError; nothing in the file is trusted."""
        header = read_header(path)
        stated = {name: value for name, value in header.metadata.items() if name != "data_sha256"}
        if stated != self._header(index, start.of):
            raise BadInput(f"{path} is of another render: another blocking, seed, setting, model or version")
        entries = dict(header.entries)
        facts = entries.pop("facts", None)
        kinds = {(DTYPES[entry.dtype], entry.shape) for entry in entries.values()}
        history_names, cached_names = (
            [f"{part}.{i}" for i in range(sum(name.startswith(f"{part}.") for name in entries))]
            for part in ("history", "said")
        )
        whole = {"latent", *history_names, *cached_names} == entries.keys() and kinds == {
            (start.latent.dtype, tuple(start.latent.shape))
        }
        if not whole or (facts and (facts.dtype, facts.shape)) != (("F64", (CACHE_NUMBERS,)) if cached_names else None):
            raise BadInput(f"{path} does not hold a state of this render")
        tensors = verified_tensors(path, header, bytearray(path.read_bytes()))
        numbers = tuple(tensors.pop("facts").tolist()) if facts else ()
        tensors = {name: tensor.to(start.latent.device, copy=True) for name, tensor in tensors.items()}
        history, cached = (tuple(tensors[name] for name in names) for names in (history_names, cached_names))
        return State(index, start.of, tensors["latent"], history, cached, numbers)


def _numbered(part: str, tensors: tuple[Tensor, ...]) -> dict[str, Tensor]:
    return {f"{part}.{i}": tensor for i, tensor in enumerate(tensors)}
