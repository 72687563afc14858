"""What light does in the picture: Lambert and shadows in closed form, the camera's stops, air and highlights."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from models.stage import optics
from models.stage import render as stage
from models.stage.blocking import Prop
from models.stage.mannequin import parts
from models.stage.solids import FAR, Box, Capsule
from models.training.shots import scenes

LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


def frame(blocking, t=0, **options):
    return stage.render_frame(blocking, t, **({"dtype": np.float64} | options))


def dressed(blocking, *props, **place):
    return replace(blocking, set=replace(blocking.set, props=props, **place))


def points(blocking, seen):
    """World positions (h, w, 3) of what is seen, from its depth."""
    focal = blocking.focal_px[0]
    y, x = np.mgrid[: blocking.height, : blocking.width] + 0.5
    ray = np.stack([(x - blocking.width / 2) / focal, (y - blocking.height / 2) / focal, np.ones_like(x)], -1)
    depth = np.where(np.isfinite(seen.depth), seen.depth, 0)
    return blocking.c2w[0, :, 3] + depth[..., None] * (ray @ blocking.c2w[0, :, :3].T)


@pytest.mark.parametrize(("az", "el"), [(0, 30), (-60, 20), (60, 45), (140, 60), (0, 90)])
def test_a_ball_is_lit_by_lambert(staged, lamp, ball, az, el):
    """Clay is 50 %: the key's cosine, and a dome that gives 0.6 sideways, 1.0 from above, 0.2 from below."""
    key, room = np.array([0.7, 0.6, 0.5]), np.array([0.1, 0.12, 0.2])
    center, radius = np.array([0.0, 1.6, 0.0]), 0.8
    shot = dressed(
        staged(eye=(0, 1.6, 4), lights=(lamp(az, el, key),), ambient=room[None]), ball(tuple(center), radius)
    )
    seen = frame(shot)
    on = seen.ids == stage.SET
    normal = (points(shot, seen)[on] - center) / radius
    np.testing.assert_allclose(seen.normal[on], normal, atol=1e-6)
    cosine = normal @ shot.lights[0].direction[0]
    expected = 0.5 * (key * np.clip(cosine, 0, 1)[:, None] + room * (0.6 + 0.4 * normal[:, 1:2]))
    found = optics.srgb_decode(seen.clay[on])
    away = (cosine > 0.3) | (cosine < 0)  # nearer to the terminator the surface grazes the lamp
    assert away.sum() > 100 and (on.sum() > 300)
    np.testing.assert_allclose(found[away], expected[away], atol=1e-4)
    assert (found <= expected + 1e-4).all() and np.abs(found - expected).max() < 0.06


def test_a_wall_has_the_color_that_light_and_paint_make(staged, lamp, box):
    paint, key, room = np.array([0.5, 0.3, 0.1]), np.array([0.8, 0.7, 0.6]), np.array([0.2, 0.3, 0.4])
    wall = box((0, 2, -3.5), (9, 9, 0.5), color=tuple(paint))
    shot = dressed(staged(lights=(lamp(-35, 25, key),), ambient=room[None]), wall)
    seen = frame(shot)
    on = seen.ids == stage.SET
    cosine = math.cos(math.radians(35)) * math.cos(math.radians(25))
    light = key * cosine + room * 0.6
    np.testing.assert_allclose(optics.srgb_decode(seen.previs[on]), np.tile(paint * light, (on.sum(), 1)), atol=1e-6)
    np.testing.assert_allclose(optics.srgb_decode(seen.clay[on]), np.tile(0.5 * light, (on.sum(), 1)), atol=1e-6)
    assert (seen.lit[on] == 1).all()


def test_a_white_card_that_faces_one_unit_of_light_shows_as_white(staged, lamp, box):
    card = box((0, 2, -3.5), (9, 9, 0.5), color=(1.0, 1.0, 1.0))
    shot = dressed(staged(lights=(lamp(0, 0, (1.0, 1.0, 1.0)),)), card)
    seen = frame(shot)
    assert (seen.previs[seen.ids == stage.SET] > 0.96).all()
    assert (seen.previs[seen.ids == stage.SET] < 1).all()  # and a highlight on it can still be brighter


def test_lamps_add_up(staged, lamp, ball):
    lamps = [
        lamp(az, 30, rgb, name=name) for az, rgb, name in ((-50, (0.3, 0.2, 0.1), "key"), (40, (0.1, 0.2, 0.2), "fill"))
    ]
    base = dressed(staged(), ball())
    alone = [optics.srgb_decode(frame(replace(base, lights=(one,))).clay) for one in lamps]
    both = optics.srgb_decode(frame(replace(base, lights=tuple(lamps))).clay)
    solid = frame(base).ids > stage.SKY
    np.testing.assert_allclose(both[solid], (alone[0] + alone[1])[solid], atol=1e-6)


