"""The model of a shot: its package, its card, and the text encoder that reads its prompt."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.catalog import installed as packages
from appliance.library.embeddings import Reader, has
from appliance.library.transitions import Ledger
from models.card import PREVIS, Card, reads_text
from models.controls.inputs import (
    needs_first_frame,
    needs_last_frame,
    reads_first_frame,
    reads_keyframes,
    reads_last_frame,
)
from models.errors import BadInput
from models.weight_files.package_header import PARTS, PRECISIONS, card_from_json, missing_parts, package_header

if TYPE_CHECKING:
    from appliance.direction.shot import ShotDirection


@dataclass(frozen=True, slots=True)
class ShotModel:
    """The installed model that a shot is rendered with."""

    name: str  # of the package
    card: Card
    path: Path
    sha256: str  # of the package's data, as its header states
    package_precision: str | None  # None: the model that ships, whose plan chooses
    reader: Reader | None = None  # its text encoder; None where it has none
    missing: str = ""  # parts that it needs to render and was imported without, in words

    def prompts(self, direction: ShotDirection) -> tuple[str, str]:
        """Its prompt and negative prompt for a direction, both empty where it has no text encoder. Without
        classifier-free guidance there is no negative prompt.
        """
        from appliance.capability.prompt import negative, prompt  # start-up

        if self.reader is None:
            return "", ""
        return prompt(direction), negative(direction, self.card) if self.card.passes > 1 else ""

    def pictures(self, direction: ShotDirection) -> dict[str, Any]:
        """The paths of the reference pictures that it takes: "first", "last", and "keys", pairs of a frame and a path.
        Raises BadInput where one is missing.
        """
        taken = {"first": reads_first_frame(self.card), "last": reads_last_frame(self.card)}
        needed = {"first": needs_first_frame(self.card), "last": needs_last_frame(self.card)}
        found: dict[str, Any] = {}
        for name in taken:
            path = getattr(direction.refs, name) if taken[name] else None
            if path is None and taken[name] and needed[name]:
                raise BadInput(
                    f"the model {self.name} needs a picture of the {name} frame: give its path in refs.{name}, or "
                    "shoot with another model"
                )
            if path is not None:
                _require_file(f"refs.{name}", path)
            found[name] = path
        keys = direction.refs.keyframes if reads_keyframes(self.card) else ()
        for i, key in enumerate(keys):
            _require_file(f"refs.keyframes[{i}].path", key.path)
        return found | {"keys": [[direction.frame_at(key.t_s), key.path] for key in keys]}

    def encoded_texts(self, direction: ShotDirection) -> tuple[str, ...]:
        """The texts that its encoder reads for a direction, one for each guidance pass."""
        return () if self.reader is None else self.prompts(direction)[: self.card.passes]


def usable_model(name: str | None) -> ShotModel:
    """The installed model of a name; None is the one that ships. Raises BadInput where it is missing or incomplete."""
    model = model_named(name)
    if model.missing:
        raise BadInput(
            f"the model {name} was imported without its {model.missing} and cannot render: import it again with all "
            f"of its parts, or shoot with {PREVIS.name}"
        )
    return model


def model_named(name: str | None) -> ShotModel:
    """The installed model of a name, complete or not; None is the one that ships. Raises BadInput."""
    if name is None or name == PREVIS.name:
        package = packages.shipped()
        return ShotModel(PREVIS.name, PREVIS, package.path, package.metadata["data_sha256"], None)
    path = packages.package_path(name)
    header = package_header(path, packages.REIMPORT)
    card = card_from_json(header.metadata["card"])
    present = {tensor.partition(".")[0] for tensor in header.entries}
    missing = " and ".join(PARTS[part] for part in missing_parts(card, present))
    digest = header.metadata["data_sha256"]
    reader = Reader(digest, card.text_len, card.text_dim) if reads_text(card) else None
    return ShotModel(name, card, path, digest, PRECISIONS[header.metadata["scheme"]], reader, missing)


def resolve_model(direction: ShotDirection) -> tuple[ShotDirection, Card, packages.InstalledPackage | None]:
    """The direction with the name of the package that will render it, its card, and the package if it was imported.

    The name of a card means the imported package of it; where there is none, the card can still be quoted. Raises
    BadInput for a name that is neither.
    """
    card, package = packages.card_and_package(direction.model)
    return (dataclasses.replace(direction, model=package.name) if package else direction), card, package


def text_is_cached(library: Ledger, model: ShotModel, direction: ShotDirection) -> bool:
    """Whether the embeddings of all the texts are in the library, so that the text encoder need not be loaded."""
    return model.reader is not None and has(library, model.reader, model.encoded_texts(direction))


def names() -> list[str]:
    """The models that are installed, the one that ships first."""
    return [PREVIS.name, *(one.name for one in packages.packages_here() if not one.trouble)]


def _require_file(field: str, path: str) -> None:
    if not Path(path).is_file():
        raise BadInput(f"{field} is {path}, and there is no such file: give the path of a picture")
