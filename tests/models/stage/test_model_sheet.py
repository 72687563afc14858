"""The model sheet: its people are whole, in order, to one scale, in plain light, and nothing of the shot is on it."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from models.stage import appearance as cast
from models.stage import render as stage
from models.stage.model_sheet import sheet
from models.training.shots import scenes

SIZES = [(128, 224), (224, 128), (48, 64)]


def shot(names, height=128, width=224):
    """A shot of people of these names, who do in it what the scene's first person does."""
    blocking = scenes.shot(3, 5, height, width)
    who = blocking.subjects[0]
    people = tuple(replace(who, id=name, appearance=cast.appearance(name), pose="sit") for name in names)
    return replace(blocking, subjects=people)


def frame_of(blocking, samples=1):
    drawn = sheet(blocking)
    return drawn, stage.render_frame(drawn, 0, samples=samples)


def columns(frame, person):
    return np.flatnonzero((frame.ids == stage.SUBJECT + person).any(0))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [1, 2, 4])
def test_everybody_is_seen_from_hat_to_feet_in_their_order_and_nobody_touches(size, count):
    drawn, frame = frame_of(shot([f"person {i}" for i in range(count)], *size))
    assert drawn.frames == 1 and frame.rgb.shape == (*size, 3)
    seen = frame.ids >= stage.SUBJECT
    assert not (seen[0].any() or seen[-1].any() or seen[:, 0].any() or seen[:, -1].any())
    spans = [columns(frame, person) for person in range(count)]
    assert all(left[-1] < right[0] for left, right in pairwise(spans))


def test_four_people_fill_a_wide_frame():
    frame = frame_of(shot(["mara", "jonas", "ida", "noor"]))[1]
    rows = [np.flatnonzero((frame.ids == stage.SUBJECT + person).any(1)) for person in range(4)]
    assert all(np.ptp(span) > 0.65 * 128 for span in rows)


def test_heights_are_to_one_scale_on_every_sheet():
    tall, short = (replace(cast.appearance("mara"), height_m=height, hat=None) for height in (1.9, 1.55))
    pair = shot(["a", "b"])
    pair = replace(
        pair, subjects=tuple(replace(p, appearance=look) for p, look in zip(pair.subjects, (tall, short), strict=True))
    )
    alone = replace(pair, subjects=pair.subjects[1:])
    frame, single = frame_of(pair)[1], frame_of(alone)[1]
    rows = [(frame.ids == stage.SUBJECT + person).any(1).sum() for person in (0, 1)]
    assert rows[0] / rows[1] == pytest.approx(1.9 / 1.55, abs=0.03)
    assert (single.ids == stage.SUBJECT).any(1).sum() == pytest.approx(rows[1], abs=1)


def test_giants_are_seen_whole_too():
    blocking = shot(["mara"])
    giant = replace(blocking.subjects[0].appearance, height_m=3.2, hat=(0.5, 0.1, 0.1))
    seen = frame_of(replace(blocking, subjects=(replace(blocking.subjects[0], appearance=giant),)))[1].ids
    assert not (seen[0] >= stage.SUBJECT).any() and (seen >= stage.SUBJECT).any(1).sum() > 0.85 * 128


def test_nothing_of_the_shot_is_on_it_but_its_people():
    one, other = scenes.shot(3, 5, 128, 224), scenes.shot(8, 9, 128, 224)
    people = shot(["mara", "jonas"]).subjects
    first, second = (frame_of(replace(blocking, subjects=people))[1] for blocking in (one, other))
    np.testing.assert_array_equal(first.rgb, second.rgb)
    turned = replace(people[0], heading_deg=people[0].heading_deg + 90, stride=people[0].stride + 0.3, pose="stand")
    third = frame_of(replace(one, subjects=(turned, people[1])))[1]
    np.testing.assert_array_equal(first.rgb, third.rgb)


def test_light_and_ground_are_neutral_and_all_is_sharp():
    drawn, frame = frame_of(shot(["mara"]))
    ground = frame.rgb[frame.ids < stage.SUBJECT]
    assert np.ptp(ground, axis=1).max() < 1e-6 and 0.25 < ground.mean() < 0.5
    still = replace(drawn, t_stop=1e6)
    np.testing.assert_array_equal(frame.rgb, stage.render_frame(still, 0).rgb)


def test_they_turn_to_the_cameras_left():
    """The nose, which stands out ahead of the face, is left of the middle of the head."""
    bald = replace(cast.appearance("mara"), hat=None, long_hair=False, skin=(0.6, 0.0, 0.0))
    blocking = shot(["mara"])
    blocking = replace(blocking, subjects=(replace(blocking.subjects[0], appearance=bald),))
    frame = frame_of(blocking)[1]
    head = columns(frame, 0).mean()
    rows, eyes = np.nonzero((frame.ids >= stage.SUBJECT) & (frame.rgb.max(-1) < 0.25))
    assert len(eyes) and eyes[rows < 64].mean() < head


def test_a_sheet_shows_four_and_there_is_none_of_nobody():
    people = shot(["a", "b", "c", "d", "e"])
    assert [person.id for person in sheet(people).subjects] == ["a", "b", "c", "d"]
    assert sheet(replace(people, subjects=())) is None
