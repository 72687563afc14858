"""A person has the height, the stance and the walk that its track says, measured on the capsules themselves."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.stage import appearance as cast
from models.stage.mannequin import EYES, parts

EYE_COLOR = (0.02, 0.02, 0.02)


def span(found, axis: int) -> tuple[float, float]:
    """Lowest and highest coordinate that any capsule reaches."""
    low = min(min(c.a[axis], c.b[axis]) - c.radius for c, _ in found)
    return low, max(max(c.a[axis], c.b[axis]) + c.radius for c, _ in found)


def feet(track) -> np.ndarray:
    """(2, 3) the toes: left, then right, where the body's left is its own."""
    shoes = [c for c, color in parts(track, 0) if color == track.appearance.shoes]
    assert len(shoes) == 2
    return np.array([c.b for c in shoes])


def thickest(found, color) -> np.ndarray:
    return np.array(max((c for c, of in found if of == color), key=lambda c: c.radius).a)


@pytest.mark.parametrize("height_m", [1.5, 1.62, 1.75, 1.95])
def test_somebody_is_as_tall_as_the_appearance_says(person, height_m):
    low, top = span(parts(person(height_m=height_m), 0), 1)
    assert top == pytest.approx(height_m, rel=0.01)
    assert low == pytest.approx(0, abs=0.01)


def test_a_hat_adds_a_little(person):
    _, bare = span(parts(person(), 0), 1)
    _, hatted = span(parts(person(hat=(0.3, 0.3, 0.3)), 0), 1)
    assert 0.02 < hatted - bare < 0.15


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=8), st.floats(0, 3), st.floats(0, 1))
def test_nobody_sinks_or_floats_while_walking(name, stride, gait):
    from models.stage.blocking import SubjectTrack

    one = np.ones(1)
    track = SubjectTrack("x", cast.appearance(name), np.zeros((1, 3)), 0 * one, stride * one, gait * one)
    low, top = span(parts(track, 0), 1)
    assert abs(low) < 0.001 * track.appearance.height_m + 1e-9, "the lower sole is on the floor"
    assert top < 1.08 * track.appearance.height_m


def test_eyes_are_where_framing_looks_for_them(person):
    eyes = [c for c, color in parts(person(height_m=1.8), 0) if color == EYE_COLOR]
    assert len(eyes) == 2
    for eye in eyes:
        assert eye.a[1] == pytest.approx(EYES * 1.8)
    assert eyes[0].a[0] == pytest.approx(-eyes[1].a[0])


@pytest.mark.parametrize(
    ("heading", "ahead"), [(0, (0, 1)), (90, (1, 0)), (180, (0, -1)), (-90, (-1, 0)), (30, (0.5, math.sqrt(0.75)))]
)
def test_the_face_and_the_toes_point_where_the_heading_does(person, heading, ahead):
    track = person(at=(2.0, 0.0, -3.0), heading_deg=heading)
    found = parts(track, 0)
    face = np.mean([c.a for c, color in found if color == EYE_COLOR], 0)
    head = thickest(found, track.appearance.hair)
    for points in (face - head, *(feet(track) - [2.0, 0.0, -3.0])):
        flat = points[[0, 2]]
        assert flat @ ahead > 0.6 * np.linalg.norm(flat)
    np.testing.assert_allclose((face - head)[[0, 2]] / np.linalg.norm((face - head)[[0, 2]]), ahead, atol=1e-6)


def test_left_is_left(person):
    """Facing +Z with Y up, one's own left hand is at +X."""
    track = person(stride=0.25, gait=1.0)
    assert feet(track)[0, 0] > 0 > feet(track)[1, 0]


def test_legs_walk_in_opposite_phase(person):
    forward = np.array([feet(person(stride=s, gait=1.0))[:, 2] for s in np.linspace(0, 1, 41)])
    left, right = (forward - forward[:-1].mean(0)).T
    assert np.corrcoef(left, right)[0, 1] < -0.8
    np.testing.assert_allclose(left[:20], right[20:40], atol=1e-9)  # half a cycle later the other does the same
    np.testing.assert_allclose(forward[0], forward[-1], atol=1e-9)  # and after a whole one, the same again
    assert 0.4 < np.ptp(left) < 1.2  # a step of a grown person, in metres


def test_arms_swing_against_the_legs(person):
    def hand(stride):
        skin = [c for c, color in parts(person(stride=stride, gait=1.0), 0) if color == (0.5, 0.3, 0.2)]
        return next(c for c in skin if c.a == c.b and c.a[0] > 0).a[2]  # the left one: a ball

    strides = np.linspace(0, 1, 41)
    legs = [feet(person(stride=s, gait=1.0))[0, 2] for s in strides]
    assert np.corrcoef([hand(s) for s in strides], legs)[0, 1] < -0.8


def test_who_stands_does_not_swing(person):
    still = [parts(person(stride=s), 0) for s in (0.0, 0.3, 0.8)]
    for other in still[1:]:
        for (a, _), (b, _) in zip(still[0], other, strict=True):
            np.testing.assert_allclose(a.a + a.b, b.a + b.b, atol=1e-12)


def test_who_sits_is_lower_with_thighs_level_and_feet_on_the_floor(person):
    found = parts(person(pose="sit", height_m=1.8), 0)
    low, top = span(found, 1)
    assert 0.7 * 1.8 < top < 0.8 * 1.8 and abs(low) < 0.08
    thigh = next(c for c, color in found if color == (0.1, 0.1, 0.3) and c.radius == pytest.approx(0.05 * 1.8))
    assert abs(thigh.a[1] - thigh.b[1]) < 0.05 < abs(thigh.a[2] - thigh.b[2])


def test_build_widens_and_clothes_show(person):
    def width(**look):
        low, high = span(parts(person(**look), 0), 0)
        return high - low

    assert width(build=0.85) < width(build=1.0) < width(build=1.2)
    plain, coat = ({color for _, color in parts(person(coat=c), 0)} for c in (False, True))
    assert plain == coat  # the same wardrobe,
    skin = (0.5, 0.3, 0.2)
    bare, sleeved = (sum(color == skin for _, color in parts(person(coat=c), 0)) for c in (False, True))
    assert bare - sleeved == 2  # but a coat covers both forearms
    assert len(parts(person(long_hair=True), 0)) == len(parts(person(), 0)) + 1


def test_moving_somebody_moves_every_part(person):
    here, there = parts(person(), 0), parts(person(at=(1.0, 0.5, -2.0)), 0)
    for (a, _), (b, _) in zip(here, there, strict=True):
        np.testing.assert_allclose(np.add(a.a, (1.0, 0.5, -2.0)), b.a, atol=1e-12)
        assert a.radius == b.radius


def test_frames_are_read_one_by_one(person):
    track = person(frames=3)
    moved = replace(track, position=track.position + np.arange(3)[:, None] * [1.0, 0, 0])
    assert [parts(moved, t)[0][0].a[0] - parts(moved, 0)[0][0].a[0] for t in range(3)] == pytest.approx([0, 1, 2])