def test_without_light_there_is_nothing_to_see(staged, ball):
    seen = frame(dressed(staged(), ball()))
    solid = seen.ids > stage.SKY
    assert (seen.previs[solid] == 0).all() and (seen.clay[solid] == 0).all() and (seen.lit == 0).all()


@pytest.mark.parametrize("side", [-1, 1])
def test_the_key_lights_its_side_of_a_person_and_the_shadow_falls_opposite(staged, lamp, person, side):
    shot = staged(eye=(0, 2.2, 5), tilt=-12, width=224, height=128, lights=(lamp(60 * side, 35),), subjects=(person(),))
    shot = replace(shot, ambient=np.full((1, 3), 0.05))
    seen = frame(shot)
    body = seen.ids == stage.SUBJECT
    x = np.nonzero(body)[1]
    light = optics.srgb_decode(seen.clay[..., 1][body])
    toward, away = light[side * (x - x.mean()) > 2].mean(), light[side * (x - x.mean()) < -2].mean()
    assert toward > 1.6 * away
    shadow = (seen.ids == stage.GROUND) & (seen.lit < 0.5)
    assert shadow.sum() > 60
    assert side * (np.nonzero(shadow)[1].mean() - x.mean()) < -8


def test_a_shadow_has_the_place_and_length_that_the_sun_gives_it(staged, lamp, ball):
    """A ball of 0.3 m at 2 m, the lamp 45 degrees high from the left: the shadow's middle is 2 m to the right."""
    shot = staged(eye=(2.0, 6.0, 0.0), tilt=-90, width=160, height=160, lights=(lamp(-90, 45, size_deg=0.5),))
    shot = dressed(shot, ball((0.0, 2.0, 0.0), 0.3))
    seen = frame(shot)
    dark = (seen.ids == stage.GROUND) & (seen.lit < 0.5)
    where = points(shot, seen)[dark]
    np.testing.assert_allclose(where.mean(0), (2.0, 0.0, 0.0), atol=0.02)
    assert np.ptp(where[:, 2]) == pytest.approx(0.6, abs=0.06)  # across: as wide as the ball
    assert np.ptp(where[:, 0]) == pytest.approx(0.6 * math.sqrt(2), abs=0.08)  # along: stretched by the slant


@pytest.mark.parametrize("seed", [3, 5, 8, 11])
def test_a_point_lamp_lights_exactly_what_rays_from_it_reach(seed):
    blocking = scenes.shot(seed, 2, 48, 64)
    key = replace(blocking.lights[0], name="key", size_deg=0.0)
    blocking = replace(blocking, lights=(key,), c2w=blocking.c2w[:1], focal_mm=blocking.focal_mm[:1])
    seen = frame(blocking)
    toward = key.direction[0]
    facing = (seen.ids > stage.SKY) & (seen.normal @ toward > 0.3) & (np.nan_to_num(seen.depth, posinf=FAR) < 60)
    start = points(blocking, seen)[facing] + 5e-3 * seen.normal[facing]
    blocked, sure = np.zeros(len(start), bool), np.ones(len(start), bool)
    for solid in every_solid(blocking):
        blocked |= solid.hit(np, list(start.T), [float(c) for c in toward]) < FAR
        for scale in (0.97, 1.03):  # near the edge of a shadow the lamp's quarter degree already matters
            edge = resized(solid, scale).hit(np, list(start.T), [float(c) for c in toward]) < FAR
            sure &= edge == (solid.hit(np, list(start.T), [float(c) for c in toward]) < FAR)
    assert sure.mean() > 0.7
    lit = seen.lit[facing]
    wrong = np.abs(lit[sure] - ~blocked[sure]) > 0.25
    assert wrong.mean() < 0.01


def every_solid(blocking):
    for prop in blocking.set.props:
        x, y, z = prop.center
        if prop.shape == "box":
            yield Box(prop.center, prop.size, prop.yaw_deg)
        elif prop.shape == "ball":
            yield Capsule(prop.center, prop.center, prop.size[0])
        else:
            yield Capsule((x, y - prop.size[1], z), (x, y + prop.size[1] - prop.size[0], z), prop.size[0])
    for track in blocking.subjects:
        yield from (capsule for capsule, _ in parts(track, 0))


def resized(solid, scale):
    if isinstance(solid, Box):
        return replace(solid, half=tuple(h * scale for h in solid.half))
    return replace(solid, radius=solid.radius * scale)


