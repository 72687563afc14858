"""A walk on disk, step by step, so that a render which is cut off goes on where it stopped.

One safetensors file a step, the last two kept, each whole on the disk before the next step begins. A file is believed
when its header says exactly what this walk would have written there and its data matches the hash beside it. Whatever
else is found is passed over, and so is a disk that refuses: a render that could go on never ends here.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from models.errors import BadInput, RushesError
from models.rendering.sampler import FACTS, State
from models.weight_files.safetensors_header import read_header
from models.weight_files.tensors import DTYPES, proved_tensors, write

FORMAT = "rushes.checkpoint/1"
NAME = re.compile(r"step-(\d{1,9})\.safetensors")


class Checkpoints:
    """The saved steps of one walk, in a folder that exists and that nothing else writes to."""

    def __init__(self, folder: Path, key: str) -> None:
        """`key` names everything that the walk is made from: states of another key are not this walk's."""
        self.folder = folder
        self.key = key
        self._refused = False

    def newest(self, start: State) -> tuple[State, list[str]]:
        """The newest state to go on from, `start` itself where there is none; and why newer ones were passed over.

        What a render that was killed had half written goes.
        """
        passed_over: list[str] = []
        try:
            for part in self.folder.glob(".*.part"):
                part.unlink(missing_ok=True)
            saved = self._saved()
        except OSError:
            return start, []  # the same trouble is told when the first step is to be kept
        for index in sorted(saved, reverse=True):
            try:
                return self._read(saved[index], index, start), passed_over
            except (OSError, RushesError) as error:
                passed_over.append(f"saved step {index} is not used: {str(error).partition(';')[0]}")
        return start, passed_over

    def keep(self, state: State) -> str | None:
        """Saves a state, then removes all but it and the one before. When the disk refuses: why, the first time.

        The next step is saved again, or tried: each is a file of its own, and a full disk may have room by then.
        """
        tensors = {"latent": state.latent, **_numbered("history", state.history), **_numbered("said", state.said)}
        tensors = {name: tensor.cpu() for name, tensor in tensors.items()}
        if state.facts:
            tensors["facts"] = torch.tensor(state.facts, dtype=torch.float64)
        try:
            write(self.folder / f"step-{state.index}.safetensors", tensors, self._header(state.index, state.of))
            saved = self._saved()
            before = max((index for index in saved if index < state.index), default=None)
            for index in saved.keys() - {state.index, before}:
                saved[index].unlink(missing_ok=True)
        except (OSError, RushesError) as error:
            first, self._refused = not self._refused, True
            return f"steps are not saved, the render goes on without: {error}" if first else None
        return None

    def _header(self, index: int, of: int) -> dict[str, str]:
        return {"format": FORMAT, "key": self.key, "index": str(index), "of": str(of)}

    def _saved(self) -> dict[int, Path]:
        """The files that bear a step's name, by step. Raises OSError."""
        found = ((NAME.fullmatch(path.name), path) for path in self.folder.iterdir())
        return {int(match[1]): path for match, path in found if match}

    def _read(self, path: Path, index: int, start: State) -> State:
        """A state on the device of `start`. Raises BadInput or OSError; nothing in the file is taken on trust."""
        header = read_header(path)
        says = {name: value for name, value in header.metadata.items() if name != "data_sha256"}
        if says != self._header(index, start.of):
            raise BadInput(f"{path} is of another walk: another blocking, seed, setting, model or version")
        entries = dict(header.entries)
        facts = entries.pop("facts", None)
        kinds = {(DTYPES[entry.dtype], entry.shape) for entry in entries.values()}
        past, said = (
            [f"{part}.{i}" for i in range(sum(name.startswith(f"{part}.") for name in entries))]
            for part in ("history", "said")
        )
        whole = {"latent", *past, *said} == entries.keys() and kinds == {
            (start.latent.dtype, tuple(start.latent.shape))
        }
        if not whole or (facts and (facts.dtype, facts.shape)) != (("F64", (FACTS,)) if said else None):
            raise BadInput(f"{path} does not hold a state of this walk")
        tensors = proved_tensors(path, header, bytearray(path.read_bytes()))
        numbers = tuple(tensors.pop("facts").tolist()) if facts else ()
        tensors = {name: tensor.to(start.latent.device, copy=True) for name, tensor in tensors.items()}
        history, answers = (tuple(tensors[name] for name in names) for names in (past, said))
        return State(index, start.of, tensors["latent"], history, answers, numbers)


def _numbered(part: str, tensors: tuple[Tensor, ...]) -> dict[str, Tensor]:
    return {f"{part}.{i}": tensor for i, tensor in enumerate(tensors)}
