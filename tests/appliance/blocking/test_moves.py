"""A move does what its word says, by the number asked, and nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.blocking.solve import block
from appliance.direction.shot import ShotDirection
from models.errors import BadInput
from models.stage.render import project

CAST = {"cast": {"mara": {"height_m": 1.75}}, "subjects": [{"id": "mara"}]}
EASES = st.sampled_from(["linear", "smooth", "in", "out", "exp(3)", "exp(-2)"])


def shot(*moves, **stated):
    return block(ShotDirection(**{**CAST, "frame": {"size": "MS"}, "moves": list(moves), **stated}))


def place(b):
    return b.c2w[:, :, 3]


def pan(b):
    """Degrees right of -Z, from the forward axis alone."""
    return np.degrees(np.unwrap(np.arctan2(b.c2w[:, 0, 2], -b.c2w[:, 2, 2])))


def tilt(b):
    return np.degrees(np.arcsin(b.c2w[:, 1, 2]))


def turned(b, t=-1):
    """Degrees between the first orientation and frame t's."""
    relative = b.c2w[0, :, :3].T @ b.c2w[t, :, :3]
    return np.degrees(np.arccos(np.clip((np.trace(relative) - 1) / 2, -1, 1)))


def same(a, b, *names):
    return all(np.allclose(getattr(a, name), getattr(b, name), atol=1e-9) for name in names)


@given(st.floats(-170, 170), EASES, st.floats(0, 0.9), st.floats(1.0, 2.0))
@settings(max_examples=50, deadline=None)
def test_a_pan_of_x_degrees_turns_the_camera_x_degrees(degrees, ease, start, end):
    still = shot(frame={"size": "MS", "elevation_deg": 0})
    b = shot(
        {"type": "pan", "amount_deg": degrees, "ease": ease, "from_s": start, "to_s": end},
        frame={"size": "MS", "elevation_deg": 0},
    )
    assert pan(b)[-1] - pan(b)[0] == pytest.approx(degrees, abs=1e-6)
    assert turned(b) == pytest.approx(abs(degrees), abs=1e-5)
    assert same(b, still, "focal_mm") and np.allclose(place(b), place(still))
    steps = np.diff(pan(b)) * np.sign(degrees or 1)
    assert (steps >= -1e-9).all(), "easing never goes back"
    t = np.arange(b.frames) / 16
    assert np.allclose(b.c2w[t <= start], b.c2w[0]) and np.allclose(b.c2w[t >= end], b.c2w[-1])


@pytest.mark.parametrize(("seconds", "fps"), [(3, 25), (3, 30), (2.5, 24), (1.9, 16), (2, 16)])
def test_a_move_ends_with_the_length_that_was_asked_and_the_frames_after_it_hold(seconds, fps):
    """3 s at 25 are 75 frames, 77 are made: a cut of 3 s has the whole move. Linear: every frame by hand."""
    b = shot(
        {"type": "pan", "amount_deg": 20, "ease": "linear"},
        time={"duration_s": seconds, "fps": fps}, frame={"size": "MS", "elevation_deg": 0},
    )  # fmt: skip
    by_hand = 20 * np.minimum(np.arange(b.frames) / fps / seconds, 1)
    assert np.allclose(pan(b) - pan(b)[0], by_hand, atol=1e-6)


def test_a_handheld_shot_is_handheld_to_its_last_frame():
    """Also in the frames that the model's grid adds after the length: a fade would begin before the cut."""
    b = shot({"type": "handheld"}, time={"duration_s": 3, "fps": 25}, frame={"size": "MS"})
    last = np.linalg.norm(np.diff(b.c2w[-12:, :, 3], axis=0), axis=-1)
    whole = np.linalg.norm(np.diff(b.c2w[:, :, 3], axis=0), axis=-1)
    assert last.min() > 0 and last.mean() > 0.3 * whole.mean()


