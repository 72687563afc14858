"""The lens away from its focal plane: the thin-lens circle by hand, and light that is spread but not lost."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from models.stage import optics
from models.stage import render as stage
from models.stage.defocus import DISCS, circle_px, defocus
from models.training.shots import scenes


@pytest.fixture
def lens(staged):
    """A 50 mm lens at T2, focused at 2 m, over a picture of 224 pixels."""
    return staged(focal_mm=50, t_stop=2.0, focus_m=np.array([2.0]), width=224, height=128)


@pytest.mark.parametrize(
    ("depth", "circle_mm"),
    [
        (2.0, 0.0),
        (4.0, 50**2 * 2000 / (2 * 4000 * 1950)),  # f² |s - s_f| / (N s (s_f - f)), all in mm: 0.3205
        (1.0, 50**2 * 1000 / (2 * 1000 * 1950)),
        (1e4, 50**2 / (2 * 1950) * (1 - 2e-4)),  # what is infinitely far: f² / (N (s_f - f)) = 0.641
    ],
)
def test_the_circle_of_confusion_by_hand(lens, depth, circle_mm):
    found = circle_px(np, np.array([[depth]]), lens, 0)
    assert found[0, 0] == pytest.approx(circle_mm / 24.89 * 224, rel=1e-9)


def test_the_circle_follows_stop_focus_and_focal_length(lens):
    depth = np.array([[6.0]])
    at = circle_px(np, depth, lens, 0)
    assert circle_px(np, depth, replace(lens, t_stop=4.0), 0) == pytest.approx(at / 2)
    assert circle_px(np, depth, replace(lens, focus_m=np.array([6.0])), 0) == 0
    assert circle_px(np, depth, replace(lens, focal_mm=np.array([100.0])), 0) > 3.9 * at
    nearest = circle_px(np, depth, replace(lens, focus_m=np.array([0.01])), 0)  # nearer than the lens can focus
    assert np.isfinite(nearest).all()


def test_what_is_in_focus_is_untouched(lens):
    rng = np.random.default_rng(0)
    picture, depth = rng.random((64, 80, 3)), np.full((64, 80), 2.0)
    np.testing.assert_array_equal(defocus(np, picture, depth, lens, 0), picture)
    depth[:, 40:] = 8.0
    out = defocus(np, picture, depth, lens, 0)
    np.testing.assert_array_equal(out[:, :40], picture[:, :40])
    assert out[:, 40:].std() < 0.3 * picture[:, 40:].std()


def test_a_stopped_down_lens_is_sharp_all_through(lens):
    picture, depth = np.random.default_rng(0).random((32, 48, 3)), np.geomspace(1.5, 1e4, 32 * 48).reshape(32, 48)
    assert circle_px(np, depth, replace(lens, t_stop=22.0, focal_mm=np.array([18.0])), 0).max() < 1
    np.testing.assert_array_equal(
        defocus(np, picture, depth, replace(lens, t_stop=22.0, focal_mm=np.array([18.0])), 0), picture
    )


@pytest.mark.parametrize("depth_m", [2.7, 3.0, 4.0, 20.0])
def test_a_point_of_light_is_spread_evenly_and_not_lost(lens, depth_m):
    """Its spread is that of the thin lens's disc, up to the largest blur there is."""
    picture = np.zeros((129, 129, 3))
    picture[64, 64] = 1.0
    depth = np.full((129, 129), depth_m)
    out = defocus(np, picture, depth, lens, 0)[..., 0]
    assert out.sum() == pytest.approx(1, abs=1e-9) and out.min() >= -1e-12
    np.testing.assert_allclose(out, out[::-1, ::-1], atol=1e-12)
    np.testing.assert_allclose(out, out.T, atol=1e-12)
    radius = min(float(circle_px(np, depth, lens, 0)[0, 0]) / 2, DISCS[-1])
    y = np.arange(129) - 64
    spread = math.sqrt(out.sum(1) @ y**2)
    assert spread == pytest.approx(radius / 2, rel=1e-6)  # along one axis a disc of radius r deviates by r / 2


def test_blur_grows_with_distance_from_the_plane(lens):
    stripes = np.repeat(np.tile(np.repeat([0.0, 1.0], 16), 4)[None, :, None], 64, 0) * np.ones(3)
    contrast = [
        defocus(np, stripes, np.full((64, 128), d), lens, 0)[32, 32:96].std() for d in (2.0, 2.6, 3.5, 8.0, 100.0)
    ]
    assert all(a > b for a, b in itertools.pairwise(contrast))


def test_an_even_picture_stays_even(lens):
    even = np.full((40, 50, 3), 0.37)
    depth = np.random.default_rng(1).uniform(0.5, 50, (40, 50))
    np.testing.assert_allclose(defocus(np, even, depth, lens, 0), 0.37, atol=1e-12)  # to the very edge


def test_racking_focus_moves_the_sharp_part_of_a_film():
    blocking = replace(scenes.shot(3, 3, 96, 128), t_stop=1.0, focal_mm=np.full(3, 50.0))
    depth = stage.render_frame(blocking, 1).depth
    near, far = np.quantile(depth[np.isfinite(depth)], (0.02, 0.9))
    assert far > 1.3 * near
    lost = []
    for focus in (near, far):
        seen = stage.render_frame(replace(blocking, focus_m=np.full(3, focus)), 1)
        lost.append(np.abs(seen.rgb - stage.render_frame(replace(blocking, t_stop=64.0), 1).rgb).mean(-1))
    front, back = depth < near * 1.1, np.isfinite(depth) & (depth > far * 0.9)
    assert lost[0][front].mean() < lost[1][front].mean()
    assert lost[1][back].mean() < lost[0][back].mean()
    assert optics.srgb_decode(seen.rgb).max() <= 1
