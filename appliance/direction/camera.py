"""The camera's part of a direction: time, picture, framing, pose, moves, lens.

Conventions and the form of a shot file are in `appliance.direction.shot`.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass

from appliance.direction import vocabulary as words
from appliance.direction.fields import Keyed, KeyedPoint, Point, choice, ease, integer, nested, number, word
from models.geometry import snap_pixels


@dataclass(frozen=True, slots=True)
class Time:
    """Length and frame rate."""

    duration_s: float = number(2.0, "s", 0.5, 30, "length of the shot; it is snapped to 4n+1 frames")
    fps: float = number(16.0, "frames/s", 12, 30, "frames a second")
    handles_f: int = integer(0, "frames", 0, 48, "extra frames before and after, for the editor")


@dataclass(frozen=True, slots=True)
class Format:
    """The picture's size and the sensor's."""

    width: int = integer(224, "pixels", 64, 1920, "width of the picture; snapped to a multiple of 16")
    height: int = integer(128, "pixels", 64, 1920, "height of the picture; snapped to a multiple of 16")
    sensor_w_mm: float = number(24.89, "mm", 4, 70, "width of the sensor: Super 35 is 24.89, full frame 36")
    sensor_h_mm: float | None = number(None, "mm", 3, 70, "height of the sensor: the picture is the largest that fits; "
                                       "left out, the picture's longer side spans sensor_w_mm")  # fmt: skip

    def film_back_mm(self) -> tuple[float, float]:
        """Width and height of the part of the sensor that the (snapped) picture uses.

        224 x 128 on 24.89 mm uses 24.89 x 14.22. A portrait picture is a camera turned on its side.
        """
        aspect = snap_pixels(self.width) / snap_pixels(self.height)
        if self.sensor_h_mm is None:
            return (
                (self.sensor_w_mm, self.sensor_w_mm / aspect)
                if aspect >= 1
                else (self.sensor_w_mm * aspect, self.sensor_w_mm)
            )
        width = min(self.sensor_w_mm, self.sensor_h_mm * aspect)
        return width, width / aspect


@dataclass(frozen=True, slots=True)
class FrameEnd:
    """The framing that the shot ends on; what is left out stays as it starts."""

    size: str | None = choice(None, tuple(words.SIZES), "shot size at the end", words.SIZE_ALIASES)
    angle: str | None = choice(None, tuple(words.ANGLES), "angle at the end", words.ANGLE_ALIASES)
    side: str | None = choice(None, tuple(words.SIDES), "side at the end", words.SIDE_ALIASES)
    elevation_deg: float | None = number(None, "deg", -85, 85, "camera above what it looks at, at the end")
    side_deg: float | None = number(None, "deg", -180, 180, "where the camera stands around the subject, at the end")
    headroom_pct: float | None = number(None, "% of height", -60, 80, "room over the head at the end")
    offset_pct: tuple[float, float] | None = number(
        None, "% of frame", -45, 45, "right and up of the centre, at the end", size=2
    )
    ease: str = ease()


@dataclass(frozen=True, slots=True)
class Frame:
    """The framing that the camera's pose is solved from, when the pose itself is not stated."""

    size: str | None = choice(None, tuple(words.SIZES), "shot size; left out: medium wide", words.SIZE_ALIASES)
    angle: str | None = choice(None, tuple(words.ANGLES), "angle; left out: eye level", words.ANGLE_ALIASES)
    side: str | None = choice(
        None, tuple(words.SIDES), "side of the subject that the camera sees; left and right: where the subject faces "
        "on screen; left out: from the audience", words.SIDE_ALIASES,
    )  # fmt: skip
    elevation_deg: float | None = number(None, "deg", -85, 85, "camera above (+) what it looks at; overrides angle")
    side_deg: float | None = number(
        None, "deg", -180, 180, "where the camera stands around the subject: 0 in front, + at its left; overrides side"
    )
    subject: str | None = word(None, 'id of the subject framed, or "all"; left out: the first')
    headroom_pct: float | None = number(None, "% of height", -60, 80, "room over the head; left out: by size")
    offset_pct: tuple[float, float] = number(
        (0.0, 0.0), "% of frame", -45, 45, "position of the subject: right and up of the centre", size=2
    )
    end: FrameEnd = nested(FrameEnd, "the framing the shot ends on")


