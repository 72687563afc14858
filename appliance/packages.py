"""Model packages as the appliance sees them: facts from a safetensors header, and a proof of its bytes, without torch.

The render opens packages with models.weights; this is what `rushes models` and `rushes doctor` say without loading it.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance import paths
from appliance.text import one_line
from models.card import FORMAT
from models.errors import BadInput

MAX_HEADER_BYTES = 16 * 2**20
CHUNK_BYTES = 1 << 20
WAY_OUT = "name a whole package with RUSHES_WEIGHTS, or unset it to use the one that ships"


@dataclass(frozen=True, slots=True)
class PackageFacts:
    """What a package says of itself."""

    path: Path
    card: str
    parameters: int
    file_bytes: int
    bytes_by_type: dict[str, int]
    metadata: dict[str, str]
    data_start: int  # bytes; the tensors begin here


def shipped() -> PackageFacts:
    """The package that renders use: the one that ships, or the one that RUSHES_WEIGHTS names. Raises BadInput."""
    return facts_of(paths.weights())


@dataclass(frozen=True, slots=True)
class Known:
    """An architecture that Rushes can run, and what its network costs to hold."""

    name: str
    layers: int
    dim: int
    heads: int
    parameters: int
    int8_bytes: int
    ships: bool


def known() -> list[Known]:
    """The named cards, smallest first."""
    from models.card import CARDS, PREVIS
    from models.footprint import parameters, weights_bytes

    found = [
        Known(c.name, c.layers, c.dim, c.heads, parameters(c), weights_bytes(c, "int8"), c.name == PREVIS.name)
        for c in CARDS.values()
    ]
    return sorted(found, key=lambda card: card.parameters)


def facts_of(path: Path) -> PackageFacts:
    """Facts from the header of a safetensors file. Raises BadInput where it is missing, cut short or something else."""
    header, start, size = _header(path)
    metadata = header.pop("__metadata__", {})
    sizes: dict[str, int] = {}
    parameters = end = 0
    try:
        for tensor in header.values():
            first, last = tensor["data_offsets"]
            sizes[tensor["dtype"]] = sizes.get(tensor["dtype"], 0) + last - first
            parameters += math.prod(tensor["shape"])
            end = max(end, last)
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path} is no model package: its header names a tensor without a place; {WAY_OUT}") from error
    if start + end != size:
        raise BadInput(f"{path} is not whole: {size} bytes where its header promises {start + end}; copy it again")
    facts = {name: one_line(str(text)) for name, text in metadata.items()}
    if facts.get("format") != FORMAT:
        found = facts.get("format", "none")
        raise BadInput(f"{path} is no model package: its format is {found[:40]!r}, not {FORMAT!r}; {WAY_OUT}")
    return PackageFacts(path, _card(facts), parameters, size, sizes, facts, start)


def prove(facts: PackageFacts) -> str:
    """The SHA-256 of a package's tensors, compared with what its header says. Raises BadInput when they differ."""
    digest = hashlib.sha256()
    with open(facts.path, "rb") as file:
        file.seek(facts.data_start)
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    said = facts.metadata.get("data_sha256")
    if said and said != digest.hexdigest():
        raise BadInput(f"{facts.path} is damaged: its data does not match the hash in its header; copy it again")
    return digest.hexdigest()


def _header(path: Path) -> tuple[dict[str, Any], int, int]:
    """(header, where the tensors begin, size of the file)."""
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
                raise BadInput(f"{path} is not a safetensors file, or is cut short; {WAY_OUT}")
            header = json.loads(file.read(length))
    except FileNotFoundError as error:
        raise BadInput(
            f"{path} is not there: set RUSHES_WEIGHTS to a model package, or install Rushes again"
        ) from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {(error.strerror or str(error)).lower()}; {WAY_OUT}") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not a safetensors file: its header cannot be read; {WAY_OUT}") from error
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__", {}), dict):
        raise BadInput(f"{path} is not a safetensors file: its header is no table; {WAY_OUT}")
    return header, 8 + length, size


def _card(metadata: dict[str, str]) -> str:
    """The name of the card in a package's metadata, which holds it as JSON."""
    said = metadata.get("card", "")
    try:
        card = json.loads(said)
    except ValueError:
        return said or "not stated"
    return str(card.get("name", "not stated")) if isinstance(card, dict) else said
