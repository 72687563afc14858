"""The procedural 3-D stage: renders a Blocking exactly, picture and ground truth.

It makes the previs, the control films and the training data, so it is written once over the array API: on numpy (2.1
or later) without torch for the desk, on array_api_compat.torch for training and GPUs. A frame: find the nearest solid
per pixel, shade it under key, fill and rim with soft shadows, then add what a camera adds: highlights, aerial
perspective, depth of field. `previs` is the frame before that, the control picture of a network that has to add it;
`clay` is the same light on a 50 % grey world.

Light is linear Rec.709 until the end. A white surface that faces one unit of light shows as white at 0 EV; above 80 %
the curve has a shoulder, so highlights roll off instead of clipping.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.stage.blocking import RGB, Blocking, Prop
from models.stage.defocus import defocus
from models.stage.mannequin import parts
from models.stage.solids import FAR, Box, Capsule, Solid

SKY, GROUND, SET, SUBJECT = 0, 1, 2, 10  # ids: subject i is SUBJECT + i
CLAY = 0.5  # reflectance of the grey world
SHOULDER = 0.8  # linear value where highlights begin to roll off
GLOSS, GLOSS_POWER = 0.12, 40.0  # of every surface: strength and tightness of its highlight
AIR_M = 200.0  # metres over which aerial perspective hides 63 % of what is behind


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One rendered frame; arrays of the namespace it was rendered with."""

    rgb: Any  # (h, w, 3) Rec.709 primaries, sRGB-encoded 0..1
    previs: Any  # (h, w, 3) the same without highlights, air and defocus
    clay: Any  # (h, w, 3) the same light on 50 % grey
    depth: Any  # (h, w) metres along the lens axis; inf where there is sky
    normal: Any  # (h, w, 3) world, outward; 0 for sky
    ids: Any  # (h, w) int32
    lit: Any  # (h, w) fraction of the key lamp that is visible from each point, 0..1


@dataclass(frozen=True, slots=True)
class _Piece:
    """A solid with its surface and id."""

    solid: Solid
    color: RGB
    second: RGB
    pattern_m: float
    id: int


def render(blocking: Blocking, xp=np, *, samples: int = 1, dtype=None, device=None) -> Iterator[Frame]:
    """Every frame of a blocking, in order. `samples` squared rays a pixel antialias the pictures."""
    for t in range(blocking.frames):
        yield render_frame(blocking, t, xp, samples=samples, dtype=dtype, device=device)


def render_frame(blocking: Blocking, t: int, xp=np, *, samples: int = 1, dtype=None, device=None) -> Frame:
    """Frame t of a blocking."""
    like = xp.zeros(1, dtype=dtype or xp.float32, device=device)
    wide, high = blocking.width * samples, blocking.height * samples
    rays, cosine = _rays(xp, like, blocking, t, wide, high)
    eye = [float(c) for c in blocking.c2w[t, :, 3]]
    groups = _pieces(blocking, t)
    surface = _trace(xp, like, eye, rays, groups, blocking, t, wide, high)
    return _shade(xp, surface, rays, cosine, eye, groups, blocking, t, samples)


