"""How a card lies on a place: the quickest of the ways that fit there, of the best precision that fits.

A way is a precision, what stays on the device and where the rest waits, how much of a film is worked on at once, where
words are read, and whether the passes of guidance go together. All are tried; each is a few additions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from appliance.machine.device import Device, Gpu
from appliance.machine.rates import Rates
from appliance.planning.duration import STEP_OVERHEAD_S, BlockTimes, fixed_seconds, text_seconds
from appliance.planning.speed import Speed, cpu_speed, gpu_speed
from kernels.dispatch import choice_for
from models.card import Card, reads_text
from models.cost.footprint import RING_BYTES, Footprint, block_residency_bytes, footprint
from models.geometry import Geometry
from models.placement import Placement

GIB = 2**30
TILES = (0, 512, 384, 256, 192)  # pixels of a side; 0: whole frames
FFN_ROWS = (0, 16_384, 8_192, 4_096, 2_048)  # tokens; 0: all. From 8,192 on a product is as fast as a larger one
STORED = {"previs": ("int8",)}  # what a package that ships holds
FILLED = 0.92  # of what is free, where blocks pass anyway: a desktop beside us may want some
HOST_SPARE_BYTES = GIB  # never pinned: the system has to breathe


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """A direction in the numbers that cost something, and what is known beforehand."""

    card: Card
    geometry: Geometry
    fps: float
    steps: int
    handles_f: int  # of the frames, at each end
    seed: int | None
    quality: str = "take"
    text_cached: bool = False  # these words were read before
    packages: frozenset[str] = frozenset({"previs"})  # cards whose weights are here
    request: str | None = None  # the device that was asked for by name
    held: str | None = None  # the precision of the package that is here; None: it can still be imported in any
    rates: Mapping[str, Rates] = field(default_factory=dict)  # measured, by place


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to run, and what it costs."""

    precision: str
    placement: Placement
    attention: str
    text: str
    batch: int
    size: Footprint
    seconds: float
    block_s: float  # an ordinary block's work
    way_s: float  # its way to the device, where it passes


@dataclass(frozen=True, slots=True)
class Room:
    """What a place has: bytes free on it and in the machine beside it (the same, on a CPU)."""

    free: int
    host_free: int


def gpu_at(device: Device, place: str) -> Gpu:
    """The GPU that CUDA calls `place`: "cuda:0" is the first."""
    return device.gpus[int(place.partition(":")[2])]


def room_of(device: Device, place: str) -> Room:
    """What is free there now."""
    if place == "cpu":
        return Room(device.ram_free_bytes, device.ram_free_bytes)
    return Room(gpu_at(device, place).free_bytes or 0, device.ram_free_bytes)


def attention_of(ask: PlanRequest, device: Device, place: str) -> str:
    """How tokens look at each other there: a draft takes the fast way."""
    if place == "cpu":
        return "sdpa"
    gpu = gpu_at(device, place)
    choice = choice_for(gpu.capability or (7, 5), gpu.name)
    return choice.fast_attention if ask.quality == "draft" else choice.attention


def precisions(ask: PlanRequest, device: Device, place: str) -> tuple[str, ...]:
    """Those to try, the best first: the one that the package holds, where one is here. 4 bits only in a draft; bf16
    only where int8 is no faster: on a B200, whose integer units were cut.
    """
    if ask.held is not None:
        return (ask.held,)
    if place == "cpu":
        return ("int8",)
    if ask.card.name in STORED:
        return STORED[ask.card.name]
    capability = gpu_at(device, place).capability or (7, 5)
    fine = ("bf16", "int8") if (10, 0) <= capability < (12, 0) else ("int8",)
    return (*fine, "int4") if ask.quality == "draft" else fine


def smallest(ask: PlanRequest, device: Device, place: str) -> Footprint:
    """The least memory that it can be made in there: no block stays, little of the film at once."""
    precision = precisions(ask, device, place)[-1]
    placement = Placement(None if place == "cpu" else 0, "disk", FFN_ROWS[-1], _tiles(ask.geometry)[-1])
    attention = attention_of(ask, device, place)
    return footprint(ask.card, ask.geometry, precision, place, placement, attention, _texts(ask, device, place)[-1], 1)


def best_way(ask: PlanRequest, device: Device, place: str) -> Candidate | None:
    """The quickest way that fits; None where none does. A draft may take a coarser precision for being quicker."""
    attention, rates = attention_of(ask, device, place), ask.rates.get(place)
    speed = cpu_speed(device, rates) if place == "cpu" else gpu_speed(gpu_at(device, place), device, attention, rates)
    found: list[Candidate] = []
    for precision in precisions(ask, device, place):
        quickest = min(
            _ways(ask, device, place, precision, attention, speed),
            key=lambda way: round(way.seconds, 3), default=None,
        )  # fmt: skip
        if quickest is not None:
            found.append(quickest)
            if ask.quality != "draft":
                break
    return min(found, key=lambda way: round(way.seconds, 3), default=None)


