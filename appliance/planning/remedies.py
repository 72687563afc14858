"""Ways out of a refusal: each one that names numbers was tried on this machine as it is now, and fits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice

from appliance.planning.fit import DISK_RESERVE_BYTES, MAX_TOKENS, disk_bytes, usable_devices, why_not
from appliance.planning.placements import STORED, fastest, free_memory, gpu_at, smallest_footprint
from appliance.planning.request import PlanRequest
from appliance.units import bytes_words, seconds_words
from models.card import CARDS, Card
from models.geometry import Geometry, snap_frames, snap_pixels

SHORTEST_S = 0.5  # of a direction
LONGEST_S = 7 * 24 * 3600  # on a CPU: a longer render is not offered as a way out


def no_gpu(request: PlanRequest, unusable: list[str]) -> tuple[str, tuple[str, ...]]:
    """(reason, remedies) where a GPU was asked for by name, and none can be used."""
    machine, asked = request.machine, request.device_request
    if unusable:
        reason = f"device {asked} was asked for, but {unusable[0]}"
    elif machine.gpus:
        here = ", ".join(f"cuda:{index} ({gpu.name})" for index, gpu in enumerate(machine.gpus))
        reason = f"device {asked} was asked for, but this machine has {here}"
    else:
        known = f": {machine.no_gpu}" if machine.no_gpu else ""
        reason = f"device {asked} was asked for, but this machine has no GPU{known}"
    found = []
    if machine.gpus and not unusable:
        found.append(f"ask for one that is here: {', '.join(f'cuda:{i}' for i in range(len(machine.gpus)))}")
    found += _on_the_cpu(request)
    draft = replace(request, device_request="cpu", direction=replace(request.direction, quality="draft"))
    if draft.steps < request.steps and (seconds := _cpu_seconds(draft)) is not None:
        found.append(f"ask for cpu with quality = draft: about {seconds_words(seconds)} here")
    if not machine.gpus:
        found.append("install the NVIDIA driver if this machine has a GPU, then run `rushes doctor`")
    elif not machine.torch_has_cuda:
        found.append("install a torch with CUDA into Rushes' environment, then run `rushes doctor`")
    found.append("shoot it on a machine with an NVIDIA GPU of capability 7.5 or newer")
    return reason, tuple(found)


def remedies(request: PlanRequest, devices: list[str]) -> tuple[str, ...]:
    """Ways out that were tried: each direction, model and device named here fits this machine as it is now."""

    found = _less_of_it(request, devices, "")
    coarser = replace(request, package_precision="int4")
    if request.package_precision != "int4" and request.card.name not in STORED and _fits(coarser, devices):
        found.append("other precision: int4, less exact (`rushes models import --precision int4`)")
    for other in _installed_models(request):
        found += _with_model(other, devices)
    for other in _smaller_models(request)[:1]:
        found += _with_model(other, devices)[:1]
    found += _on_the_cpu(request)
    if request.device_request == "cpu" and _fits_a_gpu(request):
        found.append("leave the device out: it fits a GPU of this machine")
    if request.film.tokens <= MAX_TOKENS:
        found += _more_memory_or_disk(request, devices[0])
        if not request.machine.gpus:
            found.append("shoot it on a machine with an NVIDIA GPU: `rushes quote --on NAME` quotes it for one")
    if not found:
        found.append("nothing fits what is free now: end other programs, or shoot it on a larger machine")
    return tuple(found)


def _fits(request: PlanRequest, devices: list[str]) -> bool:
    """Whether one of the devices can make it."""
    return any(why_not(request, device) is None for device in devices)


def _less_of_it(request: PlanRequest, devices: list[str], prefix: str) -> list[str]:
    """Three films at most that fit where the whole does not: a shorter one, a smaller one, or some of both."""

    def fits(film: Geometry) -> bool:
        return _fits(replace(request, tried_film=film), devices)

    found = []
    if (shorter := _longest(request.film, fits)) and _seconds(request, shorter) >= SHORTEST_S:
        found.append(f"{prefix}shorter: {_duration(request, shorter)}")
    if smaller := _largest(request.film, fits):
        found.append(f"{prefix}smaller: {_size(smaller)}")
    for both in islice(_shorter_and_smaller(request, smaller, fits), 3 - len(found)):
        found.append(f"{prefix}shorter and smaller: {_duration(request, both)}, {_size(both)}")
    return found


def _on_the_cpu(request: PlanRequest) -> list[str]:
    """The CPU, where it was not asked for and fits. By name, if it would take longer than is begun without asking."""
    seconds = _cpu_seconds(replace(request, device_request="cpu"))
    if request.device_request == "cpu" or seconds is None or seconds > LONGEST_S:
        return []
    unasked = request.device_request is not None and why_not(replace(request, device_request=None), "cpu") is None
    how = "leave the device out, or ask for cpu" if unasked else "ask for cpu by name (--device cpu)"
    return [f"{how}: about {seconds_words(seconds)} here"]


def _cpu_seconds(request: PlanRequest) -> float | None:
    """How long it takes on the CPU; None where it does not fit."""
    found = fastest(request, "cpu") if why_not(request, "cpu") is None else None
    return None if found is None else found.seconds


def _installed_models(request: PlanRequest) -> list[PlanRequest]:
    """The same film with the other installed models, the largest first."""
    return _largest_first(_with_card(request, CARDS[name]) for name in request.packages - {request.card.name})


def _smaller_models(request: PlanRequest) -> list[PlanRequest]:
    """The same film with smaller models of the same inputs that are not installed, the largest first."""

    def inputs(card: Card) -> tuple[object, ...]:
        return card.in_channels, card.out_channels, card.vace_channels, card.camera_channels, card.reference_channels

    wanted = inputs(request.card)
    alike = (card for card in CARDS.values() if card.name not in request.packages and inputs(card) == wanted)
    return _largest_first(_with_card(request, card) for card in alike if _size_of(card) < _size_of(request.card))


def _largest_first(requests: Iterable[PlanRequest]) -> list[PlanRequest]:
    return sorted(requests, key=lambda request: (-_size_of(request.card), request.card.name))


def _size_of(card: Card) -> int:
    return card.layers * card.dim


def _with_card(request: PlanRequest, card: Card) -> PlanRequest:
    """The same film with another model, of which no package's precision is known."""
    film, stride = request.film, card.space_stride
    snapped = Geometry(film.frames, snap_pixels(film.height, stride), snap_pixels(film.width, stride), stride)
    return replace(request, card=card, tried_film=snapped, package_precision=None, text_cached=False)


