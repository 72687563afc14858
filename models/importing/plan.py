"""From networks that were brought to the package they will make: every tensor's place and form, before one is read.

Asked here, and refused here, is all that can be: which card, which expert, what is missing, what does not fit. What the
networks need is what ours have (built without memory), so a package that is written can be loaded.
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
from models.importing.gather import Brought, Gathered
from models.importing.identify import EXPERTS, Answers, candidates, chosen, expert_of, measured
from models.importing.layouts import Piece
from models.importing.lora import Lora, read_lora
from models.importing.sources import Source
from models.loading.quantize import SCHEME, SCHEME_INT4, quantize
from models.vae.wan import KINDS, WanVAE
from models.weight_files.package_header import card_to_json
from models.weight_files.package_writer import Group, Place, group
from models.weight_files.tensors import DTYPE_NAMES

PRECISIONS = {"int8": SCHEME, "int4": SCHEME_INT4, "bf16": "none"}  # --precision -> how the header names it
PREFIXES = {"high": "transformer.", "low": "transformer_2.", "vae": "vae.", "text": "text.", "vision": "vision."}
VOCABULARY = "tokenizer.file"  # a tensor that is the tokenizer's file, byte by byte
FLAT = ("patch_embedding.weight", "cls_embedding", "pos_embedding")  # stored with fewer axes by some
MISSING = {
    "vae": "its autoencoder (Wan2.1_VAE or Wan2.2_VAE)", "text": "its text encoder (umt5-xxl)",
    "vision": "its picture tower (clip_vision_h)", "tokenizer": "its tokenizer (spiece.model of umt5)",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Network:
    """One network of the package: what it is called there, where it comes from, and how it is stored."""

    prefix: str
    brought: Brought
    card: Card | TextCard | None  # of those that are quantized
    scheme: str
    shapes: dict[str, tuple[int, ...]]  # of every tensor, by its own name
    loras: tuple[tuple[Lora, float], ...] = ()

    @property
    def keep(self) -> frozenset[int]:
        """The blocks that stay in bf16."""
        assert self.card is not None
        return frozenset(range(self.card.layers)) if self.scheme == "none" else self.card.kept_blocks

    def store(self, name: str, tensor: Tensor) -> dict[str, Tensor]:
        """A tensor as the package holds it, with its companions. Networks that are not quantized keep their dtype."""
        if self.card is None:
            wide = tensor.float() if tensor.dtype == torch.float64 else tensor
            kept = (torch.float32, torch.bfloat16, torch.float16)
            return {name: wide if wide.dtype in kept else wide.to(torch.bfloat16)}
        scheme = SCHEME if self.scheme == "none" else self.scheme
        return quantize({name: tensor}, self.card, self.keep, (), scheme)

    def places(self, name: str) -> list[Place]:
        """How a tensor will be stored: one row tells how all of them lie."""
        shape = self.shapes[name]
        if self.card is None:
            dtype = self.brought.source.tensors[self.piece(name).keys[0]].dtype
            known = {"F64": "F32", "F32": "F32", "F16": "F16"}.get(dtype, "BF16")
            return [Place(self.prefix + name, "BF16" if self.piece(name).scale else known, shape)]
        stored = self.store(name, torch.zeros(1, *shape[1:]))
        return [
            Place(self.prefix + part, DTYPE_NAMES[row.dtype], (shape[0], *row.shape[1:]))
            for part, row in stored.items()
        ]

    def piece(self, name: str) -> Piece:
        """What a tensor is made of."""
        return self.brought.found.pieces[name]

    def groups(self) -> Iterator[tuple[Group, tuple[str, ...]]]:
        """What is written together, and the names of the tensors that it comes from."""
        names: dict[str, list[str]] = {}
        for name in self.shapes:
            names.setdefault(_group_of(name), []).append(name)
        for key, members in names.items():
            places = [place for name in members for place in self.places(name)]
            yield group(f"{self.prefix}{key}", places), tuple(members)


@dataclass(frozen=True, slots=True)
class Planned:
    """A package to come."""

    card: Card
    networks: tuple[Network, ...]
    vocabulary: bytes
    metadata: dict[str, str]
    left_out: tuple[str, ...]  # what was brought and is not needed, in words

    @property
    def sources(self) -> list[Brought]:
        """What is read."""
        return [network.brought for network in self.networks]


def planned(
    found: Gathered, answers: Answers, precision: str, loras: Sequence[tuple[Source, float, str | None]]
) -> Planned:
    """The package that these networks make. Raises BadInput, in one line, with the question where something must be
    asked. Parts may be missing: `missing` names them. loras: file, strength, and the expert that it is for.
    """
    card, experts = _transformers(found.parts("transformer"), answers)
    networks = [_transformer(card, expert, one, PRECISIONS[precision]) for expert, one in experts.items()]
    networks = [_with_loras(network, expert, loras) for network, expert in zip(networks, experts, strict=True)]
    needed = {"vae", "text", *(["vision"] if card.image_dim else [])}
    left_out, metadata = [], {"card": card_to_json(card), "scheme": PRECISIONS[precision]}
    vocabulary = b""
    for part in ("vae", "text", "vision"):
        usable = [one for one in found.parts(part) if part in needed and (part != "vae" or one.found.kind == card.vae)]
        left_out += [f"{one.path}: {card.name} needs none such" for one in found.parts(part) if one not in usable]
        if len(usable) > 1:
            raise BadInput(f"{usable[0].path} and {usable[1].path} are both {MISSING[part]}: name one of them")
        for one in usable:
            network, said = {"vae": _coder, "text": _words, "vision": _vision}[part](card, one, precision)
            networks.append(network)
            metadata |= said
            if part == "text":
                vocabulary = _vocabulary(found, one, network)
    return Planned(card, tuple(networks), vocabulary, metadata, tuple(left_out))


def missing(plan: Planned) -> list[str]:
    """What the model needs to shoot and was not brought, of MISSING."""
    here = {network.prefix for network in plan.networks}
    needed = ["vae", "text", *(["vision"] if plan.card.image_dim else [])]
    lacks = [part for part in needed if PREFIXES[part] not in here]
    return lacks + (["tokenizer"] if not plan.vocabulary else [])


def _transformers(brought: list[Brought], answers: Answers) -> tuple[Card, dict[str, Brought]]:
    """The card, and its experts in the order they work."""
    if not brought:
        raise BadInput("no transformer was named: name the file of the model itself, beside its other parts")
    if len(brought) > 2:
        raise BadInput(f"{len(brought)} transformers were named ({brought[0].path}, ...): name one, or two experts")
    cards = []
    hints = frozenset().union(*(one.hints for one in brought))
    for one in brought:
        where = str(one.path)
        cards.append(candidates(measured(one.found.shapes, where), where))
    if len(brought) == 2:
        both = [card for card in cards[0] if card.experts == 2 and card in cards[1]]
        if not both:
            raise BadInput(
                f"{brought[0].path} and {brought[1].path} are both transformers, and no two experts: name one"
            )
        card = chosen(both, hints - {"high", "low"}, answers, str(brought[0].path))
        experts = {expert_of(one.hints, str(one.path)): one for one in brought}
        if len(experts) != 2:
            raise BadInput(
                f"{brought[0].path} and {brought[1].path} are the same expert by their names: say --high, --low"
            )
        return card, {expert: experts[expert] for expert in EXPERTS}
    card = chosen(cards[0], hints, answers, str(brought[0].path))
    if card.experts == 2:
        raise BadInput(
            f"{brought[0].path} is one of the two experts of {card.name}: name the other too, --high and --low"
        )
    return card, {"high": brought[0]}


def _transformer(card: Card, expert: str, one: Brought, scheme: str) -> Network:
    with torch.device("meta"):
        shapes = _fitting(one, Transformer(card), f"{card.name} network")
    return Network(PREFIXES[expert], one, card, scheme, shapes)


def _with_loras(network: Network, expert: str, loras: Sequence[tuple[Source, float, str | None]]) -> Network:
    merged = tuple((read_lora(source, network.shapes), by) for source, by, meant in loras if meant in (None, expert))
    return replace(network, loras=merged)


def _coder(card: Card, one: Brought, precision: str) -> tuple[Network, dict[str, str]]:
    shapes = one.found.shapes
    widths = [shapes.get(name, (0,))[0] for name in ("encoder.conv1.weight", "decoder.head.0.gamma")]
    if not all(0 < width <= 4096 for width in widths):
        raise BadInput(f"{one.path} lacks the ends of its autoencoder: it is not whole, bring the whole file")
    kind = replace(KINDS[card.vae], encoder_width=widths[0], decoder_width=widths[1])
    with torch.device("meta"):
        network = Network(PREFIXES["vae"], one, None, "none", _fitting(one, WanVAE(kind), f"autoencoder of {card.vae}"))
    return network, {"vae": json.dumps({"kind": card.vae, "encoder_width": widths[0], "decoder_width": widths[1]})}


def _words(card: Card, one: Brought, precision: str) -> tuple[Network, dict[str, str]]:
    shapes = one.found.shapes
    tables = {name: shapes.get(f"{name}.weight", ()) for name in (
        "token_embedding", "blocks.0.ffn.gate.0", "blocks.0.pos_embedding.embedding"
    )}  # fmt: skip
    if any(len(shape) != 2 for shape in tables.values()):
        name = next(name for name, shape in tables.items() if len(shape) != 2)
        raise BadInput(f"{one.path} lacks {name}.weight of its text encoder: it is not whole, bring the whole file")
    (words, dim), (ffn, _), (_, heads) = tables.values()
    layers = len({name.split(".")[1] for name in shapes if name.startswith("blocks.")})
    text = TextCard(UMT5_XXL.name, words, dim, ffn, heads, layers)
    if dim != card.text_dim:
        raise BadInput(
            f"{one.path} gives words {dim} wide, and {card.name} reads {card.text_dim}: name its own encoder"
        )
    if max(words, dim, ffn, heads, layers) > 2**20 or dim % heads:
        raise BadInput(f"{one.path} is {dim} wide in {heads} heads, which is no umT5; bring the file as published")
    with torch.device("meta"):
        fitted = _fitting(one, TextEncoder(text), "umT5")
    scheme = "none" if precision == "bf16" else SCHEME  # four bits are for what is read at every step
    said = {key: value for key, value in asdict(text).items() if key != "kept_blocks"}
    return Network(PREFIXES["text"], one, text, scheme, fitted), {"text": json.dumps(said)}


def _vision(card: Card, one: Brought, precision: str) -> tuple[Network, dict[str, str]]:
    shapes = one.found.shapes
    patches, hidden = shapes.get("patch_embedding.weight", ()), shapes.get("transformer.0.mlp.0.weight", ())
    layers = len({name.split(".")[1] for name in shapes if name.startswith("transformer.")})
    if len(patches) != 4 or len(hidden) != 2:
        raise BadInput(f"{one.path} lacks the first layers of its picture tower: bring the whole file")
    tokens = shapes.get("pos_embedding", (0, 0))[-2]
    side = round((tokens - 1) ** 0.5) if tokens > 1 else 0
    tower = replace(
        CLIP_VIT_H_14, dim=patches[0], patch=patches[2], image=side * patches[2], ffn=hidden[0], layers=layers
    )
    if tower.dim != card.image_dim or tower.dim % tower.heads:
        raise BadInput(
            f"{one.path} sees pictures {tower.dim} wide, and {card.name} reads {card.image_dim}: name its own"
        )
    with torch.device("meta"):
        fitted = _fitting(one, VisionTower(tower), "picture tower", spare=True)
    return Network(PREFIXES["vision"], one, None, "none", fitted), {"vision": json.dumps(asdict(tower))}


def _fitting(one: Brought, network: nn.Module, what: str, spare: bool = False) -> dict[str, tuple[int, ...]]:
    """The shapes of a network's tensors, all of which a file must have as they are; `spare`: it may have others."""
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    have = one.found.shapes
    for name, shape in expected.items():
        if name not in have:
            raise BadInput(f"{one.path} lacks {name}, which a {what} needs: it is not whole, bring all of its parts")
        flat = name in FLAT and [n for n in have[name] if n != 1] == [n for n in shape if n != 1]
        rows = name == "patch_embedding.weight" and len(have[name]) == 2 and _flat_patches(shape) == have[name]
        if have[name] != shape and not flat and not rows:
            raise BadInput(
                f"{one.path} holds {name} as {have[name]}, a {what} needs {shape}: bring the file as published"
            )
    strangers = sorted(have.keys() - expected.keys())
    if strangers and not spare:
        raise BadInput(f"{one.path} holds {strangers[0]}, which no {what} has: bring the file as it was published")
    return expected


def _flat_patches(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(D, C, 1, 2, 2) as some files store it: (D, 4 C)."""
    return (shape[0], torch.Size(shape[1:]).numel())


def _vocabulary(found: Gathered, one: Brought, network: Network) -> bytes:
    """The first tokenizer that is this encoder's: one that lies with the weights, or one of the files."""
    words = network.shapes["token_embedding.weight"][0]
    refused = None
    for path, data in ([(one.path, one.vocabulary)] if one.vocabulary else []) + found.vocabularies:
        try:
            Tokenizer(data, words, source=str(path))
        except BadInput as error:
            refused = error  # another encoder's lies beside Wan's in its own folders
            continue
        return data
    if refused is not None:
        raise refused
    return b""


def _group_of(name: str) -> str:
    """A block of a network; else the part that its name begins with."""
    found = re.match(r"((?:\w+_)?(?:blocks|transformer)\.\d+|(?:encoder|decoder)\.\w+|token_embedding)\.", name)
    return found[1] if found else "rest"
