"""Which card a transformer follows: by its shapes, then by the names of its file and folders, then by options.

Torch-free. Shapes give sizes and inputs. They do not give: 480P or 720P; Wan 2.1 or an expert of 2.2; which of the two
experts; whether the model was distilled to a few steps. The names of the file and its folders often do; where they do
not, the import is refused with the option that decides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from models.card import CARDS, FEW_STEPS, PREVIS, Card, few_steps
from models.errors import BadInput

HEAD_DIM = 128  # of all Wan models
NOISE_EXPERTS = ("high", "low")  # noise levels of the two experts of Wan 2.2, in the order they work
BASE = "base"  # of --distilled: not distilled, whatever the name of the file suggests

# What the name of a file or folder may contain, in lower case; never inside a word.
HINTS = {
    "high": r"high[-_ ]?noise|(?<![a-z])high(?![a-z])",
    "low": r"low[-_ ]?noise|(?<![a-z])low(?![a-z])",
    "480p": r"(?<![0-9])480p?(?![0-9])",
    "720p": r"(?<![0-9])720p?(?![0-9])",
    "wan2.1": r"wan[-_. ]?2[-_.]?1(?![0-9])",
    "wan2.2": r"wan[-_. ]?2[-_.]?2(?![0-9])|a14b",
    # of FEW_STEPS, the most general last: "lightx2v/..._mean_flow" is mean-flow
    "mean-flow": r"mean[-_ ]?flow",
    "fastwan": r"fast[-_ ]?wan",
    "rcm": r"(?<![a-z])rcm(?![a-z])|turbo[-_ ]?(diffusion|wan)",
    "lightx2v": r"lightx2v|distill|(?<![0-9])4[-_ ]?steps?(?![a-z])|lightning",
}
READS = {  # what distinguishes the families, in words
    "in_channels": "input channels", "out_channels": "output channels", "image_dim": "image embedding width",
    "image_positions": "image positions", "vace_channels": "VACE channels", "camera_channels": "camera channels",
    "reference_channels": "reference channels",
}  # fmt: skip
SIZES = ("dim", "ffn", "heads", "layers", "text_dim", "freq_dim", "vace_layers")


@dataclass(frozen=True, slots=True)
class Answers:
    """The options of the command that decide what the file does not."""

    card: str | None = None  # --card NAME
    distilled: str | None = None  # --distilled METHOD, of FEW_STEPS, or BASE


def hints_of(path: Path) -> frozenset[str]:
    """The hints, of HINTS, in the names of a file and of the two folders around it."""
    text = "/".join(path.parts[-3:]).lower()
    found = {hint for hint, pattern in HINTS.items() if re.search(pattern, text)}
    for one, other in (("high", "low"), ("480p", "720p"), ("wan2.1", "wan2.2")):
        if {one, other} <= found:  # the folder is called after both: the name of the file counts
            own = {hint for hint in (one, other) if re.search(HINTS[hint], path.name.lower())}
            found -= {one, other} - (own if len(own) == 1 else set())
    return frozenset(found)


def measured(shapes: Mapping[str, tuple[int, ...]], where: str) -> Card:
    """The sizes of a transformer by its shapes (original names); what they do not give is as in T2V.

    Raises BadInput where a tensor is missing that gives a size, or has a shape that no Wan model has.
    """

    def size(name: str, axis: int, dimensions: int) -> int:
        shape = shapes.get(name)
        if shape is None:
            raise BadInput(
                f"{where} has no tensor {name}: the file is incomplete; give all of its shards, or download it again"
            )
        if len(shape) != dimensions or not 0 < shape[axis] <= 65_536:
            raise BadInput(
                f"{where} has {name} of shape {shape}, which no Wan model has; use the file as it was published"
            )
        return shape[axis]

    dim = size("head.modulation", -1, 3)
    if dim % HEAD_DIM:
        raise BadInput(
            f"{where} is a transformer of width {dim}, not a multiple of {HEAD_DIM}, so it is not a Wan checkpoint; "
            "give a Wan 2.1 or 2.2 model"
        )
    blocks = {int(name.split(".")[1]) for name in shapes if name.startswith("blocks.")}
    layers, vace = len(blocks), len({name.split(".")[1] for name in shapes if name.startswith("vace_blocks.")})
    if blocks != set(range(layers)) or not layers:
        missing = min(set(range(len(blocks) + 1)) - blocks)
        raise BadInput(
            f"{where} has no block {missing} of its {layers + 1}: the file is incomplete; give all of its shards"
        )
    patches = shapes.get("patch_embedding.weight", ())
    channels = (
        patches[1] // 4 if len(patches) == 2 else size("patch_embedding.weight", 1, 5)
    )  # flattened in the files of rCM
    pictures, rays = "img_emb.proj.0.weight" in shapes, "control_adapter.conv.weight" in shapes
    return Card(
        name="", dim=dim, heads=dim // HEAD_DIM, layers=layers, in_channels=channels,
        ffn=size("blocks.0.ffn.0.weight", 0, 2),
        out_channels=size("head.head.weight", 0, 2) // 4,
        text_dim=size("text_embedding.0.weight", 1, 2),
        freq_dim=size("time_embedding.0.weight", 1, 2),
        image_dim=size("img_emb.proj.0.weight", 0, 1) if pictures else 0,
        image_positions=size("img_emb.emb_pos", 1, 3) if "img_emb.emb_pos" in shapes else 0,
        vace_layers=tuple(range(0, layers, layers // vace))[:vace] if 0 < vace <= layers else (),
        vace_channels=size("vace_patch_embedding.weight", 1, 5) if vace else 0,
        camera_channels=size("control_adapter.conv.weight", 1, 4) // 64 if rays else 0,
        reference_channels=size("ref_conv.weight", 1, 4) if "ref_conv.weight" in shapes else 0,
    )  # fmt: skip


def candidates(found: Card, where: str) -> list[Card]:
    """The cards that fit a network of these shapes, with its sizes. Raises BadInput where there is none."""
    family = [card for card in CARDS.values() if card is not PREVIS and _reads(card) == _reads(found)]
    if not family:
        what = ", ".join(f"{text} {value}" for text, value in zip(READS.values(), _reads(found), strict=True) if value)
        raise BadInput(
            f"{where} is a Wan transformer of a kind that Rushes does not support ({what}); `rushes models` "
            "lists the models that it supports"
        )
    same = [card for card in family if all(getattr(card, name) == getattr(found, name) for name in SIZES)]
    sizes = {name: getattr(found, name) for name in SIZES}
    return same or [replace(card, **sizes, name=f"{card.name}-{found.dim}x{found.layers}") for card in family]


def chosen(cards: list[Card], hints: frozenset[str], answers: Answers, where: str) -> Card:
    """The card of the file, with the changes of a distilled model. Raises BadInput where it is not clear which card."""
    names = {card.name: card for card in cards} | {card.name.removesuffix(_sizes(card)): card for card in cards}
    if answers.card is not None:
        if answers.card not in names:
            fit = ", ".join(sorted(set(names) & set(CARDS)))
            raise BadInput(
                f"--card is {answers.card!r}, whose shapes are not those of {where}: it must be one of {fit}"
            )
        return distilled(names[answers.card], hints, answers)
    left = [card for card in cards if all(_fits(card, hint) for hint in hints)]
    if len(left) != 1:
        options = " or ".join(f"--card {card.name.removesuffix(_sizes(card))}" for card in left or cards)
        raise BadInput(f"{where} could be one of several models: add {options}")
    return distilled(left[0], hints, answers)


def distillation_of(hints: frozenset[str]) -> str | None:
    """The distillation method of a file, of FEW_STEPS, by its name."""
    return next((hint for hint in HINTS if hint in hints and hint in FEW_STEPS), None)


def distilled(card: Card, hints: frozenset[str], answers: Answers) -> Card:
    """The card, changed for a model that was distilled to a few steps. Raises BadInput for an unknown method."""
    method = answers.distilled or distillation_of(hints) or BASE
    if method != BASE and method not in FEW_STEPS:
        raise BadInput(f"--distilled is {method!r}: it must be {', '.join(FEW_STEPS)}, or {BASE}")
    return card if method == BASE else few_steps(card, method)


def expert_of(hints: frozenset[str], where: str) -> str:
    """Which of two experts a file is, by its name. Raises BadInput where the name does not say."""
    named = [expert for expert in NOISE_EXPERTS if expert in hints]
    if len(named) != 1:
        raise BadInput(
            f"{where} could be the high-noise or the low-noise expert: give it as --high {where} or --low {where}"
        )
    return named[0]


def _fits(card: Card, hint: str) -> bool:
    """Whether a hint does not contradict a card."""
    if hint in ("480p", "720p"):
        return hint in card.name or not card.name.startswith("wan2.1-i2v")
    if hint in ("wan2.1", "wan2.2"):
        return card.name.startswith(hint)
    return card.experts == 2 if hint in NOISE_EXPERTS else True


def _reads(card: Card) -> tuple[int, ...]:
    return tuple(getattr(card, name) for name in READS)


def _sizes(card: Card) -> str:
    return f"-{card.dim}x{card.layers}"