def _with_model(request: PlanRequest, devices: list[str]) -> list[str]:
    """The film with another model, or what of it that one can make here; how long it takes, for an installed one."""
    installed = request.card.name in request.packages
    state = "which is installed" if installed else "once it is imported (`rushes models import`)"
    name = f"another model: {request.card.name}, {state}"
    able = [device for device in devices if why_not(request, device) is None]
    if not able:
        return _less_of_it(request, devices, f"{name}, ")
    if not installed:
        return [name]
    seconds = (found.seconds for device in able if (found := fastest(request, device)) is not None)
    return [f"{name}, about {seconds_words(min(seconds))}"]


def _fits_a_gpu(request: PlanRequest) -> bool:
    """Whether a GPU of the machine can make what the CPU cannot."""
    devices = usable_devices(request.machine, None)[0]
    return any(device != "cpu" and why_not(request, device) is None for device in devices)


def _more_memory_or_disk(request: PlanRequest, device: str) -> list[str]:
    """How much more memory or disk would have to be free."""
    found = []
    machine = request.machine
    size, free = smallest_footprint(request, device), free_memory(machine, device)
    on_gpu = device != "cpu"
    gpu_total = (gpu_at(machine, device).total_bytes or 0) if on_gpu else 0
    needs = [(size.total_bytes, free.device, gpu_total, f"memory on {device}")] if on_gpu else []
    system = size.host_bytes if on_gpu else size.total_bytes
    needs.append((system, free.system, machine.ram_total_bytes, "memory"))
    roomy = replace(machine, ram_free_bytes=max(system, free.system), disk_free_bytes=None)
    if not on_gpu and why_not(replace(request, machine=roomy), device):
        needs.clear()  # it would take too long there however much memory it had
    for needed, there, total, where in needs:
        if needed > there and needed <= 0.95 * total:
            found.append(f"end other programs: {bytes_words(needed - there)} more {where} has to be free")
        if needed > there:
            what = "free GPU memory" if " on " in where else "free memory"
            found.append(f"shoot it on a machine with {bytes_words(needed)} of {what}")
    keep = disk_bytes(request.card, request.film) + DISK_RESERVE_BYTES
    if machine.disk_free_bytes is not None and keep > machine.disk_free_bytes:
        found.append(f"free {bytes_words(keep - machine.disk_free_bytes)} of disk")
        found.append("point RUSHES_HOME at a larger disk")
    return found


def _seconds(request: PlanRequest, geometry: Geometry) -> float:
    """What to write as the shot's length to get so many frames, its handles included."""
    return (geometry.frames - 1 - 2 * request.direction.time.handles_f) / request.fps


def _size(geometry: Geometry) -> str:
    return f"format.width = {geometry.width}, format.height = {geometry.height}"


def _duration(request: PlanRequest, geometry: Geometry) -> str:
    return f"time.duration_s = {_seconds(request, geometry):.2f} ({geometry.frames} frames)"


def _longest(g: Geometry, fits: Callable[[Geometry], bool]) -> Geometry | None:
    """The longest shorter film that fits, by halving: need grows with length."""
    low, high = 0, (g.frames - 1) // 4  # in groups of four: low fits or is nothing, high does not fit
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(replace(g, frames=4 * middle + 1)) else (low, middle)
    return replace(g, frames=4 * low + 1) if low else None


def _shorter_and_smaller(
    request: PlanRequest, smaller: Geometry | None, fits: Callable[[Geometry], bool]
) -> Iterator[Geometry]:
    """Something off the length, and the picture then as large as fits, where it is larger than at the full length."""
    seen = {smaller.width * smaller.height} if smaller else set()
    for share in (0.5, 0.75, 0.9, 0.25, 0.1, 0.05, 0.02):
        cut = replace(request.film, frames=snap_frames(request.film.frames * share, 1))
        if _seconds(request, cut) < SHORTEST_S or fits(cut) or (both := _largest(cut, fits)) is None:
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
