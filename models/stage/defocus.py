"""Depth of field: circles of confusion in pixels, and the blur.

Thin lens: a point at distance s blurs to c = f² |s - s_f| / (N s (s_f - f)) on the sensor, f focal length and
s_f focus distance in the same unit, N the stop.
"""

from __future__ import annotations

import math

from models.stage.blocking import Blocking

LEVELS = (1, 2, 4, 8)  # half-widths in pixels of successive box blurs

# A disc of radius r spreads light by r²/4 along each axis, a box of half-width h by h (h + 1) / 3. Each copy is the
# one before, blurred again, so the spreads add: 2/3, 8/3, 28/3, 100/3, which are discs of 1.6, 3.3, 6.1 and 11.5
# pixels.
DISCS = tuple(2 * math.sqrt(sum(h * (h + 1) / 3 for h in LEVELS[: n + 1])) for n in range(len(LEVELS)))


def circle_px(xp, depth, blocking: Blocking, t: int):
    """Diameter in pixels of the blur at each depth (metres)."""
    focal = float(blocking.focal_mm[t]) / 1000.0
    focus = max(float(blocking.focus_m[t]), focal * 1.5)
    scale = focal * focal / (blocking.t_stop * (focus - focal)) * 1000.0 / blocking.sensor_w_mm * blocking.width
    return xp.abs(depth - focus) / depth * scale


def defocus(xp, linear, depth, blocking: Blocking, t: int):
    """The picture (h, w, 3) in linear light with the depth of field of frame t. Sharp where blur is under a pixel."""
    size = circle_px(xp, depth, blocking, t)
    if float(xp.max(size)) < 1.0:
        return linear
    radius = xp.clip(size / 2, 0.0, DISCS[-1])[:, :, None]
    sharp, sharp_at, out = linear, 0.0, linear
    for half, disc in zip(LEVELS, DISCS, strict=True):
        soft = _box(xp, _box(xp, sharp, half, 0), half, 1)
        # Mixing two copies mixes their spreads: the squares of the radii, not the radii.
        mix = xp.clip((radius**2 - sharp_at**2) / (disc**2 - sharp_at**2), 0.0, 1.0)
        out = xp.where(radius > sharp_at, sharp + mix * (soft - sharp), out)
        if float(xp.max(radius)) <= disc:
            break
        sharp, sharp_at = soft, disc
    return out


def _box(xp, picture, half: int, axis: int):
    """Mean over 2·half+1 pixels along an axis; the edge repeats."""
    length = picture.shape[axis]
    first = (slice(0, 1),) if axis == 0 else (slice(None), slice(0, 1))
    last = (slice(length - 1, length),) if axis == 0 else (slice(None), slice(length - 1, length))
    padded = xp.concat([picture[first]] * (half + 1) + [picture] + [picture[last]] * half, axis=axis)
    total = xp.cumulative_sum(padded, axis=axis)
    upper = (slice(2 * half + 1, None),) if axis == 0 else (slice(None), slice(2 * half + 1, None))
    lower = (slice(0, length),) if axis == 0 else (slice(None), slice(0, length))
    return (total[upper] - total[lower]) / (2 * half + 1)
