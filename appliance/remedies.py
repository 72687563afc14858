"""Ways out of a refusal: each one that names numbers was tried on this machine as it is now, and fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from appliance.device import Device
from appliance.fitting import DISK_RESERVE_BYTES, MAX_TOKENS, disk_bytes, steps_of, usable_places, why_not
from appliance.placing import Ask, best_way, gpu_at, room_of, smallest
from appliance.units import bytes_words, seconds_words
from models.card import CARDS
from models.geometry import Geometry, snap_frames, snap_pixels

SHORTEST_S = 0.5  # of a direction


def no_gpu(ask: Ask, device: Device, request: str, turned_down: list[str]) -> tuple[str, tuple[str, ...]]:
    """A GPU was asked for by name, and there is none that can be used."""
    if turned_down:
        reason = f"device {request} was asked for, but {turned_down[0]}"
    elif device.gpus:
        here = ", ".join(f"cuda:{place} ({gpu.name})" for place, gpu in enumerate(device.gpus))
        reason = f"device {request} was asked for, but this machine has {here}"
    else:
        known = f": {device.no_gpu}" if device.no_gpu else ""
        reason = f"device {request} was asked for, but this machine has no GPU{known}"
    remedies = []
    if device.gpus and not turned_down:
        remedies.append(f"ask for one that is here: {', '.join(f'cuda:{i}' for i in range(len(device.gpus)))}")
    by_name = replace(ask, request="cpu")
    if (seconds := _cpu_seconds(by_name, device)) is not None:
        remedies.append(f"leave the device out, or ask for cpu: about {seconds_words(seconds)} here")
        draft = replace(by_name, steps=steps_of("draft", ask.card), quality="draft")
        if draft.steps < ask.steps and (seconds := _cpu_seconds(draft, device)) is not None:
            remedies.append(f"ask for cpu with quality = draft: about {seconds_words(seconds)} here")
    if not device.gpus:
        remedies.append("install the NVIDIA driver if a card is in this machine, then run `rushes doctor`")
    elif not device.torch_has_cuda:
        remedies.append("install a torch with CUDA into Rushes' environment, then run `rushes doctor`")
    remedies.append("shoot it on a machine with an NVIDIA GPU of capability 7.5 or newer")
    return reason, tuple(remedies)


def ways_out(ask: Ask, device: Device, places: list[str]) -> tuple[str, ...]:
    """Ways out that were tried: each direction, model and place named here fits this machine as it is now."""

    def fits(geometry: Geometry) -> bool:
        return any(why_not(replace(ask, geometry=geometry), device, place) is None for place in places)

    found = []
    g = ask.geometry
    if (shorter := _longest(g, fits)) and _seconds(ask, shorter) >= SHORTEST_S:
        found.append(f"shorter: {_duration(ask, shorter)}")
    if smaller := _largest(g, fits):
        found.append(f"smaller: format.width = {smaller.width}, format.height = {smaller.height}")
    for both in _shorter_and_smaller(ask, fits)[: 3 - len(found)]:
        size = f"format.width = {both.width}, format.height = {both.height}"
        found.append(f"some of both: {_duration(ask, both)}, {size}")
    for other in _other_models(ask):
        found += _with_model(other, device, places)
    if ask.request not in (None, "cpu") and why_not(replace(ask, request="cpu"), device, "cpu") is None:
        found.append("leave the device out, or ask for cpu: it fits there")
    if ask.request == "cpu" and _fits_a_gpu(ask, device):
        found.append("leave the device out: it fits a GPU of this machine")
    if g.tokens <= MAX_TOKENS:
        found += _make_room(ask, device, places[0])
    if not found:
        found.append("nothing fits what is free now: end other programs, or shoot it on a larger machine")
    return tuple(found)


def _cpu_seconds(ask: Ask, device: Device) -> float | None:
    """How long it takes on the CPU; None where it does not fit."""
    way = best_way(ask, device, "cpu") if why_not(ask, device, "cpu") is None else None
    return None if way is None else way.seconds


def _other_models(ask: Ask) -> list[Ask]:
    """The same film with the models whose weights are here, the largest first."""
    found = []
    for card in (CARDS[name] for name in ask.packages - {ask.card.name}):
        height, width = (snap_pixels(side, card.space_stride) for side in (ask.geometry.height, ask.geometry.width))
        geometry = Geometry(ask.geometry.frames, height, width, card.space_stride)
        found.append(replace(ask, card=card, geometry=geometry, steps=steps_of(ask.quality, card)))
    return sorted(found, key=lambda other: (-other.card.layers * other.card.dim, other.card.name))


def _with_model(ask: Ask, device: Device, places: list[str]) -> list[str]:
    """The film with another model, or what of it that one can make here."""
    name = f"another model: {ask.card.name}, whose weights are here"

    def fits(geometry: Geometry) -> bool:
        return any(why_not(replace(ask, geometry=geometry), device, place) is None for place in places)

    if fits(ask.geometry):
        able = [place for place in places if why_not(ask, device, place) is None]
        seconds = [way.seconds for place in able if (way := best_way(ask, device, place)) is not None]
        return [f"{name}, about {seconds_words(min(seconds))}"]
    found = []
    if smaller := _largest(ask.geometry, fits):
        found.append(f"{name}: format.width = {smaller.width}, format.height = {smaller.height}")
    if (shorter := _longest(ask.geometry, fits)) and _seconds(ask, shorter) >= SHORTEST_S:
        found.append(f"{name}: {_duration(ask, shorter)}")
    for both in _shorter_and_smaller(ask, fits)[:1]:
        found.append(f"{name}: {_duration(ask, both)}, format.width = {both.width}, format.height = {both.height}")
    return found


def _fits_a_gpu(ask: Ask, device: Device) -> bool:
    """Whether some GPU would hold what the CPU does not."""
    places = usable_places(device, None)[0]
    return any(place != "cpu" and why_not(ask, device, place) is None for place in places)


def _make_room(ask: Ask, device: Device, place: str) -> list[str]:
    """What else would have to be free."""
    found = []
    size, room = smallest(ask, device, place), room_of(device, place)
    on_gpu = place != "cpu"
    gpu_total = (gpu_at(device, place).total_bytes or 0) if on_gpu else 0
    needs = [(size.total_bytes, room.free, gpu_total, f"memory on {place}")] if on_gpu else []
    host = size.host_bytes if on_gpu else size.total_bytes
    needs.append((host, room.host_free, device.ram_total_bytes, "memory"))
    for needed, free, total, where in needs:
        if needed > free and needed <= 0.95 * total:
            found.append(f"end other programs: {bytes_words(needed - free)} more {where} has to be free")
        if needed > free:
            what = "free GPU memory" if " on " in where else "free memory"
            found.append(f"shoot it on a machine with {bytes_words(needed)} of {what}")
    keep = disk_bytes(ask.card, ask.geometry) + DISK_RESERVE_BYTES
    if device.disk_free_bytes is not None and keep > device.disk_free_bytes:
        found.append(f"free {bytes_words(keep - device.disk_free_bytes)} of disk")
        found.append("point RUSHES_HOME at a larger disk")
    return found


def _seconds(ask: Ask, geometry: Geometry) -> float:
    """What to write as the shot's length to get so many frames, its handles included."""
    return (geometry.frames - 1 - 2 * ask.handles_f) / ask.fps


