"""Choose how a model runs on a device: the fastest candidate that fits, in the best precision that fits.

A candidate is a precision, how many blocks stay on the device and where the others wait, how much of a film is worked
on at once, where the prompt is encoded, and whether the passes of guidance are batched. All are tried; each is a few
additions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from appliance.machine.device import Device, Gpu
from appliance.planning.duration import STEP_OVERHEAD_S, BlockTimes, fixed_seconds, text_seconds
from appliance.planning.request import PlanRequest
from appliance.planning.speed import Speed, cpu_speed, gpu_speed
from kernels.dispatch import choice_for
from models.card import Card, reads_text
from models.cost.footprint import RING_BYTES, Footprint, block_residency_bytes, footprint
from models.geometry import Geometry
from models.placement import Placement

GIB = 2**30
TILES = (0, 512, 384, 256, 192)  # pixels of a side; 0: whole frames
FFN_ROWS = (0, 16_384, 8_192, 4_096, 2_048)  # tokens; 0: all. From 8,192 on a product is as fast as a larger one
STORED = {"previs": ("int8",)}  # precisions of the package that ships
FILLED = 0.92  # of what is free, where blocks are streamed anyway: the desktop may want some of the GPU
HOST_SPARE_BYTES = GIB  # never pinned: the system needs some memory


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to run a film on a device, and what it costs."""

    precision: str
    placement: Placement
    attention: str
    text: str  # where the prompt is encoded
    batch: int
    size: Footprint
    seconds: float
    block_s: float  # compute of an ordinary block
    load_s: float  # its load, where it is streamed


@dataclass(frozen=True, slots=True)
class FreeMemory:
    """Bytes free on a device, and in the system (the same number for the CPU)."""

    device: int
    system: int


def gpu_at(machine: Device, device: str) -> Gpu:
    """The GPU that CUDA calls `device`: "cuda:0" is the first."""
    return machine.gpus[int(device.partition(":")[2])]


def free_memory(machine: Device, device: str) -> FreeMemory:
    """What is free now."""
    if device == "cpu":
        return FreeMemory(machine.ram_free_bytes, machine.ram_free_bytes)
    return FreeMemory(gpu_at(machine, device).free_bytes or 0, machine.ram_free_bytes)


def attention_of(request: PlanRequest, device: str) -> str:
    """Which attention runs there (of kernels/dispatch.py): the fast one for a draft."""
    if device == "cpu":
        return "sdpa"
    gpu = gpu_at(request.machine, device)
    choice = choice_for(gpu.capability or (7, 5), gpu.name)
    return choice.fast_attention if request.is_draft else choice.attention


def precisions(request: PlanRequest, device: str) -> tuple[str, ...]:
    """Those to try, the best first: that of the installed package, if there is one. int4 only for a draft; bf16 only
    where int8 is no faster: on a B200, whose integer units were cut.
    """
    if request.package_precision is not None:
        return (request.package_precision,)
    if device == "cpu":
        return ("int8",)
    if request.card.name in STORED:
        return STORED[request.card.name]
    capability = gpu_at(request.machine, device).capability or (7, 5)
    fine = ("bf16", "int8") if (10, 0) <= capability < (12, 0) else ("int8",)
    return (*fine, "int4") if request.is_draft else fine


def smallest_footprint(request: PlanRequest, device: str) -> Footprint:
    """The least memory that the film can be made in: no block stays, little of the film is worked on at once."""
    film, precision = request.film, precisions(request, device)[-1]
    placement = Placement(None if device == "cpu" else 0, "disk", FFN_ROWS[-1], _tiles(film)[-1])
    attention, text = attention_of(request, device), _text_modes(request, device)[-1]
    return footprint(request.card, film, precision, device, placement, attention, text, 1)


def fastest(request: PlanRequest, device: str) -> Candidate | None:
    """The fastest candidate that fits; None where none does. A draft takes a coarser precision if that is faster."""
    machine, attention, rates = request.machine, attention_of(request, device), request.rates.get(device)
    if device == "cpu":
        speed = cpu_speed(machine, rates)
    else:
        speed = gpu_speed(gpu_at(machine, device), machine, attention, rates)
    found: list[Candidate] = []
    for precision in precisions(request, device):
        best = min(
            _candidates(request, device, precision, attention, speed),
            key=lambda candidate: round(candidate.seconds, 3), default=None,
        )  # fmt: skip
        if best is not None:
            found.append(best)
            if not request.is_draft:
                break
    return min(found, key=lambda candidate: round(candidate.seconds, 3), default=None)


