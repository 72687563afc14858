"""Where things are in the picture: closed forms for planes and balls, marching through distances for whole scenes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.stage import optics
from models.stage import render as stage
from models.stage.blocking import Prop
from models.stage.mannequin import parts
from models.stage.solids import FAR, Box, Capsule
from models.training.shots import scenes

BLACK = (0.0, 0.0, 0.0)


def frame(blocking, t=0, **options):
    return stage.render_frame(blocking, t, **({"dtype": np.float64} | options))


def rays(blocking, t=0):
    """Directions (h, w, 3) of one metre along the lens axis through pixel centres, written out by hand."""
    focal = blocking.focal_mm[t] / blocking.sensor_w_mm * blocking.width
    y, x = np.mgrid[: blocking.height, : blocking.width] + 0.5
    pixel = np.stack([(x - blocking.width / 2) / focal, (y - blocking.height / 2) / focal, np.ones_like(x)], -1)
    return pixel @ blocking.c2w[t, :, :3].T


def plane_depth(blocking, point, normal):
    """Metres along the lens axis to a plane; inf where it is never met."""
    toward = rays(blocking) @ np.asarray(normal, dtype=float)
    with np.errstate(divide="ignore"):
        depth = (np.asarray(point) - blocking.c2w[0, :, 3]) @ normal / toward
    return np.where(depth > 0, depth, math.inf)


def dressed(blocking, *props):
    return replace(blocking, set=replace(blocking.set, props=props))


def middle(mask):
    """Mean (x, y) of the pixels of a mask, in pixel coordinates whose edges are whole."""
    y, x = np.nonzero(mask)
    return np.array([x.mean() + 0.5, y.mean() + 0.5])


@pytest.mark.parametrize(
    ("pan", "tilt", "roll"), [(0, 0, 0), (30, 0, 0), (-150, -20, 0), (10, 15, 12), (0, -90, 0), (70, -40, 180)]
)
def test_the_floor_lies_where_geometry_says(staged, pan, tilt, roll):
    shot = staged(eye=(0.3, 1.2, 4.0), pan=pan, tilt=tilt, roll=roll)
    seen = frame(shot)
    true = plane_depth(shot, (0, 0, 0), (0, 1, 0))
    near = true < 1e3  # beyond a kilometre the floor may count as sky
    np.testing.assert_allclose(seen.depth[near], true[near], rtol=1e-9)
    assert (seen.ids[near] == stage.GROUND).all() and near.any()
    assert np.isinf(seen.depth[np.isinf(true)]).all()
    np.testing.assert_array_equal(seen.ids == stage.SKY, np.isinf(seen.depth))
    np.testing.assert_array_equal(seen.normal[near], np.broadcast_to([0, 1, 0], (near.sum(), 3)))


@pytest.mark.parametrize(
    ("pan", "tilt", "roll", "yaw"), [(0, 0, 0, 0), (15, 5, 0, 0), (-10, -5, 30, 20), (0, 0, 0, -35)]
)
def test_a_wall_lies_where_geometry_says(staged, box, pan, tilt, roll, yaw):
    """A box whose front face passes 2 m before the origin, seen from 6 m."""
    ahead = np.array([math.sin(math.radians(yaw)), 0, math.cos(math.radians(yaw))])
    shot = dressed(staged(pan=pan, tilt=tilt, roll=roll), box(tuple(ahead * -2.5), (9.0, 9.0, 0.5), yaw_deg=yaw))
    seen = frame(shot)
    wall = plane_depth(shot, ahead * -2, ahead)
    floor = plane_depth(shot, (0, 0, 0), (0, 1, 0))
    clear = wall < floor - 1e-6
    assert (seen.ids[clear] == stage.SET).mean() > 0.9  # some of it may lie past the box's ends
    on = clear & (seen.ids == stage.SET)
    np.testing.assert_allclose(seen.depth[on], wall[on], rtol=1e-9)
    np.testing.assert_allclose(seen.normal[on], np.broadcast_to(ahead, (on.sum(), 3)), atol=1e-12)


def test_a_ball_has_the_size_of_its_tangent_cone(staged, ball):
    shot = dressed(staged(width=320, height=320), ball(radius=0.8))
    seen = frame(shot)
    radius = shot.focal_px[0] * math.tan(math.asin(0.8 / 4))
    on = seen.ids == stage.SET
    assert on.sum() == pytest.approx(math.pi * radius**2, rel=0.01)
    np.testing.assert_allclose(middle(on), (160, 160), atol=1e-9)
    assert seen.depth[on].min() == pytest.approx(3.2, abs=1e-4)


@pytest.mark.parametrize(
    ("turn", "to"),
    [
        ({"pan": 10}, (-math.tan(math.radians(10)), 0)),
        ({"pan": -14}, (math.tan(math.radians(14)), 0)),
        ({"tilt": 8}, (0, math.tan(math.radians(8)))),
        ({"tilt": -6}, (0, -math.tan(math.radians(6)))),
        ({"roll": 25}, (0, 0)),
    ],
)
def test_a_turn_shifts_the_picture_by_the_focal_length_times_its_tangent(staged, ball, turn, to):
    shot = dressed(staged(width=320, height=240, eye=(0, 3, 20), **turn), ball((0.0, 3.0, 0.0), 0.3))
    at = middle(frame(shot).ids == stage.SET)
    np.testing.assert_allclose(at - (160, 120), shot.focal_px[0] * np.array(to), atol=0.3)


def test_a_clockwise_roll_turns_what_is_above_to_the_left(staged, ball):
    shot = dressed(staged(width=320, height=240, eye=(0, 1.2, 20), roll=30), ball((0.0, 5.2, 0.0), 0.3))
    at = middle(frame(shot).ids == stage.SET) - (160, 120)
    length = shot.focal_px[0] * 4 / 20
    np.testing.assert_allclose(at, (-length * 0.5, -length * math.cos(math.radians(30))), atol=0.3)


@pytest.mark.parametrize("seed", [0, 3, 7, 12])
def test_zooming_in_is_cropping(seed):
    """Twice the focal length shows the middle of the picture at twice the size, exactly."""
    wide = scenes.shot(seed, 2, 96, 128)
    tight = replace(wide, width=64, height=48, focal_mm=wide.focal_mm * 2)
    inner, whole = frame(tight, 1), frame(wide, 1)
    for name in ("depth", "ids", "normal", "lit", "clay"):
        np.testing.assert_allclose(getattr(inner, name), getattr(whole, name)[24:72, 32:96], atol=1e-9, err_msg=name)


@settings(max_examples=50, deadline=None)
@given(st.tuples(*[st.floats(-170, 170)] * 3), st.tuples(*[st.floats(-5, 5)] * 3), st.floats(12, 200))
def test_projecting_undoes_the_rays(turn, eye, focal_mm):
    blocking = replace(scenes.shot(0, 1, 48, 64), focal_mm=np.array([focal_mm]))
    pose = np.concatenate([optics.rotation(*turn), np.array(eye)[:, None]], 1)
    blocking = replace(blocking, c2w=pose[None])
    points = blocking.c2w[0, :, 3] + 3.5 * rays(blocking)
    pixels, depth = stage.project(blocking, 0, points.reshape(-1, 3))
    y, x = np.mgrid[:48, :64] + 0.5
    np.testing.assert_allclose(pixels, np.stack([x, y], -1).reshape(-1, 2), atol=1e-6)
    np.testing.assert_allclose(depth, 3.5, atol=1e-9)
    _, behind = stage.project(blocking, 0, (2 * blocking.c2w[0, :, 3] - points.reshape(-1, 3)))
    np.testing.assert_allclose(behind, -3.5, atol=1e-9)


@pytest.mark.parametrize("yaw", [-20, 0, 25])
def test_people_stand_where_they_are_projected(staged, person, yaw):
    cast = (person(at=(-0.9, 0, 0.3)), person(at=(0.6, 0, -1.0), height_m=1.6), person(at=(1.3, 0, 0.5), pose="sit"))
    eye = (-5 * math.sin(math.radians(yaw)), 1.3, 5 * math.cos(math.radians(yaw)))
    shot = staged(eye=eye, pan=yaw, width=224, height=128, focal_mm=24, subjects=cast)
    seen = frame(shot)
    for i, track in enumerate(cast):
        height = track.appearance.height_m * (0.45 if track.pose == "sit" else 0.6)
        chest = track.position[0] + [0, height, 0]
        (xy,), (depth,) = stage.project(shot, 0, chest[None])
        column, row = int(xy[0]), int(xy[1])
        assert seen.ids[row, column] == stage.SUBJECT + i
        assert 0 < depth - seen.depth[row, column] < 0.25  # the front of the chest


def solids(blocking, t):
    """Every solid of a frame with its id, without the stage's own bookkeeping."""
    found = []
    for prop in blocking.set.props:
        x, y, z = prop.center
        if prop.shape == "box":
            found.append((Box(prop.center, prop.size, prop.yaw_deg), stage.SET))
        elif prop.shape == "ball":
            found.append((Capsule(prop.center, prop.center, prop.size[0]), stage.SET))
        else:
            top = (x, y + prop.size[1] - prop.size[0], z)
            found.append((Capsule((x, y - prop.size[1], z), top, prop.size[0]), stage.SET))
    return found + [(c, stage.SUBJECT + i) for i, s in enumerate(blocking.subjects) for c, _ in parts(s, t)]


