"""Compare a block and a whole forward of the int8 network with bf16 baselines of the same weights, at Wan's sizes.

    python -m models.bench                        on a GPU: a table, and one JSON document on the last line
    python -m models.bench --out kernels/measured    the document in a file too
    python -m models.bench --attention int8_f32 sdpa    these implementations of attention instead of the GPU's default
    python -m models.bench --dry-run              everything, tiny, on the CPU: tests the script, measures nothing

Compared are our network in bf16 as written, the same with its blocks compiled by torch.compile, and diffusers'
transformer where it is installed. A ratio above 1 means that int8 is faster. `rms` is the relative
RMS difference from our bf16 network; of a block the worst of all int8 blocks, each with the bf16 network's residual
stream as input. An implementation whose result is not finite has failed, and its time means nothing.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, get_args

import torch
from torch import Tensor, nn

from kernels.bench import report, timing
from kernels.bench.report import Found, Goal
from kernels.dispatch import Attention, choose
from models.bench.baselines import diffusers_network, random_weights
from models.card import WAN_1_3B, WAN_14B, Card
from models.cost.activations import stream_bytes, work_bytes
from models.cost.flops import flops
from models.cost.transformer import weights_bytes
from models.dit.attention import rotary_of
from models.dit.wan import BlockInputs, Transformer
from models.geometry import Geometry
from models.loading.quantize import load_quantized, quantize

BF16 = torch.bfloat16
ROUNDING = Goal("rms", 0.03, at_most=True)  # of a block


@dataclass(frozen=True, slots=True)
class Scene:
    """A network and the film it works on. whole: its forward is measured too, with these goals."""

    name: str
    card: Card
    geometry: Geometry
    whole: bool = False
    goals: tuple[Goal, ...] = ()


P480, P720 = Geometry(81, 480, 832), Geometry(81, 720, 1280)  # 32,760 and 75,600 tokens
BLOCK_14B = replace(WAN_14B, layers=1)
FULL = [
    Scene("Wan 1.3B 480p", WAN_1_3B, P480, True, (Goal("diffusers", 1.6), Goal("bf16 compiled", 1.25))),
    Scene("a block of Wan 14B 480p", BLOCK_14B, P480),
    Scene("a block of Wan 14B 720p", BLOCK_14B, P720),
    Scene("Wan 14B 480p", WAN_14B, P480, True, (Goal("diffusers", 1.5),)),
]
SMALL = replace(WAN_1_3B, dim=256, ffn=512, heads=2, layers=2, text_dim=32, text_len=20)
TINY = [
    Scene("tiny", SMALL, Geometry(9, 64, 96), True, FULL[0].goals),
    Scene("a tiny block", replace(SMALL, layers=1), Geometry(9, 64, 96)),
]


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and save."""
    options = report.parser("models.bench", __doc__.split("\n")[0])
    options.add_argument("--attention", nargs="+", choices=get_args(Attention), help="attention of the int8 network")
    asked = report.parse_options(options, arguments)
    ways = asked.attention or (get_args(Attention) if asked.dry_run else [choose(asked.device).attention])
    document = report.begin("models", asked.device, asked.dry_run)
    print(report.headline(document), flush=True)
    scenes = {scene.name: scene for scene in (TINY if asked.dry_run else FULL) if asked.only in scene.name}
    try:
        for scene in report.before_limit(asked.limit, scenes, document):
            for row in attempted(scene, ways, asked.compile, asked.device):
                report.add(document, row)
                print(line(row), flush=True)
    except KeyboardInterrupt:
        document["interrupted"] = True  # what was measured is saved
    return report.conclude(document, asked.out)


def attempted(scene: Scene, ways: Sequence[Attention], compiles: bool, device: torch.device) -> list[Found]:
    """The rows of a scene, or one that says why there are none: the others are still measured."""
    timing.free_memory(device)
    try:
        return measured(scene, ways, compiles, device)
    except Exception as error:  # too large for this GPU, or a kernel that fails on it
        return [
            {"scene": scene.name, "part": "", "way": "", "reached": {}, "goals": (), "failed": timing.first_line(error)}
        ]


Inputs = tuple[Tensor, Tensor, Tensor]  # of a forward: latent, time, context


