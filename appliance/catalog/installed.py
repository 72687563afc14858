"""Model packages as the appliance sees them: facts from the header, and a proof of the bytes, without torch.

The render opens packages with models.weight_files.tensors; this is what `rushes models` and `rushes doctor` say without
loading it.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

from appliance import paths
from appliance.safe_text import one_line
from models.card import CARDS, PREVIS, Card
from models.errors import BadInput
from models.weight_files.package_header import card_from_json, package_header
from models.weight_files.safetensors_header import MAX_HEADER_BYTES

WAY_OUT = "name a whole package with RUSHES_WEIGHTS, or unset it to use the one that ships"

UNFINISHED = ".importing-"  # how the folders of imports begin (models/importing/__main__.py)
PRECISIONS = {"none": "bf16", "w8a8/1": "int8", "w4a8/1": "int4"}
PARTS = {
    "transformer": "transformer", "transformer_2": "second expert", "vae": "autoencoder", "text": "text encoder",
    "vision": "picture tower", "tokenizer": "tokenizer",
}  # fmt: skip


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


@dataclass(frozen=True, slots=True)
class InstalledPackage:
    """A package of the house, or a file that should be one."""

    name: str
    path: Path
    card: str = ""
    precision: str = ""  # "int8" | "int4" | "bf16"
    parts: tuple[str, ...] = ()
    file_bytes: int = 0
    trouble: str = ""  # why it is none


def house() -> list[InstalledPackage]:
    """The packages in the house's folder, by name; what cannot be read is told, not hidden."""
    found = []
    for path in _files():
        try:
            header = package_header(path, "import it again")
            card = card_from_json(header.metadata["card"]).name
        except BadInput as error:
            found.append(InstalledPackage(path.stem, path, trouble=one_line(str(error))))
            continue
        parts = {PARTS[name.partition(".")[0]]: None for name in header.entries if name.partition(".")[0] in PARTS}
        precision = PRECISIONS[header.metadata["scheme"]]
        found.append(InstalledPackage(path.stem, path, card, precision, tuple(parts), header.file_bytes))
    return found


def priced(model: str | None) -> tuple[Card, InstalledPackage | None]:
    """The card of a model, by the name of a package of the house or of a card, and the package that is here of it.

    None is the model that ships. Raises BadInput for a name that is neither.
    """
    if model is None or model == PREVIS.name:
        return PREVIS, None
    own = [one for one in house() if not one.trouble]
    here = next((one for one in own if model == one.name), None) or next((o for o in own if model == o.card), None)
    if here is not None:
        return card_from_json(package_header(here.path).metadata["card"]), here
    if model not in CARDS:
        names = ", ".join(dict.fromkeys([PREVIS.name, *(one.name for one in own)]))
        raise BadInput(
            f"there is no model {model!r}: {names} can be shot with, `rushes models import` brings others, and "
            f"{', '.join(list(CARDS)[1:])} can be priced without"
        )
    return CARDS[model], None


def cards_here() -> frozenset[str]:
    """The known cards whose weights are here."""
    return frozenset({PREVIS.name, *(one.card for one in house() if one.card in CARDS)})


def named(name: str) -> PackageFacts:
    """The house's package of that name, or the one that ships. Raises BadInput."""
    return shipped() if name == PREVIS.name else facts_of(path_of(name))


def path_of(name: str) -> Path:
    """Where the house's package of that name lies. Raises BadInput."""
    path = next((path for path in _files() if path.stem == name), None)
    if path is None:
        here = ", ".join([PREVIS.name, *(path.stem for path in _files())])
        raise BadInput(
            f"there is no model {name!r} here: it must be one of {here}; `rushes models import` brings others"
        )
    return path


def waiting() -> list[tuple[Path, int]]:
    """Imports that were begun and are not finished: their folders, and the bytes that these hold."""
    folders = sorted(paths.models().glob(f"{UNFINISHED}*"))
    return [(each, sum(file.stat().st_size for file in each.iterdir() if file.is_file())) for each in folders]


def _files() -> list[Path]:
    return sorted(path for path in paths.models().glob("*.safetensors") if not path.name.startswith("."))


def known() -> list[Known]:
    """The named cards, smallest first."""
    from models.cost.transformer import parameters, weights_bytes  # start-up

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
        metadata={name: one_line(text, limit=MAX_HEADER_BYTES) for name, text in header.metadata.items()},
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