def clutter(blocking, seed, count=30):
    """Solids all around the camera, some of them behind it, some partly in the picture, some near enough to touch."""
    rng = np.random.default_rng(seed)
    eye, props = blocking.c2w[0, :, 3], []
    while len(props) < count:
        center = eye + rng.normal(size=3) * rng.choice([0.7, 2.0, 5.0])
        size = tuple(rng.uniform(0.1, 0.7, 3))
        prop = Prop(rng.choice(["box", "ball"]), tuple(center), size, rng.uniform(0, 360), (0.5,) * 3, (0.5,) * 3)
        if np.linalg.norm(center - eye) > (math.hypot(*size) if prop.shape == "box" else size[0]) + 0.02:
            props.append(prop)
    return dressed(blocking, *props)


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13])
def test_nothing_is_lost_to_the_windows_that_save_work(staged, person, seed):
    """The picture is that of asking every solid along every ray."""
    rng = np.random.default_rng(seed + 100)
    turn = {"pan": rng.uniform(-180, 180), "tilt": rng.uniform(-40, 60), "roll": rng.uniform(-90, 90)}
    shot = staged(**turn, focal_mm=rng.choice([14, 24, 35]), eye=rng.uniform(0.4, 1.6, 3), subjects=(person(),))
    shot = clutter(shot, seed)
    seen = frame(shot)
    unit = rays(shot)
    length = np.linalg.norm(unit, axis=-1)
    direction = [d / length for d in np.moveaxis(unit, -1, 0)]
    best = plane_depth(shot, (0, 0, 0), (0, 1, 0)) * length
    ids = np.where(best < FAR, stage.GROUND, stage.SKY)
    for solid, name in solids(shot, 0):
        hit = solid.hit(np, [float(c) for c in shot.c2w[0, :, 3]], direction)
        ids, best = np.where(hit < np.minimum(best, FAR), name, ids), np.minimum(best, hit)
    np.testing.assert_array_equal(seen.ids, ids)
    solid = ids >= stage.SET
    assert solid.any()
    np.testing.assert_allclose(seen.depth[solid], (best / length)[solid], rtol=1e-9)