@dataclass(frozen=True, slots=True)
class Shake:
    """A shake over the whole shot: band-limited noise, the same on every machine."""

    rot_rms_deg: float = number(0.0, "deg", 0, 2, "rms of pan and of tilt")
    pos_rms_m: float = number(0.0, "m", 0, 0.05, "rms of each axis of the camera's position")
    hz_lo: float = number(0.5, "Hz", 0.1, 12, "slowest shake")
    hz_hi: float = number(3.0, "Hz", 0.1, 12, "fastest shake")
    seed: int = integer(0, "", 0, 2**31 - 1, "seed of the shake; handheld moves use it too")


@dataclass(frozen=True, slots=True)
class Camera:
    """The camera's pose, when it is stated rather than solved from the frame. Moves add to it."""

    pos_m: KeyedPoint | None = number(
        None, "m", -100, 100, "position x, y, z; y is the height above the floor", keyed=True, size=3
    )
    pan_deg: Keyed | None = number(None, "deg", -720, 720, "0 looks along -Z, + right", keyed=True)
    tilt_deg: Keyed | None = number(None, "deg", -90, 90, "+ up", keyed=True)
    roll_deg: Keyed | None = number(None, "deg", -360, 360, "+ clockwise", keyed=True)
    look_at: str | KeyedPoint | None = number(
        None, "m", -100, 100, "the subject or point it keeps in frame; overrides pan and tilt", keyed=True, size=3,
        or_word=True,
    )  # fmt: skip
    follow: str | None = word(None, "subject the camera travels with")
    shake: Shake = nested(Shake, "shake over the whole shot")


@dataclass(frozen=True, slots=True)
class Move:
    """One camera move. Moves that overlap add up; the others follow in time."""

    type: str = choice(MISSING, tuple(words.MOVES), "what the camera does", words.MOVE_ALIASES)
    amount_deg: float | None = number(
        None, "deg", -360, 360, "how far: pan + right, tilt + up, roll + clockwise, arc + right, crane + up"
    )
    amount_m: float | None = number(None, "m", -50, 50, "how far: truck + right, pedestal + up, dolly + forward")
    amount_x: float | None = number(None, "x", 0.1, 10, "zoom: the focal length is multiplied by this")
    to_mm: float | None = number(None, "mm", 12, 200, "zoom: the focal length it ends on")
    to_m: float | None = number(None, "m", 0.2, 10000, "rack_focus: the distance it ends on")
    from_s: float = number(0.0, "s", 0, 30, "when it starts")
    to_s: float | None = number(None, "s", 0, 30, "when it ends; left out: with the shot")
    ease: str = ease()
    target: str | Point | None = number(
        None, "m", -100, 100, "the subject or point it refers to; left out: the framed subject", size=3, or_word=True
    )  # fmt: skip
    boom_m: float | None = number(None, "m", 0.5, 15, "crane: length of its arm; left out: the distance to the target")


@dataclass(frozen=True, slots=True)
class Lens:
    """The lens and the shutter."""

    focal_mm: Keyed = number(35.0, "mm", 12, 200, "focal length; with keys: a zoom", keyed=True)
    focus_m: Keyed | None = number(
        None, "m", 0.2, 10000, "focus distance; with keys: a focus pull; left out: follows focus_on", keyed=True
    )
    focus_on: str | None = word(None, "subject that stays in focus; left out: the framed subject")
    t_stop: float = number(4.0, "", 1.2, 22, "sets the depth of field; exposure stays as set by light.exposure_ev")
    shutter_deg: float = number(180.0, "deg", 45, 360, "shutter angle")
    squeeze: float = number(1.0, "x", 1, 2, "anamorphic squeeze")
    k1: float = number(0.0, "", -0.5, 0.5, "radial distortion, - barrel")
