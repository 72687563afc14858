"""Ways out of a refusal: each one that names numbers was tried on this machine as it is now, and fits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice

from appliance.machine.device import Device
from appliance.planning.fit import DISK_RESERVE_BYTES, MAX_TOKENS, disk_bytes, usable_places, why_not
from appliance.planning.placements import STORED, PlanRequest, best_way, gpu_at, room_of, smallest
from appliance.units import bytes_words, seconds_words
from models.card import CARDS, Card, steps_of
from models.geometry import Geometry, snap_frames, snap_pixels

SHORTEST_S = 0.5  # of a direction
LONGEST_S = 7 * 24 * 3600  # on a CPU: beyond it, that it could be made there is no way out


def no_gpu(ask: PlanRequest, device: Device, request: str, turned_down: list[str]) -> tuple[str, tuple[str, ...]]:
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
    remedies += _on_the_cpu(ask, device)
    draft = replace(ask, request="cpu", steps=steps_of("draft", ask.card), quality="draft")
    if draft.steps < ask.steps and (seconds := _cpu_seconds(draft, device)) is not None:
        remedies.append(f"ask for cpu with quality = draft: about {seconds_words(seconds)} here")
    if not device.gpus:
        remedies.append("install the NVIDIA driver if a card is in this machine, then run `rushes doctor`")
    elif not device.torch_has_cuda:
        remedies.append("install a torch with CUDA into Rushes' environment, then run `rushes doctor`")
    remedies.append("shoot it on a machine with an NVIDIA GPU of capability 7.5 or newer")
    return reason, tuple(remedies)


def ways_out(ask: PlanRequest, device: Device, places: list[str]) -> tuple[str, ...]:
    """Ways out that were tried: each direction, model and place named here fits this machine as it is now."""

    found = _less_of_it(ask, device, places, "")
    if ask.held != "int4" and ask.card.name not in STORED and _fits(replace(ask, held="int4"), device, places):
        found.append("other precision: int4, coarser (`rushes models import --precision int4`)")
    for other in _other_models(ask):
        found += _with_model(other, device, places)
    for other in _smaller_models(ask)[:1]:
        found += _with_model(other, device, places)[:1]
    found += _on_the_cpu(ask, device)
    if ask.request == "cpu" and _fits_a_gpu(ask, device):
        found.append("leave the device out: it fits a GPU of this machine")
    if ask.geometry.tokens <= MAX_TOKENS:
        found += _make_room(ask, device, places[0])
        if not device.gpus:
            found.append("shoot it on a machine with an NVIDIA GPU: `rushes quote --on NAME` prices it on one")
    if not found:
        found.append("nothing fits what is free now: end other programs, or shoot it on a larger machine")
    return tuple(found)


def _fits(ask: PlanRequest, device: Device, places: list[str]) -> bool:
    """Whether some of the places can make it."""
    return any(why_not(ask, device, place) is None for place in places)


def _less_of_it(ask: PlanRequest, device: Device, places: list[str], which: str) -> list[str]:
    """Three films at most that fit where the whole does not: a shorter one, a smaller one, or some of both."""

    def fits(geometry: Geometry) -> bool:
        return _fits(replace(ask, geometry=geometry), device, places)

    found = []
    if (shorter := _longest(ask.geometry, fits)) and _seconds(ask, shorter) >= SHORTEST_S:
        found.append(f"{which}shorter: {_duration(ask, shorter)}")
    if smaller := _largest(ask.geometry, fits):
        found.append(f"{which}smaller: {_size(smaller)}")
    for both in islice(_shorter_and_smaller(ask, smaller, fits), 3 - len(found)):
        found.append(f"{which}some of both: {_duration(ask, both)}, {_size(both)}")
    return found


def _on_the_cpu(ask: PlanRequest, device: Device) -> list[str]:
    """The processor, where it was not asked for and can: by name if it would take longer than it is begun for."""
    seconds = _cpu_seconds(replace(ask, request="cpu"), device)
    if ask.request == "cpu" or seconds is None or seconds > LONGEST_S:
        return []
    begun = ask.request is not None and why_not(replace(ask, request=None), device, "cpu") is None
    how = "leave the device out, or ask for cpu" if begun else "ask for cpu by name (--device cpu)"
    return [f"{how}: about {seconds_words(seconds)} here"]


def _cpu_seconds(ask: PlanRequest, device: Device) -> float | None:
    """How long it takes on the CPU; None where it does not fit."""
    way = best_way(ask, device, "cpu") if why_not(ask, device, "cpu") is None else None
    return None if way is None else way.seconds


def _other_models(ask: PlanRequest) -> list[PlanRequest]:
    """The same film with the models whose weights are here, the largest first."""
    return _largest_first(_with_card(ask, CARDS[name]) for name in ask.packages - {ask.card.name})


def _smaller_models(ask: PlanRequest) -> list[PlanRequest]:
    """The same film with smaller models that read what this one reads, and whose weights are not here."""

    def reads(card: Card) -> tuple[object, ...]:
        return card.in_channels, card.out_channels, card.vace_channels, card.camera_channels, card.reference_channels

    alike = (card for card in CARDS.values() if card.name not in ask.packages and reads(card) == reads(ask.card))
    return _largest_first(_with_card(ask, card) for card in alike if _size_of(card) < _size_of(ask.card))


def _largest_first(asks: Iterable[PlanRequest]) -> list[PlanRequest]:
    return sorted(asks, key=lambda ask: (-_size_of(ask.card), ask.card.name))


def _size_of(card: Card) -> int:
    return card.layers * card.dim


def _with_card(ask: PlanRequest, card: Card) -> PlanRequest:
    """The same film with another model, of which no package is in hand."""
    height, width = (snap_pixels(side, card.space_stride) for side in (ask.geometry.height, ask.geometry.width))
    geometry = Geometry(ask.geometry.frames, height, width, card.space_stride)
    return replace(ask, card=card, geometry=geometry, steps=steps_of(ask.quality, card), held=None, text_cached=False)


def _with_model(ask: PlanRequest, device: Device, places: list[str]) -> list[str]:
    """The film with another model, or what of it that one can make here. How long is said of those that are here."""
    here = ask.card.name in ask.packages
    whence = "whose weights are here" if here else "once it is imported (`rushes models import`)"
    name = f"another model: {ask.card.name}, {whence}"
    able = [place for place in places if why_not(ask, device, place) is None]
    if not able:
        return _less_of_it(ask, device, places, f"{name}, ")
    if not here:
        return [name]
    seconds = (way.seconds for place in able if (way := best_way(ask, device, place)) is not None)
    return [f"{name}, about {seconds_words(min(seconds))}"]


def _fits_a_gpu(ask: PlanRequest, device: Device) -> bool:
    """Whether some GPU would hold what the CPU does not."""
    places = usable_places(device, None)[0]
    return any(place != "cpu" and why_not(ask, device, place) is None for place in places)


def _make_room(ask: PlanRequest, device: Device, place: str) -> list[str]:
    """What else would have to be free."""
    found = []
    size, room = smallest(ask, device, place), room_of(device, place)
    on_gpu = place != "cpu"
    gpu_total = (gpu_at(device, place).total_bytes or 0) if on_gpu else 0
    needs = [(size.total_bytes, room.free, gpu_total, f"memory on {place}")] if on_gpu else []
    host = size.host_bytes if on_gpu else size.total_bytes
    needs.append((host, room.host_free, device.ram_total_bytes, "memory"))
    if not on_gpu and why_not(
        ask, replace(device, ram_free_bytes=max(host, room.host_free), disk_free_bytes=None), place
    ):
        needs.clear()  # it would take too long there however much memory it had
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


def _seconds(ask: PlanRequest, geometry: Geometry) -> float:
    """What to write as the shot's length to get so many frames, its handles included."""
    return (geometry.frames - 1 - 2 * ask.handles_f) / ask.fps


