"""Where a film fits: memory, disk and the model's own reach, on the places this machine has. Arithmetic only."""

from __future__ import annotations

import math
from dataclasses import dataclass

from appliance.device import Device, Gpu
from appliance.units import bytes_words, count_words
from models.card import Card
from models.footprint import footprint
from models.geometry import Geometry

PRECISION = "int8"  # of the package that ships
MIB, GIB = 2**20, 2**30
MAX_TOKENS = 131_072  # 121 frames at 720p are 111,600; nothing that we know was trained beyond
DISK_RESERVE_BYTES = 64 * MIB  # for the library, and so that the system does not choke on a full disk
HOST_BESIDE_GPU_BYTES = 2 * GIB  # what a process that uses CUDA keeps in the machine's memory (1.5 to 2 GiB is usual)
OLDEST_CAPABILITY = (7, 5)  # torch 2.13's CUDA builds begin with Turing


@dataclass(frozen=True, slots=True)
class Ask:
    """A direction in the numbers that cost something."""

    card: Card
    geometry: Geometry
    fps: float
    steps: int
    handles_f: int  # of the frames, at each end
    seed: int | None


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


def gpu_at(device: Device, place: str) -> Gpu:
    """The GPU that CUDA calls `place`: "cuda:0" is the first."""
    return device.gpus[int(place.partition(":")[2])]


def why_not(ask: Ask, device: Device, place: str) -> str | None:
    """Why it cannot run there; None when it can."""
    if ask.geometry.tokens > MAX_TOKENS:
        g = ask.geometry
        film = f"{g.frames} frames of {g.width}x{g.height}"
        return f"{film} are {g.tokens:,} tokens: the model reads at most {MAX_TOKENS:,}"
    needed = footprint(ask.card, ask.geometry, PRECISION, place).total_bytes
    if place == "cpu":
        free, whose = device.ram_free_bytes, "this machine has"
    else:
        gpu = gpu_at(device, place)
        free, whose = gpu.free_bytes or 0, f"{gpu.name} ({place}) has"
        if device.ram_free_bytes < HOST_BESIDE_GPU_BYTES:
            host, there = bytes_words(HOST_BESIDE_GPU_BYTES), bytes_words(device.ram_free_bytes)
            return f"{place} needs {host} of the machine's own memory too: {there} is free"
    if needed > free:
        return f"it needs {bytes_words(needed)} of memory: {whose} {bytes_words(free)} free"
    keep = disk_bytes(ask.geometry) + DISK_RESERVE_BYTES
    if device.disk_free_bytes is not None and keep > device.disk_free_bytes:
        return f"it needs {bytes_words(keep)} on disk, reserve included: {bytes_words(device.disk_free_bytes)} is free"
    return None


def fits_words(ask: Ask, device: Device, place: str) -> str:
    """Where it runs, and how much of what is free it takes."""
    needed = bytes_words(footprint(ask.card, ask.geometry, PRECISION, place).total_bytes)
    if place == "cpu":
        cores, free = count_words(device.cores, "core"), bytes_words(device.ram_free_bytes)
        return f"on the CPU, {cores}: {needed} of {free} free memory"
    gpu = gpu_at(device, place)
    return f"on {place}, {gpu.name} ({gpu.uuid}): {needed} of {bytes_words(gpu.free_bytes or 0)} free memory"


def disk_bytes(geometry: Geometry) -> int:
    """What a take needs on disk. H.264 at crf 16 is 0.1 to 0.3 bytes a pixel and frame, and 0.85 for pure noise: half a
    byte is kept ready. The thumbnail is at most its raw 3 bytes a pixel, the page some kilobytes. While it renders, two
    saved steps and the next, each of four latents of 16 channels in float32.
    """
    pixels = geometry.width * geometry.height
    return pixels * geometry.frames // 2 + 3 * pixels + 64 * 1024 + 3 * 4 * 16 * 4 * math.prod(geometry.latent)


def steps_of(quality: str, card: Card) -> int:
    """The quality dial: draft is half of a card's own steps, take all of them, print two and a half times, at most 60
    where the card's own are fewer. 4, 8 and 20 for the shipped model.
    """
    if quality == "draft":
        return max(1, card.steps // 2)
    if quality == "print":
        return max(card.steps, min(60, round(2.5 * card.steps)))
    return card.steps
