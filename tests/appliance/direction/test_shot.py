"""A direction holds only what can be shot; anything else is refused in one line that says how to mend it."""

import math
from dataclasses import FrozenInstanceError, replace

import pytest

from appliance.capability.report import LEVELS, level, levels_of_stated
from appliance.direction.fields import Key, table
from appliance.direction.light_presets import PRESETS, expand
from appliance.direction.shot import Lens, Move, ShotDirection, Subject, from_plain
from appliance.direction.staging import Character, Mark
from appliance.direction.vocabulary import MOVES, SIZES
from models.errors import BadInput

MARA = {"id": "mara"}


def refusal(**stated) -> str:
    with pytest.raises(BadInput) as caught:
        from_plain(stated)
    message = str(caught.value)
    assert "\n" not in message and caught.value.exit_code == 2
    return message


def test_nothing_stated_is_a_shot():
    shot = ShotDirection()
    assert (shot.slate, shot.frames, shot.format.width, shot.format.height) == ("1A", 33, 224, 128)
    assert shot.seed is None and shot.quality == "take" and shot.text.action == ""


def keyed(*at_s, refs=None, **time):
    return {"time": time, "refs": {"keyframes": [{"t_s": t, "path": "a.png"} for t in at_s], **(refs or {})}}


def test_a_time_of_the_shot_is_a_frame_of_the_film():
    """At 16 a second: 33 frames of 2 s and of 1.9 s; handles come before time 0, and after the end."""
    for time, expected in (
        ({"duration_s": 2}, {0: 0, 0.03: 0, 0.04: 1, 1: 16, 2: 32}),
        ({"duration_s": 1.9}, {1: 16, 1.75: 28, 1.9: 30}),
        ({"duration_s": 2, "handles_f": 8}, {0: 8, 1: 24, 2: 40}),
        ({"duration_s": 1, "fps": 24}, {0: 0, 0.5: 12, 1: 24}),
    ):
        shot = from_plain({"time": time})
        assert {t: shot.frame_at(t) for t in expected} == expected, time
    for t_s in (0, 1.01, 2):
        assert from_plain(keyed(t_s, 0.5)).refs.keyframes[0].t_s == t_s


@pytest.mark.parametrize(
    ("stated", "parts"),
    [
        (keyed(0.5, 2.01), ["refs.keyframes[1].t_s is 2.01", "0 to 2 s", "lengthen time.duration_s"]),
        (keyed(0.6, duration_s=0.5), ["refs.keyframes[0].t_s is 0.6", "0 to 0.5 s"]),
        (keyed(-1), ["refs.keyframes[0].t_s is -1", "0 to 30 s"]),
        (keyed(1, 0.2, 1.02), ["refs.keyframes[2].t_s is 1.02", "refs.keyframes[0]", "frame 16", "leave one of them"]),
        (keyed(0, refs={"first": "b.png"}), ["refs.keyframes[0].t_s is 0", "than refs.first", "frame 0"]),
        (keyed(2, refs={"last": "b.png"}), ["refs.keyframes[0].t_s is 2", "than refs.last", "frame 32"]),
    ],
)
def test_keyframes_are_in_the_shot_each_at_a_frame_of_its_own(stated, parts):
    message = refusal(**stated)
    assert all(part in message for part in parts), message


def test_a_keyframe_at_an_end_without_a_picture_of_its_own_is_welcome():
    """Handles leave the film's ends to refs.first and refs.last."""
    assert len(from_plain(keyed(0, 2)).refs.keyframes) == 2
    both = {"first": "b.png", "last": "c.png"}
    assert len(from_plain(keyed(0, 2, handles_f=4, refs=both)).refs.keyframes) == 2


def test_slate_and_setup_letters():
    assert ShotDirection(scene="12", setup="c").slate == "12C"
    for letter in ("I", "O", "AO", "1", ""):
        assert refusal(setup=letter).startswith("setup is")


