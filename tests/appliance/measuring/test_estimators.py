"""The estimators against exact truth: the stage's films measure as what they show, whatever they are held against."""

from dataclasses import replace

import numpy as np
import pytest

from appliance.blocking.solve import block
from appliance.direction.notes import Tolerances
from appliance.measuring.camera import measure_camera
from appliance.measuring.frames import FrameBuffer
from appliance.measuring.ground_truth import GroundTruth
from appliance.measuring.result import MOST_FRAMES
from appliance.measuring.subject import find_subject
from appliance.measuring.take import measure, standing_drift
from appliance.measuring.track import angles, asked_camera
from appliance.scoring.axes import AXES, identity, shot
from appliance.scoring.motion import MOVES, flicker, lag_s, pixels
from models.stage import appearance as cast

BY_NAME = {axis.name: axis for axis in AXES}
SEED = 1  # in the studio
MEASURED = {}


def staged(name, dose, seed=SEED):
    """The ground and the stage's film of one dose; rendered once."""
    if (name, dose, seed) not in MEASURED:
        ground = GroundTruth(block(BY_NAME[name].shot(dose, seed)))
        MEASURED[name, dose, seed] = ground, ground.film()
    return MEASURED[name, dose, seed]


@pytest.fixture(scope="module")
def noise():
    """A film that shows nothing."""
    return np.random.default_rng(0).integers(0, 256, (17, 128, 224, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("name", "dose", "within"),
    [("pan", 10.0, 0.05), ("tilt", -7.5, 0.1), ("tilt", 7.5, 0.1), ("roll", 10.0, 0.05), ("truck", -0.9, 0.02),
     ("pedestal", 0.45, 0.015), ("dolly", -0.9, 0.03), ("dolly", 0.9, 0.03), ("zoom", 1.5, 0.03),
     ("walk", 1.0, 0.2), ("shot size", 3, 0.03), ("key azimuth", 75, 3.0),
     ("key elevation", 55, 3.0), ("key ratio", 4, 0.4), ("key colour", 310, 4.0)],
)  # fmt: skip
def test_a_film_of_the_stage_measures_as_it_was_asked(name, dose, within):
    axis, (ground, film) = BY_NAME[name], staged(name, dose)
    assert axis.measured(film, ground) == pytest.approx(axis.asked(ground.blocking), abs=within)


@pytest.mark.parametrize("by_m", [-0.8, 0.8])
def test_a_dolly_and_a_zoom_that_undo_each_other_are_told_apart(by_m):
    ground = GroundTruth(block(shot(SEED, move=f'[[moves]]\ntype = "dolly_zoom"\namount_m = {by_m}', size="WS")))
    track, asked = measure_camera(ground.film(), ground), asked_camera(ground.blocking)
    assert track.whole and track.position == pytest.approx(asked.position, abs=0.03)
    assert track.focal_px / asked.focal_px == pytest.approx(np.ones(17), abs=0.005)


def test_a_dolly_is_measured_on_a_film_with_grain_too():
    ground, film = staged("dolly", 0.9)
    grain = np.random.default_rng(5).normal(0, 6, film.shape)
    grainy = np.clip(film + grain, 0, 255).astype(np.uint8)
    assert BY_NAME["dolly"].measured(grainy, ground) == pytest.approx(0.89, abs=0.05)


@pytest.mark.parametrize(
    ("name", "shown", "asked", "within"),
    [("pan", 10.0, -5.0, 0.5), ("roll", 10.0, 0.0, 0.5), ("truck", -0.9, 0.3, 0.2), ("zoom", 1.5, 0.0, 0.1),
     ("walk", 1.0, 0.5, 1.5), ("key azimuth", 75, 0, 12.0), ("key ratio", 4, 1, 0.9), ("key colour", 310, 140, 5.0)],
)  # fmt: skip
def test_the_answer_is_read_from_the_film_and_not_from_the_blocking(name, shown, asked, within):
    axis, (truth, film) = BY_NAME[name], staged(name, shown)
    ground = GroundTruth(block(axis.shot(asked, SEED)))
    want, told = axis.asked(truth.blocking), axis.asked(ground.blocking)
    assert abs(want - told) > 2 * within
    assert axis.measured(film, ground) == pytest.approx(want, abs=within)


def test_a_film_that_stands_still_does_not_move_whatever_was_asked():
    ground, film = staged("pan", 10.0)
    still = np.repeat(film[:1], len(film), axis=0)
    track = measure_camera(still, ground)
    assert track.whole and np.abs(angles(track)).max() < 0.02
    assert np.abs(track.position).max() < 0.01 and np.ptp(track.focal_px) < 0.1
    assert standing_drift(still, ground) < 0.005 and flicker(still, ground) == 0
    wrong = {row.axis: row for row in measure(still, ground.blocking, Tolerances())}["pan"]
    assert wrong.ok is False and wrong.measured == pytest.approx(0, abs=0.05)


def test_a_drift_is_measured_in_pixels_a_frame():
    ground, film = staged("pan", 0.0)
    assert standing_drift(film, ground) < 0.03
    slid = np.stack([np.roll(picture, 2 * t // 4, axis=1) for t, picture in enumerate(film)])
    assert standing_drift(slid, ground) == pytest.approx(8 / 16, abs=0.05)


def test_noise_is_unscored_and_says_why(noise):
    ground, _ = staged("pan", 10.0)
    assert not measure_camera(noise, ground).whole
    assert all(BY_NAME[name].measured(noise, ground) is None for name in ("walk", "shot size"))
    assert identity(noise, ground, SEED) is None
    rows = measure(noise, ground.blocking, Tolerances())
    assert {"pan", "tilt", "roll", "zoom", "s place", "s size", "key azimuth"} <= {row.axis for row in rows}
    for row in rows:
        assert row.ok is None and row.measured is None and row.note, row


def test_every_axis_of_a_true_film_is_within_tolerance_and_eight_bits_are_enough():
    ground, film = staged("pan", 10.0)
    rows = measure(film, ground.blocking, Tolerances())
    assert all(row.ok for row in rows) and len(rows) >= 9, [row.words() for row in rows if not row.ok]
    floats = measure(film.astype(np.float32) / 255, ground.blocking, Tolerances())
    assert [row.axis for row in floats] == [row.axis for row in rows]
    for eight, exact in zip(rows, floats, strict=True):
        assert eight.error == pytest.approx(exact.error, abs=1e-3), eight.axis


def test_what_the_set_cannot_tell_to_within_a_tolerance_is_not_called_off():
    ground, film = staged("pan", 10.0)
    rows = {row.axis: row for row in measure(film, ground.blocking, Tolerances(pan_deg=0.01))}
    assert rows["pan"].ok is None and "too plain" in rows["pan"].note and rows["zoom"].ok


def test_who_is_in_a_film():
    ground, film = staged("key ratio", 4)
    assert identity(film, ground, SEED) is True
    stranger = cast.appearance(f"other-{SEED}-3")
    person = replace(ground.blocking.subjects[0], appearance=stranger)
    other = GroundTruth(replace(ground.blocking, subjects=(person,))).film()
    assert identity(other, ground, SEED) is False


def test_a_person_is_found_where_the_film_has_them():
    ground, film = staged("walk", 1.0)
    moved = np.roll(film, (3, -7), axis=(1, 2))
    (found,) = find_subject(moved, ground, 0, (8,))
    assert found.sure and found.offset_px == pytest.approx((-7, 3), abs=0.5)


def test_pixels_of_a_move_by_hand():
    ground, _ = staged("pan", 10.0)
    blocking, asked = ground.blocking, asked_camera(ground.blocking)
    focal, pan = blocking.focal_px[0], np.radians(angles(asked)[-1, 0])
    assert pixels(asked, blocking)[MOVES.index("pan")] == pytest.approx(focal * pan)
    zoomed = replace(asked, focal_px=np.linspace(focal, 2 * focal, 17), position=np.tile([0.3, -0.2, 0.6], (17, 1)))
    diagonal = np.hypot(224, 128)
    truck, pedestal, dolly, zoom = pixels(zoomed, blocking)[3:]
    away = blocking.subject_distance_m
    assert (truck, pedestal) == (pytest.approx(focal * 0.3 / away), pytest.approx(focal * 0.2 / away))
    assert (dolly, zoom) == (pytest.approx(0.6 / away * diagonal / 4), pytest.approx(np.log(2) * diagonal / 4))


def test_lag_is_the_time_between_half_ways():
    on_time = np.linspace(0, 10, 17)
    late = np.concatenate([[0, 0, 0, 0], np.linspace(0, 10, 13)])
    assert lag_s(on_time, on_time * 0.5, 16) == pytest.approx(0)  # a weak move is not a late one
    assert lag_s(on_time, late, 16) == pytest.approx(2 / 16)
    assert lag_s(on_time, np.zeros(17), 16) is None


def test_a_large_take_is_measured_on_smaller_pictures():
    pan = BY_NAME["pan"].shot(10.0, SEED)
    blocking = block(replace(pan, format=replace(pan.format, width=512, height=384)))
    few = replace(blocking, **{name: getattr(blocking, name)[:3] for name in
                               ("c2w", "focal_mm", "focus_m", "ambient", "exposure_ev")})  # fmt: skip
    film = GroundTruth(few).film() / 255.0
    kept = FrameBuffer(few)
    assert kept.size == (341, 256) and kept.every == 1
    kept.add(film[:2])
    kept.add(film[2:])
    look = kept.measure(Tolerances())
    assert look.seconds > 0 and {row.axis: row.ok for row in look.rows}["pan"] is True


def test_a_long_take_is_measured_on_every_second_frame():
    ground, film = staged("pan", 0.0)
    frames = MOST_FRAMES + 4
    b = ground.blocking
    stretched = {name: np.repeat(getattr(b, name)[:1], frames, axis=0) for name in
                 ("c2w", "focal_mm", "focus_m", "ambient", "exposure_ev")}  # fmt: skip
    lights = tuple(
        replace(lamp, **{name: np.repeat(getattr(lamp, name)[:1], frames, axis=0) for name in ("direction", "rgb")})
        for lamp in b.lights
    )
    kept = FrameBuffer(replace(b, subjects=(), lights=lights, **stretched))
    assert kept.every == 2
    for t in range(frames):  # a quarter of a pixel a frame
        kept.add(np.roll(film[:1], t // 4, axis=2) / 255.0)
    drift = {row.axis: row for row in kept.measure(Tolerances()).rows}["drift"]
    assert drift.measured == pytest.approx(0.25, abs=0.03)