def _candidates(request: PlanRequest, device: str, precision: str, attention: str, speed: Speed) -> Iterator[Candidate]:
    """Every candidate of a precision that fits, the simplest first: of two equally fast ones the simpler is taken."""
    card, film, steps, cores = request.card, request.film, request.steps, request.machine.cores
    free, on_gpu = free_memory(request.machine, device), device != "cpu"
    block_times: dict[tuple[int, str], BlockTimes] = {}
    fixed_s = {tile: fixed_seconds(card, film, precision, speed, cores, tile) for tile in _tiles(film)}
    for text in _text_modes(request, device):
        text_s = text_seconds(card, text, speed)
        for batch in (1, card.passes) if on_gpu and card.passes > 1 else (1,):
            forwards = steps * card.passes // batch
            for tile, rows in _pieces(film):
                placement = Placement(None if not on_gpu else 0, "disk", rows, tile)
                size = footprint(card, film, precision, device, placement, attention, text, batch)
                residency = _residency(card, precision, free, size) if on_gpu else _on_cpu(free, size)
                if residency is None or (text == "gpu" and residency[0] is not None):
                    continue
                resident, source = residency
                times = block_times.get((batch, source)) or BlockTimes(card, film, precision, speed, batch, source)
                block_times[batch, source] = times
                count = card.layers if resident is None else resident
                launches_s = steps * STEP_OVERHEAD_S if on_gpu else 0.0
                steps_s = launches_s + forwards * times.forward(count) + times.first(count)
                yield Candidate(
                    precision, Placement(resident, source, rows, tile), attention, text, batch, size,
                    fixed_s[tile] + text_s + steps_s, times.block_s, times.load_s,
                )  # fmt: skip


def footprint_of(request: PlanRequest, device: str, chosen: Candidate) -> Footprint:
    """The memory of a candidate, with the blocks that stay on the device."""
    return footprint(
        request.card, request.film, chosen.precision, device, chosen.placement, chosen.attention, chosen.text,
        chosen.batch,
    )  # fmt: skip


def _on_cpu(free: FreeMemory, size: Footprint) -> tuple[None, str] | None:
    """Every block is in system memory, or the film does not fit."""
    return (None, "ram") if size.total_bytes <= free.device else None


def _residency(card: Card, precision: str, free: FreeMemory, bare: Footprint) -> tuple[int | None, str] | None:
    """(blocks that stay on the GPU, None for all; where the others wait), given the memory with none staying (`bare`);
    None: it does not fit.

    The others wait in pinned memory where that is free, else in their file.
    """
    sizes, waiting = _block_layouts(card, precision)
    rest = bare.total_bytes - bare.weights_bytes - bare.slots_bytes
    host = bare.host_bytes - bare.host_file_bytes
    if host + RING_BYTES > free.system or rest + sizes[0] > free.device:
        return None
    if rest + sizes[-1] <= free.device:
        return None, "ram"
    resident = 0
    for count in range(card.layers - 1, 0, -1):
        if rest + sizes[count] <= FILLED * free.device:
            resident = count
            break
    pinned = host + waiting[resident] + HOST_SPARE_BYTES <= free.system
    return resident, "ram" if pinned else "disk"


@lru_cache(maxsize=64)
def _block_layouts(card: Card, precision: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """For each count of resident blocks: bytes of the network on the device with its slots, bytes that wait outside."""
    found = [block_residency_bytes(card, precision, resident) for resident in range(card.layers + 1)]
    return tuple(stays + slots for stays, slots, _ in found), tuple(waiting for _, _, waiting in found)


def _tiles(film: Geometry) -> tuple[int, ...]:
    """Tile sizes that are smaller than the picture."""
    return tuple(tile for tile in TILES if tile < max(film.height, film.width))


def _pieces(film: Geometry) -> Iterator[tuple[int, int]]:
    """(tile, rows of the feed-forward) to try, whole frames and all tokens first."""
    for rows in FFN_ROWS:
        if rows < film.tokens:
            for tile in _tiles(film):
                yield tile, rows


def _text_modes(request: PlanRequest, device: str) -> tuple[str, ...]:
    """Where the prompt may be encoded, the best first: on the GPU with the encoder loaded throughout, or before
    denoising through two slots. The encoder overflows float16, so a GPU without bf16 leaves it to the CPU.
    """
    if not reads_text(request.card):
        return ("none",)
    if request.text_cached:
        return ("cached",)
    if device == "cpu":
        return ("cpu",)
    return ("gpu", "streamed") if (gpu_at(request.machine, device).capability or (7, 5)) >= (8, 0) else ("cpu",)