def test_signs_on_the_picture():
    """What moves right in the picture when the camera goes left, and so on: the projection is the judge."""
    point = np.array([[0.0, 1.4, 0.0]])
    for move, axis, sign in (
        ({"type": "pan", "amount_deg": 10}, 0, -1),
        ({"type": "tilt", "amount_deg": 5}, 1, 1),
        ({"type": "truck", "amount_m": 0.3}, 0, -1),
        ({"type": "pedestal", "amount_m": 0.3}, 1, 1),
    ):
        b = shot(move)
        before, after = (project(b, t, point)[0][0] for t in (0, -1))
        assert np.sign((after - before)[axis]) == sign, move
        assert abs((after - before)[1 - axis]) < 1.0
    b = shot({"type": "roll", "amount_deg": 10})  # clockwise: what stands upright leans left
    above = np.array([[0.0, 2.0, 0.0]])
    assert project(b, -1, above)[0][0, 0] < project(b, 0, above)[0][0, 0] - 5


@given(st.floats(-60, 60), EASES)
@settings(max_examples=30, deadline=None)
def test_tilt_and_roll_by_their_degrees(degrees, ease):
    flat = {"size": "MS", "elevation_deg": 0}
    assert tilt(shot({"type": "tilt", "amount_deg": degrees, "ease": ease}, frame=flat))[-1] == pytest.approx(
        degrees, abs=1e-6
    )
    b = shot({"type": "roll", "amount_deg": degrees, "ease": ease})
    assert turned(b) == pytest.approx(abs(degrees), abs=1e-5)
    assert np.allclose(b.c2w[:, :, 2], b.c2w[0, :, 2]), "a roll keeps the lens where it points"


@given(st.sampled_from(["truck", "pedestal", "dolly"]), st.floats(-1.2, 1.2), st.floats(-170, 170))
@settings(max_examples=50, deadline=None)
def test_travel_is_straight_by_its_metres_along_the_cameras_own_axes(kind, metres, side):
    b = shot({"type": kind, "amount_m": metres}, frame={"size": "MS", "side_deg": side})
    way = place(b)[-1] - place(b)[0]
    right, forward = b.c2w[0, :, 0], b.c2w[0, :, 2] * [1, 0, 1]
    axis = {"truck": right, "pedestal": np.array([0, 1, 0]), "dolly": forward / np.linalg.norm(forward)}[kind]
    assert way == pytest.approx(metres * axis, abs=1e-9)
    assert np.allclose(b.c2w[:, :, :3], b.c2w[0, :, :3])
    assert np.allclose(np.cross(place(b) - place(b)[0], axis), 0, atol=1e-9)


@given(st.floats(0.2, 4.5), EASES)
@settings(max_examples=50, deadline=None)
def test_a_zoom_changes_only_the_focal_length(ratio, ease):
    still, b = shot(), shot({"type": "zoom", "amount_x": ratio, "ease": ease})
    assert b.focal_mm[-1] == pytest.approx(35 * ratio) and b.focal_mm[0] == pytest.approx(35)
    assert same(b, still, "c2w", "focus_m", "exposure_ev", "ambient")
    for lamp, other in zip(b.lights, still.lights, strict=True):
        assert same(lamp, other, "direction", "rgb")
    assert (np.diff(np.log(b.focal_mm)) * np.sign(np.log(ratio)) >= -1e-12).all()


def test_a_zoom_to_a_focal_length_and_a_keyed_zoom():
    assert shot({"type": "zoom", "to_mm": 85}).focal_mm[[0, -1]] == pytest.approx([35, 85])
    keyed = shot(lens={"focal_mm": [{"t_s": 0.5, "value": 28}, {"t_s": 1.5, "value": 60, "ease": "linear"}]})
    assert keyed.focal_mm[[0, 8, 16, 24, 32]] == pytest.approx([28, 28, 44, 60, 60])
    assert np.allclose(keyed.c2w, keyed.c2w[0])


@given(st.floats(-3, 1.6), st.sampled_from(["MS", "MWS", "WS"]), EASES)
@settings(max_examples=50, deadline=None)
def test_a_dolly_zoom_keeps_the_subjects_height(metres, size, ease):
    b = shot({"type": "dolly_zoom", "amount_m": metres, "ease": ease}, frame={"size": size}, lens={"focal_mm": 50})
    person = np.array([[0.0, 1.75, 0.0], [0.0, 0.9, 0.0]])
    tall = []
    for t in range(b.frames):
        pixels, _ = project(b, t, person)
        tall.append(pixels[1, 1] - pixels[0, 1])
    assert np.ptp(tall) < 1.0, "pixels"
    assert np.linalg.norm(place(b)[-1] - place(b)[0]) == pytest.approx(abs(metres))


