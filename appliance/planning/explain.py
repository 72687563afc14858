"""The reasons for a plan, in words: where it runs, what stays in memory, what is streamed, what sets the pace."""

from __future__ import annotations

from appliance.planning.placements import Candidate, footprint_of, gpu_at
from appliance.planning.request import PlanRequest
from appliance.units import bytes_words, count_words, seconds_words
from models.cost.footprint import Footprint

ATTENTION = {
    "int8_f32": "int8, float32 accumulation",
    "int8_f16": "int8, float16 accumulation (twice as fast on this GPU)",
    "int8_fp8_f16": "int8 and float8 (faster and less exact, for drafts)",
    "sdpa": "PyTorch's scaled dot-product attention",
}
TEXT = {
    "cached": "the text embedding is stored from an earlier take",
    "gpu": "the text is encoded on the GPU, where the text encoder stays loaded",
    "streamed": "the text is encoded on the GPU first: the text encoder is streamed layer by layer, then unloaded",
    "cpu": "the text is encoded on the CPU",
}
PRECISION = {
    "bf16": "weights are bf16: int8 is no faster on this GPU",
    "int4": "weights are stored in 4 bits and unpacked to 8 when loaded: less exact but faster, for drafts",
}


def reasons(request: PlanRequest, device: str, chosen: Candidate) -> list[str]:
    """One line for each decision; what is usual is left out."""
    size, calibration = footprint_of(request, device, chosen), request.calibration
    why = [memory_words(request, device, size), *placement_words(request, chosen, size)]
    why += [words for words in (PRECISION.get(chosen.precision), TEXT.get(chosen.text)) if words]
    if device != "cpu":
        why.append(f"attention: {ATTENTION[chosen.attention]}")
    if request.card.passes > 1 and chosen.batch > 1:
        why.append("both guidance passes are batched: each block is loaded once for both")
    if request.card.experts > 1:
        why.append("the model has two networks: the second is loaded from disk when its denoising steps begin")
    if device in request.rates:
        why.append("the time is estimated from rates measured on this machine")
    elif device != "cpu":
        why.append(
            "the time is estimated from the GPU's datasheet: measure that machine by `rushes doctor --calibrate`"
        )
    if calibration is not None:
        takes = count_words(calibration.takes, "take")
        why.append(f"the time is corrected by {takes} made here: {calibration.ratio:.2g} times the estimate")
        if calibration.memory > 1 and device != "cpu":
            over = f"{calibration.memory - 1:.0%} more memory than predicted"
            why.append(f"a take here used {over}: so much less of what is free is counted on")
    return why


def memory_words(request: PlanRequest, device: str, size: Footprint) -> str:
    """Where it runs, and how much of the free memory it needs."""
    machine, needed = request.machine, bytes_words(size.total_bytes)
    if device == "cpu":
        free = bytes_words(machine.ram_free_bytes)
        return f"on the CPU, {count_words(machine.cores, 'core')}: {needed} of {free} free memory"
    gpu = gpu_at(machine, device)
    system = f"{bytes_words(size.host_bytes)} of {bytes_words(machine.ram_free_bytes)} free system memory"
    free = bytes_words(gpu.free_bytes or 0)
    return f"on {device}, {gpu.name} ({gpu.uuid}): {needed} of {free} free GPU memory, and {system}"


def placement_words(request: PlanRequest, chosen: Candidate, size: Footprint) -> list[str]:
    """Which blocks stay and which are streamed, and how much of the film is worked on at once."""
    found, placement = [], chosen.placement
    resident, layers = placement.resident_blocks, request.card.layers
    if resident is not None and resident < layers:
        some = "every block is" if not resident else f"{resident} of {layers} blocks stay on the GPU, the others are"
        if placement.source == "ram":
            source = f"from {bytes_words(size.host_blocks_bytes)} of system memory"
        else:
            source = "from disk, as system memory does not hold them"
        times = f"a block loads in {_ms(chosen.load_s)} and computes in {_ms(chosen.block_s)}"
        pace = "so loading costs no time" if chosen.load_s <= chosen.block_s else "so loading sets the pace"
        found.append(f"{some} streamed {source}: {times}, {pace}")
    if placement.ffn_rows:
        found.append(f"the feed-forward takes {placement.ffn_rows:,} tokens at a time, with the same result")
    if placement.vae_tile:
        found.append(f"the film is decoded in tiles of {placement.vae_tile} pixels")
    return found


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else seconds_words(seconds)
