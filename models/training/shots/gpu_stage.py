"""Render training shots on a GPU: a blocking as tables of numbers, and a film from the tables, in milliseconds.

`tables` runs in the processes that sample shots; its result is pickled. `film` gives the film of shoot.shoot, up to
rounding: on CUDA one kernel renders and torch adds defocus, on the CPU the stage renders.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.toolchain import driver
from models.controls.films import SAMPLES
from models.stage import render as stage
from models.stage.blocking import Array, Blocking
from models.stage.defocus import DISCS, LEVELS
from models.stage.mannequin import parts
from models.stage.solids import Box, Capsule, Solid
from models.training.shots import shoot as footage

ALIGNED = 16  # numbers: each table starts at a multiple of this, so that one compiled kernel serves all


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """A blocking, and the inputs of kernels/raycast.py."""

    blocking: Blocking
    numbers: Array  # float32: the concatenated tables
    shapes: tuple[tuple[int, ...], ...]  # of frames, boxes, capsules, lamps, surfaces, scene


def tables(blocking: Blocking) -> Tables:
    """A blocking as tables."""
    eye, frames = blocking.c2w[:, :, 3], blocking.frames
    solids = [(stage.solid_of(prop), (*prop.color, *prop.second, prop.pattern_m, 0.0)) for prop in blocking.set.props]
    boxes = [(solid, paint) for solid, paint in solids if isinstance(solid, Box)]
    round_props = [(solid, paint) for solid, paint in solids if isinstance(solid, Capsule)]
    people = [[part for track in blocking.subjects for part in parts(track, t)] for t in range(frames)]
    standing = [[_capsule(solid) for solid, _ in (*round_props, *those)] for those in people]
    capsules = np.array(standing).reshape(frames, len(standing[0]), 8)
    capsules[:, :, :3] -= eye[:, None]
    lengths = np.linalg.norm(capsules[:, :, 3:6], axis=-1)
    capsules[:, :, 7] = lengths / 2 + capsules[:, :, 6]
    rotated = np.tile(np.array([_box(solid) for solid, _ in boxes]).reshape(len(boxes), 8), (frames, 1, 1))
    rotated[:, :, :3] -= eye[:, None]
    scenery = blocking.set
    surfaces = [(*scenery.ground, *scenery.ground_second, scenery.tile_m, 0.0)]
    surfaces += [paint for _, paint in (*boxes, *round_props)]
    surfaces += [(*color, *color, 0.0, 0.0) for _, color in people[0]]
    scene = [*scenery.sky_top, *scenery.sky_horizon, stage.GLOSS, stage.AIR_M]
    found = [_frames(blocking), rotated, capsules, _lamps(blocking), np.array(surfaces), np.array(scene)]
    flat = [np.pad(table.ravel(), (0, -table.size % ALIGNED)) for table in found]
    return Tables(blocking, np.concatenate(flat).astype(np.float32), tuple(table.shape for table in found))


def _box(box: Solid) -> tuple[float, ...]:
    assert isinstance(box, Box)
    yaw = math.radians(box.yaw_deg)
    return (*box.center, *box.half, math.cos(yaw), math.sin(yaw))


def _capsule(capsule: Solid) -> tuple[float, ...]:
    """One end, the vector to the other, the radius, and a place for the bounding radius."""
    assert isinstance(capsule, Capsule)
    (ax, ay, az), (bx, by, bz) = capsule.a, capsule.b
    return ax, ay, az, bx - ax, by - ay, bz - az, capsule.radius, 0.0


def _frames(blocking: Blocking) -> Array:
    frames = blocking.frames
    focus, scale = lens(blocking)
    columns = [
        blocking.c2w[:, :, :3].reshape(frames, 9), blocking.c2w[:, :, 3], blocking.focal_px[:, None],
        2.0 ** blocking.exposure_ev[:, None], blocking.ambient, focus[:, None], scale[:, None],
        np.zeros((frames, 1)),
    ]  # fmt: skip
    return np.concatenate(columns, 1)


def lens(blocking: Blocking) -> tuple[Array, Array]:
    """The distance (T,) of the focal plane in metres, and the circle of confusion (T,) at infinity in pixels, as in
    models/stage/defocus.py.
    """
    focal = blocking.focal_mm / 1000.0
    focus = np.maximum(blocking.focus_m, focal * 1.5)
    return focus, focal**2 / (blocking.t_stop * (focus - focal)) * 1000.0 / blocking.sensor_w_mm * blocking.width


def _lamps(blocking: Blocking) -> Array:
    found = np.zeros((blocking.frames, len(blocking.lights), 8))
    for i, lamp in enumerate(blocking.lights):
        found[:, i, :3], found[:, i, 3:6] = lamp.direction, lamp.rgb
        found[:, i, 6] = math.tan(math.radians(max(lamp.size_deg, 0.25)) / 2)
        found[:, i, 7] = stage.GLOSS_POWER / (1.0 + lamp.size_deg / 30.0)
    return found


def film(tables: Tables, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """rgb and previs (T, h, w, 3) and depth (T, h, w), uint8 on the device."""
    where = torch.device(device)
    if where.type == "cpu":
        shown = footage.expose(tables.blocking)
        rgb, previs, depth = (torch.from_numpy(shown[name]) for name in ("rgb", "previs", "depth"))
        return rgb, previs, depth
    numbers = torch.from_numpy(tables.numbers)
    with torch.cuda.device(where):
        return render(tables, numbers.pin_memory().to(where, non_blocking=True))


@functools.cache
def _kernel():
    driver.prepare()
    from kernels import raycast  # torch: loads Triton, for which the driver must be prepared

    return raycast


def render(tables: Tables, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`film` on the device of the tables' numbers."""
    raycast = _kernel()
    blocking, at, views = tables.blocking, 0, []
    for shape in tables.shapes:
        views.append(numbers[at : at + math.prod(shape)].view(shape))
        at += math.prod(shape) + -math.prod(shape) % ALIGNED
    frames, boxes, capsules, lamps, surfaces, scene = views
    finished, previs, depth = raycast.launch(
        frames, boxes, capsules, lamps, surfaces, scene, blocking.height, blocking.width, SAMPLES
    )
    rgb = stage.encode(torch, defocused(finished, depth, frames[:, 17], frames[:, 18]))
    unit = blocking.subject_distance_m
    coded = torch.where(depth < raycast.FAR, unit / (unit + depth), 0.0)  # as code_depth in models/controls/films.py
    return _bytes(rgb), _bytes(stage.encode(torch, previs)), _bytes(coded)


