"""What a model is told in words: the five examples by hand, every number's word, and that nothing else is said."""

from __future__ import annotations

import dataclasses
import re

import pytest

from appliance.capability.phrasing import ANGLES, LIGHTS, PLACES, SIDES, SIZES, around, color
from appliance.capability.prompt import NEGATIVE, negative, prompt
from appliance.capability.report import level
from appliance.direction import light_presets as presets
from appliance.direction import vocabulary
from appliance.direction.document import from_toml, load_file
from appliance.direction.fields import table
from appliance.direction.shot import ShotDirection
from appliance.shooting.quote import examples
from models.card import CARDS, WAN_1_3B
from models.stage import sets

EXAMPLES = {
    "golden_arc": (
        "Ada waits for the light; we go round her. Ada looks out over the field. Ada is 1.72 m tall, with long hair, "
        "bareheaded, wearing a beige top and red bottoms. In a field. Wide shot of Ada, in three-quarter view, facing "
        "right. Arc to the camera's right by 60 degrees. 40 mm lens. Golden hour light."
    ),
    "mara_crosses": (
        "Mara crosses to the door without looking back. Mara crosses to the door. Mara is 1.68 m tall, with long dark "
        "brown hair, bareheaded, wearing a red coat, dark blue bottoms and black shoes. In a room. Medium wide shot of "
        "Mara, 4% left of centre. Slow pan to the right by 20 degrees. 35 mm lens at T2.8. Key light from the left at "
        "3200 K, fill light at 4300 K, 2.5 stops between key and fill."
    ),
    "moonlit_crane": (
        "Ines walks away; the street gets large. Ines walks away down the empty street. Ines is 1.7 m tall, "
        "bareheaded, wearing a beige coat and dark grey bottoms. On a street. Medium wide shot of Ines, ending on an "
        "extreme wide shot, from a high angle. The camera shakes a little. 28 mm lens. Moonlight, exposed 0.6 stops "
        "over."
    ),
    "vertigo": (
        "He understands; the street falls away behind him. Jonas stands, and understands. Jonas is 1.82 m tall, "
        "bareheaded, wearing a blue top and dark brown bottoms. On a street. Medium shot of Jonas. Dolly zoom forward "
        "by 2.2 m. 65 mm lens. Overcast light."
    ),
    "whisper": (
        "Mara has not seen him yet. Mara looks into the camera. Mara is 1.68 m tall, with long dark brown hair, "
        "bareheaded, wearing a red top. Stranger is 1.85 m tall, wearing a dark grey top and dark grey bottoms. In a "
        "room. Medium close-up of Mara, 18% left of centre. Locked-off camera. Rack focus to Stranger from 0.7 to 1.3 "
        "s. 50 mm lens at T1.4. Low-key lighting, key light at 3400 K, rim light at 6500 K."
    ),
}


def said(text: str) -> list[str]:
    """The sentences about a shot beyond its lens, which every shot has."""
    whole = prompt(from_toml(text))
    return [sentence for sentence in re.split(r"(?<=\.) ", whole) if sentence != "35 mm lens."]


@pytest.mark.parametrize("path", examples(), ids=lambda path: path.stem)
def test_the_examples(path):
    assert prompt(load_file(path)) == EXAMPLES[path.stem]


def test_a_shot_that_states_nothing_is_told_its_lens_alone():
    assert prompt(ShotDirection()) == "35 mm lens."


def test_words_of_the_director_come_first_and_stay_as_they_are():
    text = '[text]\naction = """She runs.\nRain!"""\nstyle = "Black and white, 1940"\n[lens]\nfocal_mm = 50'
    assert prompt(from_toml(text)) == "She runs. Rain! Black and white, 1940. 50 mm lens."