class Contender(NamedTuple):
    """A network, its forward over the scene, and one of its blocks as that forward calls it."""

    network: nn.Module
    forward: Callable[[], Tensor]
    block: Callable[[], Tensor]

    @property
    def held_bytes(self) -> int:
        """The size of its weights."""
        return sum(tensor.nbytes for tensor in (*self.network.parameters(), *self.network.buffers()))


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """The layers of our network or diffusers'."""
    return list(network.get_submodule("blocks").children())


def contender(network: nn.Module, forward: Callable[[], Tensor], index: int) -> Contender:
    """A contender; the inputs of the block of this index are recorded in one forward."""
    block = blocks_of(network)[index]
    seen: Found = {}
    hook = block.register_forward_pre_hook(lambda _, *given: seen.update(given=given), with_kwargs=True)
    forward()
    hook.remove()
    arguments, names = seen["given"]
    return Contender(network, forward, partial(block, *arguments, **names))


@torch.inference_mode()
def measured(scene: Scene, ways: Sequence[Attention], compiles: bool, device: torch.device) -> list[Found]:
    """A row for each part of a scene and each attention: our network, and every baseline."""
    parts = ("block", "forward") if scene.whole else ("block",)
    bf16, int8 = networks(scene, device)
    x, context = (torch.randn(size, device=device) for size in sizes_of(scene))
    inputs = x, torch.full((1,), 500.0, device=device), context
    errors = {way: block_errors(bf16, int8, way, scene.geometry, inputs) for way in ways}
    truth = run_ours(bf16, "sdpa", inputs) if bf16 and scene.whole else None
    found: dict[str, dict[str, Found]] = {part: {} for part in parts}
    for name, other in contenders(bf16, int8, ways, compiles, inputs):
        for part in parts:
            found[part][name] = figures(other, part, truth, device)
    chosen = choose(device).attention
    return [
        row_of(scene, part, way, found[part], errors[way]) | {"chosen": way == chosen}  # by kernels/dispatch.py
        for part in parts
        for way in ways
    ]


def sizes_of(scene: Scene) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes of the latent and of the context."""
    card = scene.card
    return (1, card.in_channels, *scene.geometry.latent), (1, card.text_len, card.text_dim)


def networks(scene: Scene, device: torch.device) -> tuple[Transformer | None, Transformer]:
    """Our network in bf16, if both fit, and in int8, of the same weights."""
    card, both = scene.card, has_room(scene, device)
    state: dict[str, Tensor] = {}
    stored: dict[str, Tensor] = {}
    for part in random_weights(card, device):
        stored |= quantize(part, card)
        state |= part if both else {}
    return load_quantized(card, state, BF16) if both else None, load_quantized(card, stored, BF16)


def has_room(scene: Scene, device: torch.device) -> bool:
    """Whether the scene's network fits on the device in bf16 and in int8 together, with room to work."""
    if device.type == "cpu":
        return True
    card, geometry = scene.card, scene.geometry
    work = stream_bytes(card, geometry, 2, 1) + work_bytes(card, geometry, "bf16", "sdpa", 1, 0)
    weights = weights_bytes(card, "bf16") + weights_bytes(card, "int8")
    return (
        weights + 3 * work < torch.cuda.mem_get_info(device)[0]
    )  # plain torch holds more intermediates than our network


def contenders(
    bf16: Transformer | None, int8: Transformer, ways: Sequence[Attention], compiles: bool, inputs: Inputs
) -> Iterator[tuple[str, Contender | str]]:
    """Each contender by name, or why it is missing. Use each before the next one: compiling changes a network."""
    index = min(set(range(int8.card.layers)) - int8.card.kept_blocks)  # the first that is int8
    for way in ways:
        yield f"int8 {way}", contender(int8, partial(run_ours, int8, way, inputs), index)
    if bf16 is None:
        yield "bf16", "no room for its weights next to the int8 ones"
        return
    others = {"bf16": contender(bf16, partial(run_ours, bf16, "sdpa", inputs), index)}
    try:
        theirs = diffusers_network(bf16.card, bf16.state_dict())
    except (ImportError, RuntimeError) as error:  # its lazy imports raise either
        yield "diffusers", timing.first_line(error)
    else:
        others["diffusers"] = contender(theirs, partial(run_diffusers, theirs, inputs), index)
    yield from others.items()
    if compiles:
        for name, other in others.items():
            for block in blocks_of(other.network):
                block.compile(dynamic=False)
            yield f"{name} compiled", other


