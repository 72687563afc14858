"""Light is where, how bright and of what colour the plot says; a lamp on a stand stays when the camera leaves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.blocking.solve import block
from appliance.direction.light_presets import PRESETS
from appliance.direction.shot import ShotDirection, from_plain
from models.stage.optics import kelvin_rgb

LUMA = np.array([0.2126, 0.7152, 0.0722])
MARA = {"subjects": [{"id": "mara"}], "cast": {"mara": {"height_m": 1.75}}}


def lit(light=None, **stated):
    return block(from_plain({**MARA, "light": light or {}, **stated}))


def lamp(b, name="key"):
    return next(found for found in b.lights if found.name == name)


def test_the_default_is_a_three_point_light_that_exposes_normally():
    b = lit()
    assert [found.name for found in b.lights] == ["key", "fill", "rim"]
    assert lamp(b).rgb @ LUMA == pytest.approx(np.ones(33))
    assert b.ambient @ LUMA == pytest.approx(np.full(33, 0.149), abs=0.001)
    assert (b.exposure_ev == 0).all()
    forward = b.c2w[0, :, 2]
    assert lamp(b).direction[0] @ forward < 0 < lamp(b, "rim").direction[0] @ forward, "key in front, rim behind"
    assert lamp(b, "fill").rgb.mean() < 0.3


@given(st.floats(-180, 180), st.floats(-89, 89), st.floats(-180, 180))
@settings(max_examples=50, deadline=None)
def test_azimuth_is_seen_from_the_camera(az, el, side):
    """0 comes from the camera, + from its right, 180 from behind the subject; elevation is above the floor."""
    b = lit({"key": {"az_deg": az, "el_deg": el}}, frame={"size": "MS", "side_deg": side, "elevation_deg": 0})
    toward = lamp(b).direction[0]
    assert np.linalg.norm(toward) == pytest.approx(1) and toward[1] == pytest.approx(np.sin(np.radians(el)))
    right, forward = b.c2w[0, :, 0], b.c2w[0, :, 2]
    level = np.cos(np.radians(el))
    assert toward @ right == pytest.approx(level * np.sin(np.radians(az)), abs=1e-9)
    assert -toward @ forward == pytest.approx(level * np.cos(np.radians(az)), abs=1e-9)


def test_references_of_azimuth_under_an_arc_and_a_turn():
    moving = {
        "moves": [{"type": "arc", "amount_deg": 90}],
        "subjects": [{"id": "mara", "track": [{"heading_deg": 0}, {"t_s": 2, "heading_deg": 40}]}],
    }
    directions = {
        ref: lamp(lit({"key": {"ref": ref, "az_deg": 0, "el_deg": 0}}, **moving)).direction
        for ref in ("stand", "camera", "subject", "world")
    }
    bearing = {ref: np.degrees(np.arctan2(d[:, 0], d[:, 2])) for ref, d in directions.items()}
    assert bearing["stand"] == pytest.approx(np.zeros(33), abs=1e-9)
    assert bearing["world"] == pytest.approx(np.zeros(33), abs=1e-9)
    assert bearing["camera"][-1] == pytest.approx(90) and (np.diff(bearing["camera"]) >= -1e-9).all()
    assert bearing["subject"][-1] == pytest.approx(40)


@given(st.floats(0.2, 6), st.floats(-3, 3))
@settings(max_examples=30, deadline=None)
def test_ratio_is_the_stops_between_lit_and_shadow(stops, key_stops):
    b = lit({"ratio_stops": stops, "key": {"stops_rel": key_stops}})
    key, fill = (float(lamp(b, name).rgb[0] @ LUMA) for name in ("key", "fill"))
    assert key == pytest.approx(2**key_stops)
    assert np.log2((key + fill) / fill) == pytest.approx(stops)


def test_colour_is_the_kelvin_of_the_lamp_and_keys_move_it():
    b = lit({"key": {"cct_k": [{"t_s": 0, "value": 3200}, {"t_s": 2, "value": 5600, "ease": "linear"}]}})
    assert lamp(b).rgb[0] == pytest.approx(kelvin_rgb(3200.0)) and lamp(b).rgb[-1] == pytest.approx([1, 1, 1])
    assert lamp(b).rgb[0, 0] > 1.2 > 0.7 > lamp(b).rgb[0, 2], "tungsten is warm to a daylight camera"
    b = lit({"key": {"stops_rel": [{"t_s": 1, "value": -6}, {"t_s": 1.25, "value": 0}]}})
    assert lamp(b).rgb[0, 1] == pytest.approx(2**-6) and lamp(b).rgb[-1, 1] == pytest.approx(1)


def test_a_lamp_that_is_off_is_not_there_and_key_level_sets_exposure():
    assert [found.name for found in lit({"fill": {"on": False}, "rim": {"on": False}}).lights] == ["key"]
    only = {"fill": {"on": False}, "rim": {"on": False}, "ambient": {"stops_rel": -12}, "key": {"stops_rel": -2}}
    b = lit({**only, "key_level_pct": 18})
    assert b.exposure_ev == pytest.approx(np.full(33, 2.0), abs=0.002)
    assert lit({**only, "key_level_pct": 9, "exposure_ev": 1}).exposure_ev == pytest.approx(np.full(33, 2.0), abs=0.002)


def test_fill_and_rim_follow_the_key_to_its_other_side():
    for az in (-60, 60):
        b = lit({"key": {"az_deg": az}})
        x = {found.name: found.direction[0, 0] for found in b.lights}
        assert np.sign(x["key"]) == np.sign(az) == -np.sign(x["fill"]) == -np.sign(x["rim"])


def test_every_preset_lights_the_stage():
    def total(name):
        b = lit({"preset": name})
        assert b.lights and all(np.isfinite(found.rgb).all() for found in b.lights), name
        light = sum(float(found.rgb[0] @ LUMA) for found in b.lights) + float(b.ambient[0] @ LUMA)
        return light * 2.0 ** b.exposure_ev[0]

    assert not {name: light for name in PRESETS if not 0.2 < (light := total(name)) < 6}


def test_named_patterns_are_where_the_books_have_them():
    for name, az, el in (("rembrandt", 45, 45), ("loop", 30, 30), ("butterfly", 0, 45), ("split", 90, 10)):
        toward = lamp(lit({"preset": name}, frame={"size": "CU"})).direction[0]
        assert abs(np.degrees(np.arctan2(toward[0], toward[2]))) == pytest.approx(az, abs=1e-6)
        assert np.degrees(np.arcsin(toward[1])) == pytest.approx(el)


def test_a_night_has_no_day_sky():
    day, night = (lit({"preset": name}, set={"name": "street", "seed": 1}).set for name in ("noon", "moonlight"))
    assert max(night.sky_horizon) < 0.05 < 0.5 < max(day.sky_horizon)
    assert night.props == day.props


def test_presets_can_be_edited():
    b = lit({"preset": "low key", "key": {"az_deg": 20}, "ratio_stops": 1})
    assert np.degrees(np.arctan2(*lamp(b).direction[0, [0, 2]])) == pytest.approx(20)
    assert lamp(b, "fill").rgb[0] @ LUMA == pytest.approx(1)
    assert ShotDirection(light={"preset": "low key"}).light.key.az_deg is None, "the direction keeps what was asked"