def test_dolly_zoom_by_hand():
    """4 m to 2 m on 35 mm ends at 17.5 mm."""
    b = shot(
        {"type": "dolly zoom", "amount_m": 2, "target": [0, 1.5, 0]},
        camera={"pos_m": [0, 1.5, 4], "pan_deg": 0, "tilt_deg": 0},
        frame={},
    )
    assert b.focal_mm[[0, -1]] == pytest.approx([35, 17.5])
    with pytest.raises(BadInput, match=r"moves\[0\]\.amount_m is 4: the target is 4\.00 m ahead"):
        shot(
            {"type": "dolly zoom", "amount_m": 4, "target": [0, 1.5, 0]},
            camera={"pos_m": [0, 1.5, 4], "pan_deg": 0, "tilt_deg": 0},
            frame={},
        )


def test_a_dolly_zoom_keeps_the_size_of_somebody_who_walks_at_the_camera():
    b = shot(
        {"type": "dolly_zoom", "amount_m": -1.5},
        frame={"size": "WS", "elevation_deg": 0}, lens={"focal_mm": 50},
        subjects=[{"id": "mara", "track": [{"z_m": -1.5}, {"z_m": 0, "t_s": 2}]}],
    )  # fmt: skip
    tall = []
    for t in range(b.frames):
        z = b.subjects[0].position[t, 2]
        pixels, _ = project(b, t, np.array([[0.0, 1.75, z], [0.0, 0.0, z]]))
        tall.append(pixels[1, 1] - pixels[0, 1])
    assert np.ptp(tall) < 1.0


@given(st.floats(-180, 180), st.sampled_from(["eye", "high", "low"]), st.floats(-20, 20))
@settings(max_examples=50, deadline=None)
def test_an_arc_keeps_distance_and_place_in_frame(degrees, angle, off):
    b = shot(
        {"type": "arc", "amount_deg": degrees, "ease": "linear"},
        frame={"size": "MS", "angle": angle, "offset_pct": [off, 0]},
    )
    level = np.hypot(place(b)[:, 0], place(b)[:, 2])
    assert np.allclose(level, level[0]) and np.allclose(place(b)[:, 1], place(b)[0, 1])
    bearing = np.degrees(np.unwrap(np.arctan2(place(b)[:, 0], place(b)[:, 2])))
    assert bearing[-1] - bearing[0] == pytest.approx(degrees, abs=1e-6)
    seen = [project(b, t, np.array([[0.0, 1.4, 0.0]]))[0][0] for t in range(b.frames)]
    assert np.allclose(seen, seen[0], atol=1e-6)


def test_an_arc_goes_to_the_cameras_own_right():
    b = shot({"type": "arc", "amount_deg": 20})
    assert (place(b)[-1] - place(b)[0]) @ b.c2w[0, :, 0] > 0


@given(st.floats(-25, 70))
@settings(max_examples=30, deadline=None)
def test_a_crane_rises_on_a_circle_around_its_target(degrees):
    target = np.array([0.0, 1.5, 0.0])
    b = shot(
        {"type": "crane", "amount_deg": degrees, "target": [0, 1.5, 0]},
        camera={"pos_m": [0, 1.5, 3], "pan_deg": 0, "tilt_deg": 0},
        frame={},
    )
    assert np.linalg.norm(place(b) - target, axis=-1) == pytest.approx(np.full(b.frames, 3.0))
    assert place(b)[-1] == pytest.approx([0, 1.5 + 3 * np.sin(np.radians(degrees)), 3 * np.cos(np.radians(degrees))])
    for t in range(b.frames):
        assert project(b, t, target[None])[0][0] == pytest.approx([b.width / 2, b.height / 2], abs=1e-6)


