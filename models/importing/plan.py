"""Plan a package: every tensor's name, shape and stored form, before any weight is read.

All that can be refused is refused here: unknown card or expert, missing parts, shapes that do not match. The expected
shapes are those of our own networks (built on the meta device), so a package that was written can be loaded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn

from models.card import UMT5_XXL, Card, TextCard
from models.dit.wan import Transformer
from models.encoders.clip import CLIP_VIT_H_14, VisionTower
from models.encoders.tokenizer import Tokenizer
from models.encoders.umt5 import TextEncoder
from models.errors import BadInput
from models.importing.gather import Gathered, GatheredNetwork
from models.importing.identify import NOISE_EXPERTS, Answers, candidates, chosen, expert_of, measured
from models.importing.layouts import Piece
from models.importing.lora import Lora, read_lora
from models.importing.sources import Source
from models.loading.quantize import quantize
from models.vae.wan import KINDS, WanVAE
from models.weight_files.package_header import (
    EXPERTS,
    PARTS,
    SCHEME_INT8,
    SCHEME_NONE,
    SCHEMES,
    card_to_json,
    missing_parts,
)
from models.weight_files.package_writer import Group, TensorSpec, group
from models.weight_files.tensors import DTYPE_NAMES

PREFIX_OF = dict(zip(NOISE_EXPERTS, EXPERTS, strict=True))
FLAT = ("patch_embedding.weight", "cls_embedding", "pos_embedding")  # some files store these with fewer axes
# The parts that a model needs next to its transformer, and the names of their published files.
FILES = {
    "vae": "Wan2.1_VAE or Wan2.2_VAE", "text": "umt5-xxl", "vision": "clip_vision_h",
    "tokenizer": "spiece.model of umt5",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Network:
    """One network of the package: its prefix there, where it comes from, and how it is stored."""

    prefix: str
    gathered: GatheredNetwork
    card: Card | TextCard | None  # None: not quantized
    scheme: str
    shapes: dict[str, tuple[int, ...]]  # of every tensor, without the prefix
    loras: tuple[tuple[Lora, float], ...] = ()

    @property
    def keep(self) -> frozenset[int]:
        """The blocks that stay in bf16."""
        assert self.card is not None
        return frozenset(range(self.card.layers)) if self.scheme == SCHEME_NONE else self.card.kept_blocks

    def store(self, name: str, tensor: Tensor) -> dict[str, Tensor]:
        """A tensor in its stored form, with its scales. Networks that are not quantized keep their dtype."""
        if self.card is None:
            wide = tensor.float() if tensor.dtype == torch.float64 else tensor
            kept = (torch.float32, torch.bfloat16, torch.float16)
            return {name: wide if wide.dtype in kept else wide.to(torch.bfloat16)}
        scheme = SCHEME_INT8 if self.scheme == SCHEME_NONE else self.scheme
        return quantize({name: tensor}, self.card, self.keep, (), scheme)

    def specs(self, name: str) -> list[TensorSpec]:
        """Names, dtypes and shapes of a tensor's stored form, found by storing one row of zeros."""
        shape = self.shapes[name]
        if self.card is None:
            dtype = self.gathered.source.tensors[self.piece(name).keys[0]].dtype
            known = {"F64": "F32", "F32": "F32", "F16": "F16"}.get(dtype, "BF16")
            return [TensorSpec(self.prefix + name, "BF16" if self.piece(name).scale else known, shape)]
        stored = self.store(name, torch.zeros(1, *shape[1:]))
        return [
            TensorSpec(self.prefix + part, DTYPE_NAMES[row.dtype], (shape[0], *row.shape[1:]))
            for part, row in stored.items()
        ]

    def piece(self, name: str) -> Piece:
        """The tensors of the file that a tensor is read from."""
        return self.gathered.found.pieces[name]

    def groups(self) -> Iterator[tuple[Group, tuple[str, ...]]]:
        """Groups that are written together, each with the names of its tensors."""
        names: dict[str, list[str]] = {}
        for name in self.shapes:
            names.setdefault(_group_of(name), []).append(name)
        for key, members in names.items():
            specs = [spec for name in members for spec in self.specs(name)]
            yield group(f"{self.prefix}{key}", specs), tuple(members)


@dataclass(frozen=True, slots=True)
class Planned:
    """The plan of a package."""

    card: Card
    networks: tuple[Network, ...]
    vocabulary: bytes
    metadata: dict[str, str]
    left_out: tuple[str, ...]  # files that are not needed, in words

    @property
    def sources(self) -> list[GatheredNetwork]:
        """The networks that are read."""
        return [network.gathered for network in self.networks]


