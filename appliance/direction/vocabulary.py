"""Film terms as numbers: shot sizes, angles, sides, moves and easings, each defined once.

Film terms are used differently across the industry, so each is defined here in degrees, metres or ratios; validation,
blocking, the desk and the help all read these tables.
"""

from __future__ import annotations

from dataclasses import dataclass

STANDING_M = 1.75  # the person that the table of sizes is written for
SEATED_DROP = 0.225  # of a standing height: how much lower the head of a seated person is


@dataclass(frozen=True, slots=True)
class Size:
    """A shot size: metres that the frame's height covers at a 1.75 m person, and the headroom."""

    name: str
    visible_m: float
    headroom_pct: float  # of the frame's height, above the crown; negative crops the crown
    help: str


# Headroom: wide sizes leave room over the head; from the chest up the eyes lie on the upper third
# (eyes at 1.638 m: top edge = 1.638 + visible / 3, crown at 1.75).
SIZES = {
    size.name: size
    for size in (
        Size("ECU", 0.16, -36.7, "extreme close-up: eyes to mouth"),
        Size("CU", 0.36, 2.2, "close-up: head and neck"),
        Size("MCU", 0.62, 15.3, "medium close-up: chest up"),
        Size("MS", 0.95, 10.0, "medium shot: waist up"),
        Size("MWS", 1.25, 10.0, "medium wide, cowboy: mid-thigh up"),
        Size("WS", 2.10, 9.0, "wide, full shot: head to toe with room"),
        Size("EWS", 7.00, 55.0, "extreme wide: a small figure in its surroundings"),
    )
}
SIZE_ALIASES = {"FS": "WS", "LS": "WS", "full": "WS", "wide": "WS", "cowboy": "MWS", "medium": "MS", "close-up": "CU",
                "ELS": "EWS", "XCU": "ECU", "XWS": "EWS", "medium wide": "MWS", "medium close-up": "MCU",
                "extreme close-up": "ECU", "extreme wide": "EWS"}  # fmt: skip

# Degrees of the camera above (+) or below (-) what it looks at. "eye" stands at the subject's eyes instead,
# "ground" at 0.2 m; "dutch" is eye level with a roll.
ANGLES = {"eye": 0.0, "high": 25.0, "low": -20.0, "birds_eye": 80.0, "worms_eye": -65.0, "ground": 0.0, "dutch": 0.0}
ANGLE_ALIASES = {"eye level": "eye", "bird's eye": "birds_eye", "worm's eye": "worms_eye", "ground level": "ground",
                 "overhead": "birds_eye", "top": "birds_eye", "canted": "dutch"}  # fmt: skip
DUTCH_ROLL_DEG = 12.0
GROUND_CAMERA_M = 0.2

# Degrees around the subject: 0 stands in front; + is where an arc of + degrees from the front ends (the subject's own
# left). "_left" and "_right" are where the subject faces on screen.
SIDES = {
    "front": 0.0, "three_quarter_left": 45.0, "three_quarter_right": -45.0,
    "profile_left": 90.0, "profile_right": -90.0,
    "three_quarter_back_left": 135.0, "three_quarter_back_right": -135.0, "back": 180.0,
}  # fmt: skip
SIDE_ALIASES = {"three quarter": "three_quarter_left", "3/4": "three_quarter_left", "profile": "profile_left",
                "three quarter back": "three_quarter_back_left", "behind": "back", "frontal": "front"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Amount:
    """A field that states how far a move goes: its name, unit and range."""

    key: str
    unit: str
    lo: float
    hi: float


@dataclass(frozen=True, slots=True)
class MoveKind:
    """What a move is: the amounts it may state (the first is usual, exactly one is stated), and what + and - mean."""

    name: str
    amounts: tuple[Amount, ...]
    plus: str
    minus: str
    help: str
    target: str = "never"  # "never" | "may" name a subject or a point
    default: float | None = None  # of the first amount, when none is stated

    @property
    def signed(self) -> bool:
        """Whether its amount may be negative."""
        return bool(self.amounts) and self.amounts[0].lo < 0

    def towards(self, amount: float) -> str:
        """The word for the sign of an amount: "right", "up", "backward"."""
        return self.minus if amount < 0 else self.plus


HANDHELD_DEG = 0.5  # rms of a steady hand, when none is stated
_DEG, _M = "amount_deg", "amount_m"
MOVES = {
    kind.name: kind
    for kind in (
        MoveKind("pan", (Amount(_DEG, "deg", -360, 360),), "right", "left",
                 "turn about the vertical; the camera stays where it is"),
        MoveKind("tilt", (Amount(_DEG, "deg", -120, 120),), "up", "down",
                 "turn up or down; the camera stays where it is"),
        MoveKind("roll", (Amount(_DEG, "deg", -360, 360),), "clockwise", "counterclockwise", "turn about the lens"),
        MoveKind("truck", (Amount(_M, "m", -50, 50),), "right", "left",
                 "travel sideways on level rails laid when the move starts"),
        MoveKind("pedestal", (Amount(_M, "m", -50, 50),), "up", "down",
                 "rise or sink straight along the world's vertical"),
        MoveKind("dolly", (Amount(_M, "m", -50, 50),), "forward", "backward",
                 "travel forward or backward on level rails laid when the move starts"),
        MoveKind("arc", (Amount(_DEG, "deg", -360, 360),), "right", "left",
                 "circle the target, which stays where it is in frame", "may"),
        MoveKind("crane", (Amount(_DEG, "deg", -85, 85),), "up", "down",
                 "rise on a circle in the vertical plane around the target; with boom_m: on an arm that long, keeping "
                 "its aim", "may"),
        MoveKind("zoom", (Amount("amount_x", "x", 0.1, 10), Amount("to_mm", "mm", 12, 200)), "tighter", "wider",
                 "change the focal length only"),
        MoveKind("dolly_zoom", (Amount(_M, "m", -50, 50),), "forward", "backward",
                 "travel along the lens while the focal length keeps the target's size", "may"),
        MoveKind("handheld", (Amount(_DEG, "deg", 0, 2),), "more", "less",
                 "a steady hand's shake: rms of pan and of tilt, 0.5 to 3 Hz", default=HANDHELD_DEG),
        MoveKind("rack_focus", (Amount("to_m", "m", 0.2, 10000),), "farther", "nearer",
                 "pull focus to a distance, or to a target", "may"),
        MoveKind("static", (), "", "", "locked off: no camera movement while it lasts"),
    )
}  # fmt: skip
MOVE_ALIASES = {"push": "dolly", "push in": "dolly", "orbit": "arc", "jib": "crane", "boom": "pedestal",
                "locked off": "static", "rack": "rack_focus", "vertigo": "dolly_zoom", "zolly": "dolly_zoom",
                "dollyzoom": "dolly_zoom"}  # fmt: skip

EASES = ("linear", "smooth", "in", "out", "hold", "exp(a)")
FOCAL_LIMITS_MM = (6.0, 600.0)  # where a zoom or dolly zoom may take a 12 to 200 mm lens

WALK_MPS = 1.2  # how fast somebody walks to a mark that states neither time nor speed


def fold(word: str) -> str:
    """A word normalised for comparison: case, spaces, hyphens and apostrophes do not matter."""
    return "_".join(word.replace("-", " ").replace("_", " ").replace("'", "").replace("\u2019", "").casefold().split())
