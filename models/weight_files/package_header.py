"""The metadata of a package: format, scheme, card and licence, checked before they are believed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.card import PREDICTIONS, SOLVERS, Card
from models.errors import BadInput
from models.weight_files.safetensors_header import Header, read_header

FORMAT = "rushes.package/1"


SCHEMES = (
    "none",
    "w8a8/1",
    "w4a8/1",
)  # how the transformer's matrices are stored: as they are, or by models/loading/quantize.py


CARD_SIZES = (
    "dim", "ffn", "heads", "layers", "in_channels", "out_channels", "text_dim", "text_len", "freq_dim", "steps",
    "space_stride", "passes", "experts", "frames",
)  # fmt: skip


CARD_EXTRAS = ("image_dim", "image_positions", "vace_channels", "camera_channels", "reference_channels")  # 0: has none


def package_header(path: Path, way_out: str = "use another file") -> Header:
    """The header of a model package of ours. Raises BadInput, which ends with `way_out`."""
    header = read_header(path, way_out)
    if any(not (c.isprintable() or c == "\n") for pair in header.metadata.items() for c in "".join(pair)):
        raise BadInput(f"{path} is no model package: its metadata holds control characters; {way_out}")
    found = header.metadata.get("format", "none")
    if found != FORMAT:
        raise BadInput(f"{path} is no model package: its format is {found[:40]!r}, not {FORMAT!r}; {way_out}")
    for name in ("card", "data_sha256", "licence", "scheme"):
        if name not in header.metadata:
            raise BadInput(f"{path} does not say its {name}: it was not written by us; {way_out}")
    scheme = header.metadata["scheme"]
    if scheme not in SCHEMES:
        raise BadInput(f"{path} stores its weights as {scheme[:40]!r}, known are {', '.join(SCHEMES)}; {way_out}")
    return header


def card_to_json(card: Card) -> str:
    """A card as the header carries it."""
    return json.dumps(asdict(card), sort_keys=True)


def card_from_json(text: str) -> Card:
    """The inverse. Raises BadInput when a size is missing, unknown or out of bounds."""
    try:
        facts: dict[str, Any] = json.loads(text)
        lists: dict[str, Any] = {
            name: tuple(facts[name]) for name in ("patch", "guidance", "vace_layers", "levels") if name in facts
        }
        card = Card(**{**facts, **lists})
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadInput(f"the card in these weights cannot be read: {error}; use the original file") from error
    for name in CARD_SIZES:
        value = getattr(card, name)
        if type(value) is not int or not 1 <= value <= 65_536:
            raise BadInput(f"the card in these weights gives {name} as {value!r}; it must be 1 to 65536")
    for name in CARD_EXTRAS:
        value = getattr(card, name)
        if type(value) is not int or not 0 <= value <= 65_536:
            raise BadInput(f"the card in these weights gives {name} as {value!r}; it must be 0 to 65536")
    floats = (card.eps, card.shift, card.fps)
    if not all(type(value) in (int, float) and 0 < value < 1e6 for value in floats):
        raise BadInput(f"the card in these weights gives eps, shift and fps as {floats}; they must be above 0")
    if type(card.boundary) not in (int, float) or not 0 <= card.boundary < 1:
        raise BadInput(f"the card in these weights gives boundary as {card.boundary!r}; it must be 0 or more, below 1")
    pulls = card.guidance
    if len(pulls) != card.experts or not all(type(pull) in (int, float) and 0 < pull <= 100 for pull in pulls):
        raise BadInput(f"the card in these weights gives guidance as {pulls}; it must be one number for each expert")
    if card.solver not in SOLVERS:
        raise BadInput(f"the card in these weights gives solver as {card.solver!r}; it must be {' or '.join(SOLVERS)}")
    sound = all(type(level) in (int, float) and 0 < level <= 1 for level in card.levels)
    if not sound or list(card.levels) != sorted({*card.levels}, reverse=True):
        raise BadInput(f"the card in these weights gives levels as {card.levels}; they must fall from 1 towards 0")
    if card.levels and len(card.levels) != card.steps:
        raise BadInput(f"the card in these weights gives {len(card.levels)} levels for {card.steps} steps")
    hinted = card.vace_layers
    if not all(type(layer) is int for layer in hinted) or list(hinted) != sorted({*hinted} & {*range(card.layers)}):
        raise BadInput(f"the card in these weights gives vace_layers as {hinted}; they must be of its blocks, in order")
    if bool(hinted) != bool(card.vace_channels) or hinted[:1] not in ((), (0,)):
        raise BadInput(f"the card in these weights hints {len(hinted)} blocks by {card.vace_channels} channels")
    if card.patch != (1, 2, 2) or not all(isinstance(name, str) for name in (card.name, card.vae)):
        raise BadInput(f"the card in these weights has patches of {card.patch}; only 1x2x2 is known")
    if card.prediction not in PREDICTIONS:
        known = " or ".join(PREDICTIONS)
        raise BadInput(f"the card in these weights predicts {card.prediction!r}; only {known} is known")
    if card.dim % card.heads or card.head_dim % 2:
        raise BadInput(f"the card in these weights has {card.dim} channels in {card.heads} heads: no even share")
    return card