def planned(
    found: Gathered, answers: Answers, precision: str, loras: Sequence[tuple[Source, float, str | None]]
) -> Planned:
    """Plan the package of these networks. Parts may be missing: see `missing`. Raises BadInput, in one line with the
    option that helps. loras: file, strength, and the expert that it is for (None: both).
    """
    card, experts = _transformers(found.parts("transformer"), answers)
    networks = [_transformer(card, expert, one, SCHEMES[precision]) for expert, one in experts.items()]
    networks = [_with_loras(network, expert, loras) for network, expert in zip(networks, experts, strict=True)]
    needed = {"vae", "text", *(["vision"] if card.image_dim else [])}
    left_out, metadata = [], {"card": card_to_json(card), "scheme": SCHEMES[precision]}
    vocabulary = b""
    for part in ("vae", "text", "vision"):
        usable = [one for one in found.parts(part) if part in needed and (part != "vae" or one.found.kind == card.vae)]
        left_out += [f"{one.path}: {card.name} does not need it" for one in found.parts(part) if one not in usable]
        if len(usable) > 1:
            raise BadInput(f"{usable[0].path} and {usable[1].path} could both be {file_words(part)}: give one of them")
        for one in usable:
            network, facts = {"vae": _coder, "text": _text, "vision": _vision}[part](card, one, precision)
            networks.append(network)
            metadata |= facts
            if part == "text":
                vocabulary = _vocabulary(found, one, network)
    return Planned(card, tuple(networks), vocabulary, metadata, tuple(left_out))


def missing(plan: Planned) -> list[str]:
    """The parts, of FILES, that the model needs to render and that were not among the files."""
    present = [network.prefix.rstrip(".") for network in plan.networks]
    return missing_parts(plan.card, [*present, *(["tokenizer"] if plan.vocabulary else [])])


def file_words(part: str) -> str:
    """A part and how its published file is called: "its text encoder (umt5-xxl)"."""
    return f"its {PARTS[part]} ({FILES[part]})"


def _transformers(gathered: list[GatheredNetwork], answers: Answers) -> tuple[Card, dict[str, GatheredNetwork]]:
    """The card, and its experts in the order in which they work."""
    if not gathered:
        raise BadInput("no transformer was given: give the file of the model itself, not only its other parts")
    if len(gathered) > 2:
        raise BadInput(
            f"{len(gathered)} transformers were given ({gathered[0].path}, ...): give one, or the two "
            "experts of one model"
        )
    cards = []
    hints = frozenset().union(*(one.hints for one in gathered))
    for one in gathered:
        where = str(one.path)
        cards.append(candidates(measured(one.found.shapes, where), where))
    if len(gathered) == 2:
        both = [card for card in cards[0] if card.experts == 2 and card in cards[1]]
        if not both:
            raise BadInput(
                f"{gathered[0].path} and {gathered[1].path} are both transformers, but not the two experts "
                "of one model: give one of them"
            )
        card = chosen(both, hints - {"high", "low"}, answers, str(gathered[0].path))
        experts = {expert_of(one.hints, str(one.path)): one for one in gathered}
        if len(experts) != 2:
            raise BadInput(
                f"{gathered[0].path} and {gathered[1].path} seem to be the same expert by their names: give "
                "them as --high FILE --low FILE"
            )
        return card, {expert: experts[expert] for expert in NOISE_EXPERTS}
    card = chosen(cards[0], hints, answers, str(gathered[0].path))
    if card.experts == 2:
        raise BadInput(
            f"{gathered[0].path} is one of the two experts of {card.name}: give the other too, as --high "
            "FILE --low FILE"
        )
    return card, {"high": gathered[0]}


def _transformer(card: Card, expert: str, one: GatheredNetwork, scheme: str) -> Network:
    with torch.device("meta"):
        shapes = _fitting(one, Transformer(card), f"{card.name} network")
    return Network(PREFIX_OF[expert], one, card, scheme, shapes)


def _with_loras(network: Network, expert: str, loras: Sequence[tuple[Source, float, str | None]]) -> Network:
    merged = tuple((read_lora(source, network.shapes), by) for source, by, meant in loras if meant in (None, expert))
    return replace(network, loras=merged)


def _coder(card: Card, one: GatheredNetwork, precision: str) -> tuple[Network, dict[str, str]]:
    shapes = one.found.shapes
    widths = [shapes.get(name, (0,))[0] for name in ("encoder.conv1.weight", "decoder.head.0.gamma")]
    if not all(0 < width <= 4096 for width in widths):
        raise BadInput(f"{one.path} lacks the first or last layers of its autoencoder; use the complete file")
    kind = replace(KINDS[card.vae], encoder_width=widths[0], decoder_width=widths[1])
    with torch.device("meta"):
        network = Network("vae.", one, None, SCHEME_NONE, _fitting(one, WanVAE(kind), f"autoencoder of {card.vae}"))
    return network, {"vae": json.dumps({"kind": card.vae, "encoder_width": widths[0], "decoder_width": widths[1]})}