@pytest.mark.parametrize(
    ("move", "words"),
    [
        ('type = "pan"\namount_deg = -90', "Fast pan to the left by 90 degrees."),
        ('type = "tilt"\namount_deg = 30', "Tilt up by 30 degrees."),
        ('type = "roll"\namount_deg = -10', "Slow roll counterclockwise by 10 degrees."),
        ('type = "truck"\namount_m = 1.5', "Truck to the right by 1.5 m."),
        ('type = "pedestal"\namount_m = -0.4', "Slow pedestal down by 0.4 m."),
        ('type = "dolly"\namount_m = 6', "Fast dolly forward by 6 m."),
        ('type = "dolly"\namount_m = -1\nfrom_s = 1', "Dolly backward by 1 m from 1 s on."),
        ('type = "arc"\namount_deg = 40\ntarget = "mara"', "Arc around Mara to the camera's right by 40 degrees."),
        ('type = "crane"\namount_deg = 20\nto_s = 1', "Crane up by 20 degrees until 1 s."),
        ('type = "zoom"\nto_mm = 85', "Zoom to 85 mm."),
        ('type = "zoom"\namount_x = 0.5', "Zoom out to 0.5 times the focal length."),
        ('type = "handheld"', "Handheld camera."),
        ('type = "rack focus"\nto_m = 4', "Rack focus to 4 m."),
        ('type = "push in"\namount_m = 2\nfrom_s = 0.5\nto_s = 1.5', "Fast dolly forward by 2 m from 0.5 to 1.5 s."),
    ],
)
def test_moves(move, words):
    assert said(f'[[subjects]]\nid = "mara"\n[[moves]]\n{move}') == [words]


def test_moves_are_told_in_the_order_of_their_time():
    text = '[[moves]]\ntype = "tilt"\namount_deg = 5\nfrom_s = 1\n[[moves]]\ntype = "pan"\namount_deg = 5\nto_s = 1'
    assert said(text) == ["Slow pan to the right by 5 degrees until 1 s.", "Slow tilt up by 5 degrees from 1 s on."]


@pytest.mark.parametrize(
    ("light", "words"),
    [
        ("[light.key]\naz_deg = 0\nel_deg = 80", "Key light from the front from high above."),
        ("[light.key]\naz_deg = 45\ncct_k = 5600", "Key light from the front right at 5600 K."),
        ("[light.rim]\naz_deg = -140\nel_deg = -5", "Rim light from behind on the left from below."),
        ("[light.rim]\non = false", "Rim light off."),
        ("[light]\nexposure_ev = -1", "Exposed 1 stop under."),
        (
            "[light.key]\naz_deg = [{t_s = 0, value = -60}, {t_s = 2, value = 60}]",
            "Key light going from the left to from the right.",
        ),
        (
            "[light.key]\ncct_k = [{t_s = 0, value = 3200}, {t_s = 2, value = 5600}]",
            "Key light from 3200 to 5600 K.",
        ),
        ('[light]\npreset = "sunset"', "Golden hour light."),
    ],
)
def test_light(light, words):
    assert said(light) == [words]


def test_a_lens_that_zooms_and_one_with_all_its_numbers():
    keys = "[lens]\nfocal_mm = [{t_s = 0, value = 35}, {t_s = 2, value = 70}]"
    assert prompt(from_toml(keys)) == "Lens from 35 to 70 mm."
    assert said("[lens]\nsqueeze = 2\nt_stop = 2\nfocus_m = 3") == ["Anamorphic 35 mm lens at T2 focused at 3 m."]


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("#000000", "black"), ("#ffffff", "white"), ("#808080", "grey"), ("#ff0000", "red"), ("#00ff00", "green"),
        ("#0000ff", "blue"), ("#ffff00", "yellow"), ("#ff8000", "orange"), ("#5a3a1a", "dark brown"),
        ("#8a5a2a", "brown"), ("#101840", "dark blue"), ("#ffb0b0", "pink"), ("#d8c9a0", "beige"),
        ("#90e0a0", "light green"), ("#8000ff", "purple"), ("#009999", "teal"), ("#ff0004", "red"),
    ],
)  # fmt: skip
def test_colours(code, name):
    assert color(code) == name