def _size(geometry: Geometry) -> str:
    return f"format.width = {geometry.width}, format.height = {geometry.height}"


def _duration(ask: PlanRequest, geometry: Geometry) -> str:
    return f"time.duration_s = {_seconds(ask, geometry):.2f} ({geometry.frames} frames)"


def _longest(g: Geometry, fits: Callable[[Geometry], bool]) -> Geometry | None:
    """The longest shorter film that fits, by halving: need grows with length."""
    low, high = 0, (g.frames - 1) // 4  # in groups of four: low fits or is nothing, high does not fit
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(replace(g, frames=4 * middle + 1)) else (low, middle)
    return replace(g, frames=4 * low + 1) if low else None


def _shorter_and_smaller(
    ask: PlanRequest, smaller: Geometry | None, fits: Callable[[Geometry], bool]
) -> Iterator[Geometry]:
    """Something off the length, and the picture then as large as fits, where it is larger than at the full length."""
    seen = {smaller.width * smaller.height} if smaller else set()
    for share in (0.5, 0.75, 0.9, 0.25, 0.1, 0.05, 0.02):
        cut = replace(ask.geometry, frames=snap_frames(ask.geometry.frames * share, 1))
        if _seconds(ask, cut) < SHORTEST_S or fits(cut) or (both := _largest(cut, fits)) is None:
            continue
        if both.width * both.height not in seen:
            seen.add(both.width * both.height)
            yield both


def _largest(g: Geometry, fits: Callable[[Geometry], bool]) -> Geometry | None:
    """The largest smaller picture of about the same shape that fits, in twentieths of its sides, by halving."""

    def scaled(twentieths: int) -> Geometry:
        width, height = (max(64, snap_pixels(round(side * twentieths / 20), g.stride)) for side in (g.width, g.height))
        return replace(g, width=width, height=height)

    low, high = 1, 20  # low fits or is too little of a picture, high does not fit
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(scaled(middle)) else (low, middle)
    return scaled(low) if low > 1 else None