def _text(card: Card, one: GatheredNetwork, precision: str) -> tuple[Network, dict[str, str]]:
    shapes = one.found.shapes
    tables = {name: shapes.get(f"{name}.weight", ()) for name in (
        "token_embedding", "blocks.0.ffn.gate.0", "blocks.0.pos_embedding.embedding"
    )}  # fmt: skip
    if any(len(shape) != 2 for shape in tables.values()):
        name = next(name for name, shape in tables.items() if len(shape) != 2)
        raise BadInput(f"{one.path} lacks {name}.weight of its text encoder; use the complete file")
    (words, dim), (ffn, _), (_, heads) = tables.values()
    layers = len({name.split(".")[1] for name in shapes if name.startswith("blocks.")})
    text = TextCard(UMT5_XXL.name, words, dim, ffn, heads, layers)
    if dim != card.text_dim:
        raise BadInput(
            f"{one.path} gives text embeddings of width {dim}, but {card.name} needs {card.text_dim}: give "
            "the text encoder of this model"
        )
    if max(words, dim, ffn, heads, layers) > 2**20 or dim % heads:
        raise BadInput(
            f"{one.path} has width {dim} in {heads} heads, which no umT5 encoder has; use the file as it was published"
        )
    with torch.device("meta"):
        fitted = _fitting(one, TextEncoder(text), "umT5")
    scheme = SCHEME_NONE if precision == "bf16" else SCHEME_INT8  # int4 pays for weights that are read at every step
    facts = {key: value for key, value in asdict(text).items() if key != "kept_blocks"}
    return Network("text.", one, text, scheme, fitted), {"text": json.dumps(facts)}


def _vision(card: Card, one: GatheredNetwork, precision: str) -> tuple[Network, dict[str, str]]:
    shapes = one.found.shapes
    patches, hidden = shapes.get("patch_embedding.weight", ()), shapes.get("transformer.0.mlp.0.weight", ())
    layers = len({name.split(".")[1] for name in shapes if name.startswith("transformer.")})
    if len(patches) != 4 or len(hidden) != 2:
        raise BadInput(f"{one.path} lacks the first layers of its image encoder; use the complete file")
    tokens = shapes.get("pos_embedding", (0, 0))[-2]
    side = round((tokens - 1) ** 0.5) if tokens > 1 else 0
    tower = replace(
        CLIP_VIT_H_14, dim=patches[0], patch=patches[2], image=side * patches[2], ffn=hidden[0], layers=layers
    )
    if tower.dim != card.image_dim or tower.dim % tower.heads:
        raise BadInput(
            f"{one.path} gives image embeddings of width {tower.dim}, but {card.name} needs "
            f"{card.image_dim}: give the image encoder of this model"
        )
    with torch.device("meta"):
        fitted = _fitting(one, VisionTower(tower), "CLIP image encoder", spare=True)
    return Network("vision.", one, None, SCHEME_NONE, fitted), {"vision": json.dumps(asdict(tower))}


def _fitting(one: GatheredNetwork, network: nn.Module, what: str, spare: bool = False) -> dict[str, tuple[int, ...]]:
    """The shapes of a network's tensors. Raises BadInput unless the file has exactly these (`spare`: or more)."""
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    have = one.found.shapes
    for name, shape in expected.items():
        if name not in have:
            raise BadInput(
                f"{one.path} lacks {name}, which a {what} needs: the file is incomplete; give all of its "
                "shards, or download it again"
            )
        flat = name in FLAT and [n for n in have[name] if n != 1] == [n for n in shape if n != 1]
        rows = name == "patch_embedding.weight" and len(have[name]) == 2 and _flat_patches(shape) == have[name]
        if have[name] != shape and not flat and not rows:
            raise BadInput(
                f"{one.path} has {name} of shape {have[name]}, a {what} needs {shape}: use the file as it was published"
            )
    unknown = sorted(have.keys() - expected.keys())
    if unknown and not spare:
        raise BadInput(f"{one.path} has a tensor {unknown[0]}, which no {what} has: use the file as it was published")
    return expected


def _flat_patches(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(D, C, 1, 2, 2) as some files store it: (D, 4 C)."""
    return (shape[0], torch.Size(shape[1:]).numel())


def _vocabulary(found: Gathered, one: GatheredNetwork, network: Network) -> bytes:
    """The first tokenizer that matches this encoder: the one stored with the weights, or one of the files."""
    words = network.shapes["token_embedding.weight"][0]
    refused = None
    for path, data in ([(one.path, one.vocabulary)] if one.vocabulary else []) + found.vocabularies:
        try:
            Tokenizer(data, words, source=str(path))
        except BadInput as error:
            refused = error  # Wan's folders also hold the tokenizer of another encoder
            continue
        return data
    if refused is not None:
        raise refused
    return b""


def _group_of(name: str) -> str:
    """The group of a tensor: its block, else the first words of its name."""
    found = re.match(r"((?:\w+_)?(?:blocks|transformer)\.\d+|(?:encoder|decoder)\.\w+|token_embedding)\.", name)
    return found[1] if found else "rest"