def run_ours(network: Transformer, way: Attention, inputs: Inputs) -> Tensor:
    """A forward of our network with this attention."""
    network.attention = way
    return network(*inputs)


def run_diffusers(network: nn.Module, inputs: Inputs) -> Tensor:
    """A forward of diffusers' network, in bf16 as in its pipelines."""
    x, t, context = inputs
    return network(x.to(BF16), t, context.to(BF16), return_dict=False)[0]


def block_errors(
    bf16: Transformer | None, int8: Transformer, way: Attention, geometry: Geometry, inputs: Inputs
) -> list[float]:
    """The relative error of each int8 block's output, with the residual stream of the bf16 blocks as input."""
    if bf16 is None:
        return []
    _, t, context = inputs
    card = bf16.card
    stream = torch.randn(1, geometry.tokens, card.dim, device=t.device)
    rotary = rotary_of(geometry.grid, card.head_dim, t.device)
    exact = BlockInputs(bf16.embed_time(t)[1], bf16.embed_context(context), rotary, "sdpa", 0)
    found = []
    for layer, (ours, theirs) in enumerate(zip(int8.blocks, bf16.blocks, strict=True)):
        made = ours(stream.clone(), exact._replace(attention=way))
        stream = theirs(stream, exact)
        if layer not in card.kept_blocks:
            found.append(relative(made, stream))
    return found


def relative(made: Tensor, truth: Tensor) -> float:
    """|made - truth| / |truth|."""
    return float((made.float() - truth).norm() / truth.norm())


def figures(other: Contender | str, part: str, truth: Tensor | None, device: torch.device) -> Found:
    """Time, memory and error of a part of a contender; or why it has none."""
    if isinstance(other, str):
        return {"cannot": other}
    run = other.block if part == "block" else other.forward
    try:
        took = timing.seconds(run, device)
        made, work = timing.peak_of(run, device)
    except Exception as error:  # no room for plain torch, a compiler that fails: the others are still measured
        return {"cannot": timing.first_line(error)}
    if not bool(made.isfinite().all()):
        return {"cannot": report.NOT_FINITE}
    found: Found = {"ms": 1e3 * took, "weights_bytes": other.held_bytes, "work_bytes": work}
    return found if truth is None or part == "block" else found | {"rms": relative(made, truth)}


def row_of(scene: Scene, part: str, way: Attention, found: dict[str, Found], errors: list[float]) -> Found:
    """Our figures of one part with one attention, the baselines', and the goals."""
    work = flops(scene.card, scene.geometry) / (scene.card.layers if part == "block" else 1)
    made: Found = {"scene": scene.name, "part": part, "way": way, "tokens": scene.geometry.tokens}
    made |= {"goals": (ROUNDING,) if part == "block" else scene.goals, "reached": {}} | found[f"int8 {way}"]
    made["baselines"] = {name: other for name, other in found.items() if not name.startswith("int8 ")}
    if part == "block" and errors:  # all of them: max() may pass a NaN over
        worst = max(errors) if all(map(math.isfinite, errors)) else math.nan
        made |= {"rms": worst, "rms_of_blocks": errors}
    if "cannot" in made or not math.isfinite(made.get("rms", 0.0)):
        return made | {"failed": made.get("cannot", report.NOT_FINITE)}
    made["tops"] = work / made["ms"] / 1e9
    made["reached"] = {name: other["ms"] / made["ms"] for name, other in made["baselines"].items() if "ms" in other}
    if "rms" in made:
        made["reached"]["rms"] = made["rms"]
    return made


def line(row: Found) -> str:
    """A row of the table; a missed goal is marked."""
    start = f"{row['scene'] + ', ' + row['part']:<32} int8 {row['way']:<12}"
    if "failed" in row:
        return f"{start} FAILED: {row['failed']}"
    work = "" if row["work_bytes"] is None else f" {row['work_bytes'] / 2**30:6.2f} GiB of work"
    return f"{start} {row['ms']:10.2f} ms {row['tops']:7.1f} TOP/s{work}  {report.outcome(row)}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
