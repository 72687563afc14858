"""Training shots are a pure function of their seed, within the vocabulary's ranges, apart from those for testing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.stage import render as stage
from models.stage import sets
from models.stage.blocking import Prop
from models.training.shots import scenes

SEEDS = range(200)


@pytest.fixture(scope="module")
def shots():
    return [scenes.shot(seed, 17, 128, 224) for seed in SEEDS]


def test_a_seed_is_a_shot(shots):
    assert len({shot.digest() for shot in shots}) == len(shots)
    for seed in (0, 1, 77, 12_345):
        assert scenes.shot(seed, 17, 128, 224).digest() == scenes.shot(seed, 17, 128, 224).digest()


def test_numpys_own_random_state_has_no_say():
    np.random.seed(1)
    before = scenes.shot(5, 9, 64, 96).digest()
    np.random.seed(2)
    assert scenes.shot(5, 9, 64, 96).digest() == before


def test_everything_is_finite_and_of_one_length(shots):
    for shot in shots:
        assert (shot.frames, shot.height, shot.width, shot.fps) == (17, 128, 224, 16.0)
        arrays = [shot.c2w, shot.focal_mm, shot.focus_m, shot.ambient, shot.exposure_ev]
        arrays += [a for lamp in shot.lights for a in (lamp.direction, lamp.rgb)]
        arrays += [a for who in shot.subjects for a in (who.position, who.heading_deg, who.stride, who.gait)]
        for array in arrays:
            assert len(array) == 17 and np.isfinite(array).all()


def test_cameras_are_rigid_above_the_floor_and_within_the_lenses(shots):
    for shot in shots:
        r = shot.c2w[:, :, :3]
        np.testing.assert_allclose(r @ r.swapaxes(1, 2), np.broadcast_to(np.eye(3), r.shape), atol=1e-12)
        np.testing.assert_allclose(np.linalg.det(r), 1)
        assert (shot.c2w[:, 1, 3] >= 0.1 - 1e-12).all()
        assert (shot.focal_mm >= 12).all() and (shot.focal_mm <= 200).all()
        assert (shot.focus_m > 0.2).all() and 1.0 <= shot.subject_distance_m <= 9.0
        assert shot.t_stop in {1.4, 2.0, 2.8, 4.0, 8.0}


def test_lamps_are_key_fill_and_rim_with_believable_light(shots):
    for shot in shots:
        assert [lamp.name for lamp in shot.lights] == ["key", "fill", "rim"]
        for lamp in shot.lights:
            np.testing.assert_allclose(np.linalg.norm(lamp.direction, axis=1), 1, atol=1e-12)
            assert (lamp.direction[:, 1] >= 0).all() and (lamp.rgb >= 0).all()
            assert lamp.rgb.max() < 8 and 0 < lamp.size_deg <= 60
        assert (shot.ambient > 0).all() and shot.ambient.max() < 1
        assert np.abs(shot.exposure_ev).max() <= 1


def test_people_stand_on_the_floor_near_the_middle(shots):
    for shot in shots:
        assert len(shot.subjects) <= 2 and shot.set.name in sets.NAMES
        for who in shot.subjects:
            assert (who.position[:, 1] == 0).all() and np.linalg.norm(who.position, axis=1).max() < 4
            assert (who.gait >= 0).all() and (who.gait <= 1).all() and (np.diff(who.stride) >= -1e-9).all()
            assert who.pose in {"stand", "sit"} and 1.5 <= who.appearance.height_m <= 1.95
            if who.pose == "sit":
                assert (who.gait == 0).all()


def test_walkers_go_where_they_face(shots):
    walked = 0
    for who in (who for shot in shots for who in shot.subjects):
        step = who.position[-1] - who.position[0]
        if np.linalg.norm(step) < 0.05:
            continue
        walked += 1
        heading = np.radians(who.heading_deg[0])
        np.testing.assert_allclose(step / np.linalg.norm(step), [np.sin(heading), 0, np.cos(heading)], atol=1e-9)
        cycles = who.stride[-1] - who.stride[0]
        assert np.linalg.norm(step) / cycles == pytest.approx(0.8 * who.appearance.height_m)
    assert walked > 40


def test_the_vocabulary_is_covered(shots):
    """Two hundred seeds hold still cameras and moving ones, zooms, racks, rolls, every set, and empty stages."""

    def share(what):
        return np.mean([bool(what(shot)) for shot in shots])

    assert 0.05 < share(lambda s: np.ptp(s.c2w, axis=0).max() < 1e-9 and np.ptp(s.focal_mm) == 0) < 0.4
    assert share(lambda s: np.ptp(s.focal_mm) > 1) > 0.08
    assert share(lambda s: np.ptp(s.focus_m) > 0.1) > 0.05
    assert share(lambda s: np.ptp(s.c2w[:, :, 3], axis=0).max() > 0.2) > 0.3
    assert share(lambda s: np.ptp(s.lights[0].rgb.sum(1)) > 0.05) > 0.1
    assert 0.1 < share(lambda s: not s.subjects) < 0.35
    assert {s.set.name for s in shots} == set(sets.NAMES)


def test_shots_for_testing_are_never_trained_on():
    trained = {scenes.shot(scenes.TEST_SEEDS + i, 9, 64, 96).digest() for i in range(60)}
    tested = {scenes.shot(i, 9, 64, 96).digest() for i in range(60)}
    assert not trained & tested


def test_a_shot_is_the_same_shot_at_any_length_of_picture():
    """The people, the set and the framing come from the seed; only the number of pixels changes."""
    small, large = scenes.shot(9, 17, 64, 112), scenes.shot(9, 17, 128, 224)
    np.testing.assert_allclose(small.c2w, large.c2w)
    assert small.set == large.set


def test_no_camera_stands_in_a_building_and_people_are_seen():
    """A fifth of the shots is sampled again; the result is checked on rendered pictures."""
    hidden = 0
    for seed in range(40):
        shot = scenes.shot(seed, 5, 48, 84)
        assert scenes.worth_shooting(shot)
        frames = list(stage.render(shot))
        if shot.subjects:
            hidden += max(np.mean(frame.ids == stage.SUBJECT) for frame in frames) < 0.002
        nearest = min(frame.depth.min() for frame in frames)
        assert nearest > 0.02
    assert hidden <= 1


def test_a_wall_between_hides_a_person_and_no_camera_stands_in_a_solid():
    shot = next(s for s in (scenes.shot(seed, 5, 48, 84) for seed in range(100)) if s.subjects)
    eye, person = shot.c2w[0, :, 3], shot.subjects[0].position[0]
    turned = float(np.degrees(np.arctan2(*(person - eye)[[0, 2]])))
    wall = Prop("box", tuple((eye + person) / 2), (3.0, 3.0, 0.05), turned, (0.5,) * 3, (0.5,) * 3)
    assert scenes.worth_shooting(replace(shot, set=replace(shot.set, props=())))
    around = Prop("box", tuple(eye), (0.5, 0.5, 0.5), 0.0, (0.5,) * 3, (0.5,) * 3)
    for prop in (wall, around):
        assert not scenes.worth_shooting(replace(shot, set=replace(shot.set, props=(prop,)), c2w=shot.c2w[[0] * 5]))
