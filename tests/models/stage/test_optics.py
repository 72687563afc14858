"""Angles by hand, colour temperature against CIE's tables and McCamy, easing and sRGB against their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.stage.optics import BASE, aim, ease, kelvin_rgb, planck_xy, rotation, srgb_decode
from models.stage.render import encode

RIGHT, DOWN, AHEAD = np.eye(3)  # axes of the camera
# CIE 1931 chromaticity of black bodies (Wyszecki & Stiles, Color Science, table 1(3.11)); 2856 K is illuminant A.
LOCUS = {
    2000: (0.5267, 0.4133), 2500: (0.4770, 0.4137), 2856: (0.4476, 0.4074), 3000: (0.4369, 0.4041),
    4000: (0.3805, 0.3768), 5000: (0.3451, 0.3516), 6000: (0.3221, 0.3318), 6500: (0.3135, 0.3237),
    8000: (0.2952, 0.3048), 10000: (0.2807, 0.2884),
}  # fmt: skip
RGB_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])  # IEC 61966-2-1
angles = st.floats(-180, 180)
places = st.tuples(*[st.floats(-20, 20)] * 3).map(np.array)


@pytest.mark.parametrize(
    ("turn", "axis", "world"),
    [
        ((0, 0, 0), AHEAD, (0, 0, -1)),
        ((0, 0, 0), RIGHT, (1, 0, 0)),
        ((0, 0, 0), DOWN, (0, -1, 0)),
        ((90, 0, 0), AHEAD, (1, 0, 0)),  # panned right it looks along +X
        ((-90, 0, 0), AHEAD, (-1, 0, 0)),
        ((180, 0, 0), AHEAD, (0, 0, 1)),
        ((0, 90, 0), AHEAD, (0, 1, 0)),  # tilted up it looks at the sky
        ((0, 90, 0), DOWN, (0, 0, -1)),
        ((0, 0, 90), DOWN, (-1, 0, 0)),  # rolled clockwise its feet go to the left
        ((0, 0, 90), RIGHT, (0, -1, 0)),
        ((90, 45, 0), AHEAD, (math.sqrt(0.5), math.sqrt(0.5), 0)),  # the tilt follows the pan
        ((90, 0, 0), RIGHT, (0, 0, 1)),
    ],
)
def test_turns_by_hand(turn, axis, world):
    np.testing.assert_allclose(rotation(*turn) @ axis, world, atol=1e-12)


@pytest.mark.parametrize(
    ("turn", "moves"),
    [
        ((5, 0, 0), (-1, 0)),  # a pan to the right moves what was in the middle to the left
        ((0, 5, 0), (0, 1)),  # a tilt up moves it down (pixels count downwards)
    ],
)
def test_the_middle_moves_against_the_turn(turn, moves):
    x, y, z = rotation(*turn).T @ (0, 0, -4)
    np.testing.assert_allclose((x / z, y / z), np.array(moves) * math.tan(math.radians(5)), atol=1e-12)


def test_a_clockwise_roll_turns_the_picture_the_other_way():
    x, y, z = rotation(0, 0, 10).T @ (0, 1, -5)  # straight above the middle
    np.testing.assert_allclose((x / z, y / z), (-math.sin(math.radians(10)) / 5, -math.cos(math.radians(10)) / 5))


@settings(max_examples=50, deadline=None)
@given(angles, angles, angles)
def test_rotations_are_rigid(pan, tilt, roll):
    r = rotation(pan, tilt, roll)
    np.testing.assert_allclose(r @ r.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(r) == pytest.approx(1)


@settings(max_examples=50, deadline=None)
@given(angles, angles, angles)
def test_rotation_is_pan_then_tilt_then_roll(pan, tilt, roll):
    r = rotation(pan, 0, 0) @ BASE @ rotation(0, tilt, 0) @ BASE @ rotation(0, 0, roll)
    np.testing.assert_allclose(rotation(pan, tilt, roll), r, atol=1e-12)


def test_rotation_takes_a_whole_film():
    pan = np.linspace(-30, 30, 7)
    whole = rotation(pan, 5.0, np.zeros(7))
    assert whole.shape == (7, 3, 3)
    np.testing.assert_array_equal(whole[3], rotation(0.0, 5.0, 0.0))


@settings(max_examples=50, deadline=None)
@given(st.floats(-179, 179), st.floats(-89, 89), places, st.floats(0.1, 30))
def test_aim_undoes_rotation(pan, tilt, position, distance):
    found = aim(position, position + distance * rotation(pan, tilt, 0.0)[:, 2])
    np.testing.assert_allclose(found, (pan, tilt), atol=1e-6)


@pytest.mark.parametrize(
    ("target", "pan", "tilt"),
    [
        ((0, 0, -1), 0, 0),
        ((1, 0, -1), 45, 0),
        ((1, 0, 0), 90, 0),
        ((0, 1, -1), 0, 45),
        ((-1, -math.sqrt(2), -1), -45, -45),
    ],
)
def test_aim_by_hand(target, pan, tilt):
    np.testing.assert_allclose(aim((0, 0, 0), target), (pan, tilt), atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "u", "progress"),
    [
        ("linear", 0.3, 0.3), ("smooth", 0.25, 0.15625), ("smooth", 0.5, 0.5), ("in", 0.25, 0.0625),
        ("out", 0.25, 0.4375), ("hold", 0.999, 0.0), ("hold", 1.0, 1.0), ("exp(3)", 0.5, 0.8175744761936437),
        ("exp(0)", 0.4, 0.4), ("exp(-3)", 0.5, 1 - 0.8175744761936437),
    ],
)  # fmt: skip
def test_easing_by_hand(kind, u, progress):
    assert ease(u, kind) == pytest.approx(progress, abs=1e-12)


@pytest.mark.parametrize("kind", ["linear", "smooth", "in", "out", "hold", "exp(3)", "exp(-2.5)", "exp(1e-12)"])
def test_easing_goes_from_start_to_end_and_never_back(kind):
    e = ease(np.linspace(-0.5, 1.5, 401), kind)
    assert (e[:101] == 0).all() and e[300:] == pytest.approx(1)
    assert (np.diff(e) >= -1e-15).all()


@pytest.mark.parametrize("kind", ["linear", "smooth"])
@pytest.mark.parametrize("u", [0.1, 0.37])
def test_easing_that_leaves_as_it_arrives(kind, u):
    assert ease(1 - u, kind) == pytest.approx(1 - ease(u, kind))


def test_an_unknown_ease_is_named():
    with pytest.raises(ValueError, match="'bounce' is not one of linear, smooth"):
        ease(0.5, "bounce")


@pytest.mark.parametrize(("kelvin", "xy"), LOCUS.items())
def test_the_black_body_line_is_that_of_the_tables(kelvin, xy):
    np.testing.assert_allclose(planck_xy(kelvin), xy, atol=6e-4)


@pytest.mark.parametrize("kelvin", [2500, 2856, 3200, 4000, 4300, 5000, 5600, 6500, 7500])
def test_mccamy_reads_the_temperature_back(kelvin):
    x, y = planck_xy(kelvin)
    n = (x - 0.3320) / (0.1858 - y)
    assert 449 * n**3 + 3525 * n**2 + 6823.3 * n + 5520.33 == pytest.approx(kelvin, rel=0.006)


@pytest.mark.parametrize("kelvin", [2200, 3200, 4300, 6500, 9000])
def test_a_lamp_seen_without_the_balance_has_its_own_chromaticity(kelvin):
    white_x, white_y = planck_xy(5600)
    white = np.linalg.solve(RGB_TO_XYZ, [white_x / white_y, 1, (1 - white_x - white_y) / white_y])
    xyz = RGB_TO_XYZ @ (kelvin_rgb(kelvin) * white)
    np.testing.assert_allclose(xyz[:2] / xyz.sum(), planck_xy(kelvin), atol=2e-4)


def test_daylight_is_neutral_and_every_lamp_has_luminance_one():
    np.testing.assert_allclose(kelvin_rgb(5600), (1, 1, 1), atol=1e-3)
    rgb = kelvin_rgb(np.linspace(1800, 12000, 40))
    np.testing.assert_allclose(rgb @ (0.2126, 0.7152, 0.0722), 1, atol=1e-12)
    assert (rgb >= 0).all()


def test_lamps_cool_as_they_get_hotter():
    red, _, blue = kelvin_rgb(np.linspace(2000, 12000, 200)).T
    assert (np.diff(red) < 0).all() and (np.diff(blue) > 0).all()


@pytest.mark.parametrize(
    ("kelvin", "duv"),
    [(2700.0, -0.012), (2700.0, 0.012), (4000.0, -0.006), (5600.0, 0.006), (8000.0, -0.012), (8000.0, 0.012)],
)
def test_duv_is_the_distance_from_the_line_and_plus_is_greener(kelvin, duv):
    white_x, white_y = planck_xy(5600)
    white = np.linalg.solve(RGB_TO_XYZ, [white_x / white_y, 1, (1 - white_x - white_y) / white_y])
    uv = _uv_of_xyz(RGB_TO_XYZ @ (kelvin_rgb(kelvin, duv) * white))
    x, y = planck_xy(np.linspace(1700, 20000, 20000))
    line = np.stack([4 * x, 6 * y]) / (-2 * x + 12 * y + 3)
    away = np.hypot(*(line - uv[:, None]))
    assert away.min() == pytest.approx(abs(duv), rel=0.05)
    assert np.sign(uv[1] - line[1, away.argmin()]) == np.sign(duv)
    plain, shifted = kelvin_rgb(kelvin), kelvin_rgb(kelvin, duv)
    assert np.sign(shifted[1] - plain[1]) == np.sign(duv)


def _uv_of_xyz(xyz):
    """CIE 1960 coordinates."""
    x, y, z = xyz
    return np.array([4 * x, 6 * y]) / (x + 15 * y + 3 * z)


@pytest.mark.parametrize(
    ("code", "linear"), [(0, 0), (0.04045, 0.0031308), (0.5, 0.2140411), (0.4613561, 0.18), (1, 1)]
)
def test_the_srgb_curve_by_hand(code, linear):
    assert srgb_decode(code) == pytest.approx(linear, abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 0.9))
def test_decoding_inverts_the_stages_encoding_below_its_shoulder(code):
    assert float(encode(np, np.asarray(srgb_decode(code)))) == pytest.approx(code, abs=1e-5)


def test_srgb_clips_what_no_screen_shows():
    np.testing.assert_array_equal(srgb_decode([-1.0, 2.0]), [0, 1])
