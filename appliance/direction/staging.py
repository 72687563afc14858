"""What is in front of the camera: light, people and the set.

Conventions and the form of a shot file are in `appliance.direction.shot`.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass

from appliance.direction import vocabulary as words
from appliance.direction.fields import Keyed, Point, choice, color, flag, integer, listing, nested, number, string, word
from appliance.direction.light_presets import PRESET_ALIASES, PRESETS


def _set_names() -> tuple[str, ...]:
    from models.stage.sets import NAMES  # start-up: it loads numpy, 0.25 s that `rushes --help` need not wait for

    return NAMES


@dataclass(frozen=True, slots=True)
class Lamp:
    """One lamp. What is left out comes from the preset."""

    az_deg: Keyed | None = number(
        None, "deg", -180, 180, "around the subject: 0 from the camera, + camera right, 180 behind", keyed=True
    )
    el_deg: Keyed | None = number(None, "deg", -90, 90, "above (+) the subject", keyed=True)
    ref: str | None = choice(None, ("stand", "camera", "subject", "world"), "what az_deg is measured from: stand = "
                             "the first frame's camera, then fixed; camera = every frame's; subject = where it "
                             "faces; world = +Z", {"fixed": "stand"})  # fmt: skip
    stops_rel: Keyed | None = number(None, "stops", -12, 6, "brightness: 0 exposes normally", keyed=True)
    cct_k: Keyed | None = number(
        None, "K", 1800, 12000, "colour temperature; the camera is balanced for 5600", keyed=True
    )
    duv: float | None = number(None, "", -0.03, 0.03, "off the black-body line: + green, - magenta")
    size_deg: float | None = number(None, "deg", 0.25, 60, "angular size: the sun .5, a bare bulb 1, a softbox 28")
    on: bool | None = flag(None, "whether the lamp is on")


@dataclass(frozen=True, slots=True)
class Ambient:
    """Light from everywhere. What is left out comes from the preset."""

    stops_rel: Keyed | None = number(None, "stops", -12, 3, "brightness relative to a key of 0 stops", keyed=True)
    cct_k: Keyed | None = number(None, "K", 1800, 12000, "colour temperature", keyed=True)
    duv: float | None = number(None, "", -0.03, 0.03, "off the black-body line: + green, - magenta")
    sh: tuple[float, ...] | None = number(None, "", -10, 10, "spherical harmonics, 9 RGB coefficients", size=27)
    hdri: str | None = string(None, "path of a panorama")


@dataclass(frozen=True, slots=True)
class Light:
    """The light plot: a preset, and what differs from it."""

    preset: str = choice(
        "three_point", tuple(PRESETS), "a lighting set-up; every number in it can be overridden", PRESET_ALIASES
    )
    key: Lamp = nested(Lamp, "the key light")
    fill: Lamp = nested(Lamp, "the fill light: lightens the shadows")
    rim: Lamp = nested(Lamp, "the rim light: from behind")
    ratio_stops: float | None = number(
        None, "stops", 0.1, 10, "log2((key + fill) / fill): 1 television, 2 portrait, 3 low key; sets fill"
    )
    ambient: Ambient = nested(Ambient, "light from everywhere")
    sky_stops: float | None = number(None, "stops", -12, 2, "brightness of the sky relative to the set's daylight sky")
    key_level_pct: float | None = number(
        None, "%", 1, 90, "how bright a grey card facing the key shows: 18 is normal; sets exposure"
    )
    exposure_ev: Keyed | None = number(None, "stops", -8, 8, "over (+) or under", keyed=True)


@dataclass(frozen=True, slots=True)
class Mark:
    """A position on the floor that a subject walks to."""

    x_m: float = number(0.0, "m", -50, 50, "right of the set's middle")
    z_m: float = number(0.0, "m", -50, 50, "towards the audience")
    t_s: float | None = number(None, "s", -60, 600, "when they arrive; before 0: already walking when the shot begins")
    speed_mps: float | None = number(
        None, "m/s", 0.05, 12, f"walking speed to this mark; left out: {words.WALK_MPS}; with t_s: they leave later"
    )
    heading_deg: float | None = number(
        None, "deg", -720, 720, "heading on arrival: 0 faces the audience, 90 faces +X; left out: as they came"
    )
    facing: str = choice(
        "travel",
        ("travel", "held"),
        "on the way here: travel = face forward, held = keep their heading (walk backward)",
    )


@dataclass(frozen=True, slots=True)
class ScreenMark:
    """Where on the picture a subject should be at a time: an optional override of the floor plan."""

    bbox: tuple[float, ...] = number(MISSING, "of the frame", 0, 1, "left, top, right, bottom", size=4)
    t_s: float = number(0.0, "s", -60, 600, "when")
    visible: bool = flag(True, "whether they are seen")


@dataclass(frozen=True, slots=True)
class Subject:
    """A person in the shot."""

    id: str = word(MISSING, "the name the shot uses")
    character: str | None = word(None, "who in the cast this is; left out: the one of the same name")
    track: tuple[Mark, ...] = listing(Mark, "the marks they go to; left out: they stand in the middle")
    action: str = string("", "what they do, in words", 400)
    pose: str = choice("stand", ("stand", "sit"), "standing or sitting")
    gaze: str | Point | None = number(
        None, "m", -100, 100, 'who or what they look at: a subject, "camera", or a point', size=3, or_word=True
    )
    scale: float = number(1.0, "x", 0.3, 3, "size: 1 is life size")
    screen: tuple[ScreenMark, ...] = listing(ScreenMark, "where on the picture they should be")


@dataclass(frozen=True, slots=True)
class Character:
    """What a person of the cast looks like. What is left out follows from the name, the same on every machine."""

    id: str = word(MISSING, "the name in the cast")
    refs: tuple[str, ...] = string((), "paths of 1 to 4 reference pictures", 4, many=True)
    embedding: str | None = string(None, "path of an identity embedding")
    wardrobe: str = string("", "what they wear, in words", 400)
    height_m: float | None = number(None, "m", 0.8, 2.5, "standing height")
    build: float | None = number(None, "x", 0.7, 1.4, "1 is average, less is slim")
    skin: str | None = color("skin")
    hair: str | None = color("hair")
    top: str | None = color("what covers the trunk")
    bottom: str | None = color("trousers or skirt")
    shoes: str | None = color("shoes")
    hat: str | None = color("a hat of this colour")
    bareheaded: bool | None = flag(None, "true: no hat (a name may bring one)")
    long_hair: bool | None = flag(None, "hair to the shoulders")
    coat: bool | None = flag(None, "the top reaches the knee")


@dataclass(frozen=True, slots=True)
class SetChoice:
    """Where the shot takes place."""

    name: str = choice("studio", _set_names, "the set")
    seed: int = integer(0, "", 0, 2**31 - 1, "seed of its colours and dressing")