@pytest.mark.parametrize("seed", [2, 3, 9, 15])
@pytest.mark.parametrize("size_deg", [2.0, 30.0])
def test_asking_only_the_solids_near_a_ray_changes_no_shadow(seed, size_deg):
    blocking = scenes.shot(seed, 2, 48, 64)
    key = replace(blocking.lights[0], size_deg=size_deg)
    blocking = replace(blocking, lights=(key,))
    seen = frame(blocking)
    toward = [float(c) for c in key.direction[0]]
    facing = (seen.ids > stage.SKY) & (seen.normal @ key.direction[0] > 0)
    start = points(blocking, seen)[facing] + 2e-3 * key.direction[0]
    spread = math.tan(math.radians(size_deg) / 2)
    part = np.ones(len(start))
    for solid in every_solid(blocking):
        part = np.minimum(part, solid.visible(np, list(start.T), toward, spread))
    np.testing.assert_allclose(seen.lit[facing], part, atol=2e-3)


@pytest.mark.parametrize("stops", [1.0, -1.0, 0.5])
def test_a_stop_of_exposure_doubles_the_light(staged, lamp, ball, stops):
    shot = dressed(staged(lights=(lamp(rgb=(0.3, 0.3, 0.3)),), ambient=np.full((1, 3), 0.05)), ball())
    brighter = replace(shot, exposure_ev=np.array([stops]))
    for name in ("previs", "clay"):
        one, other = (optics.srgb_decode(getattr(frame(b), name)) for b in (shot, brighter))
        below = (one * 2**stops < stage.SHOULDER) & (one < stage.SHOULDER)
        assert below.mean() > 0.4
        np.testing.assert_allclose(other[below], one[below] * 2**stops, rtol=1e-3, atol=1e-6)


def test_tungsten_is_warmer_than_daylight_by_the_ratio_of_the_lamps(staged, lamp, ball):
    def clay(kelvin):
        shot = dressed(staged(lights=(lamp(rgb=0.4 * optics.kelvin_rgb(kelvin)),)), ball())
        seen = frame(shot)
        return optics.srgb_decode(seen.clay[(seen.ids == stage.SET) & (seen.lit == 1)]).mean(0)

    warm, day, cool = clay(3200), clay(5600), clay(9000)
    assert warm[0] / warm[2] > day[0] / day[2] > cool[0] / cool[2]
    assert day[0] == pytest.approx(day[2], rel=2e-3)
    np.testing.assert_allclose(warm / day, optics.kelvin_rgb(3200), rtol=2e-3)
    assert warm @ LUMINANCE == pytest.approx(day @ LUMINANCE, rel=2e-3)


def test_the_sky_goes_from_the_horizon_to_its_top(staged):
    shot = staged(tilt=45, focal_mm=14)
    seen = frame(shot)
    assert (seen.ids == stage.SKY).all()
    focal = shot.focal_px[0]
    for row, column in ((0, 0), (20, 30), (47, 63)):
        ray = shot.c2w[0, :, :3] @ [(column + 0.5 - 32) / focal, (row + 0.5 - 24) / focal, 1]
        up = min(max(2 * ray[1] / np.linalg.norm(ray), 0), 1)
        expected = (1 - up) * np.array(shot.set.sky_horizon) + up * np.array(shot.set.sky_top)
        np.testing.assert_allclose(optics.srgb_decode(seen.previs[row, column]), expected, atol=1e-6)
    np.testing.assert_array_equal(seen.clay, seen.previs)
    np.testing.assert_array_equal(seen.normal, 0)


def test_air_hides_two_thirds_at_two_hundred_metres(staged, box):
    """Without lamps nothing glosses: the film is the previs seen through air."""
    shot = staged(ambient=np.full((1, 3), 0.5), focus_m=np.array([1e4]))
    for distance in (2.0, 20.0, 200.0):
        seen = frame(dressed(shot, box((0, 0, 4 - distance - 0.5), (900, 900, 0.5))))
        clear = math.exp(-distance / 200)
        through = optics.srgb_decode(seen.previs[24, 32]) * clear + np.array(shot.set.sky_horizon) * (1 - clear)
        np.testing.assert_allclose(optics.srgb_decode(seen.rgb[24, 32]), through, rtol=1e-3)
        darker = frame(
            replace(dressed(shot, box((0, 0, 4 - distance - 0.5), (900, 900, 0.5))), exposure_ev=-np.ones(1))
        )
        np.testing.assert_allclose(optics.srgb_decode(darker.rgb[24, 32]), through / 2, rtol=1e-3)  # a stop less
    assert clear == pytest.approx(1 - 0.632, abs=1e-3)