@pytest.mark.parametrize("seed", [1, 4, 9])
def test_a_whole_scene_is_what_marching_sees(seed):
    blocking = scenes.shot(seed, 3, 32, 48)
    seen = frame(blocking, 2)
    found = solids(blocking, 2)
    unit = rays(blocking, 2)
    unit = unit / np.linalg.norm(unit, axis=-1, keepdims=True)
    eye, t = blocking.c2w[2, :, 3], np.full(unit.shape[:2], 1e-3)
    active = np.ones_like(t, dtype=bool)
    for _ in range(220):
        gap, which = distance(found, eye + t[..., None] * unit)
        active &= (gap > 1e-6) & (t < 60)
        if not active.any():
            break
        t = np.where(active, t + gap, t)
    gap, which = distance(found, eye + t[..., None] * unit)
    done = gap < 1e-6
    assert done.mean() > 0.2
    along = t * (unit @ blocking.c2w[2, :, 2])
    wrong = done & ((seen.ids != which) | (np.abs(seen.depth - along) > 2e-4 + 1e-4 * along))
    assert wrong.sum() <= 0.01 * done.sum()  # rays that graze an edge
    far = (t >= 60) & (gap > 1)
    assert (seen.depth[far] > 50).all()


def distance(found, points):
    """Signed distance to the nearest thing of a scene, and its id."""
    best, which = points[..., 1], np.full(points.shape[:-1], stage.GROUND)
    for solid, name in found:
        if isinstance(solid, Box):
            yaw = math.radians(solid.yaw_deg)
            axes = np.array([[math.cos(yaw), 0, -math.sin(yaw)], [0, 1, 0], [math.sin(yaw), 0, math.cos(yaw)]])
            over = np.abs((points - solid.center) @ axes.T) - solid.half
            gap = np.linalg.norm(np.maximum(over, 0), axis=-1) + np.minimum(over.max(-1), 0)
        else:
            a, ab = np.array(solid.a), np.subtract(solid.b, solid.a)
            along = np.clip((points - a) @ ab / max(ab @ ab, 1e-300), 0, 1)
            gap = np.linalg.norm(points - a - along[..., None] * ab, axis=-1) - solid.radius
        best, which = np.minimum(best, gap), np.where(gap < best, name, which)
    return best, which


