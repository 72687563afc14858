"""Folders of saved denoising steps, one for each take that is not finished, named by its id and fence.

The files are models/rendering/checkpoint.py's. A folder is made before its render begins and never by the render, so
that a worker which was given up but is still alive cannot write: its folder was renamed to the next fence, or removed
with its take.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from appliance.atomic_files import sweep as sweep_parts
from appliance.library.library import Library
from appliance.library.take import Take
from models.atomic_write import fsync

_NAME = re.compile(r"(\d{1,18})\.(\d{1,9})")


def take_over(library: Library, take: Take) -> Path:
    """The folder of this attempt, with the steps that earlier attempts saved. Raises OSError."""
    root = _root(library)
    root.mkdir(exist_ok=True)
    mine = root / f"{take.id}.{take.fence}"
    older = [folder for take_id, fence, folder in _folders(root) if take_id == take.id and fence < take.fence]
    if older:
        older[-1].rename(mine)
        sweep_parts(mine)
    else:
        mine.mkdir()
    for folder in (root, root.parent):
        fsync(folder)
    return mine


def sweep(library: Library) -> None:
    """Removes the folders of takes that have ended. What cannot be removed now is tried again later."""
    if folders := _folders(_root(library)):
        live = {take.id for take in library.board(recent=0)}
        for take_id, _, folder in folders:
            if take_id not in live:
                shutil.rmtree(folder, ignore_errors=True)


def _root(library: Library) -> Path:
    return library.path.parent / "checkpoints"


def _folders(root: Path) -> list[tuple[int, int, Path]]:
    """(take id, fence, folder), sorted."""
    found = ((_NAME.fullmatch(folder.name), folder) for folder in root.glob("*"))
    return sorted((int(match[1]), int(match[2]), folder) for match, folder in found if match)
