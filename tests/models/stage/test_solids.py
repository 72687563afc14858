"""The rays' closed forms against marching through signed distances in float64, and shadows against the rays."""

from __future__ import annotations

import math

import numpy as np
import pytest

from models.stage.solids import FAR, Box, Capsule

STEPS, LIMIT = 300, 40.0


def signed_distance(solid, points):
    """Exact signed distance of points (..., 3), negative inside: independent of the solids' own arithmetic."""
    if isinstance(solid, Capsule):
        a, b = np.array(solid.a), np.array(solid.b)
        along = (points - a) @ (b - a) / max((b - a) @ (b - a), 1e-300)
        return np.linalg.norm(points - a - np.clip(along, 0, 1)[..., None] * (b - a), axis=-1) - solid.radius
    yaw = math.radians(solid.yaw_deg)
    ahead = np.array([math.sin(yaw), 0, math.cos(yaw)])  # where the box's own z points: as a heading does
    axes = np.stack([np.cross([0, 1, 0], ahead), [0, 1, 0], ahead])
    over = np.abs((points - solid.center) @ axes.T) - solid.half
    return np.linalg.norm(np.maximum(over, 0), axis=-1) + np.minimum(over.max(-1), 0)


def march(solid, origins, directions):
    """Sphere tracing: distance to the first surface (inf: none), how close each ray came, and which rays are sure.

    A ray that grazes a surface within the marcher's patience says nothing.
    """
    t, closest = np.zeros(len(origins)), np.full(len(origins), np.inf)
    for _ in range(STEPS):
        gap = signed_distance(solid, origins + t[:, None] * directions)
        closest = np.minimum(closest, gap)
        t = np.where(t < LIMIT, t + np.maximum(gap, 0), t)
    found = closest < 1e-9
    return np.where(found, t, np.inf), closest, found | ((t >= LIMIT) & (closest > 1e-5))


def random_solid(kind, rng):
    center = rng.uniform(-2, 2, 3)
    if kind == "box":
        return Box(tuple(center), tuple(rng.uniform(0.05, 1.5, 3)), rng.uniform(-180, 180))
    other = center if kind == "ball" else center + rng.uniform(-1.5, 1.5, 3)
    return Capsule(tuple(center), tuple(other), rng.uniform(0.05, 1.0))