def test_more_rays_smooth_edges_and_leave_the_rest():
    blocking = scenes.shot(6, 2, 64, 96)
    one, two = frame(blocking, 1), frame(blocking, 1, samples=2)
    for name in ("rgb", "previs", "clay"):
        gap = np.abs(getattr(one, name) - getattr(two, name)).max(-1)
        assert getattr(two, name).shape == (64, 96, 3)
        assert np.median(gap) < 0.004 and gap.mean() < 0.02, name
    assert (one.ids == two.ids).mean() > 0.95
    near = (one.ids == two.ids) & np.isfinite(one.depth)
    assert np.median(np.abs(one.depth[near] / two.depth[near] - 1)) < 0.02


def test_rays_of_a_pixel_are_averaged_in_linear_light(staged, box):
    """Half of the picture is black, half is bright, and a column of pixels is split in the middle."""
    half = 0.5 / (35 / 24.89 * 64)  # metres that half a pixel covers at 1 m
    white = box((-1.0 - half, 1.2, 2.9999), (1.0, 2.0, 0.0001), color=(0.8, 0.8, 0.8))
    shot = dressed(staged(ambient=np.ones((1, 3)) / 0.6), white)
    night = replace(shot.set, ground=BLACK, ground_second=BLACK, sky_top=BLACK, sky_horizon=BLACK)
    row = optics.srgb_decode(frame(replace(shot, set=night), samples=4).previs[24, 30:33, 0])
    np.testing.assert_allclose(row, (0.8, 0.4, 0.0), atol=1e-3)


def test_every_frame_is_rendered_once_in_order():
    blocking = scenes.shot(2, 3, 16, 32)
    film = list(stage.render(blocking))
    assert len(film) == 3
    for t, one in enumerate(film):
        np.testing.assert_array_equal(one.rgb, stage.render_frame(blocking, t).rgb)
    assert not np.array_equal(film[0].rgb, film[2].rgb)
    assert film[0].rgb.shape == (16, 32, 3) and film[0].rgb.dtype == np.float32
    assert film[0].depth.shape == (16, 32) and film[0].ids.dtype == np.int32
    assert film[0].rgb.min() >= 0 and film[0].rgb.max() <= 1
