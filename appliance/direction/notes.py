"""What accompanies a shot: continuity, references, text, tolerances."""

from __future__ import annotations

from dataclasses import MISSING, dataclass

from appliance.direction.fields import choice, listing, number, string


@dataclass(frozen=True, slots=True)
class Continuity:
    """What must match the shots around it."""

    prev: str | None = string(None, "the take before, as 12B T2", 40)
    axis_side: str | None = choice(None, ("left", "right"), "side of the line of action the camera stays on")
    match: str = string("", "what must match, in words")
    light_state: str = string("", "the scene's light, by name", 80)
    wardrobe_state: str = string("", "the wardrobe's state, by name", 80)


@dataclass(frozen=True, slots=True)
class RefFrame:
    """A picture that a frame should match."""

    t_s: float = number(MISSING, "s", 0, 30, "when")
    path: str = string(MISSING, "path of the picture")


@dataclass(frozen=True, slots=True)
class Refs:
    """Reference pictures and footage. Files are read when the shot is rendered."""

    first: str | None = string(None, "path of the first frame")
    last: str | None = string(None, "path of the last frame")
    keyframes: tuple[RefFrame, ...] = listing(RefFrame, "frames in between", 16)
    control_video: str | None = string(None, "path of a control video")
    mask: str | None = string(None, "path of a mask video: white is generated anew")
    previs: str | None = string(None, "path of your own previs")


@dataclass(frozen=True, slots=True)
class Text:
    """Text for models that read a prompt; it never replaces the numbers of a direction."""

    action: str = string("", "what happens", 2000, lines=True)
    style: str = string("", "how it looks", 1000, lines=True)
    negative: str = string("", "what should not be seen", 1000, lines=True)


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How far a take may be from what was asked and still be ok."""

    pan_deg: float = number(1.5, "deg", 0, 90, "pan and tilt")
    roll_deg: float = number(1.0, "deg", 0, 90, "roll")
    travel_pct: float = number(6.0, "%", 0, 100, "dolly, truck, pedestal: of the path")
    zoom_pct: float = number(4.0, "%", 0, 100, "focal length")
    drift_px: float = number(0.15, "px/frame", 0, 20, "a locked-off camera")
    subject_pct: float = number(2.0, "% of diagonal", 0, 100, "a subject's position in the frame")
    key_az_deg: float = number(10.0, "deg", 0, 180, "the key's azimuth")
    key_el_deg: float = number(10.0, "deg", 0, 90, "the key's elevation")
    ratio_stops: float = number(0.35, "stops", 0, 10, "the lighting ratio")
    cct_mired: float = number(25.0, "mired", 0, 500, "colour temperature")
    cross_talk_pct: float = number(8.0, "%", 0, 100, "motion on an axis that was not asked for")