def random_rays(solid, rng, count):
    """Rays from all around, most of them aimed at the solid's neighbourhood, some of them away from it."""
    center, radius = solid.bound
    origins = np.array(center) + _unit(rng, count) * rng.uniform(1.02, 8, (count, 1)) * radius
    aims = np.array(center) + _unit(rng, count) * rng.uniform(0, 2.0, (count, 1)) * radius
    directions = aims - origins
    directions[:: max(count // 8, 1)] *= -1
    return origins, directions / np.linalg.norm(directions, axis=1, keepdims=True)


def _unit(rng, count):
    v = rng.normal(size=(count, 3))
    return v / np.linalg.norm(v, axis=1, keepdims=True)


def hit(solid, origins, directions):
    return solid.hit(np, list(origins.T), list(directions.T))


KINDS = pytest.mark.parametrize("kind", ["box", "capsule", "ball"])
SEEDS = range(4)


@KINDS
def test_rays_meet_solids_where_marching_does(kind):
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        solid = random_solid(kind, rng)
        origins, directions = random_rays(solid, rng, 400)
        t = hit(solid, origins, directions)
        marched, _, sure = march(solid, origins, directions)
        assert sure.mean() > 0.95 and (t < FAR).sum() > 80 and (t >= FAR).sum() > 80
        np.testing.assert_array_equal(t[sure] < FAR, np.isfinite(marched[sure]))
        both = sure & (t < FAR)
        on_surface = signed_distance(solid, origins + np.where(both, t, 0)[:, None] * directions)
        np.testing.assert_allclose(
            on_surface[both], 0, atol=1e-7
        )  # grazing rays converge slowly: compare along the normal
        steep = both & (marched > 0) & (np.abs(t - marched) > 1e-6)
        assert steep.sum() <= 0.02 * both.sum()


@KINDS
def test_float32_rays_come_within_a_millimetre(kind):
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        solid = random_solid(kind, rng)
        origins, directions = random_rays(solid, rng, 400)
        exact, single = (
            hit(solid, origins, directions),
            hit(solid, *(v.astype(np.float32) for v in (origins, directions))),
        )
        both = (exact < FAR) & (single < FAR)
        assert ((exact < FAR) != (single < FAR)).mean() < 0.01
        points = origins + np.where(both, single, 0)[:, None] * directions
        assert np.abs(signed_distance(solid, points)[both]).max() < 1e-3


@KINDS
def test_a_camera_inside_the_bound_but_outside_the_solid(kind):
    solid = {
        "box": Box((0.0, 1.0, 0.0), (0.1, 2.0, 1.0), 30.0),
        "capsule": Capsule((0.0, -2.0, 0.0), (0.0, 2.0, 0.0), 0.2),
        "ball": Capsule((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 1.0),
    }[kind]
    rng = np.random.default_rng(3)
    origins = np.tile([0.9, 0.6, 0.05] if kind != "ball" else [0.7, 0.7, 0.2], (300, 1))
    assert np.linalg.norm(origins[0] - solid.bound[0]) < solid.bound[1] + 0.02
    assert signed_distance(solid, origins[:1]) > 0
    directions = _unit(rng, 300)
    t = hit(solid, origins, directions)
    marched, _, sure = march(solid, origins, directions)
    np.testing.assert_array_equal((t < FAR)[sure], np.isfinite(marched)[sure])
    both = sure & (t < FAR)
    assert both.any()
    np.testing.assert_allclose(t[both], marched[both], atol=1e-4)


@KINDS
def test_what_is_behind_or_around_the_camera_is_not_seen(kind):
    solid = random_solid(kind, np.random.default_rng(1))
    center = np.array(solid.bound[0])
    outward = _unit(np.random.default_rng(2), 100)
    away = center + outward * (solid.bound[1] * 1.1)
    assert (hit(solid, away, outward) == FAR).all()
    assert (hit(solid, np.tile(center, (100, 1)), outward) == FAR).all()  # from inside


@pytest.mark.parametrize(
    ("solid", "origin", "direction", "t", "normal"),
    [
        (Box((0, 0, -5), (1, 1, 1), 0), (0, 0, 0), (0, 0, -1), 4, (0, 0, 1)),
        (Box((0, 0, -5), (1, 1, 2), 90), (0, 0, 0), (0, 0, -1), 4, (0, 0, 1)),  # turned: its long side lies across
        (Box((0, 0, -5), (1, 1, 1), 45), (0, 0, 0.25), (0, 0, -1), 5.25 - math.sqrt(2), None),  # an edge first
        (Box((0, 1, 0), (1, 1, 1), 0), (0.5, 9, 0.5), (0, -1, 0), 7, (0, 1, 0)),
        (Capsule((0, 0, -5), (0, 0, -5), 1), (0, 0, 0), (0, 0, -1), 4, (0, 0, 1)),
        (Capsule((-2, 0, -5), (2, 0, -5), 1), (0, 0.6, 0), (0, 0, -1), 5 - 0.8, (0, 0.6, 0.8)),
        (Capsule((0, 0, -5), (0, 0, -9), 1), (0, 0, 0), (0, 0, -1), 4, (0, 0, 1)),  # along its own axis
        (Capsule((0, 0, -5), (0, 3, -5), 1), (0, 3.6, 0), (0, 0, -1), 5 - 0.8, (0, 0.6, 0.8)),  # its round end
    ],
)
def test_hits_by_hand(solid, origin, direction, t, normal):
    origin, direction = np.array([origin], dtype=float), np.array([direction], dtype=float)
    found = hit(solid, origin, direction)
    assert found == pytest.approx(t, abs=1e-6)
    if normal is not None:
        x, y, z = (origin + found[:, None] * direction).T
        np.testing.assert_allclose(np.ravel(solid.normal(np, x, y, z)), normal, atol=1e-6)


@KINDS
def test_normals_are_the_slope_of_the_distance(kind):
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        solid = random_solid(kind, rng)
        origins, directions = random_rays(solid, rng, 300)
        t = hit(solid, origins, directions)
        points = (origins + t[:, None] * directions)[t < FAR]
        h = 1e-5
        slope = [signed_distance(solid, points + h * e) - signed_distance(solid, points - h * e) for e in np.eye(3)]
        slope = np.stack(slope, -1) / (2 * h)
        smooth = np.abs(np.linalg.norm(slope, axis=1) - 1) < 1e-6  # not across an edge of a box
        assert smooth.mean() > 0.95
        normal = np.stack(solid.normal(np, *points.T), -1)
        np.testing.assert_allclose(normal[smooth], slope[smooth], atol=1e-4)
        assert (np.einsum("ij,ij->i", normal, directions[t < FAR])[smooth] < 1e-6).all()  # it faces the ray


@KINDS
def test_the_bound_holds_the_solid(kind):
    for seed in SEEDS:
        solid = random_solid(kind, np.random.default_rng(seed))
        center, radius = solid.bound
        shell = np.array(center) + _unit(np.random.default_rng(0), 2000) * radius
        assert signed_distance(solid, shell).min() > -1e-9
        assert signed_distance(solid, shell).min() < 0.1 * radius  # and is not larger than it must be


@KINDS
def test_a_point_lamp_casts_the_shadow_that_rays_say(kind):
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        solid = random_solid(kind, rng)
        light = _unit(rng, 1)[0]
        points, _ = random_rays(solid, rng, 300)
        directions = np.tile(light, (300, 1))
        seen = solid.visible(np, list(points.T), [float(c) for c in light], 1e-7)
        _, closest, _ = march(solid, points, directions)
        blocked = hit(solid, points, directions) < FAR
        inner = _depth_of_passage(solid, points, light)
        sure = (closest > 2e-3) | (inner > 2e-3)  # away from the edge by more than the millimetre it is softened by
        assert sure.mean() > 0.9 and blocked.any() and not blocked.all()
        np.testing.assert_allclose(seen[sure], np.where(blocked[sure], 0.0, 1.0), atol=1e-9)


def _depth_of_passage(solid, points, light):
    """How deep the ray towards the lamp goes below the surface, in metres."""
    along = np.linspace(0, 25, 1500)[:, None]
    return np.array([-signed_distance(solid, p + along * light).min() for p in points])


@KINDS
def test_shadows_soften_from_dark_to_light(kind):
    solid = {
        "box": Box((0.0, 3.0, 0.0), (0.5, 0.5, 0.5), 0.0),
        "capsule": Capsule((0.0, 3.0, -1.0), (0.0, 3.0, 1.0), 0.5),
        "ball": Capsule((0.0, 3.0, 0.0), (0.0, 3.0, 0.0), 0.5),
    }[kind]
    x = np.linspace(0, 3, 601)
    widths = []
    for size_deg in (0.5, 5.0, 20.0):
        spread = math.tan(math.radians(size_deg) / 2)
        seen = solid.visible(np, [x, 0 * x, 0 * x], [0.0, 1.0, 0.0], spread)
        assert seen[0] < 0.02 and seen[-1] == 1 and (np.diff(seen) >= -1e-12).all()
        widths.append(((seen > 0.02) & (seen < 0.98)).sum() * 0.005)
    if kind != "box":  # of a box only the edges that a lamp sees slanted are soft
        assert widths[0] < widths[1] < widths[2]
        assert widths[2] == pytest.approx(2 * math.tan(math.radians(10)) * 3, rel=0.35)  # the cone's width, 3 m below


def test_a_larger_lamp_softens_the_edge_of_a_slanted_shadow():
    box, slant = Box((0.0, 1.0, 0.0), (0.5, 1.0, 0.5), 0.0), [math.sqrt(0.5), math.sqrt(0.5), 0.0]
    x = np.linspace(-4, 0, 2001)[:-400]
    soft = []
    for size_deg in (0.5, 5.0, 20.0):
        seen = box.visible(np, [x, 0 * x, 0 * x], slant, math.tan(math.radians(size_deg) / 2))
        edge = x < -2  # beyond here the shadow of the top edge ends
        assert (np.diff(seen[edge]) <= 1e-12).all() and seen[0] == 1
        soft.append(((seen > 0.02) & (seen < 0.98)).sum())
    assert soft[0] < soft[1] < soft[2]


@KINDS
def test_what_lies_behind_a_point_takes_no_light_from_it(kind):
    solid = random_solid(kind, np.random.default_rng(5))
    outward = _unit(np.random.default_rng(6), 200)
    points = np.array(solid.bound[0]) + outward * (solid.bound[1] + 0.05)
    seen = [
        solid.visible(np, list(p[:, None]), [float(c) for c in d], 0.05)[0]
        for p, d in zip(points, outward, strict=True)
    ]
    assert min(seen) == 1
