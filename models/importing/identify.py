"""Which card a transformer's file follows: what its shapes tell, what its name hints at, what must be asked.

Torch-free. Sizes and what a network reads are in its shapes. Not in them: 480P or 720P, Wan 2.1 or one of the two
experts of 2.2, which of the two, and whether it was distilled to a few steps. The name of a file or of its folder often
says; where it does not, the operator is asked, and every question names the flag that answers it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from models.card import CARDS, FEW_STEPS, PREVIS, Card, few_steps
from models.errors import BadInput

HEAD_DIM = 128  # of every Wan
EXPERTS = ("high", "low")  # in the order they work: the first while the film is mostly noise
BASE = "base"  # an answer: not distilled, whatever the name says

# What a file's name may say, in lower case; nothing is read into letters inside a word.
HINTS = {
    "high": r"high[-_ ]?noise|(?<![a-z])high(?![a-z])",
    "low": r"low[-_ ]?noise|(?<![a-z])low(?![a-z])",
    "480p": r"(?<![0-9])480p?(?![0-9])",
    "720p": r"(?<![0-9])720p?(?![0-9])",
    "wan2.1": r"wan[-_. ]?2[-_.]?1(?![0-9])",
    "wan2.2": r"wan[-_. ]?2[-_.]?2(?![0-9])|a14b",
    # of FEW_STEPS, the plainest last: "lightx2v/..._mean_flow" is the first of these
    "mean-flow": r"mean[-_ ]?flow",
    "fastwan": r"fast[-_ ]?wan",
    "rcm": r"(?<![a-z])rcm(?![a-z])|turbo[-_ ]?(diffusion|wan)",
    "lightx2v": r"lightx2v|distill|(?<![0-9])4[-_ ]?steps?(?![a-z])|lightning",
}
READS = {  # what sets families apart, in words
    "in_channels": "channels in", "out_channels": "channels out", "image_dim": "width of pictures",
    "image_positions": "places of pictures", "vace_channels": "channels of hints", "camera_channels": "rays",
    "reference_channels": "channels of a reference",
}  # fmt: skip
SIZES = ("dim", "ffn", "heads", "layers", "text_dim", "freq_dim", "vace_layers")


@dataclass(frozen=True, slots=True)
class Answers:
    """What the operator said."""

    card: str | None = None  # --card NAME
    distilled: str | None = None  # --distilled WAY, of FEW_STEPS, or BASE


def hints_of(path: Path) -> frozenset[str]:
    """What the name of a file and of the two folders around it say, of HINTS."""
    text = "/".join(path.parts[-3:]).lower()
    found = {hint for hint, pattern in HINTS.items() if re.search(pattern, text)}
    for one, other in (("high", "low"), ("480p", "720p"), ("wan2.1", "wan2.2")):
        if {one, other} <= found:  # a folder of both: the file's own name counts
            own = {hint for hint in (one, other) if re.search(HINTS[hint], path.name.lower())}
            found -= {one, other} - (own if len(own) == 1 else set())
    return frozenset(found)


def measured(shapes: Mapping[str, tuple[int, ...]], where: str) -> Card:
    """The sizes that a transformer's shapes tell, under its original names; what they do not tell is as in T2V.

    Raises BadInput where a tensor that tells is missing or is no matrix of Wan.
    """

    def size(name: str, axis: int, dimensions: int) -> int:
        shape = shapes.get(name)
        if shape is None:
            raise BadInput(f"{where} lacks {name}: it is not whole, bring all of its parts")
        if len(shape) != dimensions or not 0 < shape[axis] <= 65_536:
            raise BadInput(f"{where} holds {name} of shape {shape}, which no Wan has; bring the file as published")
        return shape[axis]

    dim = size("head.modulation", -1, 3)
    if dim % HEAD_DIM:
        raise BadInput(f"{where} is {dim} wide, which does not divide into heads of {HEAD_DIM}: it is no Wan")
    blocks = {int(name.split(".")[1]) for name in shapes if name.startswith("blocks.")}
    layers, hinted = len(blocks), len({name.split(".")[1] for name in shapes if name.startswith("vace_blocks.")})
    if blocks != set(range(layers)) or not layers:
        missing = min(set(range(len(blocks) + 1)) - blocks)
        raise BadInput(f"{where} has no block {missing} of its {layers + 1}: bring all of its shards")
    patches = shapes.get("patch_embedding.weight", ())
    channels = patches[1] // 4 if len(patches) == 2 else size("patch_embedding.weight", 1, 5)  # flat: rCM's files
    pictures, rays = "img_emb.proj.0.weight" in shapes, "control_adapter.conv.weight" in shapes
    return Card(
        name="", dim=dim, heads=dim // HEAD_DIM, layers=layers, in_channels=channels,
        ffn=size("blocks.0.ffn.0.weight", 0, 2),
        out_channels=size("head.head.weight", 0, 2) // 4,
        text_dim=size("text_embedding.0.weight", 1, 2),
        freq_dim=size("time_embedding.0.weight", 1, 2),
        image_dim=size("img_emb.proj.0.weight", 0, 1) if pictures else 0,
        image_positions=size("img_emb.emb_pos", 1, 3) if "img_emb.emb_pos" in shapes else 0,
        vace_layers=tuple(range(0, layers, layers // hinted))[:hinted] if 0 < hinted <= layers else (),
        vace_channels=size("vace_patch_embedding.weight", 1, 5) if hinted else 0,
        camera_channels=size("control_adapter.conv.weight", 1, 4) // 64 if rays else 0,
        reference_channels=size("ref_conv.weight", 1, 4) if "ref_conv.weight" in shapes else 0,
    )  # fmt: skip


def candidates(found: Card, where: str) -> list[Card]:
    """The cards that a network of these shapes may follow, in its sizes. Raises BadInput where there is none."""
    family = [card for card in CARDS.values() if card is not PREVIS and _reads(card) == _reads(found)]
    if not family:
        what = ", ".join(f"{text} {value}" for text, value in zip(READS.values(), _reads(found), strict=True) if value)
        raise BadInput(f"{where} is a transformer of a kind that Rushes does not shoot with: {what}")
    same = [card for card in family if all(getattr(card, name) == getattr(found, name) for name in SIZES)]
    sizes = {name: getattr(found, name) for name in SIZES}
    return same or [replace(card, **sizes, name=f"{card.name}-{found.dim}x{found.layers}") for card in family]


def chosen(cards: list[Card], hints: frozenset[str], answers: Answers, where: str) -> Card:
    """The one that is meant, with what distilling changes. Raises BadInput with a question where nothing says which."""
    names = {card.name: card for card in cards} | {card.name.removesuffix(_sizes(card)): card for card in cards}
    if answers.card is not None:
        if answers.card not in names:
            fit = ", ".join(sorted(set(names) & set(CARDS)))
            raise BadInput(f"--card is {answers.card!r}, whose shapes are not those of {where}: it may be {fit}")
        return distilled(names[answers.card], hints, answers)
    left = [card for card in cards if all(_fits(card, hint) for hint in hints)]
    if len(left) != 1:
        ways = " or ".join(f"--card {card.name.removesuffix(_sizes(card))}" for card in left or cards)
        raise BadInput(f"{where} does not tell which model it is: say {ways}")
    return distilled(left[0], hints, answers)


def way_of(hints: frozenset[str]) -> str | None:
    """How a file was distilled, of FEW_STEPS, by its name."""
    return next((hint for hint in HINTS if hint in hints and hint in FEW_STEPS), None)


def distilled(card: Card, hints: frozenset[str], answers: Answers) -> Card:
    """The card as it is, or as a file that was distilled to a few steps wants it. Raises BadInput for another way."""
    way = answers.distilled or way_of(hints) or BASE
    if way != BASE and way not in FEW_STEPS:
        raise BadInput(f"--distilled is {way!r}: it must be {', '.join(FEW_STEPS)}, or {BASE}")
    return card if way == BASE else few_steps(card, way)


def expert_of(hints: frozenset[str], where: str) -> str:
    """Which of two experts a file is, by its name. Raises BadInput with a question where that does not say."""
    said = [expert for expert in EXPERTS if expert in hints]
    if len(said) != 1:
        raise BadInput(f"{where} does not tell which of two experts it is: say --high {where} or --low {where}")
    return said[0]


def _fits(card: Card, hint: str) -> bool:
    """Whether a hint speaks for a card, or not against it."""
    if hint in ("480p", "720p"):
        return hint in card.name or not card.name.startswith("wan2.1-i2v")
    if hint in ("wan2.1", "wan2.2"):
        return card.name.startswith(hint)
    return card.experts == 2 if hint in EXPERTS else True


def _reads(card: Card) -> tuple[int, ...]:
    return tuple(getattr(card, name) for name in READS)


def _sizes(card: Card) -> str:
    return f"-{card.dim}x{card.layers}"