@pytest.mark.parametrize(
    ("stated", "parts"),
    [
        (
            {"moves": [{"type": "pan", "amount_deg": 4000}]},
            ["moves[0].amount_deg is 4000", "-360 to 360 deg", "nearest", "360"],
        ),
        (
            {"moves": [{"type": "tilt", "amount_deg": 200}]},
            ["moves[0].amount_deg is 200", "-120 to 120 deg for a tilt", "120"],
        ),
        ({"moves": [{"type": "pn", "amount_deg": 4}]}, ['moves[0].type is "pn"', "one of pan, tilt", 'mean "pan"']),
        (
            {"moves": [{"type": "pan", "amount_m": 4}]},
            ["moves[0].amount_m is 4", "a pan does not take it", "amount_deg"],
        ),
        ({"moves": [{"type": "truck"}]}, ["moves[0].amount_m is missing", "-50 to 50 m", "+ is right"]),
        (
            {"moves": [{"type": "zoom", "amount_x": 2, "to_mm": 50}]},
            ["moves[0].to_mm", "left out when amount_x is stated"],
        ),
        ({"moves": [{"type": "pan", "amount_deg": 4, "target": "mara"}]}, ["moves[0].target", "has no target"]),
        ({"moves": [{"type": "pan", "amount_deg": 4, "from_s": 1, "to_s": 1}]}, ["moves[0].to_s is 1", "after from_s"]),
        (
            {"moves": [{"type": "pan", "amount_deg": 4, "to_s": 3}]},
            ["moves[0].to_s is 3", "at most 2 s", "time.duration_s"],
        ),
        ({"moves": [{"type": "pan", "amount_deg": 4, "ease": "smoth"}]}, ['moves[0].ease is "smoth"', 'mean "smooth"']),
        ({"moves": [{"type": "pan", "amount_deg": 4, "ease": "exp(90)"}]}, ["moves[0].ease", "-20 to 20"]),
        ({"moves": [{"type": "static"}, {"type": "pan", "amount_deg": 4}]}, ["moves[0].type", "a pan overlaps it"]),
        ({"moves": {"type": "pan"}}, ["moves is a table", "[[moves]]"]),
        ({"move": []}, ["move is not a field", 'mean "moves"']),
        ({"lens": {"focal": 35}}, ["lens.focal is not a field", 'mean "focal_mm"']),
        ({"lens": {"focal_mm": 8}}, ["lens.focal_mm is 8", "12 to 200 mm", "nearest allowed is 12"]),
        ({"lens": {"focal_mm": "35"}}, ['lens.focal_mm is "35"', "without quotes"]),
        (
            {"lens": {"focal_mm": [{"t_s": 1, "value": 35}, {"t_s": 0, "value": 50}]}},
            ["lens.focal_mm[1].t_s is 0", "later"],
        ),
        ({"lens": {"focal_mm": [{"t_s": 0}]}}, ["lens.focal_mm[0].value is missing"]),
        ({"camera": {"pos_m": [0, 1]}}, ["camera.pos_m is [0, 1]", "3 numbers", "it has 2"]),
        ({"camera": {"pos_m": [0, -1, 0]}}, ["camera.pos_m is -1", "the floor"]),
        ({"camera": {"look_at": "mra"}, "subjects": [MARA]}, ['camera.look_at is "mra"', 'mean "mara"']),
        ({"frame": {"size": "CUU"}}, ['frame.size is "CUU"', "ECU, CU, MCU, MS, MWS, WS, EWS"]),
        ({"frame": {"subject": "mara"}}, ['frame.subject is "mara"', "there is none", "[[subjects]]"]),
        ({"camera": {"pos_m": [0, 1, 3]}, "frame": {"end": {"size": "CU"}}}, ["frame.end.size", "camera.pos_m"]),
        ({"light": {"key": {"az_deg": 200}}}, ["light.key.az_deg is 200", "-180 to 180 deg", "180"]),
        ({"light": {"key": {"on": 1}}}, ["light.key.on is 1", "true or false"]),
        ({"light": {"preset": "rembrant"}}, ["light.preset", 'mean "rembrandt"']),
        ({"subjects": [{}]}, ["subjects[0].id is missing"]),
        ({"subjects": [MARA, MARA]}, ['subjects[1].id is "mara"', "no other subject has", "mara_2"]),
        ({"subjects": [{"id": "ma ra"}]}, ['subjects[0].id is "ma ra"', 'try "ma_ra"']),
        (
            {"subjects": [{"id": "m", "character": "mra"}], "cast": {"mara": {}}},
            ["subjects[0].character", 'mean "mara"'],
        ),
        ({"subjects": [{"id": "m", "track": [{}, {}]}]}, ["subjects[0].track[1].t_s is missing"]),
        ({"subjects": [{"id": "m", "track": [{}, {"x_m": 9, "t_s": 0.5}]}]}, ["subjects[0].track[1].t_s", "faster"]),
        ({"cast": {"mara": {"top": "red"}}}, ['cast.mara.top is "red"', "#rrggbb"]),
        ({"cast": [{"id": "mara"}]}, ["cast is", "[cast.name]"]),
        ({"set": {"name": "stret"}}, ["set.name", "studio, street, room, field", 'mean "street"']),
        ({"time": {"duration_s": 0}}, ["time.duration_s is 0", "0.5 to 30 s", "0.5"]),
        ({"time": {"handles_f": 1.5}}, ["time.handles_f is 1.5", "whole number"]),
        ({"format": {"width": 0}}, ["format.width is 0", "64 to 1920 pixels"]),
        ({"seed": -1}, ["seed is -1", "nearest allowed is 0"]),
        ({"seed": 10**400}, ["seed is a number of more than 30 digits"]),
        ({"scene": 12}, ["scene is 12", "in quotes"]),
        ({"lock": ["lens.focal"]}, ["lock[0]", 'mean "lens.focal_mm"']),
        ({"prompt": "a dog"}, ["prompt is not a field", "text.action"]),
        ({"text": {"action": "x" * 3000}}, ["text.action has 3000 characters", "2000"]),
        ({"version": 2}, ["version is 2"]),
    ],
)
def test_refusals_name_field_value_range_and_remedy(stated, parts):
    message = refusal(**stated)
    for part in parts:
        assert part in message


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, None, "4", [4], {}])
def test_what_is_not_a_finite_number_is_refused(value):
    assert "lens.t_stop" in refusal(lens={"t_stop": value})


