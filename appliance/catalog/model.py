"""The model that a shot is made with: its package, its card, and who reads its words."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.catalog import installed as packages
from appliance.library.embeddings import Reader, has
from appliance.library.transitions import Ledger
from models.card import PREVIS, Card, reads_text
from models.controls.inputs import needs_first, needs_last, takes_first, takes_keys, takes_last
from models.errors import BadInput
from models.weight_files.package_header import card_from_json, package_header

if TYPE_CHECKING:
    from appliance.direction.shot import ShotDirection


@dataclass(frozen=True, slots=True)
class Model:
    """A package that is here."""

    name: str  # of the package
    card: Card
    path: Path
    sha256: str  # of the package's data, as its header says
    held: str | None  # the precision that it holds; None: the one that ships knows its own
    reader: Reader | None = None  # of its words; None where it reads none
    lacks: str = ""  # what it needs to shoot and was imported without, in words

    def texts(self, direction: ShotDirection) -> tuple[str, str]:
        """What it is told of a direction, and what it is told not to show; both empty where it reads no words. A model
        that is not guided by its words is told nothing of the second.
        """
        from appliance.capability.prompt import negative, prompt  # start-up

        if self.reader is None:
            return "", ""
        return prompt(direction), negative(direction, self.card) if self.card.passes > 1 else ""

    def pictures(self, direction: ShotDirection) -> dict[str, Any]:
        """The paths of the pictures that frames of the film should match, as far as it reads them: "first", "last", and
        "keys", pairs of a frame and a path. Raises BadInput where one is missing.
        """
        taken = {"first": takes_first(self.card), "last": takes_last(self.card)}
        needed = {"first": needs_first(self.card), "last": needs_last(self.card)}
        found: dict[str, Any] = {}
        for name in taken:
            path = getattr(direction.refs, name) if taken[name] else None
            if path is None and taken[name] and needed[name]:
                way = {"first": "begins", "last": "ends"}[name]
                raise BadInput(
                    f"the model {self.name} makes a film that {way} with a picture: give its path in refs.{name}, or "
                    "shoot with another model"
                )
            if path is not None:
                _there(f"refs.{name}", path)
            found[name] = path
        keys = direction.refs.keyframes if takes_keys(self.card) else ()
        for i, key in enumerate(keys):
            _there(f"refs.keyframes[{i}].path", key.path)
        return found | {"keys": [[direction.frame_at(key.t_s), key.path] for key in keys]}

    def read(self, direction: ShotDirection) -> tuple[str, ...]:
        """The texts that its encoder reads for a direction: one for each pass."""
        return () if self.reader is None else self.texts(direction)[: self.card.passes]


def to_shoot(name: str | None) -> Model:
    """The model of a name, or the one that ships. Raises BadInput where none is here, or not all of its parts."""
    model = named(name)
    if model.lacks:
        raise BadInput(
            f"the model {name} was imported without its {model.lacks}, and cannot shoot: import it whole, or shoot "
            f"with {PREVIS.name}"
        )
    return model


def named(name: str | None) -> Model:
    """The model of a name; None is the one that ships. Raises BadInput where there is no such package."""
    if name is None or name == PREVIS.name:
        facts = packages.shipped()
        return Model(PREVIS.name, PREVIS, facts.path, facts.metadata["data_sha256"], None)
    path = packages.path_of(name)
    header = package_header(path, "import it again")
    card = card_from_json(header.metadata["card"])
    lacks = _lacks(card, {tensor.partition(".")[0] for tensor in header.entries})
    digest = header.metadata["data_sha256"]
    reader = Reader(digest, card.text_len, card.text_dim) if reads_text(card) else None
    return Model(name, card, path, digest, packages.PRECISIONS[header.metadata["scheme"]], reader, lacks)


def chosen(direction: ShotDirection) -> tuple[ShotDirection, Card, packages.InstalledPackage | None]:
    """The direction with the name of the package that it will be shot with, its card, and the package where it is the
    house's. A card's name stands for the package that is here of it, and where none is, the card can still be priced.
    Raises BadInput for a name that is neither.
    """
    card, own = packages.priced(direction.model)
    return (dataclasses.replace(direction, model=own.name) if own else direction), card, own


def words_known(library: Ledger, model: Model, direction: ShotDirection) -> bool:
    """Whether all that the model reads of a direction was read before: its encoder then stays away."""
    return model.reader is not None and has(library, model.reader, model.read(direction))


def names() -> list[str]:
    """The models that can be shot with, the one that ships first."""
    return [PREVIS.name, *(one.name for one in packages.house() if not one.trouble)]


def _there(field: str, path: str) -> None:
    if not Path(path).is_file():
        raise BadInput(f"{field} is {path}, where there is no file: name a picture that is there")


def _lacks(card: Card, parts: set[str]) -> str:
    """What the package lacks of what the card needs, in words."""
    needed = ["transformer", *(["transformer_2"] if card.experts > 1 else []), "vae"]
    needed += ["text", "tokenizer"] if reads_text(card) else []
    needed += ["vision"] if card.image_dim else []
    return " and ".join(packages.PARTS[part] for part in needed if part not in parts)
