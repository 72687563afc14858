"""Where a film fits: memory, disk and the model's own reach, on the places this machine has. Arithmetic only."""

from __future__ import annotations

import math

from appliance.machine.device import Device
from appliance.planning.placements import PlanRequest, gpu_at, room_of, smallest
from appliance.planning.speed import cpu_speed
from appliance.units import bytes_words, count_words, seconds_words
from models.card import Card
from models.cost.flops import film_flops
from models.geometry import Geometry

MIB = 2**20
MAX_TOKENS = 131_072  # 121 frames at 720p are 111,600; nothing that we know was trained beyond
DISK_RESERVE_BYTES = 64 * MIB  # for the library, and so that the system does not choke on a full disk
CPU_PATIENCE_S = 24 * 3600  # a longer render is not begun on a CPU unless it is asked for by name
OLDEST_CAPABILITY = (7, 5)  # torch 2.13's CUDA builds begin with Turing


def usable_places(device: Device, request: str | None) -> tuple[list[str], list[str]]:
    """Where it may run, the best first, and why a GPU that is there is not among them."""
    turned_down = []
    usable = []
    for place, gpu in enumerate(device.gpus):
        if not device.torch_has_cuda:
            turned_down.append(f"{gpu.name} is not used: the installed torch {device.torch} has no CUDA")
        elif gpu.capability is not None and gpu.capability < OLDEST_CAPABILITY:
            found, oldest = (".".join(map(str, c)) for c in (gpu.capability, OLDEST_CAPABILITY))
            turned_down.append(f"{gpu.name} is not used: its capability {found} is below the {oldest} that torch needs")
        else:
            usable.append(f"cuda:{place}")
    usable.sort(key=lambda name: -(gpu_at(device, name).free_bytes or 0))
    if request is None:
        return [*usable, "cpu"], turned_down
    if request == "cpu":
        return ["cpu"], []
    return [name for name in usable if request in ("gpu", "cuda", name)], turned_down


def why_not(ask: PlanRequest, device: Device, place: str) -> str | None:
    """Why it cannot run there; None when it can."""
    if ask.geometry.tokens > MAX_TOKENS:
        g = ask.geometry
        film = f"{g.frames} frames of {g.width}x{g.height}"
        return f"{film} are {g.tokens:,} tokens: the model reads at most {MAX_TOKENS:,}"
    size, room = smallest(ask, device, place), room_of(device, place)
    if size.host_bytes > room.host_free:
        host, there = bytes_words(size.host_bytes), bytes_words(room.host_free)
        return f"{place} needs {host} of the machine's own memory too: {there} is free"
    if size.total_bytes > room.free:
        whose = "this machine has" if place == "cpu" else f"{gpu_at(device, place).name} ({place}) has"
        needed, lacking = bytes_words(size.total_bytes), bytes_words(size.total_bytes - room.free)
        return f"it needs {needed} of memory: {whose} {bytes_words(room.free)} free, {lacking} too little"
    if place == "cpu" and ask.request != "cpu":
        likely = film_flops(ask.card, ask.geometry, ask.steps) / cpu_speed(device, ask.rates.get("cpu")).int8
        if likely > CPU_PATIENCE_S:
            return f"on the CPU, {count_words(device.cores, 'core')}, it would take about {seconds_words(likely)}"
    keep = disk_bytes(ask.card, ask.geometry) + DISK_RESERVE_BYTES
    if device.disk_free_bytes is not None and keep > device.disk_free_bytes:
        return f"it needs {bytes_words(keep)} on disk, reserve included: {bytes_words(device.disk_free_bytes)} is free"
    return None


def disk_bytes(card: Card, geometry: Geometry) -> int:
    """What a take needs on disk. H.264 at crf 16 is 0.1 to 0.3 bytes a pixel and frame, and 0.85 for pure noise: half a
    byte is kept ready. The thumbnail is at most its raw 3 bytes a pixel, the page some kilobytes. While it renders, two
    saved steps and the next, each of four latents in float32.
    """
    pixels = geometry.width * geometry.height
    steps = 3 * 4 * card.out_channels * 4 * math.prod(geometry.latent)
    return pixels * geometry.frames // 2 + 3 * pixels + 64 * 1024 + steps
