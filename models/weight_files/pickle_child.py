"""The child that reads a pickle: `python -m models.weight_files.pickle_child FILE FOLDER`. Only
models/weight_files/pickles.py starts it.

It gives up the network before torch is loaded, and everything else before the file is looked at, then writes the
tensors and a report into the folder, or a report that says why not.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import BadInput, RushesError
from models.weight_files import sandbox as confine
from models.weight_files.file_kind import ZIP
from models.weight_files.pickles import REPORT, WEIGHTS
from models.weight_files.safetensors_header import NAME

if TYPE_CHECKING:
    from torch import Tensor

# Mapped once and, by the first form of torch's files, read whole once; beside it one tensor laid out anew.
MEMORY_FACTOR, MEMORY_BYTES = 2, 2**30
FILE_FACTOR, FILE_BYTES = 2, 64 * 2**20  # tensors that share their memory are written apart
CPU_SECONDS, BYTES_A_SECOND = 120, 50_000_000


def main(path: Path, folder: Path) -> None:
    """Read, write, report."""
    confine.die_with_parent()
    unguarded = [] if confine.leave_network() else ["the network was not cut off"]
    from models.weight_files.tensors import (  # torch
        write,  # torch starts threads, and a process with threads cannot leave its network
    )

    size = path.stat().st_size
    try:
        if not confine.limit(
            MEMORY_FACTOR * size + MEMORY_BYTES, FILE_FACTOR * size + FILE_BYTES, CPU_SECONDS + size // BYTES_A_SECOND
        ):
            unguarded.append("memory was not bounded")
        if not confine.write_only_in(folder):
            unguarded.append("other folders were not locked")
        tensors, left_out = tensors_of(load(path))
        held = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        if held > FILE_FACTOR * size:
            raise BadInput(f"its tensors would take {held} bytes, and the file has {size}")
        write(folder / WEIGHTS, tensors, {"format": "pt"})
        report: dict[str, object] = {"left_out": left_out[:100], "unguarded": unguarded}
    except Exception as error:  # whatever a stranger's file brings about is one more reason to refuse it
        report = {"refused": reason(error)}
    (folder / REPORT).write_text(json.dumps(report))


def load(path: Path) -> Any:
    """What was pickled, by torch's weights-only loader; of a zip, the tensors are views of the mapped file."""
    import torch

    with open(path, "rb") as file:
        zipped = file.read(4) == ZIP
    return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)


def tensors_of(loaded: Any) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a state dict, or of the one state dict inside; and the names of all else. Raises BadInput."""
    import torch

    if not isinstance(loaded, Mapping):
        raise BadInput(f"it holds a {type(loaded).__name__} and no table of tensors")
    tables = [name for name, value in loaded.items() if isinstance(value, Mapping) and _has_tensor(value)]
    left_out = []
    if not _has_tensor(loaded):
        if len(tables) != 1:
            inside = ", ".join(str(name)[:40] for name in list(loaded)[:8])
            raise BadInput(f"it holds {len(tables)} tables of tensors, not one; inside are {inside or 'nothing'}")
        left_out = [str(name) for name in loaded if name != tables[0]]
        loaded = loaded[tables[0]]
    tensors = {}
    for name, value in loaded.items():
        if not isinstance(value, torch.Tensor):
            left_out.append(str(name))
        elif type(value) not in (torch.Tensor, torch.nn.Parameter) or value.layout != torch.strided:
            raise BadInput(f"{str(name)[:80]} is no plain tensor")
        elif not isinstance(name, str) or not NAME.fullmatch(name):
            raise BadInput(f"a tensor is named {str(name)[:40]!a}")
        else:
            tensors[name] = value.detach()
    return tensors, left_out


def _has_tensor(table: Mapping[Any, Any]) -> bool:
    import torch

    return any(isinstance(value, torch.Tensor) for value in table.values())


def reason(error: Exception) -> str:
    """Why, in one line, and never with torch's advice to trust the file."""
    text = str(error)
    called = re.search(r"(?:unsupported|Unsupported global:) GLOBAL ([\w.]+)", text)
    if called:
        return f"it would call {called[1]}, which weights do not need"
    if isinstance(error, MemoryError) or "allocate memory" in text:
        return "it wants more memory than its size allows"
    if isinstance(error, RushesError):
        return text
    said = re.search(r"WeightsUnpickler error:\s*(.*\S)|^(?!Weights only)(.+)", text) or ("", "", type(error).__name__)
    return f"torch's loader of weights, and of nothing else, refuses it: {(said[1] or said[2])[:90]}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
