"""The sandboxed process that reads a pickle: `python -m models.weight_files.pickle_child FILE FOLDER`. Only
models/weight_files/pickles.py starts it.

It gives up network access before torch is loaded, and all other rights before the file is opened, then writes the
tensors and a report into the folder, or a report with the reason of a refusal.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import BadInput, RushesError
from models.weight_files import sandbox
from models.weight_files.file_kind import ZIP
from models.weight_files.pickles import REPORT, WEIGHTS
from models.weight_files.safetensors_header import NAME

if TYPE_CHECKING:
    from torch import Tensor

# The file is mapped or, in torch's old format, read once; next to it one tensor is made contiguous.
MEMORY_FACTOR, MEMORY_BYTES = 2, 2**30
FILE_FACTOR, FILE_BYTES = 2, 64 * 2**20  # tensors that share memory are written separately
CPU_SECONDS, BYTES_A_SECOND = 120, 50_000_000


def main(path: Path, folder: Path) -> None:
    """Read, write, report."""
    sandbox.die_with_parent()
    unguarded = [] if sandbox.leave_network() else ["network access was not blocked"]
    from models.weight_files.tensors import (  # torch
        write,  # torch starts threads, and a process with threads cannot leave its network
    )

    size = path.stat().st_size
    try:
        if not sandbox.limit(
            MEMORY_FACTOR * size + MEMORY_BYTES, FILE_FACTOR * size + FILE_BYTES, CPU_SECONDS + size // BYTES_A_SECOND
        ):
            unguarded.append("memory was not limited")
        if not sandbox.write_only_in(folder):
            unguarded.append("other folders were not write-protected")
        tensors, left_out = tensors_of(load(path))
        held = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        if held > FILE_FACTOR * size:
            raise BadInput(f"its tensors would take {held} bytes, but the file has only {size}")
        write(folder / WEIGHTS, tensors, {"format": "pt"})
        report: dict[str, object] = {"left_out": left_out[:100], "unguarded": unguarded}
    except Exception as error:  # whatever an untrusted file causes is a reason to refuse it
        report = {"refused": reason(error)}
    (folder / REPORT).write_text(json.dumps(report))


def load(path: Path) -> Any:
    """The unpickled object, by torch's weights-only loader; of a zip, the tensors are views of the mapped file."""
    import torch

    with open(path, "rb") as file:
        zipped = file.read(4) == ZIP
    return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)


def tensors_of(loaded: Any) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a state dict, or of the one state dict inside, and the names of all else. Raises BadInput."""
    import torch

    if not isinstance(loaded, Mapping):
        raise BadInput(f"it holds a {type(loaded).__name__}, not a dictionary of tensors")
    tables = [name for name, value in loaded.items() if isinstance(value, Mapping) and _has_tensor(value)]
    left_out = []
    if not _has_tensor(loaded):
        if len(tables) != 1:
            inside = ", ".join(str(name)[:40] for name in list(loaded)[:8])
            raise BadInput(
                f"it holds {len(tables)} dictionaries of tensors instead of one (its entries: {inside or 'none'})"
            )
        left_out = [str(name) for name in loaded if name != tables[0]]
        loaded = loaded[tables[0]]
    tensors = {}
    for name, value in loaded.items():
        if not isinstance(value, torch.Tensor):
            left_out.append(str(name))
        elif type(value) not in (torch.Tensor, torch.nn.Parameter) or value.layout != torch.strided:
            raise BadInput(f"{str(name)[:80]} is not a plain tensor")
        elif not isinstance(name, str) or not NAME.fullmatch(name):
            raise BadInput(f"a tensor is named {str(name)[:40]!a}")
        else:
            tensors[name] = value.detach()
    return tensors, left_out


def _has_tensor(table: Mapping[Any, Any]) -> bool:
    import torch

    return any(isinstance(value, torch.Tensor) for value in table.values())


def reason(error: Exception) -> str:
    """Why it was refused, in one line, and never with torch's advice to trust the file."""
    text = str(error)
    called = re.search(r"(?:unsupported|Unsupported global:) GLOBAL ([\w.]+)", text)
    if called:
        return f"it would run {called[1]}, which weights never need"
    if isinstance(error, MemoryError) or "allocate memory" in text:
        return "it needs more memory than its size allows"
    if isinstance(error, RushesError):
        return text
    found = re.search(r"WeightsUnpickler error:\s*(.*\S)|^(?!Weights only)(.+)", text) or ("", "", type(error).__name__)
    return f"torch's weights-only loader refuses it: {(found[1] or found[2])[:90]}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