def test_numbers_and_flags_are_not_each_other():
    assert from_plain({"lens": {"t_stop": 4}}).lens.t_stop == 4.0
    assert isinstance(from_plain({"lens": {"t_stop": 4}}).lens.t_stop, float)
    assert "take is true" in refusal(take=True)


def test_film_spellings_are_read_as_one_word():
    for spelling in ("dolly zoom", "dolly_zoom", "Dolly-Zoom", "zolly"):
        assert (
            from_plain({"moves": [{"type": spelling, "amount_m": 1}], "subjects": [MARA]}).moves[0].type == "dolly_zoom"
        )
    assert from_plain({"moves": [{"type": "rack focus", "to_m": 2}]}).moves[0].type == "rack_focus"
    shot = from_plain(
        {"frame": {"size": "cowboy", "angle": "bird's eye", "side": "3/4"}, "light": {"preset": "low key"}}
    )
    assert (shot.frame.size, shot.frame.angle, shot.frame.side) == ("MWS", "birds_eye", "three_quarter_left")
    assert shot.light.preset == "low_key"


def test_text_cannot_command_a_terminal():
    shot = from_plain(
        {"text": {"action": "runs\x1b[2J\nand\u202e stops"}, "subjects": [{"id": "m", "action": "a\nb\x07"}]}
    )
    assert shot.text.action == "runs\ufffd[2J\nand\ufffd stops"
    assert shot.subjects[0].action == "a\ufffdb\ufffd"
    assert "\x1b" not in refusal(**{"\x1b[31mkey": 1}) and "\x1b" not in refusal(set={"name": "\x1b[2J"})


def test_built_by_hand_it_is_checked_the_same():
    shot = ShotDirection(
        lens=Lens(focal_mm=(Key(0, 35), Key(2, 50, "linear"))),
        subjects=(Subject("mara", track=(Mark(x_m=-1), Mark(x_m=1))),),
        moves=[Move("pan", amount_deg=20)],
        cast=(Character("mara", height_m=1.7),),
    )
    assert shot.moves[0].amount_deg == 20.0 and isinstance(shot.moves, tuple)
    assert shot.character(shot.subjects[0]).height_m == 1.7
    with pytest.raises(BadInput, match=r"lens\.focal_mm is 4000"):
        replace(shot, lens=Lens(focal_mm=4000))
    with pytest.raises(BadInput, match="cast"):
        replace(shot, cast=(Character("mara"), Character("mara")))
    with pytest.raises(FrozenInstanceError):
        shot.seed = 3
    assert hash(shot) == hash(replace(shot))


def test_every_field_has_help_and_a_range():
    rows = list(table(ShotDirection))
    assert len({row.path for row in rows}) == len(rows) > 120
    for row in rows:
        assert row.spec.help and row.spec.allowed(), row.path
        if row.spec.kind in ("number", "integer"):
            assert row.spec.lo < row.spec.hi or row.path == "version"
    assert {"moves[].amount_deg", "light.key.az_deg", "subjects[].track[].x_m", "cast.*.top"} <= {
        row.path for row in rows
    }


def test_vocabulary_is_what_the_schema_asks():
    assert list(SIZES) == ["ECU", "CU", "MCU", "MS", "MWS", "WS", "EWS"]
    visible = [size.visible_m for size in SIZES.values()]
    assert visible == sorted(visible)
    assert set(MOVES) == {
        "pan", "tilt", "roll", "truck", "pedestal", "dolly", "arc", "crane", "zoom", "dolly_zoom", "handheld",
        "rack_focus", "static",
    }  # fmt: skip