def test_a_highlight_lies_where_the_ball_mirrors_the_lamp_and_previs_has_none(staged, lamp, ball):
    shot = staged(eye=(0, 1.2, 4), width=160, height=160, lights=(lamp(50, 20, size_deg=2.0),))
    shot = dressed(shot, ball(color=(0.02, 0.02, 0.02)))
    seen = frame(shot)
    shine = np.where(seen.ids == stage.SET, (seen.rgb - seen.previs)[..., 1], 0)
    row, column = np.unravel_index(shine.argmax(), shine.shape)
    to_eye = shot.c2w[0, :, 3] - points(shot, seen)[row, column]
    half = to_eye / np.linalg.norm(to_eye) + shot.lights[0].direction[0]
    assert seen.normal[row, column] @ half / np.linalg.norm(half) > 0.999
    wide = frame(replace(shot, lights=(lamp(50, 20, size_deg=60.0),)))
    broad = np.where(seen.ids == stage.SET, (wide.rgb - wide.previs)[..., 1], 0)
    assert (broad > broad.max() / 2).sum() > 1.5 * (shine > shine.max() / 2).sum()  # a larger lamp, a wider highlight


def test_checks_lie_on_the_floor_in_metres(staged):
    first, second = (0.6, 0.3, 0.2), (0.1, 0.2, 0.4)
    shot = staged(eye=(0, 3, 0), tilt=-90, width=128, height=128, focal_mm=24, ambient=np.ones((1, 3)))
    shot = dressed(shot, ground=first, ground_second=second, tile_m=0.8)
    seen = frame(shot)
    for i in range(-2, 2):
        for j in range(-2, 2):
            (xy,), _ = stage.project(shot, 0, np.array([[0.8 * (i + 0.5), 0.0, 0.8 * (j + 0.5)]]))
            color = optics.srgb_decode(seen.previs[int(xy[1]), int(xy[0])])
            np.testing.assert_allclose(color, first if (i + j) % 2 == 0 else second, atol=1e-6)


def test_far_checks_fade_into_their_mean(staged):
    shot = staged(eye=(0, 1.5, 0), ambient=np.ones((1, 3)))
    shot = dressed(shot, ground=(0.6, 0.6, 0.6), ground_second=(0.2, 0.2, 0.2), tile_m=0.8)
    seen = frame(shot)
    far = (seen.ids == stage.GROUND) & (seen.depth > 40)
    assert far.sum() > 60
    np.testing.assert_allclose(optics.srgb_decode(seen.previs[far]), 0.4, atol=0.1)
    feet = frame(staged(eye=(0, 1.5, 0), tilt=-60, ambient=np.ones((1, 3)), set=shot.set))
    near = optics.srgb_decode(feet.previs)  # before the camera's feet they are crisp
    assert near.min() == pytest.approx(0.2, abs=1e-6) and near.max() == pytest.approx(0.6, abs=1e-6)


def test_a_wall_carries_its_pattern_upright_and_across(staged):
    stripes = Prop("box", (0.0, 2.0, -0.5), (6.0, 2.0, 0.5), 0.0, (0.7, 0.7, 0.7), (0.1, 0.1, 0.1), 0.5)
    shot = dressed(staged(eye=(0, 1.0, 4), width=160, height=120, ambient=np.ones((1, 3)) / 0.6), stripes)
    seen = frame(shot)
    for x, y, color in ((0.25, 0.75, 0.1), (0.25, 1.25, 0.7), (-0.25, 1.25, 0.1), (0.75, 1.25, 0.1), (0.75, 0.75, 0.7)):
        (xy,), _ = stage.project(shot, 0, np.array([[x, y, 0.0]]))
        assert optics.srgb_decode(seen.previs[int(xy[1]), int(xy[0]), 0]) == pytest.approx(color, abs=1e-6), (x, y)


def test_encoding_is_srgb_below_the_shoulder_and_never_clips_hard():
    linear = np.linspace(0, 6, 6001)
    code = stage.encode(np, linear)
    below = linear <= stage.SHOULDER
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)  # IEC 61966-2-1
    np.testing.assert_allclose(code[below], srgb[below], atol=1e-12)
    assert (np.diff(code) >= 0).all() and (np.diff(code[linear < 2]) > 0).all() and code[-1] <= 1
    slope = np.diff(optics.srgb_decode(code)) / np.diff(linear)
    at = int(np.searchsorted(linear, stage.SHOULDER))
    assert slope[at - 2] == pytest.approx(slope[at + 1], rel=0.02)  # no corner where it begins
    assert stage.encode(np, np.array([-1.0]))[0] == 0
