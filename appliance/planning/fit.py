"""Whether a film fits a device: memory, disk, the model's longest sequence, and the CPU's time. Arithmetic only."""

from __future__ import annotations

import math

from appliance.machine.device import Device
from appliance.planning.placements import free_memory, gpu_at, smallest_footprint
from appliance.planning.request import PlanRequest
from appliance.planning.speed import cpu_speed
from appliance.units import bytes_words, count_words, seconds_words
from models.card import Card
from models.cost.flops import film_flops
from models.geometry import Geometry

MIB = 2**20
MAX_TOKENS = 131_072  # 121 frames at 720p are 111,600; no model we know was trained beyond
DISK_RESERVE_BYTES = 64 * MIB  # for the library, and so that the system does not run into a full disk
CPU_PATIENCE_S = 24 * 3600  # a longer render is not begun on a CPU unless it is asked for by name
OLDEST_CAPABILITY = (7, 5)  # torch 2.13's CUDA builds begin with Turing


def usable_devices(machine: Device, device_request: str | None) -> tuple[list[str], list[str]]:
    """Devices that may be used, the GPU with the most free memory first; and why a GPU of the machine is not used."""
    unusable = []
    usable = []
    for index, gpu in enumerate(machine.gpus):
        if not machine.torch_has_cuda:
            unusable.append(f"{gpu.name} is not used: the installed torch {machine.torch} has no CUDA")
        elif gpu.capability is not None and gpu.capability < OLDEST_CAPABILITY:
            found, oldest = (".".join(map(str, c)) for c in (gpu.capability, OLDEST_CAPABILITY))
            unusable.append(f"{gpu.name} is not used: its capability {found} is below the {oldest} that torch needs")
        else:
            usable.append(f"cuda:{index}")
    usable.sort(key=lambda name: -(gpu_at(machine, name).free_bytes or 0))
    if device_request is None:
        return [*usable, "cpu"], unusable
    if device_request == "cpu":
        return ["cpu"], []
    return [name for name in usable if device_request in ("gpu", "cuda", name)], unusable


def why_not(request: PlanRequest, device: str) -> str | None:
    """Why the film cannot be made on the device; None when it can."""
    film, machine = request.film, request.machine
    if film.tokens > MAX_TOKENS:
        words = f"{film.frames} frames of {film.width}x{film.height}"
        return f"{words} are {film.tokens:,} tokens: the model reads at most {MAX_TOKENS:,}"
    size, free = smallest_footprint(request, device), free_memory(machine, device)
    if size.host_bytes > free.system:
        needed, there = bytes_words(size.host_bytes), bytes_words(free.system)
        return f"{device} needs {needed} of system memory too: {there} is free"
    if size.total_bytes > free.device:
        whose = "this machine has" if device == "cpu" else f"{gpu_at(machine, device).name} ({device}) has"
        needed, lacking = bytes_words(size.total_bytes), bytes_words(size.total_bytes - free.device)
        return f"it needs {needed} of memory: {whose} {bytes_words(free.device)} free, {lacking} too little"
    if device == "cpu" and request.device_request != "cpu":
        likely = film_flops(request.card, film, request.steps) / cpu_speed(machine, request.rates.get("cpu")).int8
        if likely > CPU_PATIENCE_S:
            return f"on the CPU, {count_words(machine.cores, 'core')}, it would take about {seconds_words(likely)}"
    keep = disk_bytes(request.card, film) + DISK_RESERVE_BYTES
    if machine.disk_free_bytes is not None and keep > machine.disk_free_bytes:
        return f"it needs {bytes_words(keep)} on disk, reserve included: {bytes_words(machine.disk_free_bytes)} is free"
    return None


def disk_bytes(card: Card, geometry: Geometry) -> int:
    """What a take needs on disk. H.264 at crf 16 is 0.1 to 0.3 bytes a pixel and frame, and 0.85 for pure noise: half a
    byte is reserved. The thumbnail is at most its raw 3 bytes a pixel, the page some kilobytes. During the render, two
    checkpoints and the next, each of four latents in float32.
    """
    pixels = geometry.width * geometry.height
    checkpoints = 3 * 4 * card.out_channels * 4 * math.prod(geometry.latent)
    return pixels * geometry.frames // 2 + 3 * pixels + 64 * 1024 + checkpoints
