"""Bytes, seconds and counts in words, for people."""

from __future__ import annotations

import time
from collections.abc import Callable

_STEPS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def bytes_words(count: float) -> str:
    """1536 is "1.5 KiB"; 12884901888 is "12 GiB"."""
    value, unit = float(count), 0
    while abs(value) >= 999.5 and unit < len(_STEPS) - 1:
        value, unit = value / 1024, unit + 1
    if unit == 0:
        return f"{value:.0f} bytes"
    return f"{value:.1f} {_STEPS[unit]}" if abs(value) < 9.95 else f"{value:.0f} {_STEPS[unit]}"


def seconds_words(seconds: float) -> str:
    """0.42 is "0.4 s", 75 is "1 min 15 s", 7300 is "2 h 02 min"."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def count_words(count: int, thing: str) -> str:
    """1 is "1 field", 3 is "3 fields"."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def against(measured: float | None, predicted: float | None, words: Callable[[float], str]) -> str:
    """Measured and predicted value: "12 s, 10 s predicted"; "" where neither is known."""
    shown = [words(measured)] if measured else []
    return ", ".join([*shown, f"{words(predicted)} predicted"] if predicted else shown)


def missed_words(device: str | None, predicted_bytes: int | None) -> str:
    """That a plan ran out of memory, and what it had predicted; "" where none did."""
    if device is None:
        return ""
    return f"{device} ran out of memory where {bytes_words(predicted_bytes or 0)} had been predicted"


def clock(seconds: float) -> str:
    """A countdown: 75 is "1:15", 3700 is "1:01:40"."""
    whole = max(0, round(seconds))
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"


def when(unix_seconds: float | None, now: float | None = None) -> str:
    """Local time of day, with the date when it was not today; "" for None."""
    if unix_seconds is None:
        return ""
    there = time.localtime(unix_seconds)
    here = time.localtime(time.time() if now is None else now)
    return time.strftime("%H:%M" if there[:3] == here[:3] else "%Y-%m-%d %H:%M", there)
