"""Model packages as the appliance sees them: facts from the header, and a proof of the bytes, without torch.

The render opens packages with models.weights; this is what `rushes models` and `rushes doctor` say without loading it.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

from appliance import paths
from appliance.text import one_line
from models.errors import BadInput
from models.header import card_from_json, package_header

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
    from models.sizes import parameters, weights_bytes

    found = [
        Known(c.name, c.layers, c.dim, c.heads, parameters(c), weights_bytes(c, "int8"), c.name == PREVIS.name)
        for c in CARDS.values()
    ]
    return sorted(found, key=lambda card: card.parameters)


def facts_of(path: Path) -> PackageFacts:
    """Facts from the header of a package. Raises BadInput where it is missing, cut short or something else."""
    header = package_header(path, WAY_OUT)
    sizes: dict[str, int] = {}
    for tensor in header.entries.values():
        sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.end - tensor.begin
    return PackageFacts(
        path=path,
        card=card_from_json(header.metadata["card"]).name,
        parameters=sum(math.prod(tensor.shape) for tensor in header.entries.values()),
        file_bytes=header.file_bytes,
        bytes_by_type=sizes,
        metadata={name: one_line(text, limit=4000) for name, text in header.metadata.items()},
        data_start=header.data_start,
    )


def prove(facts: PackageFacts) -> str:
    """The SHA-256 of a package's tensors, compared with what its header says. Raises BadInput when they differ."""
    with open(facts.path, "rb") as file:
        file.seek(facts.data_start)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if facts.metadata["data_sha256"] != digest:
        raise BadInput(f"{facts.path} is damaged: its data does not match the hash in its header; copy it again")
    return digest
