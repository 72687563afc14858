"""A shot as it was asked for: typed values and film terms.

Units are in the names: metres `_m`, seconds `_s`, degrees `_deg`, millimetres `_mm`, kelvin `_k`, stops `_ev` or
`stops`, percent `_pct`. World: right-handed, Y up, the floor is y = 0; a camera at pan 0 looks along -Z, so the
audience is on the +Z side. Signs: pan + right, tilt + up, roll + clockwise, truck + right, pedestal + up,
dolly + forward, arc + to the camera's right, crane + up. Heading 0 faces +Z (the audience) and 90 faces +X.

One shot is one TOML file, pleasant to type; everything left out is solved or has a good default:

    scene = "12"
    setup = "C"
    [time]
    duration_s = 2
    [frame]
    size = "MS"
    subject = "mara"
    [[moves]]
    type = "pan"
    amount_deg = 20
    from_s = 0
    to_s = 2
    ease = "smooth"
    [light.key]
    az_deg = -60
    cct_k = 3200
    [[subjects]]
    id = "mara"
    track = [{x_m = -1}, {x_m = 1.2, z_m = -0.5, speed_mps = 1.1}]
    [cast.mara]
    height_m = 1.68
    top = "#8a1f1f"

A value marked keyed may be a list of `{t_s, value, ease}`: at `t_s` it is `value`, having got there by `ease` from the
key before; before the first and after the last key it holds. None means not stated: solved by the blocking, or taken
from the preset. The declarations are the one table of fields: parsing, checking, errors, help and the desk read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from appliance.direction.camera import Camera, Format, Frame, Lens, Move, Time
from appliance.direction.constraints import check
from appliance.direction.fields import choice, integer, listing, named, nested, specs, string, word
from appliance.direction.notes import Continuity, Refs, Text, Tolerances
from appliance.direction.parsing import UnknownField, path_of, read, stated
from appliance.direction.staging import Character, Light, SetChoice, Subject
from models.errors import BadInput
from models.geometry import snap_frames


@dataclass(frozen=True, slots=True)
class ShotDirection:
    """One shot. Valid by construction: every value is read and checked, however it is built.

    Nested tables may be given as dataclasses or as dicts. Raises BadInput.
    """

    version: int = integer(1, "", 1, 1, "version of this format")
    scene: str = word("1", "scene, as on the slate")
    setup: str = string("A", "setup letters, as on the slate: A to Z without I and O, then AA", 2)
    take: int | None = integer(None, "", 1, 9999, "take; left out: the next")
    seed: int | None = integer(
        None, "", 0, 2**63 - 1, "noise seed: the same seed gives the same film; left out: chosen when queued"
    )
    quality: str = choice("take", ("draft", "take", "print"), "how much time to spend")
    model: str | None = string(None, "an installed model (see `rushes models`); left out: the shipped one", 80)
    time: Time = nested(Time, "length and frame rate")
    format: Format = nested(Format, "picture and sensor")
    set: SetChoice = nested(SetChoice, "the set and its dressing")
    frame: Frame = nested(Frame, "the framing that the pose is solved from")
    camera: Camera = nested(Camera, "the pose, when it is stated")
    lens: Lens = nested(Lens, "lens and shutter")
    moves: tuple[Move, ...] = listing(Move, "camera moves")
    light: Light = nested(Light, "the light plot")
    subjects: tuple[Subject, ...] = listing(Subject, "the people in the shot", 8)
    cast: tuple[Character, ...] = named(Character, "what each character looks like", 32)
    continuity: Continuity = nested(Continuity, "what must match")
    refs: Refs = nested(Refs, "reference pictures and footage")
    text: Text = nested(Text, "text for the model")
    tolerances: Tolerances = nested(Tolerances, "how far off a take may be")
    lock: tuple[str, ...] = string((), "paths of fields that nobody may change", 200, many=True)

    def __post_init__(self) -> None:
        of: type = type(self)
        for name, spec in specs(of).items():
            object.__setattr__(self, name, read(spec, getattr(self, name), name))
        check(self)

    @property
    def slate(self) -> str:
        """Scene and setup: "12C"."""
        return f"{self.scene}{self.setup}"

    @property
    def frames(self) -> int:
        """Frames to render, handles included: at least the length, on the model's grid of 4n+1."""
        return snap_frames(self.time.duration_s + 2 * self.time.handles_f / self.time.fps, self.time.fps)

    def frame_at(self, t_s: float) -> int:
        """The frame of the film at a time of the shot, handles included; never one of those after its end."""
        handles = self.time.handles_f
        return handles + min(round(t_s * self.time.fps), self.frames - 1 - 2 * handles)

    def character(self, subject: Subject) -> Character | None:
        """What a subject looks like, if the cast says so."""
        return next((card for card in self.cast if card.id == (subject.character or subject.id)), None)


def from_plain(data: Any) -> ShotDirection:
    """A direction from dicts, lists, strings and numbers. Raises BadInput for the first thing that is wrong."""
    try:
        return ShotDirection(**dict(stated(ShotDirection, data, "", {}, {})))
    except UnknownField as error:
        if path := path_of(error.asked, ShotDirection):
            raise BadInput(f'{error.where} is not a field: did you mean "{path}"?') from None
        raise
