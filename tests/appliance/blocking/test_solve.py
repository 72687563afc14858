"""A direction becomes a whole blocking: on the grid, finite, the same every time, dressed so that it can be shot."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.blocking.solve import albedo, block
from appliance.direction.document import load_file
from appliance.direction.shot import ShotDirection, from_plain
from models.stage import sets
from models.stage.appearance import appearance
from models.stage.render import project, render_frame

EXAMPLES = sorted((Path(__file__).resolve().parents[3] / "appliance" / "examples").glob("*.toml"))
ROTATION = np.eye(3)


def check(b):
    for array, shape in (
        (b.c2w, (b.frames, 3, 4)), (b.focal_mm, (b.frames,)), (b.focus_m, (b.frames,)), (b.ambient, (b.frames, 3)),
        (b.exposure_ev, (b.frames,)),
    ):  # fmt: skip
        assert array.shape == shape and array.dtype == np.float64 and np.isfinite(array).all()
    for rotation in b.c2w[:, :, :3]:
        assert np.allclose(rotation @ rotation.T, ROTATION, atol=1e-9) and np.linalg.det(rotation) == pytest.approx(1)
    for lamp in b.lights:
        assert lamp.direction.shape == lamp.rgb.shape == (b.frames, 3) and (lamp.rgb >= 0).all()
        assert np.linalg.norm(lamp.direction, axis=-1) == pytest.approx(np.ones(b.frames))
    for person in b.subjects:
        assert person.position.shape == (b.frames, 3)
        assert person.heading_deg.shape == person.stride.shape == person.gait.shape == (b.frames,)
        assert (person.gait >= 0).all() and (person.gait <= 1).all()
    assert (b.focus_m >= 0.2).all() and b.subject_distance_m > 0


@given(
    st.sampled_from(sets.NAMES), st.integers(0, 50), st.floats(0.5, 8), st.floats(12, 30), st.integers(64, 640),
    st.integers(64, 640), st.integers(0, 3),
)  # fmt: skip
@settings(max_examples=50, deadline=None)
def test_any_blocking_is_whole_and_on_the_grid(name, seed, duration, fps, width, height, people):
    b = block(from_plain({
        "set": {"name": name, "seed": seed}, "time": {"duration_s": duration, "fps": fps},
        "format": {"width": width, "height": height}, "subjects": [{"id": f"p{i}"} for i in range(people)],
        "moves": [{"type": "arc", "amount_deg": 40}, {"type": "handheld"}],
    }))  # fmt: skip
    check(b)
    assert b.frames % 4 == 1 and b.width % 16 == 0 and b.height % 16 == 0
    assert 0 <= b.frames - round(duration * fps) <= 3, "the least 4n+1 that holds the length"


def test_nothing_stated_is_33_frames_of_the_set_and_a_subject_is_framed_from_the_audience():
    empty, one = block(ShotDirection()), block(ShotDirection(subjects=[{"id": "mara"}]))
    assert (empty.frames, empty.width, empty.height, empty.fps, empty.subjects) == (33, 224, 128, 16.0, ())
    assert one.c2w[0, 2, 3] > 2 and one.c2w[0, 0, 3] == pytest.approx(0)
    height = one.subjects[0].appearance.height_m
    (crown, thigh), _ = project(one, 0, np.array([[0, height, 0], [0, 0.4 * height, 0]]))
    assert 0.02 < crown[1] / 128 < 0.2 and 0.9 < thigh[1] / 128 < 1.1, "medium wide"


def test_the_same_direction_is_the_same_blocking_and_seeds_do_not_move_the_camera():
    shot = load_file(EXAMPLES[0])
    assert block(shot).digest() == block(load_file(EXAMPLES[0])).digest()
    assert block(ShotDirection(seed=1)).digest() == block(ShotDirection(seed=2)).digest()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_block_and_show_their_subject_in_every_frame(path):
    shot = load_file(path)
    b = block(shot)
    check(b)
    assert b.frames == 33
    person = next(p for p in b.subjects if p.id == shot.frame.subject)
    for t in range(b.frames):
        chest = person.position[t] + [0, 0.75 * person.appearance.height_m, 0]
        pixels, depth = project(b, t, chest[None])
        assert depth[0] > 0 and 0.05 < pixels[0, 0] / b.width < 0.95 and 0 < pixels[0, 1] / b.height < 1.05
    ids = render_frame(b, 16).ids
    seen = 10 + [p.id for p in b.subjects].index(person.id)
    assert (ids == seen).mean() > 0.004, "nothing hides them"


def test_maras_pan_follows_her_to_the_door():
    b = block(load_file(next(path for path in EXAMPLES if path.stem == "mara_crosses")))
    pan = np.degrees(np.arctan2(b.c2w[:, 0, 2], -b.c2w[:, 2, 2]))
    assert pan[-1] - pan[0] == pytest.approx(20)
    door = next(p for p in b.set.props if p.size[1] == 1.05)
    mara = b.subjects[0].position
    assert np.hypot(mara[-1, 0] - door.center[0], mara[-1, 2] - door.center[2]) < 0.7
    assert b.lights[0].direction[0] @ b.c2w[0, :, 0] < -0.5, "the key is on the left"


def test_what_people_look_like_comes_from_the_name_then_from_the_card():
    card = {"height_m": 1.6, "top": "#ff0000", "bareheaded": True, "long_hair": True}
    mara = (
        block(from_plain({"subjects": [{"id": "mara", "scale": 1.1}], "cast": {"mara": card}})).subjects[0].appearance
    )
    drawn = appearance("mara")
    assert mara.height_m == pytest.approx(1.76) and mara.top == (1.0, 0.0, 0.0) and mara.hat is None and mara.long_hair
    assert (mara.skin, mara.bottom, mara.build) == (drawn.skin, drawn.bottom, drawn.build)
    twin = from_plain({"subjects": [{"id": "her", "character": "mara"}], "cast": {"mara": card}})
    assert block(twin).subjects[0].appearance.skin == drawn.skin
    assert albedo("#808080") == pytest.approx((0.2159,) * 3, abs=1e-4)


def test_people_without_marks_do_not_stand_in_each_other():
    b = block(from_plain({"subjects": [{"id": "a"}, {"id": "b"}, {"id": "c"}]}))
    x = [person.position[0, 0] for person in b.subjects]
    assert x == pytest.approx([-0.9, 0, 0.9])


@given(st.sampled_from(sets.NAMES), st.integers(0, 2000), st.floats(-180, 180))
@settings(max_examples=50, deadline=None)
def test_dressing_makes_way_for_the_camera_and_the_subject(name, seed, side):
    b = block(
        from_plain(
            {
                "set": {"name": name, "seed": seed},
                "frame": {"size": "MS", "side_deg": side},
                "subjects": [{"id": "mara"}],
            }
        )
    )
    bare = sets.build(name, seed)
    assert set(b.set.props) <= set(bare.props)
    assert all(prop in b.set.props for prop in bare.props if prop.shape == "box" and min(prop.size) < 0.15), (
        "doors stay"
    )
    eye, chest = b.c2w[0, :, 3], np.array([0, 1.3, 0])
    for prop in b.set.props:
        if prop.shape == "ball":
            along = np.clip((np.array(prop.center) - eye) @ (chest - eye) / ((chest - eye) @ (chest - eye)), 0, 0.9)
            assert np.linalg.norm(eye + along * (chest - eye) - prop.center) > prop.size[0]
