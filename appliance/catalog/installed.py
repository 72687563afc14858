"""Installed model packages, without torch: what their headers state, and a check of their data against its hash.

The worker opens packages with models/weight_files/tensors.py; this is what `rushes models` and `rushes doctor` read.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appliance import paths
from appliance.safe_text import one_line
from models.card import CARDS, PREVIS, Card
from models.errors import BadInput
from models.weight_files.package_header import PARTS, PRECISIONS, card_from_json, package_header
from models.weight_files.safetensors_header import MAX_HEADER_BYTES

WAY_OUT = "set RUSHES_WEIGHTS to a complete package, or unset it to use the one that ships with Rushes"
REIMPORT = "import it again"
UNFINISHED = ".importing-"  # how the folders of imports begin (models/importing/__main__.py)


@dataclass(frozen=True, slots=True)
class InstalledPackage:
    """A package file on this machine and what its header states; of a file that is not a valid package only its name,
    its path and the trouble.
    """

    name: str
    path: Path
    card: str = ""
    precision: str = ""  # "int8" | "int4" | "bf16"
    parts: tuple[str, ...] = ()  # in words: "transformer", "autoencoder", ...
    file_bytes: int = 0
    trouble: str = ""  # why it is not a valid package
    parameters: int = 0
    bytes_by_type: dict[str, int] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    data_start: int = 0  # bytes; the tensors begin here

    def summary(self) -> dict[str, Any]:
        """What a list of packages and a quote give as JSON."""
        names = ("name", "path", "card", "precision", "parts", "file_bytes", "trouble")
        return {name: getattr(self, name) for name in names}

    def details(self) -> dict[str, Any]:
        """What a page about this package gives as JSON."""
        names = ("path", "card", "parameters", "file_bytes", "bytes_by_type", "metadata", "data_start")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class Architecture:
    """A card that Rushes can run, and what its network takes."""

    name: str
    layers: int
    dim: int
    heads: int
    parameters: int
    int8_bytes: int
    ships: bool


def shipped() -> InstalledPackage:
    """The package that ships with Rushes, or the one that RUSHES_WEIGHTS names. Raises BadInput."""
    return read_package(paths.weights())


def packages_here() -> list[InstalledPackage]:
    """The imported packages, by name; files that are not valid packages are listed with their trouble."""
    found = []
    for path in _files():
        try:
            found.append(read_package(path, REIMPORT))
        except BadInput as error:
            found.append(InstalledPackage(path.stem, path, trouble=one_line(str(error))))
    return found


def card_and_package(model: str | None) -> tuple[Card, InstalledPackage | None]:
    """The card that a model's name means, and the imported package of it, if there is one.

    model: the name of an imported package or of a card; None is the model that ships. Raises BadInput for others.
    """
    if model is None or model == PREVIS.name:
        return PREVIS, None
    valid = [one for one in packages_here() if not one.trouble]
    package = next((one for one in valid if model == one.name), None)
    package = package or next((one for one in valid if model == one.card), None)
    if package is not None:
        return card_from_json(package_header(package.path).metadata["card"]), package
    if model not in CARDS:
        names = ", ".join(dict.fromkeys([PREVIS.name, *(one.name for one in valid)]))
        raise BadInput(
            f"there is no model {model!r}: you can shoot with {names}; `rushes models import` installs others, and "
            f"{', '.join(list(CARDS)[1:])} can be quoted without being installed"
        )
    return CARDS[model], None


def cards_here() -> frozenset[str]:
    """The named cards whose weights are installed."""
    return frozenset({PREVIS.name, *(one.card for one in packages_here() if one.card in CARDS)})


def package_named(name: str) -> InstalledPackage:
    """The imported package of that name, or the one that ships. Raises BadInput."""
    return shipped() if name == PREVIS.name else read_package(package_path(name))


def package_path(name: str) -> Path:
    """The file of the imported package of that name. Raises BadInput where there is none."""
    path = next((path for path in _files() if path.stem == name), None)
    if path is None:
        here = ", ".join([PREVIS.name, *(path.stem for path in _files())])
        raise BadInput(
            f"there is no model {name!r} here: it must be one of {here}; `rushes models import` installs others"
        )
    return path


def unfinished_imports() -> list[tuple[Path, int]]:
    """Imports that were started and not finished: their working folders, and the bytes in them."""
    folders = sorted(paths.models().glob(f"{UNFINISHED}*"))
    return [(each, sum(file.stat().st_size for file in each.iterdir() if file.is_file())) for each in folders]


def _files() -> list[Path]:
    return sorted(path for path in paths.models().glob("*.safetensors") if not path.name.startswith("."))


def architectures() -> list[Architecture]:
    """The named cards, smallest first."""
    from models.cost.transformer import parameters, weights_bytes  # start-up

    found = [
        Architecture(c.name, c.layers, c.dim, c.heads, parameters(c), weights_bytes(c, "int8"), c.name == PREVIS.name)
        for c in CARDS.values()
    ]
    return sorted(found, key=lambda card: card.parameters)


def read_package(path: Path, way_out: str = WAY_OUT) -> InstalledPackage:
    """A package by its header. Raises BadInput, which ends with `way_out`, where the file is missing, cut off or
    something else.
    """
    header = package_header(path, way_out)
    sizes: dict[str, int] = {}
    for tensor in header.entries.values():
        sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.end - tensor.begin
    parts = dict.fromkeys(name.partition(".")[0] for name in header.entries)
    return InstalledPackage(
        name=path.stem,
        path=path,
        card=card_from_json(header.metadata["card"]).name,
        precision=PRECISIONS[header.metadata["scheme"]],
        parts=tuple(PARTS[part] for part in parts if part in PARTS),
        file_bytes=header.file_bytes,
        parameters=sum(math.prod(tensor.shape) for tensor in header.entries.values()),
        bytes_by_type=sizes,
        metadata={name: one_line(text, limit=MAX_HEADER_BYTES) for name, text in header.metadata.items()},
        data_start=header.data_start,
    )


def verify_data(package: InstalledPackage) -> str:
    """Hash a package's tensors (SHA-256) and compare with its header. Raises BadInput when they differ."""
    with open(package.path, "rb") as file:
        file.seek(package.data_start)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if package.metadata["data_sha256"] != digest:
        raise BadInput(f"{package.path} is damaged: its data does not match the hash in its header; copy it again")
    return digest