def project(blocking: Blocking, t: int, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project world points (P, 3) into frame t: pixels (P, 2) as (x, y), and metres along the lens axis (P,)."""
    rotation, origin = blocking.c2w[t, :, :3], blocking.c2w[t, :, 3]
    x, y, z = ((np.asarray(points, dtype=np.float64) - origin) @ rotation).T
    focal = blocking.focal_px[t]
    safe = np.where(np.abs(z) < 1e-9, 1e-9, z)
    return np.stack([focal * x / safe + blocking.width / 2, focal * y / safe + blocking.height / 2], -1), z


def _rays(xp, like, blocking, t, wide, high):
    """Unit directions as x, y, z (h, w) through pixel centres, and the cosine of each to the lens axis."""
    focal = float(blocking.focal_px[t]) * wide / blocking.width
    u = (xp.arange(wide, dtype=like.dtype, device=_device(like)) + (0.5 - wide / 2)) / focal
    v = (xp.arange(high, dtype=like.dtype, device=_device(like)) + (0.5 - high / 2)) / focal
    u, v = xp.broadcast_to(u[None, :], (high, wide)), xp.broadcast_to(v[:, None], (high, wide))
    cosine = 1.0 / xp.sqrt(u * u + v * v + 1.0)
    r = [[float(c) for c in row] for row in blocking.c2w[t, :, :3]]
    return [(row[0] * u + row[1] * v + row[2]) * cosine for row in r], cosine


def _device(array):
    return getattr(array, "device", None)


def solid_of(prop: Prop) -> Solid:
    """The solid of a prop."""
    (x, y, z), (size, tall, _) = prop.center, prop.size
    if prop.shape == "box":
        return Box(prop.center, prop.size, prop.yaw_deg)
    if prop.shape == "ball":
        return Capsule(prop.center, prop.center, size)
    return Capsule((x, y - tall, z), (x, y + tall - size, z), size)  # a column with a round top, on (or in) the floor


def _pieces(blocking: Blocking, t: int) -> list[list[_Piece]]:
    """The solids on the floor, in groups that are close together: each prop alone, each person as one."""
    groups = []
    for prop in blocking.set.props:
        groups.append([_Piece(solid_of(prop), prop.color, prop.second, prop.pattern_m, SET)])
    for i, track in enumerate(blocking.subjects):
        groups.append([_Piece(c, color, color, 0.0, SUBJECT + i) for c, color in parts(track, t)])
    return groups


def _trace(xp, like, eye, rays, groups, blocking, t, wide, high):
    """Nearest surface per pixel: distance, normal x y z, and index of the piece (-2 sky, -1 ground)."""
    dy = rays[1]
    on_ground = (dy < -1e-6) & (eye[1] > 0)
    near = xp.where(on_ground, -eye[1] / xp.where(on_ground, dy, -1.0), FAR)
    on_ground = near < FAR
    near = xp.where(on_ground, near, FAR)
    normal = [xp.zeros_like(near), xp.astype(on_ground, near.dtype), xp.zeros_like(near)]
    index = xp.astype(on_ground, near.dtype) - 2.0
    to_camera = blocking.c2w[t, :, :3].T
    focal = float(blocking.focal_px[t]) * wide / blocking.width
    for number, piece in enumerate(p for group in groups for p in group):
        window = _window(piece.solid.bound, to_camera, eye, focal, wide, high)
        if window is None:
            continue
        ray = [d[window] for d in rays]
        hit = piece.solid.hit(xp, eye, ray)
        closer = hit < near[window]
        safe = xp.where(closer, hit, 1.0)
        n = piece.solid.normal(xp, *(o + safe * d for o, d in zip(eye, ray, strict=True)))
        near[window] = xp.where(closer, hit, near[window])
        index[window] = xp.where(closer, float(number), index[window])
        for axis in range(3):
            normal[axis][window] = xp.where(closer, n[axis], normal[axis][window])
    return near, normal, index


def _window(bound, to_camera, eye, focal, wide, high):
    """The rectangle of pixels that a bounding sphere can touch, or None if it is out of the picture."""
    center, radius = bound
    x, y, z = to_camera @ (np.asarray(center) - np.asarray(eye))
    if z < -radius:
        return None
    if z <= 1.5 * radius:
        return slice(0, high), slice(0, wide)
    spans = []
    for c, size in ((y, high), (x, wide)):
        # The sphere's silhouette lies within asin(r/d) of its centre's angle in this plane.
        angle, spread = math.atan2(c, z), math.asin(min(1.0, radius / math.hypot(c, z)))
        low, top = angle - spread, angle + spread
        first = 0 if low <= -1.5 else int(focal * math.tan(low) + size / 2) - 1
        last = size if top >= 1.5 else int(focal * math.tan(top) + size / 2) + 2
        first, last = max(0, first), min(size, last)
        if first >= last:
            return None
        spans.append(slice(first, last))
    return tuple(spans)


def _shade(xp, surface, rays, cosine, eye, groups, blocking, t, samples):
    near, normal, index = surface
    pieces = [p for group in groups for p in group]
    sky = index < -1.5
    reach = xp.where(sky, 1.0, near)
    where = [o + reach * d for o, d in zip(eye, rays, strict=True)]
    row = xp.astype(xp.reshape(index, (-1,)) + 2.0, xp.int64)  # of the tables: sky, ground, then every piece
    paint = _colors(xp, row, near, normal, where, rays, cosine, pieces, blocking, t)
    light, gloss, lit = _irradiance(xp, sky, normal, where, rays, groups, blocking, t)
    gain = 2.0 ** float(blocking.exposure_ev[t])
    backdrop = _sky(xp, rays[1], blocking.set)

    def picture(color, shine=None):
        bounced = [c * e for c, e in zip(color, light, strict=True)]
        if shine is not None:
            bounced = [b + s for b, s in zip(bounced, shine, strict=True)]
        return xp.stack([xp.where(sky, b, c) * gain for b, c in zip(backdrop, bounced, strict=True)], -1)

    pick = (slice(samples // 2, None, samples),) * 2  # one ray a pixel for ground truth, which must not be averaged
    depth = xp.where(sky, FAR, near * cosine)[pick]
    finished = _shrink(xp, _air(xp, picture(paint, gloss), near, blocking, gain), samples)
    names = xp.asarray([SKY, GROUND, *(p.id for p in pieces)], dtype=xp.int32, device=_device(near))
    return Frame(
        rgb=encode(xp, defocus(xp, finished, depth, blocking, t)),
        previs=encode(xp, _shrink(xp, picture(paint), samples)),
        clay=encode(xp, _shrink(xp, picture([CLAY, CLAY, CLAY]), samples)),
        depth=xp.where(depth >= FAR, math.inf, depth),
        normal=xp.stack([n[pick] for n in normal], -1),
        ids=xp.reshape(xp.take(names, row, axis=0), near.shape)[pick],
        lit=lit[pick],
    )


def _colors(xp, row, near, normal, where, rays, cosine, pieces, blocking, t):
    """Linear reflectance (r, g, b) per pixel, with the patterns of floor and props."""
    scenery = blocking.set
    surfaces = [
        (*scenery.sky_top, *scenery.sky_top, 0.0),
        (*scenery.ground, *scenery.ground_second, scenery.tile_m),
        *((*p.color, *p.second, p.pattern_m) for p in pieces),
    ]
    table = xp.asarray(surfaces, dtype=near.dtype, device=_device(near))
    first, second, period = (
        [xp.reshape(xp.take(table[:, column], row, axis=0), near.shape) for column in columns]
        for columns in ((0, 1, 2), (3, 4, 5), (6,))
    )
    patterned = period[0] > 0
    period = xp.where(patterned, period[0], 1.0)
    # Pattern coordinates lie in the surface: floors use x and z, walls their run and y.
    upward = xp.abs(normal[1]) > 0.7
    across = xp.where(upward | (xp.abs(normal[2]) >= xp.abs(normal[0])), where[0], where[2])
    along = xp.where(upward, where[2], where[1])
    # A pixel covers this many metres; the edge of a check is never sharper, and a finer pattern fades.
    steep = xp.clip(xp.abs(_dot(rays, normal)), 0.05, 1.0)
    cover = near / (float(blocking.focal_px[t]) * steep * cosine)
    edge = xp.clip(period / (math.pi * cover), 0.0, 12.0)
    check = xp.clip(edge * xp.sin(math.pi * across / period), -1.0, 1.0)
    check = check * xp.clip(edge * xp.sin(math.pi * along / period), -1.0, 1.0)
    mix = xp.where(patterned, 0.5 + 0.5 * check, 1.0)
    return [b + mix * (a - b) for a, b in zip(first, second, strict=True)]


def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _irradiance(xp, sky, normal, where, rays, groups, blocking, t):
    """Per pixel: irradiance of the surface (r, g, b), its highlights, and the visible fraction of the key lamp."""
    dome = 0.6 + 0.4 * normal[1]  # floor and walls reflect less than the sky
    light = [dome * float(c) for c in blocking.ambient[t]]
    gloss = [xp.zeros_like(dome)] * 3
    lit = xp.zeros_like(dome)
    flat = [xp.reshape(p, (-1,)) for p in where]
    for lamp in blocking.lights:
        color = [float(c) for c in lamp.rgb[t]]
        if max(color) <= 0:
            continue
        toward = [float(c) for c in lamp.direction[t]]
        facing = xp.where(sky, 0.0, xp.clip(_dot(normal, toward), 0.0, 1.0))
        spread = math.tan(math.radians(max(lamp.size_deg, 0.25)) / 2)
        seen = xp.reshape(_visible(xp, xp.reshape(facing, (-1,)), flat, toward, spread, groups), dome.shape)
        share = facing * seen
        # Blinn-Phong: half-way between lamp and lens; a larger lamp gives a wider highlight.
        half = [d - r for d, r in zip(toward, rays, strict=True)]
        cosine = xp.clip(_dot(half, normal), 0.0, None) / xp.sqrt(_dot(half, half))
        shine = share * GLOSS * cosine ** (GLOSS_POWER / (1.0 + lamp.size_deg / 30.0))
        light = [e + share * c for e, c in zip(light, color, strict=True)]
        gloss = [g + shine * c for g, c in zip(gloss, color, strict=True)]
        if lamp.name == "key":
            lit = xp.where(sky, 0.0, seen)
    return light, gloss, lit


def _air(xp, linear, near, blocking, gain):
    """Aerial perspective: distant surfaces take the colour of the horizon, as exposed."""
    clear = xp.exp(-near * (1.0 / AIR_M))[:, :, None]
    horizon = gain * xp.asarray(blocking.set.sky_horizon, dtype=near.dtype, device=_device(near))
    return xp.where(near[:, :, None] >= FAR, linear, linear * clear + horizon * (1.0 - clear))


def _visible(xp, facing, points, toward, spread, groups):
    """Fraction of a lamp that is visible from each point (P,), past everything on the stage."""
    seen = xp.astype(facing > 0, facing.dtype)
    rows = xp.nonzero(facing > 0)[0]
    if rows.shape[0] == 0:
        return seen
    start = [xp.take(p, rows, axis=0) for p in points]
    normal_push = 2e-3  # metres off the surface, towards the lamp: a point does not shade itself
    start = [p + normal_push * d for p, d in zip(start, toward, strict=True)]
    part = xp.ones_like(start[0])
    for group in groups:
        near = _within(xp, start, toward, spread, [p.solid.bound for p in group])
        if near.shape[0] == 0:
            continue
        some = [xp.take(p, near, axis=0) for p in start]
        past = xp.take(part, near, axis=0)
        for piece in group:
            past = xp.minimum(past, piece.solid.visible(xp, some, toward, spread))
        part[near] = past
    seen[rows] = part
    return seen


def _within(xp, start, toward, spread, bounds):
    """Rows whose path to the lamp passes near the bounding sphere of some solids."""
    low = np.min([np.asarray(c) - r for c, r in bounds], 0)
    high = np.max([np.asarray(c) + r for c, r in bounds], 0)
    middle, radius = (low + high) / 2, float(np.linalg.norm(high - low)) / 2
    to = [float(m) - p for m, p in zip(middle, start, strict=True)]
    along = _dot(to, toward)
    away2 = _dot(to, to) - along * along
    room = radius + xp.clip(along, 0.0, None) * spread
    return xp.nonzero((along > -radius) & (away2 < room * room))[0]


def _sky(xp, up, scenery):
    height = xp.clip(2.0 * up, 0.0, 1.0)
    return [b + height * (a - b) for a, b in zip(scenery.sky_top, scenery.sky_horizon, strict=True)]


def _shrink(xp, picture, samples):
    """Mean of samples x samples rays a pixel, in linear light."""
    if samples == 1:
        return picture
    high, wide, _ = picture.shape
    return xp.mean(xp.reshape(picture, (high // samples, samples, wide // samples, samples, 3)), axis=(1, 3))


def encode(xp, linear):
    """Scene-linear light to sRGB code values 0..1, with a shoulder above 80 %."""
    over = xp.clip(linear - SHOULDER, 0.0, None) / (1.0 - SHOULDER)
    c = xp.clip(xp.where(linear > SHOULDER, SHOULDER + (1.0 - SHOULDER) * (1.0 - xp.exp(-over)), linear), 0.0, 1.0)
    return xp.where(c <= 0.0031308, 12.92 * c, 1.055 * xp.clip(c, 0.0031308, None) ** (1 / 2.4) - 0.055)
