"""Values over time: keys sampled at the frames, the progress of a move, band-limited noise."""

from __future__ import annotations

from typing import Any

import numpy as np

from appliance.direction.fields import is_keyed
from models.stage.optics import ease

Array = np.ndarray


def sample(keyed: Any, t: Array) -> Array:
    """A constant or a list of keys at times t (T,): (T,), or (T, n) for points. Held outside its keys."""
    if not is_keyed(keyed):
        value = np.asarray(keyed, dtype=np.float64)
        return np.broadcast_to(value, t.shape + value.shape).copy()
    values = np.array([key.value for key in keyed], dtype=np.float64)
    found = np.broadcast_to(values[0], t.shape + values.shape[1:]).copy()
    for i in range(1, len(keyed)):
        before, here = keyed[i - 1], keyed[i]
        part = t >= before.t_s
        u = ease((t[part] - before.t_s) / (here.t_s - before.t_s), here.ease)
        u = u.reshape(u.shape + (1,) * (values.ndim - 1))
        found[part] = values[i - 1] + (values[i] - values[i - 1]) * u
    return found


def progress(t: Array, from_s: float, to_s: float, kind: str) -> Array:
    """(T,) 0 before `from_s`, 1 from `to_s` on, eased between."""
    return ease((t - from_s) / (to_s - from_s), kind)


def lerp(a: Any, b: Any, p: Array) -> Array:
    """From a to b (numbers or points) by progress p (T,)."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    p = p.reshape(p.shape + (1,) * max(a.ndim, b.ndim))
    return a + (b - a) * p


def tremor(t: Array, seed: int, hz_lo: float, hz_hi: float, channels: int) -> Array:
    """(channels, T) band-limited noise with mean 0 and rms 1 over the frames; the same for a seed on every machine."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    hertz = rng.uniform(hz_lo, hz_hi, (channels, 16, 1))
    phase = rng.uniform(0, 2 * np.pi, (channels, 16, 1))
    noise = np.sin(2 * np.pi * hertz * t + phase).sum(1)
    noise -= noise.mean(1, keepdims=True)
    return noise / noise.std(1, keepdims=True)
