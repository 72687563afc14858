"""Framing is optics: distances by hand, and what fills the frame, seen through the stage's own projection."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.blocking.solve import block
from appliance.direction.shot import ShotDirection
from appliance.direction.vocabulary import SIDES, SIZES
from models.stage.render import project

TALL = {"cast": {"mara": {"height_m": 1.75}}, "subjects": [{"id": "mara"}]}
HD = {"width": 1280, "height": 720}  # 24.89 x 14.00 mm of a Super 35 sensor


def shot(**stated):
    return ShotDirection(**{**TALL, "format": HD, **stated})


@pytest.mark.parametrize(
    ("size", "focal_mm", "metres"),
    [("WS", 35, 5.25), ("MS", 35, 2.37), ("CU", 35, 0.90), ("WS", 50, 7.5), ("MS", 50, 3.39), ("CU", 50, 1.29),
     ("WS", 85, 12.75), ("MS", 85, 5.77), ("CU", 85, 2.19), ("MCU", 50, 2.21), ("EWS", 28, 14.0), ("ECU", 85, 0.97)],
)  # fmt: skip
def test_distances_of_the_tables(size, focal_mm, metres):
    assert block(shot(frame={"size": size}, lens={"focal_mm": focal_mm})).subject_distance_m == pytest.approx(
        metres, abs=0.006
    )


@given(
    st.sampled_from(list(SIZES)),
    st.sampled_from(["eye", "high", "low", "birds_eye", "dutch"]),
    st.sampled_from(list(SIDES)),
    st.floats(12, 200),
    st.floats(1.2, 2.1),
    st.floats(-180, 180),
)
@settings(max_examples=50, deadline=None)
def test_the_frame_covers_what_the_size_says(size, angle, side, focal_mm, height_m, heading):
    """A rod as long as the size shows, in the subject's plane and square to the lens, spans the frame's height."""
    b = block(shot(
        frame={"size": size, "angle": angle, "side": side}, lens={"focal_mm": focal_mm},
        cast={"mara": {"height_m": height_m}},
        subjects=[{"id": "mara", "track": [{"x_m": 1.5, "z_m": -2, "heading_deg": heading}]}],
    ))  # fmt: skip
    up = -b.c2w[0, :, 1]  # the camera's own up
    visible = SIZES[size].visible_m * height_m / 1.75
    middle = b.c2w[0, :, 3] + b.subject_distance_m * b.c2w[0, :, 2]
    assert middle[[0, 2]] == pytest.approx([1.5, -2], abs=1e-6), "the lens looks at the subject"
    pixels, _ = project(b, 0, np.stack([middle + up * visible / 2, middle - up * visible / 2]))
    assert pixels[:, 1] == pytest.approx([0, b.height], abs=0.5)
    assert pixels[:, 0] == pytest.approx([b.width / 2] * 2, abs=0.5)
    assert b.c2w[:, 1, 3].min() >= 0.15 - 1e-9


@pytest.mark.parametrize("size", ["MCU", "CU", "ECU"])
def test_close_sizes_put_the_eyes_on_the_upper_third(size):
    b = block(shot(frame={"size": size}, lens={"focal_mm": 85}))
    pixels, _ = project(b, 0, np.array([[0.0, 0.936 * 1.75, 0.0]]))
    assert pixels[0, 1] / b.height == pytest.approx(1 / 3, abs=0.03)


def test_a_wide_shot_shows_head_to_toe_with_room():
    b = block(shot(frame={"size": "WS"}))
    (crown, feet), _ = project(b, 0, np.array([[0.0, 1.75, 0.0], [0.0, 0.0, 0.0]]))
    assert 0.05 < crown[1] / b.height < 0.15
    assert 0.03 < 1 - feet[1] / b.height < 0.12


def test_a_seated_person_is_framed_lower():
    standing, seated = (
        block(shot(frame={"size": "CU"}, subjects=[{"id": "mara", "pose": pose}])) for pose in ("stand", "sit")
    )
    assert standing.c2w[0, 1, 3] - seated.c2w[0, 1, 3] == pytest.approx(0.225 * 1.75)


def test_eye_level_stands_at_the_eyes_and_angles_at_their_degrees():
    eye = block(shot(frame={"size": "MS"}))
    assert eye.c2w[0, 1, 3] == pytest.approx(0.936 * 1.75)
    for angle, degrees in (("high", 25), ("birds_eye", 80)):
        forward = block(shot(frame={"size": "MS", "angle": angle})).c2w[0, :, 2]
        assert np.degrees(np.arcsin(-forward[1])) == pytest.approx(degrees)
    assert block(shot(frame={"size": "CU", "angle": "low"})).c2w[0, 1, 2] == pytest.approx(np.sin(np.radians(20)))
    assert block(shot(frame={"size": "WS", "angle": "ground"})).c2w[0, 1, 3] == pytest.approx(0.2)
    level = block(shot(frame={"size": "MS", "elevation_deg": 0}))
    assert level.c2w[0, 1, 2] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("side", "nose_goes"), [("profile_left", -1), ("profile_right", 1), ("three_quarter_left", -1)]
)
def test_sides_are_named_by_where_the_subject_faces_on_the_screen(side, nose_goes):
    b = block(shot(frame={"size": "MS", "side": side}, subjects=[{"id": "mara", "track": [{"heading_deg": 70}]}]))
    ahead = np.array([np.sin(np.radians(70)), 0, np.cos(np.radians(70))])
    pixels, _ = project(b, 0, np.stack([[0, 1.4, 0], [0, 1.4, 0] + 0.3 * ahead]))
    assert np.sign(pixels[1, 0] - pixels[0, 0]) == nose_goes


@given(st.floats(-40, 40), st.floats(-40, 40), st.sampled_from(["eye", "high", "dutch"]), st.floats(18, 135))
@settings(max_examples=50, deadline=None)
def test_offsets_place_the_subject_exactly(right_pct, up_pct, angle, focal_mm):
    centered = block(shot(frame={"size": "MS", "angle": angle}, lens={"focal_mm": focal_mm}))
    point = centered.c2w[0, :, 3] + centered.subject_distance_m * centered.c2w[0, :, 2]
    b = block(
        shot(frame={"size": "MS", "angle": angle, "offset_pct": [right_pct, up_pct]}, lens={"focal_mm": focal_mm})
    )
    pixels, _ = project(b, 0, point[None])
    assert pixels[0, 0] == pytest.approx(b.width * (0.5 + right_pct / 100), abs=0.01)
    assert pixels[0, 1] == pytest.approx(b.height * (0.5 - up_pct / 100), abs=0.01)


def test_a_framing_for_the_end_is_reached_and_keeps_the_subject_on_the_way():
    b = block(shot(frame={"size": "WS", "end": {"size": "CU", "side": "profile_left"}}, lens={"focal_mm": 50}))
    distance = np.linalg.norm(b.c2w[:, [0, 2], 3], axis=-1)
    assert b.subject_distance_m == pytest.approx(7.5, abs=0.005)
    assert np.linalg.norm(b.c2w[-1, :, 3] - [0, 1.575, 0]) == pytest.approx(1.2857, abs=0.02)
    assert (np.diff(distance) <= 1e-9).all()
    assert b.c2w[-1, :, 3] @ [1, 0, 0] == pytest.approx(distance[-1])
    for t in range(b.frames):
        pixels, depth = project(b, t, np.array([[0.0, 1.5, 0.0]]))
        assert depth[0] > 0 and abs(pixels[0, 0] - b.width / 2) < 1


def test_everybody_is_in_a_shot_of_all():
    people = [{"id": f"p{i}", "track": [{"x_m": x, "z_m": 0.3 * x}]} for i, x in enumerate((-2.5, 0, 2))]
    b = block(shot(frame={"size": "MS", "subject": "all"}, subjects=people))
    pixels, depth = project(b, 0, np.array([[x, 1.5, 0.3 * x] for x in (-2.5, 0, 2)]))
    assert (depth > 0).all() and pixels[:, 0].min() > 0.03 * b.width and pixels[:, 0].max() < 0.97 * b.width


def test_the_picture_uses_the_sensor_as_it_says():
    for stated, width_mm, height_mm in (
        ({"width": 1280, "height": 720}, 24.89, 14.00),
        ({"width": 224, "height": 128}, 24.89, 14.223),
        ({"width": 720, "height": 1280}, 14.00, 24.89),  # turned on its side
        ({"width": 224, "height": 128, "sensor_h_mm": 14.0}, 24.5, 14.0),
        ({"width": 640, "height": 272, "sensor_w_mm": 36, "sensor_h_mm": 24}, 36.0, 15.3),
    ):
        back = ShotDirection(format=stated).format.film_back_mm()
        assert back == pytest.approx((width_mm, height_mm), abs=0.001)
        assert block(ShotDirection(format=stated)).sensor_w_mm == back[0]


def test_horizontal_fields_of_view():
    for sensor_mm, focal_mm, degrees in ((24.89, 18, 69.3), (24.89, 35, 39.1), (24.89, 85, 16.7), (36, 50, 39.6)):
        b = block(ShotDirection(lens={"focal_mm": focal_mm}, format={"sensor_w_mm": sensor_mm}))
        assert 2 * np.degrees(np.arctan(b.width / 2 / b.focal_px[0])) == pytest.approx(degrees, abs=0.06)
