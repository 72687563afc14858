"""Marks are hit on time, feet do not slide, and people face where they go."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.blocking.walking import Walk, walk
from appliance.direction.shot import ShotDirection
from models.errors import BadInput


def go(*marks, duration_s=6.0, height_m=1.75, fps=50) -> Walk:
    shot = ShotDirection(subjects=[{"id": "m", "track": list(marks)}])
    return walk(shot.subjects[0].track, "subjects[0]", np.arange(int(duration_s * fps) + 1) / fps, height_m)


@given(
    st.lists(st.tuples(st.floats(-8, 8), st.floats(-8, 8), st.floats(0.5, 2)), min_size=1, max_size=4),
    st.floats(0, 0.5),
)
@settings(max_examples=50, deadline=None)
def test_marks_are_hit_on_time_and_speed_is_as_asked(steps, start):
    """At the time that their speeds add up to, they are on each mark."""
    marks, t, ends = [{"t_s": start}], start, [(start, (0.0, 0.0))]
    for x, z, speed in steps:
        here = ends[-1][1]
        metres = float(np.hypot(x - here[0], z - here[1]))
        if metres < 0.05:
            continue
        t += metres / speed
        marks.append({"x_m": x, "z_m": z, "speed_mps": speed})
        ends.append((t, (x, z)))
    shot = ShotDirection(subjects=[{"id": "m", "track": marks}])
    path = walk(shot.subjects[0].track, "subjects[0]", np.array([when for when, _ in ends]), 1.75)
    assert path.position[:, [0, 2]] == pytest.approx(np.array([where for _, where in ends]), abs=1e-6)
    assert (path.position[:, 1] == 0).all()


def test_starts_and_stops_are_smooth_and_stay_within_the_mean_by_little():
    path = go({}, {"x_m": 3, "t_s": 2.5})
    speed = np.gradient(path.position[:, 0], 1 / 50)
    assert speed[0] < 0.1 and path.position[-1, 0] == 3 and (speed[130:] < 1e-9).all()
    assert np.abs(np.diff(speed)).max() <= 3 / (2.5 - 0.4) / 0.4 / 50 * 1.01, "acceleration is that of a 0.4 s start"
    assert speed.max() == pytest.approx(3 / (2.5 - 0.4), rel=1e-6)
    assert np.allclose(path.position[:, 2], 0)


def test_legs_swing_by_the_ground_they_cover():
    for height in (1.75, 1.2):
        path = go({}, {"x_m": 2.8, "speed_mps": 1.4}, height_m=height)
        assert path.stride[-1] == pytest.approx(2.8 / 1.4 * 1.75 / height)
        assert np.allclose(path.stride * 1.4 * height / 1.75, path.position[:, 0])
    assert path.gait[0] == 0 and path.gait[50] == 1 and path.gait[-1] == 0
    still = go({"x_m": 1})
    assert (still.gait == 0).all() and (still.stride == 0).all() and (still.position == [1, 0, 0]).all()


def test_they_face_where_they_go_then_where_the_mark_says():
    path = go({"heading_deg": 0}, {"x_m": 2, "speed_mps": 1, "heading_deg": 0})
    assert (
        path.heading_deg[0] == 0
        and path.heading_deg[50] == pytest.approx(90)
        and path.heading_deg[-1] == pytest.approx(0)
    )
    path = go({}, {"z_m": -2, "speed_mps": 1})
    assert np.allclose(np.cos(np.radians(path.heading_deg)), -1), "away from the audience, from the start"
    path = go({"heading_deg": 170}, {"t_s": 1, "heading_deg": -170})
    assert path.heading_deg.max() == pytest.approx(190) and (np.diff(path.heading_deg) >= 0).all(), (
        "the short way round"
    )


def test_backing_away_keeps_the_heading_and_reverses_the_stride():
    path = go({"heading_deg": 0}, {"z_m": -2, "facing": "held"})
    assert (path.heading_deg == 0).all() and path.stride[-1] == pytest.approx(-2 / 1.4)


def test_they_wait_to_arrive_on_time_and_may_enter_walking():
    path = go({}, {"x_m": 2, "t_s": 4, "speed_mps": 1})
    assert (
        path.position[99, 0] == 0
        and path.position[150, 0] == pytest.approx(1)
        and path.position[200, 0] == pytest.approx(2)
    )
    path = go({"x_m": -2, "t_s": -2}, {"x_m": 2, "t_s": 2})
    assert path.position[0, 0] == pytest.approx(0) and path.gait[0] == 1


def test_what_cannot_be_walked_is_refused():
    for marks, part in (
        (({}, {"x_m": 4, "t_s": 1, "speed_mps": 1}), "track[1].t_s is 1: it must be later than 4.00 s"),
        (({}, {"x_m": 4, "speed_mps": 1}, {"x_m": 5, "t_s": 3}), "track[2].t_s is 3: it must be later than 4.00 s"),
        (({}, {"x_m": 40, "t_s": 1}), "faster than 12 m/s"),
    ):
        with pytest.raises(BadInput) as caught:
            go(*marks)
        assert part in str(caught.value)
