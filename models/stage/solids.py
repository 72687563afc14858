"""Boxes and capsules, and their intersection with rays (a ball is a capsule of length 0).

Rays come as separate arrays of x, y, z so that every line below is one pass over memory, on numpy or torch; `xp` is the
array-API namespace. Sizes are metres.

Sources: slab test (Kay & Kajiya 1986); capsule intersection and its closest-approach penumbra are the textbook
quadratic and segment-to-line distance (Ericson, Real-Time Collision Detection, 5.1.9 and 5.3.7).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from models.stage.blocking import RGB

FAR = 1.0e4  # metres: nothing on the stage is farther away


@dataclass(frozen=True, slots=True)
class Box:
    """A box rotated about the vertical."""

    center: RGB
    half: RGB
    yaw_deg: float

    @property
    def bound(self) -> tuple[RGB, float]:
        """Centre and radius of the bounding sphere."""
        return self.center, math.sqrt(sum(h * h for h in self.half))

    def _local(self, x, y, z):
        c, s = math.cos(math.radians(self.yaw_deg)), math.sin(math.radians(self.yaw_deg))
        return c * x - s * z, y, s * x + c * z

    def chord(self, xp, origin, direction):
        """Where rays enter and leave: (near, far) along the ray, near > far where they miss."""
        o = self._local(*(p - c for p, c in zip(origin, self.center, strict=True)))
        d = self._local(*direction)
        near, far = -FAR, FAR
        for axis in range(3):
            slope = _nonzero(xp, d[axis])
            first, second = (-self.half[axis] - o[axis]) / slope, (self.half[axis] - o[axis]) / slope
            near = xp.maximum(xp.minimum(first, second), near)
            far = xp.minimum(xp.maximum(first, second), far)
        return near, far

    def hit(self, xp, origin, direction):
        """Distance to the first surface; FAR where the ray misses or starts inside."""
        near, far = self.chord(xp, origin, direction)
        return xp.where((near <= far) & (near > 1e-4), near, FAR)

    def normal(self, xp, x, y, z):
        """Outward normal (x, y, z) at points on the surface."""
        local = self._local(x - self.center[0], y - self.center[1], z - self.center[2])
        share = [xp.abs(p) / h for p, h in zip(local, self.half, strict=True)]
        top = xp.maximum(xp.maximum(share[0], share[1]), share[2])
        n = [xp.where(s >= top, xp.sign(p), 0.0) for s, p in zip(share, local, strict=True)]
        c, s = math.cos(math.radians(self.yaw_deg)), math.sin(math.radians(self.yaw_deg))
        return c * n[0] + s * n[2], n[1], -s * n[0] + c * n[2]

    def visible(self, xp, origin, light, spread):
        """Fraction of a lamp of half-width `spread` (tangent) that is visible from points past this box, 0..1.

        The penumbra grows inwards from the geometric edge: the chord through the box against the width of
        the lamp there.
        """
        near, far = self.chord(xp, origin, light)
        start = xp.maximum(near, 1e-3)
        width = start * (2 * spread) + 1e-3
        return 1.0 - xp.clip((far - start) / width, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Capsule:
    """Everything within `radius` of the segment a..b."""

    a: RGB
    b: RGB
    radius: float

    @property
    def bound(self) -> tuple[RGB, float]:
        """Centre and radius of the bounding sphere."""
        x, y, z = ((p + q) / 2 for p, q in zip(self.a, self.b, strict=True))
        return (x, y, z), math.dist(self.a, self.b) / 2 + self.radius

    def hit(self, xp, origin, direction):
        """Distance to the first surface; FAR where the ray misses."""
        dx, dy, dz = direction
        middle, reach = self.bound
        # Start each ray where it passes the middle: float32 then cancels centimetres, not tens of metres.
        to = [m - o for m, o in zip(middle, origin, strict=True)]
        start = to[0] * dx + to[1] * dy + to[2] * dz
        ox, oy, oz = (start * d - t for d, t in zip(direction, to, strict=True))  # relative to the middle
        axis = [q - p for p, q in zip(self.a, self.b, strict=True)]
        length2 = sum(c * c for c in axis)
        r2 = self.radius * self.radius
        if length2 < 1e-10:
            along = ox * dx + oy * dy + oz * dz
            room = along * along - (ox * ox + oy * oy + oz * oz - r2)
            t = -along - xp.sqrt(xp.clip(room, 0.0, None))
            return _beyond(xp, room >= 0, t, start)
        ax, ay, az = (c / 2 for c in axis)
        da = axis[0] * dx + axis[1] * dy + axis[2] * dz
        oa = axis[0] * (ox + ax) + axis[1] * (oy + ay) + axis[2] * (oz + az)
        do = dx * (ox + ax) + dy * (oy + ay) + dz * (oz + az)
        oo = (ox + ax) ** 2 + (oy + ay) ** 2 + (oz + az) ** 2
        qa = xp.maximum(length2 - da * da, 1e-9)
        qb = length2 * do - oa * da
        qc = length2 * (oo - r2) - oa * oa
        room = qb * qb - qa * qc
        t = (-qb - xp.sqrt(xp.clip(room, 0.0, None))) / qa
        along = oa + t * da
        on_side = (room >= 0) & (along > 0) & (along < length2)
        end = 1.0 - 2.0 * xp.astype(along > 0, along.dtype)  # which cap: a is at -axis/2
        ex, ey, ez = ox + end * ax, oy + end * ay, oz + end * az
        eb = ex * dx + ey * dy + ez * dz
        cap = eb * eb - (ex * ex + ey * ey + ez * ez - r2)
        t = xp.where(on_side, t, -eb - xp.sqrt(xp.clip(cap, 0.0, None)))
        return _beyond(xp, (on_side | (cap >= 0)) & (xp.abs(t) < 2 * reach), t, start)

    def normal(self, xp, x, y, z):
        """Outward normal (x, y, z) at points on the surface."""
        axis = [q - p for p, q in zip(self.a, self.b, strict=True)]
        px, py, pz = x - self.a[0], y - self.a[1], z - self.a[2]
        length2 = max(sum(c * c for c in axis), 1e-10)
        h = xp.clip((px * axis[0] + py * axis[1] + pz * axis[2]) / length2, 0.0, 1.0)
        return (px - h * axis[0]) / self.radius, (py - h * axis[1]) / self.radius, (pz - h * axis[2]) / self.radius

    def visible(self, xp, origin, light, spread):
        """Fraction of a lamp of half-width `spread` (tangent) that is visible from points past this capsule, 0..1.

        The closest approach of the ray to the segment, against the width of the lamp's cone at that distance.
        """
        ox, oy, oz = (p - a for p, a in zip(origin, self.a, strict=True))
        axis = [q - p for p, q in zip(self.a, self.b, strict=True)]
        length2 = max(sum(c * c for c in axis), 1e-10)
        la = sum(p * q for p, q in zip(light, axis, strict=True))
        ol = ox * light[0] + oy * light[1] + oz * light[2]
        oa = ox * axis[0] + oy * axis[1] + oz * axis[2]
        h = xp.clip((oa - ol * la) / max(length2 - la * la, 1e-9), 0.0, 1.0)
        t = xp.clip(h * la - ol, 1e-3, None)
        gx = ox + t * light[0] - h * axis[0]
        gy = oy + t * light[1] - h * axis[1]
        gz = oz + t * light[2] - h * axis[2]
        gap = xp.sqrt(gx * gx + gy * gy + gz * gz) - self.radius
        seen = xp.clip(0.5 + gap / (t * (2 * spread) + 1e-3), 0.0, 1.0)
        return seen * seen * (3.0 - 2.0 * seen)


Solid = Box | Capsule


def _nonzero(xp, slope):
    """A direction's component, kept away from 0 because the slab test divides by it."""
    if isinstance(slope, float):
        return slope if abs(slope) > 1e-8 else 1e-8
    return xp.where(xp.abs(slope) < 1e-8, 1e-8, slope)


def _beyond(xp, hit, t, start):
    """Distances from the true origin, FAR where there is no hit in front of it."""
    t = t + start
    return xp.where(hit & (t > 1e-4), t, FAR)