def _ways(
    ask: PlanRequest, device: Device, place: str, precision: str, attention: str, speed: Speed
) -> Iterator[Candidate]:
    """Every way of a precision that fits, the plainest first: of two equally quick ones the plainer is taken."""
    card, geometry, room, cores = ask.card, ask.geometry, room_of(device, place), device.cores
    on_gpu = place != "cpu"
    paces: dict[tuple[int, str], BlockTimes] = {}
    beside = {tile: fixed_seconds(card, geometry, precision, speed, cores, tile) for tile in _tiles(geometry)}
    for text in _texts(ask, device, place):
        words_s = text_seconds(card, text, speed)
        for batch in (1, card.passes) if on_gpu and card.passes > 1 else (1,):
            forwards = ask.steps * card.passes // batch
            for tile, rows in _pieces(geometry):
                placement = Placement(None if not on_gpu else 0, "disk", rows, tile)
                size = footprint(card, geometry, precision, place, placement, attention, text, batch)
                laid = _lay(card, precision, room, size) if on_gpu else _whole(room, size)
                if laid is None or (text == "gpu" and laid[0] is not None):
                    continue
                stay, source = laid
                pace = paces.get((batch, source)) or BlockTimes(card, geometry, precision, speed, batch, source)
                paces[batch, source] = pace
                count = card.layers if stay is None else stay
                launches_s = ask.steps * STEP_OVERHEAD_S if on_gpu else 0.0
                steps_s = launches_s + forwards * pace.forward(count) + pace.first(count)
                yield Candidate(
                    precision, Placement(stay, source, rows, tile), attention, text, batch, size,
                    beside[tile] + words_s + steps_s, pace.block_s, pace.way_s,
                )  # fmt: skip


def sized(ask: PlanRequest, place: str, way: Candidate) -> Footprint:
    """The memory of a way as it was laid."""
    return footprint(
        ask.card, ask.geometry, way.precision, place, way.placement, way.attention, way.text, way.batch
    )  # fmt: skip


def _whole(room: Room, size: Footprint) -> tuple[None, str] | None:
    """On a CPU: everything, or nothing."""
    return (None, "ram") if size.total_bytes <= room.free else None


def _lay(card: Card, precision: str, room: Room, bare: Footprint) -> tuple[int | None, str] | None:
    """(how many blocks stay, None for all; where the others wait), given the memory when none stays; None: no room.

    Blocks wait in pinned memory where there is room for them, else in their file.
    """
    sizes, waiting = _layouts(card, precision)
    rest = bare.total_bytes - bare.weights_bytes - bare.slots_bytes
    host = bare.host_bytes - bare.host_file_bytes
    if host + RING_BYTES > room.host_free or rest + sizes[0] > room.free:
        return None
    if rest + sizes[-1] <= room.free:
        return None, "ram"
    stay = 0
    for count in range(card.layers - 1, 0, -1):
        if rest + sizes[count] <= FILLED * room.free:
            stay = count
            break
    pinned = host + waiting[stay] + HOST_SPARE_BYTES <= room.host_free
    return stay, "ram" if pinned else "disk"


@lru_cache(maxsize=64)
def _layouts(card: Card, precision: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """For each count of blocks that stay: bytes of the network on the device with its slots, bytes that wait."""
    laid = [block_residency_bytes(card, precision, stay) for stay in range(card.layers + 1)]
    return tuple(stays + slots for stays, slots, _ in laid), tuple(waiting for _, _, waiting in laid)


def _tiles(geometry: Geometry) -> tuple[int, ...]:
    """Tile sizes that are smaller than the picture."""
    return tuple(tile for tile in TILES if tile < max(geometry.height, geometry.width))


def _pieces(geometry: Geometry) -> Iterator[tuple[int, int]]:
    """(tile, rows of the feed-forward) to try, whole films and all tokens first."""
    for rows in FFN_ROWS:
        if rows < geometry.tokens:
            for tile in _tiles(geometry):
                yield tile, rows


def _texts(ask: PlanRequest, device: Device, place: str) -> tuple[str, ...]:
    """Where the words may be read, the best first: beside the network, or before it through two slots. The encoder
    leaves the range of float16, so a card without bf16 leaves it to the CPU.
    """
    if not reads_text(ask.card):
        return ("none",)
    if ask.text_cached:
        return ("cached",)
    if place == "cpu":
        return ("cpu",)
    return ("gpu", "streamed") if (gpu_at(device, place).capability or (7, 5)) >= (8, 0) else ("cpu",)