def test_a_lamp_at_every_degree_has_one_place():
    places = [around(float(az)) for az in range(-180, 181)]
    assert places[0] == places[-1] == "from behind" and places[180] == "from the front"
    assert [place.replace("left", "right") for place in places[:180]] == places[:180:-1]


def test_every_word_of_the_set_has_words():
    assert SIZES.keys() == vocabulary.SIZES.keys() and ANGLES.keys() == vocabulary.ANGLES.keys()
    assert SIDES.keys() == vocabulary.SIDES.keys() and LIGHTS.keys() == presets.PRESETS.keys()
    assert PLACES.keys() == set(sets.NAMES)
    sentences = {"zoom", "handheld", "rack_focus", "static"}  # of their own
    signed = {name for name, kind in vocabulary.MOVES.items() if kind.signed}
    assert signed == vocabulary.MOVES.keys() - sentences
    assert all(vocabulary.MOVES[name].towards(1.0) != vocabulary.MOVES[name].towards(-1.0) for name in signed)


def test_the_negative_is_the_directors_or_the_one_the_model_was_published_with():
    plain, own = ShotDirection(), from_toml('[text]\nnegative = "no rain"')
    assert negative(own, WAN_1_3B) == "no rain"
    assert negative(plain, WAN_1_3B) == NEGATIVE and NEGATIVE.startswith("色调艳丽") and NEGATIVE.endswith("倒着走")
    assert negative(plain, CARDS["wan2.1-i2v-14b-720p"]) == "镜头晃动，" + NEGATIVE
    assert negative(plain, CARDS["wan2.1-flf2v-14b"]) == "镜头切换，" + NEGATIVE
    assert negative(plain, CARDS["wan2.2-i2v-a14b"]) == NEGATIVE


FULL = """
scene = "9"
[set]
name = "room"
[frame]
size = "MS"
angle = "low"
side = "profile"
subject = "ann"
offset_pct = [5, 5]
[frame.end]
size = "CU"
angle = "high"
side = "front"
[camera]
follow = "ann"
[camera.shake]
rot_rms_deg = 0.1
[lens]
focal_mm = 40
t_stop = 2
squeeze = 1.3
focus_on = "ann"
[[moves]]
type = "pan"
amount_deg = 30
from_s = 0.5
to_s = 1.5
[light]
preset = "noon"
ratio_stops = 2
exposure_ev = 1
ambient = {cct_k = 6000}
key = {az_deg = 10, el_deg = 70, cct_k = 4000}
fill = {az_deg = 60, el_deg = -5, cct_k = 5000}
rim = {az_deg = 170, el_deg = 65, cct_k = 7000}
[[subjects]]
id = "ann"
action = "waits"
pose = "sit"
gaze = "camera"
[cast.ann]
height_m = 1.7
hair = "#202020"
long_hair = true
top = "#a00000"
bottom = "#0000a0"
shoes = "#00a000"
hat = "#a0a000"
coat = true
wardrobe = "an apron"
[text]
action = "Ann waits."
style = "grainy"
"""


def test_what_is_told_in_words_is_called_text_only_and_the_rest_is_not():
    """Every field of a full shot goes back to its default, one at a time: the words change, or they do not."""
    shot = from_toml(FULL)
    before = prompt(shot)
    for row in table(ShotDirection):
        if "[]" in row.path or ".*" in row.path or row.path in ("lens.focus_m", "text.negative"):
            continue
        path = row.path.split(".")
        holder = shot
        for name in path[:-1]:
            holder = getattr(holder, name)
        if getattr(holder, path[-1]) == row.default:
            continue
        told = prompt(_with(shot, path, row.default)) != before
        assert told == (level(row.path, "wan2.1-t2v-1.3b") == "text-only"), row.path


def _with(shot, path, value):
    """The shot with one field changed."""
    name, *rest = path
    return dataclasses.replace(shot, **{name: _with(getattr(shot, name), rest, value) if rest else value})