def test_a_jib_swings_its_arm_and_keeps_its_aim():
    b = shot({"type": "crane", "amount_deg": 30, "boom_m": 4})
    way = place(b)[-1] - place(b)[0]
    assert way == pytest.approx([0, 4 * 0.5, 4 * (1 - np.cos(np.radians(30)))])
    assert np.allclose(b.c2w[:, :, :3], b.c2w[0, :, :3])


@given(st.floats(-40, 40), st.floats(-30, 30), st.floats(-1, 1), st.floats(-0.8, 0.8))
@settings(max_examples=30, deadline=None)
def test_overlapping_moves_add_up(pan_deg, tilt_deg, truck_m, rise_m):
    moves = [
        {"type": "pan", "amount_deg": pan_deg}, {"type": "tilt", "amount_deg": tilt_deg, "from_s": 0.5},
        {"type": "truck", "amount_m": truck_m}, {"type": "pedestal", "amount_m": rise_m, "to_s": 1},
    ]  # fmt: skip
    still, both, alone = shot(), shot(*moves), [shot(move) for move in moves]
    assert np.allclose(place(both) - place(still), sum(place(b) - place(still) for b in alone))
    assert np.allclose(pan(both) - pan(still), sum(pan(b) - pan(still) for b in alone))
    assert np.allclose(tilt(both) - tilt(still), sum(tilt(b) - tilt(still) for b in alone))
    assert shot(*reversed(moves)).digest() == shot(*moves).digest() or np.allclose(shot(*reversed(moves)).c2w, both.c2w)


def test_moves_follow_in_time_and_rails_are_laid_where_the_camera_then_looks():
    b = shot({"type": "pan", "amount_deg": 90, "to_s": 1}, {"type": "dolly", "amount_m": 2, "from_s": 1})
    assert place(b)[16] == pytest.approx(place(b)[0])
    assert place(b)[-1] - place(b)[0] == pytest.approx([2, 0, 0], abs=1e-9)
    during = shot({"type": "pan", "amount_deg": 90}, {"type": "dolly", "amount_m": 2})
    assert place(during)[-1] - place(during)[0] == pytest.approx([0, 0, -2], abs=1e-9), "a pan does not bend the track"


def test_a_move_that_ends_with_the_shot_is_done_on_its_last_frame_wherever_that_is():
    for duration in (0.5, 1.9, 2.0, 3.3):
        b = shot({"type": "pan", "amount_deg": 20}, time={"duration_s": duration})
        assert pan(b)[-1] == pytest.approx(20)
        b = shot({"type": "pan", "amount_deg": 20, "to_s": duration}, time={"duration_s": duration})
        assert pan(b)[-1] == pytest.approx(20)


def test_handles_hold_before_and_after():
    b = shot({"type": "pan", "amount_deg": 20}, time={"duration_s": 2, "handles_f": 8})
    assert b.frames == 49 and np.allclose(pan(b)[:9], 0) and np.allclose(pan(b)[-9:], 20)


def test_static_is_still_and_handheld_shakes_by_its_rms():
    assert np.allclose(shot({"type": "static"}).c2w, shot().c2w)
    still = shot(time={"duration_s": 10})
    b = shot({"type": "handheld", "amount_deg": 0.6}, time={"duration_s": 10})
    for measured in (pan(b) - pan(still), tilt(b) - tilt(still)):
        assert measured.std() == pytest.approx(0.6, rel=0.01)
        power = np.abs(np.fft.rfft(measured * np.hanning(len(measured)))) ** 2
        hertz = np.fft.rfftfreq(len(measured), 1 / 16)
        assert power[(hertz > 0.3) & (hertz < 3.3)].sum() > 0.98 * power.sum()
    assert shot({"type": "handheld"}).digest() == shot({"type": "handheld"}).digest()
    assert shot({"type": "handheld"}).digest() != shot({"type": "handheld"}, camera={"shake": {"seed": 1}}).digest()
    shaken = shot(camera={"shake": {"rot_rms_deg": 0.3, "pos_rms_m": 0.02}})
    assert place(shaken).std(0) == pytest.approx([0.02] * 3)


