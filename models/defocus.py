"""What a real lens does away from its focal plane: circles of confusion, in pixels.

Thin lens: a point at distance s blurs to c = f² |s - s_f| / (N s (s_f - f)) on the sensor, f focal length and
s_f focus distance in the same unit, N the stop.
"""

from __future__ import annotations

from models.blocking import Blocking

LEVELS = (1, 2, 4, 8)  # half-widths in pixels of the blurred copies that are mixed


def circle_px(xp, depth, blocking: Blocking, t: int):
    """Diameter in pixels of the blur at each depth (metres)."""
    focal = float(blocking.focal_mm[t]) / 1000.0
    focus = max(float(blocking.focus_m[t]), focal * 1.5)
    scale = focal * focal / (blocking.t_stop * (focus - focal)) * 1000.0 / blocking.sensor_w_mm * blocking.width
    return xp.abs(depth - focus) / depth * scale


def defocus(xp, linear, depth, blocking: Blocking, t: int):
    """The picture (h, w, 3), linear light, through the lens of frame t. Sharp where blur stays under a pixel."""
    size = circle_px(xp, depth, blocking, t)
    if float(xp.max(size)) < 1.0:
        return linear
    radius = xp.clip(size / 2, 0.0, float(LEVELS[-1]))[:, :, None]
    sharp, sharp_at, out = linear, 0.0, linear
    for level in LEVELS:
        soft = _box(xp, _box(xp, sharp, level, 0), level, 1)
        mix = xp.clip((radius - sharp_at) / (level - sharp_at), 0.0, 1.0)
        out = xp.where(radius > sharp_at, sharp + mix * (soft - sharp), out)
        if float(xp.max(radius)) <= level:
            break
        sharp, sharp_at = soft, float(level)
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
