"""The metadata of a package: format, scheme, card, licence and parts, checked before they are used. Torch-free."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.card import PREDICTIONS, SOLVERS, Card, reads_text
from models.errors import BadInput
from models.weight_files.safetensors_header import Header, read_header

FORMAT = "rushes.package/1"
# How the transformer's matrices are stored: not quantised, or by models/loading/quantize.py.
SCHEME_NONE, SCHEME_INT8, SCHEME_INT4 = "none", "w8a8/1", "w4a8/1"
SCHEMES = {"int8": SCHEME_INT8, "int4": SCHEME_INT4, "bf16": SCHEME_NONE}  # by precision, as plans and commands name it
PRECISIONS = {scheme: precision for precision, scheme in SCHEMES.items()}

# What a package may hold, by the first word of its tensors' names, and what people call it.
PARTS = {
    "transformer": "transformer", "transformer_2": "second expert", "vae": "autoencoder", "text": "text encoder",
    "vision": "image encoder", "tokenizer": "tokenizer",
}  # fmt: skip
EXPERTS = ("transformer.", "transformer_2.")  # prefixes of the networks that share the steps, in the order they work
TOKENIZER = "tokenizer.file"  # a tensor that is the tokenizer's file, byte by byte

CARD_SIZES = (
    "dim", "ffn", "heads", "layers", "in_channels", "out_channels", "text_dim", "text_len", "freq_dim", "steps",
    "space_stride", "passes", "experts", "frames",
)  # fmt: skip
CARD_EXTRAS = ("image_dim", "image_positions", "vace_channels", "camera_channels", "reference_channels")  # 0: has none


def package_header(path: Path, way_out: str = "use another file") -> Header:
    """The header of a Rushes model package. Raises BadInput, which ends with `way_out`."""
    header = read_header(path, way_out)
    if any(not (c.isprintable() or c == "\n") for pair in header.metadata.items() for c in "".join(pair)):
        raise BadInput(f"{path} is not a Rushes package: its metadata holds control characters; {way_out}")
    found = header.metadata.get("format", "none")
    if found != FORMAT:
        raise BadInput(f"{path} is not a Rushes package: its format is {found[:40]!r}, not {FORMAT!r}; {way_out}")
    for name in ("card", "data_sha256", "licence", "scheme"):
        if name not in header.metadata:
            raise BadInput(f"{path} is not a complete Rushes package: its header has no {name}; {way_out}")
    scheme = header.metadata["scheme"]
    if scheme not in PRECISIONS:
        raise BadInput(
            f"{path} stores its weights as {scheme[:40]!r}; supported are {', '.join(PRECISIONS)}; {way_out}"
        )
    return header


def missing_parts(card: Card, present: Collection[str]) -> list[str]:
    """The parts, of PARTS, that a model of this card needs to render and that are not among those `present`."""
    needed = ["transformer", *(["transformer_2"] if card.experts > 1 else []), "vae"]
    needed += ["text", "tokenizer"] if reads_text(card) else []
    needed += ["vision"] if card.image_dim else []
    return [part for part in needed if part not in present]


def card_to_json(card: Card) -> str:
    """A card as the header stores it."""
    return json.dumps(asdict(card), sort_keys=True)


def card_from_json(text: str) -> Card:
    """A card from a header's text. Raises BadInput when a size is missing, unknown or out of bounds."""
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
    scales = card.guidance
    if len(scales) != card.experts or not all(type(scale) in (int, float) and 0 < scale <= 100 for scale in scales):
        raise BadInput(f"the card in these weights gives guidance as {scales}; it must be one number for each expert")
    if card.solver not in SOLVERS:
        raise BadInput(f"the card in these weights gives solver as {card.solver!r}; it must be {' or '.join(SOLVERS)}")
    valid = all(type(level) in (int, float) and 0 < level <= 1 for level in card.levels)
    if not valid or list(card.levels) != sorted({*card.levels}, reverse=True):
        raise BadInput(f"the card in these weights gives levels as {card.levels}; they must fall from 1 towards 0")
    if card.levels and len(card.levels) != card.steps:
        raise BadInput(f"the card in these weights gives {len(card.levels)} levels for {card.steps} steps")
    hinted = card.vace_layers
    if not all(type(layer) is int for layer in hinted) or list(hinted) != sorted({*hinted} & {*range(card.layers)}):
        raise BadInput(
            f"the card in these weights gives vace_layers as {hinted}; they must be numbers of its blocks, in order"
        )
    if bool(hinted) != bool(card.vace_channels) or hinted[:1] not in ((), (0,)):
        counts = f"{len(hinted)} vace_layers and {card.vace_channels} vace_channels"
        raise BadInput(f"the card in these weights gives {counts}; it must be none of both, or layers from 0 on")
    if card.patch != (1, 2, 2) or not all(isinstance(name, str) for name in (card.name, card.vae)):
        raise BadInput(f"the card in these weights has patches of {card.patch}; only (1, 2, 2) is supported")
    if card.prediction not in PREDICTIONS:
        known = " or ".join(PREDICTIONS)
        raise BadInput(f"the card in these weights predicts {card.prediction!r}; only {known} is supported")
    if card.dim % card.heads or card.head_dim % 2:
        heads = f"{card.dim} channels in {card.heads} heads"
        raise BadInput(f"the card in these weights has {heads}; each head must get the same even number")
    return card
