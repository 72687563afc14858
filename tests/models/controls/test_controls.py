"""Controls: rays by their definition, tokens that follow the direction, films that are the stage's."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from models.card import PREVIS
from models.controls.films import code_depth, control_films
from models.controls.rays import camera_rays
from models.controls.tokens import context_tokens
from models.stage import render as stage
from models.training.shots import scenes

SEEDS = (0, 3, 4, 8, 17)


def unfolded(blocking):
    """Moments and directions (T, H, W, 3) of every frame, read back out of the 24 channels."""
    channels = camera_rays(blocking).astype(np.float64)
    six = channels.reshape(6, 4, *channels.shape[1:])  # component, sub-frame, latent frame, row, column
    frames = np.moveaxis(six, 0, -1).swapaxes(0, 1).reshape(-1, *channels.shape[2:], 6)[3:]
    return frames[..., :3], frames[..., 3:]


@pytest.mark.parametrize("seed", SEEDS)
def test_rays_are_unit_directions_and_moments_across_them(seed):
    moment, direction = unfolded(scenes.shot(seed, 9, 48, 64))
    assert moment.shape == direction.shape == (9, 6, 8, 3)
    np.testing.assert_allclose(np.linalg.norm(direction, axis=-1), 1, atol=1e-6)
    np.testing.assert_allclose((moment * direction).sum(-1), 0, atol=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_first_frame_is_the_origin(seed):
    blocking = scenes.shot(seed, 5, 48, 64)
    moment, direction = unfolded(blocking)
    np.testing.assert_array_equal(moment[0], 0)
    focal = blocking.focal_px[0]
    for row, column in ((0, 0), (5, 7), (2, 3)):
        ray = np.array([(8 * column + 4 - 32) / focal, (8 * row + 4 - 24) / focal, 1])  # centre of an 8x8 cell
        np.testing.assert_allclose(direction[0, row, column], ray / np.linalg.norm(ray), atol=1e-6)


def test_the_first_frame_fills_its_group_and_four_frames_share_a_latent(staged):
    eye = np.array([[0.1 * t, 1.0, 4.0] for t in range(9)])
    channels = camera_rays(staged(frames=9, eye=eye, subject_distance_m=2.0))
    assert channels.shape == (24, 3, 6, 8) and channels.dtype == np.float32
    moment_y = channels[4:8, :, 3, 4]  # component 1: y of o x d; in the middle of the picture d is nearly (0, 0, 1)
    direction_z = channels[20:24, :, 3, 4]
    frame = np.array([[0, 1, 5], [0, 2, 6], [0, 3, 7], [0, 4, 8]])
    np.testing.assert_allclose(moment_y, -0.05 * frame * direction_z, atol=1e-6)  # x of the origin is 0.1 t / 2 m


def test_a_pan_is_read_from_the_camera_at_frame_0(staged):
    static = staged(frames=5, pan=40.0, tilt=-10.0, eye=(3, 2, 1))
    moment, direction = unfolded(static)
    np.testing.assert_allclose(direction, np.broadcast_to(direction[0], direction.shape), atol=1e-7)
    np.testing.assert_allclose(moment, 0, atol=1e-7)
    here = unfolded(staged(frames=5))  # where the camera stands in the world says nothing
    np.testing.assert_allclose(direction, here[1], atol=1e-6)
    panned = unfolded(staged(frames=5, pan=np.linspace(0, 20, 5)))[1]
    turn = [math.degrees(math.acos(min(1, panned[0, 3, 4] @ panned[t, 3, 4]))) for t in range(5)]
    np.testing.assert_allclose(turn, [0, 5, 10, 15, 20], atol=0.15)
    assert panned[4, 3, 4, 0] > panned[0, 3, 4, 0]  # rightwards is +x of the camera


def test_lengths_are_in_units_of_the_subjects_distance(staged):
    eye = np.array([[0.3 * t, 1.0, 4.0] for t in range(5)])
    near, far = (unfolded(staged(frames=5, eye=eye, subject_distance_m=d))[0] for d in (1.5, 6.0))
    np.testing.assert_allclose(near, 4 * far, atol=1e-6)
    big = unfolded(staged(frames=5, eye=eye * 4, subject_distance_m=6.0))[0]
    np.testing.assert_allclose(big, near, atol=1e-6)


def test_a_zoom_narrows_the_rays(staged):
    direction = unfolded(staged(frames=5, focal_mm=np.array([35.0, 35, 35, 35, 70])))[1]
    edge = direction[:, 3, 0, 0] / direction[:, 3, 0, 2]
    assert edge[4] == pytest.approx(edge[0] / 2) and edge[3] == pytest.approx(edge[0])


@pytest.mark.parametrize(
    ("depth", "unit", "code"),
    [(0.0, 3.0, 1.0), (3.0, 3.0, 0.5), (9.0, 3.0, 0.25), (math.inf, 3.0, 0.0), (1.0, 3.0, 0.75)],
)
def test_coded_depth_by_hand(depth, unit, code):
    assert code_depth(np.array([depth]), unit)[0] == pytest.approx(code)


def test_the_control_films_are_the_stages():
    blocking = scenes.shot(7, 5, 32, 48)
    previs, depth = control_films(blocking)
    assert previs.shape == (5, 32, 48, 3) and depth.shape == (5, 32, 48)
    assert previs.dtype == depth.dtype == np.float32
    third = stage.render_frame(blocking, 3, samples=2)
    np.testing.assert_array_equal(previs[3], third.previs)
    np.testing.assert_array_equal(depth[3] > 0, np.isfinite(third.depth))
    near = depth[3] > 0
    unit = blocking.subject_distance_m
    np.testing.assert_allclose(unit / depth[3][near] - unit, third.depth[near], rtol=1e-3, atol=1e-3)


def test_tokens_are_finite_bounded_and_fit_the_card():
    for seed in range(40):
        blocking = scenes.shot(seed, 17, 128, 224)
        tokens = context_tokens(blocking)
        assert tokens.shape == (6 + len(blocking.subjects), PREVIS.text_dim) and tokens.dtype == np.float32, seed
        assert len(tokens) <= PREVIS.text_len, seed
        assert np.isfinite(tokens).all() and np.abs(tokens).max() <= 4, seed
        kinds = tokens[:, :8]
        assert (kinds.sum(1) == 1).all(), seed
        assert list(kinds.argmax(1)) == [0, 1, 2, 3, 4, 5, *[6] * len(blocking.subjects)], seed


def test_a_crowd_and_the_darkest_lens_still_fit(staged, lamp, person):
    lamps = tuple(lamp(name=name, rgb=(0.0, 0.0, 0.0), size_deg=0.0) for name in ("key", "fill", "rim"))
    crowd = tuple(person(at=(i, 0, 0), hat=(0.1, 0.1, 0.1)) for i in range(9))
    extreme = staged(lights=lamps, subjects=crowd, focal_mm=200, t_stop=22.0, focus_m=np.array([1e5]))
    tokens = context_tokens(extreme)
    assert tokens.shape == (12, 64) and np.isfinite(tokens).all() and np.abs(tokens).max() <= 4


@pytest.fixture
def shot(staged, lamp, person):
    """Five frames with one lamp of each kind and one person."""
    lamps = tuple(lamp(az, name=name, frames=5) for az, name in ((-40, "key"), (50, "fill"), (160, "rim")))
    return staged(frames=5, lights=lamps, subjects=(person(frames=5),))


def with_first(items, **changes):
    return (replace(items[0], **changes), *items[1:])


CHANGES = {  # what is directed differently: the token that must say so
    "lens": (0, lambda s: replace(s, focal_mm=s.focal_mm * 1.2)),
    "zoom": (0, lambda s: replace(s, focal_mm=s.focal_mm * np.array([1, 1, 1, 1, 1.3]))),
    "stop": (0, lambda s: replace(s, t_stop=2.8)),
    "rack": (0, lambda s: replace(s, focus_m=np.array([4.0, 4, 4, 4, 8]))),
    "dolly": (
        0,
        lambda s: replace(s, c2w=s.c2w - np.linspace(0, 1, 5)[:, None, None] * [0, 0, 0, 1] * [[0], [0], [1]]),
    ),
    "key color": (1, lambda s: replace(s, lights=with_first(s.lights, rgb=s.lights[0].rgb * [1.0, 0.8, 0.5]))),
    "key level": (1, lambda s: replace(s, lights=with_first(s.lights, rgb=s.lights[0].rgb * 2))),
    "key side": (1, lambda s: replace(s, lights=with_first(s.lights, direction=s.lights[0].direction * [-1, 1, 1]))),
    "key size": (1, lambda s: replace(s, lights=with_first(s.lights, size_deg=30.0))),
    "room": (4, lambda s: replace(s, ambient=s.ambient + 0.1)),
    "exposure": (4, lambda s: replace(s, exposure_ev=s.exposure_ev + 1)),
    "set": (5, lambda s: replace(s, set=replace(s.set, name="room"))),
    "floor": (5, lambda s: replace(s, set=replace(s.set, ground=(0.1, 0.2, 0.3)))),
    "mark": (6, lambda s: replace(s, subjects=with_first(s.subjects, position=s.subjects[0].position + 0.5))),
    "heading": (6, lambda s: replace(s, subjects=with_first(s.subjects, heading_deg=s.subjects[0].heading_deg + 30))),
    "pose": (6, lambda s: replace(s, subjects=with_first(s.subjects, pose="sit"))),
    "wardrobe": (6, lambda s: replace(s, subjects=with_first(s.subjects, appearance=dressed_in_blue(s)))),
}


def dressed_in_blue(shot):
    return replace(shot.subjects[0].appearance, top=(0.05, 0.1, 0.5))


@pytest.mark.parametrize("name", CHANGES)
def test_a_token_says_what_was_directed_and_the_others_stay(shot, name):
    kind, change = CHANGES[name]
    before, after = context_tokens(shot), context_tokens(change(shot))
    changed = [i for i in range(len(before)) if not np.array_equal(before[i], after[i])]
    if name == "dolly":  # people and lamps are told as the moving camera sees them
        assert kind in changed
    else:
        assert changed == [kind]


def test_tokens_are_told_from_the_camera_not_from_the_world(staged, lamp, person):
    """The same shot taken in another corner of the world, turned about the vertical."""
    from models.stage import optics

    yaw = math.radians(70)
    spin = np.array([[math.cos(yaw), 0, -math.sin(yaw)], [0, 1, 0], [math.sin(yaw), 0, math.cos(yaw)]])
    here = staged(lights=(lamp(30),), subjects=(person(at=(0.5, 0, 0), heading_deg=20),))
    eye = spin @ here.c2w[0, :, 3] + [5, 0, -3]
    there = replace(
        here,
        c2w=np.concatenate([spin @ here.c2w[0, :, :3], eye[:, None]], 1)[None],
        lights=(replace(here.lights[0], direction=here.lights[0].direction @ spin.T),),
        subjects=(person(at=tuple(spin @ [0.5, 0, 0] + [5, 0, -3]), heading_deg=20 - 70),),
    )
    np.testing.assert_allclose(there.c2w[0, :, :3], optics.rotation(70, 0, 0), atol=1e-12)
    np.testing.assert_allclose(context_tokens(there), context_tokens(here), atol=1e-6)
    np.testing.assert_allclose(camera_rays(there), camera_rays(here), atol=1e-6)