def _bytes(picture: Tensor) -> Tensor:
    return (picture.clip(0, 1) * 255).round().to(torch.uint8)


def defocused(linear: Tensor, depth: Tensor, focus_m: Tensor, scale_px: Tensor) -> Tensor:
    """models/stage/defocus.py for all frames at once: linear light (T, h, w, 3), depth (T, h, w) in metres, and `lens`
    of each frame.
    """
    size = (depth - focus_m[:, None, None]).abs() / depth * scale_px[:, None, None]
    radius2 = ((size / 2).clip(0, DISCS[-1]) ** 2)[:, None]
    first = linear.permute(0, 3, 1, 2).contiguous()
    sharp, sharp_at, out = first, 0.0, first
    for half, disc in zip(LEVELS, DISCS, strict=True):
        edged = F.pad(sharp, (half, half, half, half), mode="replicate")
        soft = F.avg_pool2d(F.avg_pool2d(edged, (2 * half + 1, 1), 1), (1, 2 * half + 1), 1)
        # Mixing two blurred copies mixes their variances: the squares of the radii, not the radii.
        mix = ((radius2 - sharp_at**2) / (disc**2 - sharp_at**2)).clip(0, 1)
        out = torch.where(radius2 > sharp_at**2, torch.lerp(sharp, soft, mix), out)
        sharp, sharp_at = soft, disc
    blurred = size.amax((1, 2), keepdim=True)[:, None] >= 1.0  # a frame without any blur of a pixel stays as it is
    return torch.where(blurred, out, first).permute(0, 2, 3, 1)