def _duration(ask: Ask, geometry: Geometry) -> str:
    return f"time.duration_s = {_seconds(ask, geometry):.2f} ({geometry.frames} frames)"


def _longest(g: Geometry, fits: Callable[[Geometry], bool]) -> Geometry | None:
    """The longest shorter film that fits, by halving: need grows with length."""
    low, high = 0, (g.frames - 1) // 4  # in groups of four: low fits or is nothing, high does not fit
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(replace(g, frames=4 * middle + 1)) else (low, middle)
    return replace(g, frames=4 * low + 1) if low else None


def _shorter_and_smaller(ask: Ask, fits: Callable[[Geometry], bool]) -> list[Geometry]:
    """Something off the length, and the picture then as large as fits."""
    found = []
    for share in (0.5, 0.75, 0.9, 0.25, 0.1, 0.05, 0.02):
        cut = replace(ask.geometry, frames=snap_frames(ask.geometry.frames * share, 1))
        if _seconds(ask, cut) >= SHORTEST_S and not fits(cut) and (both := _largest(cut, fits)) and both not in found:
            found.append(both)
    return found


def _largest(g: Geometry, fits: Callable[[Geometry], bool]) -> Geometry | None:
    """The largest smaller picture of about the same shape that fits, in twentieths of its sides."""
    for twentieths in range(19, 1, -1):
        width, height = (snap_pixels(round(side * twentieths / 20), g.stride) for side in (g.width, g.height))
        smaller = replace(g, width=max(64, width), height=max(64, height))
        if smaller != g and smaller.width <= g.width and smaller.height <= g.height and fits(smaller):
            return smaller
    return None
