"""Where renders save their steps: a folder for each take that renders or waits to go on, named by its id and fence.

models/rendering/checkpoint.py has the files. A folder is made before its render begins and never by it, so that a
renderer which was given up but still lives writes into nothing: its folder has the next fence's name, or is gone with
its take.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from appliance.atomic_files import fsync
from appliance.atomic_files import sweep as sweep_parts
from appliance.library.library import Library
from appliance.library.take import Take

_NAME = re.compile(r"(\d{1,18})\.(\d{1,9})")


def take_over(library: Library, take: Take) -> Path:
    """The folder of this attempt, with the steps that earlier ones saved. Raises OSError."""
    house = _house(library)
    house.mkdir(exist_ok=True)
    mine = house / f"{take.id}.{take.fence}"
    older = [folder for take_id, fence, folder in _folders(house) if take_id == take.id and fence < take.fence]
    if older:
        older[-1].rename(mine)
        sweep_parts(mine)
    else:
        mine.mkdir()
    for folder in (house, house.parent):
        fsync(folder)
    return mine


def sweep(library: Library) -> None:
    """Removes what takes saved that have ended. What a disk does not let go of now is tried again."""
    if folders := _folders(_house(library)):
        live = {take.id for take in library.board(recent=0)}
        for take_id, _, folder in folders:
            if take_id not in live:
                shutil.rmtree(folder, ignore_errors=True)


def _house(library: Library) -> Path:
    return library.path.parent / "checkpoints"


def _folders(house: Path) -> list[tuple[int, int, Path]]:
    """(take, fence, folder) in that order."""
    found = ((_NAME.fullmatch(folder.name), folder) for folder in house.glob("*"))
    return sorted((int(match[1]), int(match[2]), folder) for match, folder in found if match)