def test_focus_stays_on_its_subject_and_racks_to_another():
    two = [{"id": "mara"}, {"id": "far", "track": [{"x_m": 0.8, "z_m": -3}]}]
    b = shot(subjects=two)
    assert b.focus_m == pytest.approx(np.full(33, b.subject_distance_m))
    forward, eye = b.c2w[0, :, 2], place(b)[0]
    rack = shot({"type": "rack focus", "target": "far", "from_s": 0.5, "to_s": 1.5}, subjects=two)
    assert rack.focus_m[:9] == pytest.approx(b.focus_m[:9])
    far = rack.focus_m[-1]
    assert far == pytest.approx((np.array([0.8, 1.4, -3]) - eye) @ forward, abs=0.05)
    assert 1 / rack.focus_m[16] == pytest.approx((1 / b.focus_m[0] + 1 / far) / 2), "half way in dioptres"
    assert np.allclose(rack.c2w, b.c2w) and shot(subjects=two, lens={"focus_on": "far"}).focus_m[0] == pytest.approx(
        far
    )
    assert shot({"type": "rack focus", "to_m": 9}).focus_m[-1] == pytest.approx(9)
    assert shot(lens={"focus_m": 1.5}).focus_m == pytest.approx(np.full(33, 1.5))


def test_look_at_keeps_a_walking_subject_where_she_was_and_pans_add_to_it():
    walk = {"subjects": [{"id": "mara", "track": [{"x_m": -1, "heading_deg": 90}, {"x_m": 1, "t_s": 2}]}]}
    for off in (0, 15):
        b = shot(
            {"type": "truck", "amount_m": 0.8},
            camera={"look_at": "mara"},
            frame={"size": "MS", "offset_pct": [off, 0]},
            **walk,
        )
        for t in range(b.frames):
            x = b.subjects[0].position[t, 0]
            pixels, _ = project(b, t, np.array([[x, 1.3, 0]]))
            assert pixels[0, 0] / b.width == pytest.approx(0.5 + off / 100, abs=0.01)
    looking, added = (shot(*m, camera={"look_at": "mara"}, **walk) for m in ([], [{"type": "pan", "amount_deg": 7}]))
    assert pan(added)[-1] - pan(looking)[-1] == pytest.approx(7)


def test_follow_travels_with_the_subject():
    b = shot(camera={"follow": "mara"}, subjects=[{"id": "mara", "track": [{"x_m": -1}, {"x_m": 1, "t_s": 2}]}])
    assert np.allclose(place(b) - place(b)[0], b.subjects[0].position - b.subjects[0].position[0])


def test_a_stated_pose_is_taken_as_it_is():
    pos = [{"t_s": 0, "value": [0, 1, 4]}, {"t_s": 2, "value": [2, 2, 4], "ease": "linear"}]
    b = shot(
        camera={
            "pos_m": pos,
            "pan_deg": -15,
            "tilt_deg": 5,
            "roll_deg": [{"t_s": 0, "value": 0}, {"t_s": 2, "value": 8}],
        }
    )
    assert place(b)[16] == pytest.approx([1, 1.5, 4])
    assert pan(b)[0] == pytest.approx(-15) and tilt(b)[0] == pytest.approx(5)
    looking = shot(camera={"pos_m": [3, 2, 4]})
    pixels, _ = project(looking, 0, np.array([[0.0, 1.3, 0.0]]))
    assert abs(pixels[0, 0] - looking.width / 2) < 1, "left alone, it looks at the subject"
    point = shot(camera={"pos_m": [3, 2, 4], "look_at": [1, 0.5, -2]})
    assert project(point, 9, np.array([[1, 0.5, -2]]))[0][0] == pytest.approx([point.width / 2, point.height / 2])


@pytest.mark.parametrize(
    ("moves", "part"),
    [
        ([{"type": "pedestal", "amount_m": -4}], "camera.pos_m is -"),
        ([{"type": "crane", "amount_deg": 85, "target": [0, 0, 1.5]}], "moves[0].amount_deg is 85"),
        ([{"type": "zoom", "amount_x": 0.1}], "lens.focal_mm is 3.5"),
    ],
)
def test_ways_that_cannot_be_gone_are_refused(moves, part):
    with pytest.raises(BadInput) as caught:
        shot(*moves)
    assert part in str(caught.value) and "\n" not in str(caught.value)
