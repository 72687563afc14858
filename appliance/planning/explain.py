"""Why a plan is as it is, in plain words: where it runs, what stays there, what passes, what sets the pace."""

from __future__ import annotations

from appliance.machine.device import Device
from appliance.machine.rates import Calibration
from appliance.planning.placements import Candidate, PlanRequest, gpu_at, sized
from appliance.units import bytes_words, count_words, seconds_words
from models.cost.footprint import Footprint

ATTENTION = {
    "int8_f32": "in int8, with sums in float32",
    "int8_f16": "in int8, with sums in float16, which this card adds twice as fast",
    "int8_fp8_f16": "in int8 and float8, the fast way of drafts",
    "sdpa": "as torch does it",
}
TEXT = {
    "cached": "these words were read before and are kept",
    "gpu": "words are read on the GPU, where the text encoder stays beside the network",
    "streamed": "words are read on the GPU first, layer by layer, before the network needs the memory",
    "cpu": "words are read on the CPU",
}
PRECISION = {
    "bf16": "weights are bf16: this card multiplies int8 no faster",
    "int4": "weights wait in 4 bits and are unpacked to 8 as they come: coarser, for a draft's speed",
}


def way_words(
    ask: PlanRequest, device: Device, place: str, way: Candidate, calibration: Calibration | None
) -> list[str]:
    """One line for each thing that was decided; what is plain is left out."""
    size = sized(ask, place, way)
    why = [where_words(size, device, place), *placement_words(ask, way, size)]
    why += [words for words in (PRECISION.get(way.precision), TEXT.get(way.text)) if words]
    if place != "cpu":
        why.append(f"tokens look at each other {ATTENTION[way.attention]}")
    if ask.card.passes > 1 and way.batch > 1:
        why.append("with and without the words together: each block comes once for both")
    if ask.card.experts > 1:
        why.append("its two networks take turns: the second comes from the disk when its steps do")
    if place in ask.rates:
        why.append("the time is worked out from rates measured on this machine")
    elif place != "cpu":
        why.append("the time is worked out from the card's datasheet: `rushes doctor --calibrate` there measures it")
    if calibration is not None:
        takes = count_words(calibration.takes, "take")
        why.append(f"the time is corrected by {takes} made here: {calibration.ratio:.2g} times what was worked out")
        if calibration.memory > 1 and place != "cpu":
            over = f"{calibration.memory - 1:.0%} more memory than was predicted"
            why.append(f"one of them took {over}: so much less of what is free is counted on")
    return why


def where_words(size: Footprint, device: Device, place: str) -> str:
    """Where it runs, and how much of what is free it takes."""
    needed = bytes_words(size.total_bytes)
    if place == "cpu":
        free = bytes_words(device.ram_free_bytes)
        return f"on the CPU, {count_words(device.cores, 'core')}: {needed} of {free} free memory"
    gpu = gpu_at(device, place)
    beside = f"{bytes_words(size.host_bytes)} of the machine's {bytes_words(device.ram_free_bytes)}"
    free = bytes_words(gpu.free_bytes or 0)
    return f"on {place}, {gpu.name} ({gpu.uuid}): {needed} of {free} free memory, beside it {beside}"


def placement_words(ask: PlanRequest, way: Candidate, size: Footprint) -> list[str]:
    """What stays, what passes, and how much of the film is worked on at once."""
    found, placement = [], way.placement
    stay, layers = placement.resident_blocks, ask.card.layers
    if stay is not None and stay < layers:
        some = "every block passes" if not stay else f"{stay} of {layers} blocks stay, the others pass"
        if placement.source == "ram":
            source = f"from {bytes_words(size.host_blocks_bytes)} of the machine's memory"
        else:
            source = "from the disk, as the machine's memory does not hold them"
        times = f"a block comes in {_ms(way.way_s)} and works for {_ms(way.block_s)}"
        pace = "so nothing waits" if way.way_s <= way.block_s else "so its way here sets the pace"
        found.append(f"{some} through the card {source}: {times}, {pace}")
    if placement.ffn_rows:
        found.append(f"the feed-forward takes {placement.ffn_rows:,} tokens at a time, with the same result")
    if placement.vae_tile:
        found.append(f"the film is decoded in tiles of {placement.vae_tile} pixels")
    return found


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else seconds_words(seconds)
