"""Plans in words: film, render settings, duration, resources, queue. The command line and the desk show these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from appliance.library.forecast import QueueForecast
from appliance.units import bytes_words, count_words, seconds_words

if TYPE_CHECKING:  # the desk imports this module and must not load the planner before its first paint
    from appliance.machine.device import Device
    from appliance.planning.plan import Plan


def film_words(plan: Mapping[str, Any]) -> str:
    """The film of a plan as it is stored: "33 frames of 224x128 at 16 fps"."""
    return f"{plan['frames']} frames of {plan['width']}x{plan['height']} at {plan['fps']:g} fps"


def render_words(plan: Mapping[str, Any]) -> str:
    """How a plan as it is stored renders: "previs, 12 steps on cpu, int8"."""
    return f"{plan['card']}, {plan['steps']} steps on {plan['device']}, {plan['precision']}"


def duration_words(plan: Plan, on_other_machine: bool = False) -> str:
    """ "about 7.3 s (5.1 s to 9.8 s), from measurements on this machine": the prediction, and what it is based on."""
    low, high = seconds_words(plan.seconds_low), seconds_words(plan.seconds_high)
    spread = "" if low == high else f" ({low} to {high})"
    if on_other_machine:
        basis = "from the datasheet alone"
    else:
        basis = "from measurements on this machine" if plan.measured else "not measured on this machine yet"
    return f"about {seconds_words(plan.seconds)}{spread}, {basis}"


def resource_words(plan: Plan) -> str:
    """Peak memory of the device, of the machine where that is another, and disk space."""
    host = f", {bytes_words(plan.host_bytes)} of main memory" if plan.host_bytes else ""
    return f"{bytes_words(plan.memory_bytes)} of memory{host}, {bytes_words(plan.disk_bytes)} on disk"


def queue_words(plan: Plan, ahead: QueueForecast | None, now: float) -> str:
    """When the queue would be done with this take at its end; "" with nothing ahead of it. `now` in unix seconds."""
    if ahead is None or not ahead.takes:
        return ""
    with_this = QueueForecast(ahead.takes + 1, ahead.seconds + plan.seconds, ahead.unknown)
    return f"{with_this.words(now)}, including this one"


def obeyed_rows(levels: Mapping[str, str]) -> list[tuple[str, str]]:
    """(level, fields) of what a direction states: fields that are not obeyed exactly are named, the rest counted.
    `levels` maps each field to its level (appliance/capability/report.py, levels_of_stated).
    """
    fields: dict[str, list[str]] = {}
    for name, level in levels.items():
        fields.setdefault(level, []).append(name)
    exact = len(fields.pop("exact", []))
    named = [(level, ", ".join(fields[level])) for level in ("ignored", "text-only", "approximate") if level in fields]
    return [*named, ("exact", f"{'the other ' if named else ''}{count_words(exact, 'field')} that the shot states")]


def datasheet_words(device: Device) -> str:
    """What a quote for another machine assumes about it."""
    (gpu,) = device.gpus
    free, total = bytes_words(gpu.free_bytes or 0), bytes_words(gpu.total_bytes or 0)
    ram_free, ram_total = bytes_words(device.ram_free_bytes), bytes_words(device.ram_total_bytes)
    return (
        f"another machine, estimated from the datasheet of {gpu.name}: {free} of its {total} assumed free,"
        f" {ram_free} of {ram_total} RAM, {count_words(device.cores, 'CPU core')} and disk as on this machine"
    )