def test_presets_expand_to_numbers_and_stay_editable():
    numbers = ("az_deg", "el_deg", "ref", "stops_rel", "cct_k", "duv", "size_deg", "on")

    def wrong(name):
        full = expand(from_plain({"light": {"preset": name, "key": {"az_deg": 33}}}).light)
        lamps = {"key": full.key, "fill": full.fill, "rim": full.rim}
        found = [f"{lamp}.{number}" for lamp in lamps for number in numbers if getattr(lamps[lamp], number) is None]
        found += ["key.az_deg"] * (full.key.az_deg != 33) + ["expanded twice"] * (expand(full) != full)
        in_range = replace(ShotDirection(), light=full).light  # raises BadInput where a number is out of range
        return found + ["read again"] * (in_range != full)

    assert not {name: found for name in PRESETS if (found := wrong(name))}


def test_honesty_covers_every_field_and_no_more_than_is_true():
    previs, wan = (
        {row.path: level(row.path, card) for row in table(ShotDirection)} for card in ("previs", "wan2.1-t2v-1.3b")
    )
    assert {*previs.values(), *wan.values()} <= set(LEVELS)
    for path in ("lens.shutter_deg", "lens.squeeze", "lens.k1", "subjects[].gaze", "refs.mask", "cast.*.refs"):
        assert previs[path] == "ignored", path
    for path in ("lens.focal_mm", "moves[].amount_deg", "subjects[].track[].x_m", "light.key.az_deg", "lens.focus_m"):
        assert previs[path] == "exact", path
    for path in ("refs.first", "refs.last", "refs.keyframes[].t_s", "refs.keyframes[].path"):
        assert previs[path] == "approximate" and wan[path] == "ignored", path
    assert wan["moves[].amount_deg"] == "text-only" and wan["subjects[].track[].x_m"] == "ignored"
    assert previs["text.action"] == previs["text.style"] == "ignored"  # no word reaches a model without a text encoder
    assert wan["text.action"] == "text-only"


@pytest.mark.parametrize(
    ("card", "exact", "text_only", "ignored"),
    [
        ("wan2.1-t2v-14b", [], ["moves[].amount_deg", "lens.focal_mm", "set.name"], ["refs.first", "lens.k1"]),
        ("wan2.1-i2v-14b-480p", ["refs.first"], ["frame.size"], ["refs.last", "refs.keyframes[].path"]),
        ("wan2.1-flf2v-14b", ["refs.first", "refs.last"], ["frame.size"], ["refs.keyframes[].t_s", "cast.*.build"]),
        ("wan2.2-ti2v-5b", ["refs.first"], ["frame.size"], ["refs.last"]),
        (
            "wan2.1-fun-camera-1.3b",
            ["moves[].amount_deg", "frame.size", "lens.focal_mm", "camera.pan_deg", "refs.first", "format.sensor_w_mm"],
            ["moves[].to_m", "lens.t_stop", "light.key.az_deg", "set.name", "cast.*.top"],
            ["subjects[].track[].x_m", "cast.*.build", "refs.control_video"],
        ),
        (
            "wan2.1-vace-14b",
            ["moves[].amount_deg", "frame.end.size", "subjects[].track[].x_m", "cast.*.height_m", "refs.first"],
            ["moves[].to_m", "light.key.az_deg", "cast.*.top", "subjects[].gaze"],
            ["refs.mask", "light.key.size_deg"],
        ),
        ("wan2.1-fun-control-1.3b", ["camera.pos_m", "subjects[].scale"], ["text.action"], ["continuity.match"]),
        ("wan2.1-vace-14b-256x2", ["camera.pos_m"], [], []),
    ],
)  # fmt: skip
def test_what_a_house_model_obeys_is_what_its_card_reads(card, exact, text_only, ignored):
    for wanted, paths in (("exact", exact), ("text-only", text_only), ("ignored", ignored)):
        assert {path: level(path, card) for path in paths} == dict.fromkeys(paths, wanted)
    assert "approximate" not in {level("set.name", "wan2.1-t2v-14b"), level("set.name", "wan2.1-fun-camera-1.3b")}
    assert level("set.name", "wan2.1-vace-14b") == "approximate"  # its depth, and not its colours


def test_a_shot_is_told_what_becomes_of_what_it_states():
    shot = from_plain({
        "subjects": [{"id": "mara", "gaze": "camera"}], "cast": {"mara": {"hat": "#ffffff"}},
        "lens": {"focal_mm": [{"t_s": 0, "value": 35}]}, "text": {"action": "she waits"},
    })  # fmt: skip
    assert levels_of_stated(shot, "previs") == {
        "lens.focal_mm": "exact",
        "subjects[0].id": "exact",
        "subjects[0].gaze": "ignored",
        "cast.mara.hat": "approximate",
        "text.action": "ignored",
    }
    with pytest.raises(BadInput, match="sora"):
        levels_of_stated(shot, "sora")
