"""What the film cannot show, against the stage's own pictures: the ids of their pixels say who is in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from appliance.blocking.solve import block
from appliance.blocking.visibility import problems, remedy
from appliance.direction.document import load_file
from appliance.direction.shot import from_plain
from models.stage import render as stage

EXAMPLES = sorted((Path(__file__).resolve().parents[3] / "appliance" / "examples").glob("*.toml"))


def shot(**fields):
    return from_plain({"scene": "1", "setup": "A", "seed": 1, "subjects": [{"id": "mara"}], **fields})


def shares(direction, subject=0, step=4) -> np.ndarray:
    """Of every `step`th frame, drawn small: the share of pixels that are the subject's."""
    blocking = replace(block(direction), width=112, height=64)
    frames = [stage.render_frame(blocking, t) for t in range(0, blocking.frames, step)]
    return np.array([(frame.ids == stage.SUBJECT + subject).mean() for frame in frames])


def said(direction) -> list[str]:
    return [str(each) for each in problems(block(direction), direction.frame.subject)]


BEHIND_A_WALL = {"set": {"name": "room"}, "frame": {"size": "WS", "side": "back"}, "lens": {"focal_mm": 50}}
THROUGH_THE_HEAD = {"frame": {"size": "CU"}, "moves": [{"type": "dolly", "amount_m": 3}]}
WALKS_OUT = {
    "camera": {"pos_m": [0, 1.5, 4]}, "time": {"duration_s": 8},
    "subjects": [{"id": "mara", "track": [{"x_m": 0}, {"x_m": 40}]}],
}  # fmt: skip
ON_THE_ACTOR = {"camera": {"pos_m": [0, 1.4, 0]}}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_show_whom_they_frame(path):
    direction = load_file(path)
    assert said(direction) == []
    framed = next((i for i, each in enumerate(direction.subjects) if each.id == direction.frame.subject), 0)
    assert (shares(direction, framed, 8) > 0).all()


def test_a_wall_in_between_is_told_with_a_side_that_shows_her():
    direction = shot(**BEHIND_A_WALL)
    assert said(direction) == ["mara is hidden by the set in 33 of 33 frames"]
    assert shares(direction).max() == 0  # a bare wall in every frame
    assert remedy(direction) == 'frame.side = "front"'
    assert shares(replace(direction, frame=replace(direction.frame, side="front"))).min() > 0.01


def test_a_dolly_through_a_head_is_told_with_a_length_that_stops_before_it():
    direction = shot(**THROUGH_THE_HEAD)
    words = said(direction)
    assert any("mara is behind the camera in" in each for each in words)
    assert any("the camera is inside mara in" in each for each in words)
    assert shares(direction)[-1] == 0
    words = remedy(direction)
    assert words is not None and words.startswith("moves[0].amount_m = ")
    less = replace(direction.moves[0], amount_m=float(words.split(" = ")[1]))
    assert shares(replace(direction, moves=(less,))).min() > 0.01


def test_a_walk_out_of_frame_is_told_with_its_frames():
    direction = shot(**WALKS_OUT)
    (words,) = said(direction)
    gone = int(words.split(" in ")[1].split(" of ")[0])
    assert words == f"mara is out of frame in {gone} of 129 frames"
    assert gone == pytest.approx((shares(direction, step=1) == 0).sum(), abs=3)
    assert remedy(direction) == 'camera.follow = "mara"'


def test_a_camera_on_the_actor_is_told():
    direction = shot(**ON_THE_ACTOR)
    assert said(direction)[0] == "the camera is inside mara in 33 of 33 frames"
    assert remedy(direction) == "camera.pos_m left out, so that the framing places it"


def test_somebody_in_between_is_named():
    people = [{"id": "mara", "track": [{"z_m": -1}]}, {"id": "guard", "track": [{"z_m": 0.6}]}]
    direction = shot(subjects=people, frame={"size": "WS", "subject": "mara"}, camera={"pos_m": [0, 1.5, 4]})
    assert said(direction) == ["mara is hidden by guard in 33 of 33 frames"]
    alone = shares(replace(direction, subjects=direction.subjects[:1]))
    assert shares(direction).max() < 0.5 * alone.min()


@pytest.mark.parametrize("name", ["room", "street", "field"])
@pytest.mark.parametrize("side", ["front", "profile_left", "back"])
def test_a_subject_with_nothing_to_report_is_in_the_pictures(name, side):
    """And one that is reported in every frame is in none, or mostly covered."""
    direction = shot(set={"name": name}, frame={"size": "MS", "side": side})
    words, seen = said(direction), shares(direction, step=16)
    open_stage = shares(shot(set={"name": "studio"}, frame={"size": "MS", "side": side}), step=16)
    if words:
        assert (seen < 0.6 * open_stage).all()
    else:
        assert (seen > 0.4 * open_stage).all()
