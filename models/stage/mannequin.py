"""A jointed person built from capsules: proportions from the appearance, limbs from the walk cycle.

All lengths are fractions of the standing height, after Winter, Biomechanics and Motor Control of Human
Movement, fig. 4.1 (ankle 0.039, knee 0.285, hip 0.530, shoulder 0.818, chin 0.870).
"""

from __future__ import annotations

import math

from models.stage.blocking import RGB, SubjectTrack
from models.stage.solids import Capsule

HIP, KNEE, ANKLE, SHOULDER = 0.530, 0.285, 0.039, 0.818
THIGH, SHIN = HIP - KNEE, KNEE - ANKLE
UPPER_ARM, FOREARM = 0.186, 0.146
SWING_DEG, KNEE_DEG, ARM_DEG = 28.0, 45.0, 22.0  # of a full walking stride
EYES = 0.936  # height of the eyes, for framing and gaze

Part = tuple[Capsule, RGB]


def parts(track: SubjectTrack, t: int) -> list[Part]:
    """The capsules of a person at frame t, in world metres, each with its linear colour."""
    look = track.appearance
    tall, wide = look.height_m, look.build
    yaw = math.radians(float(track.heading_deg[t]))
    x0, y0, z0 = (float(c) for c in track.position[t])
    phase, gait = 2 * math.pi * float(track.stride[t]), float(track.gait[t])
    seated = track.pose == "sit"
    legs = [(side, *_leg_angles(phase + offset, gait, seated)) for side, offset in ((1.0, 0.0), (-1.0, math.pi))]
    # The lower foot carries the body: a stride lowers the hip instead of lifting the feet.
    standing = max(THIGH * math.cos(swing) + SHIN * math.cos(swing - bend) for _, swing, bend in legs)
    hip_height = (KNEE + 0.02) if seated else ANKLE + standing

    def world(side: float, up: float, ahead: float) -> RGB:
        """Body axes (its left, up, ahead; fractions of the height) to world metres."""
        s, c = math.sin(yaw), math.cos(yaw)
        side, up, ahead = side * tall, up * tall, ahead * tall
        return x0 + c * side + s * ahead, y0 + up, z0 - s * side + c * ahead

    found: list[Part] = []

    def limb(a, b, radius, color):
        found.append((Capsule(world(*a), world(*b), radius * tall), color))

    lift = hip_height - HIP  # everything above the hip moves with it
    lean = 0.02 * gait
    shoulder = SHOULDER + lift
    limb((-0.045 * wide, HIP + lift + 0.02, 0.0), (0.045 * wide, HIP + lift + 0.02, 0.0), 0.072 * wide, look.bottom)
    limb((0, HIP + lift + 0.07, 0.0), (0, shoulder - 0.075, lean), 0.082 * wide, look.top)
    limb((-0.085 * wide, shoulder - 0.035, lean), (0.085 * wide, shoulder - 0.035, lean), 0.048 * wide, look.top)
    _head(found, world, look, lift, lean, tall)
    for side, swing, bend in legs:
        _leg(limb, look, side, hip_height, swing, bend)
        step = phase if side < 0 else phase + math.pi  # an arm swings with the other side's leg
        _arm(limb, look, side * wide, shoulder - 0.03, lean, step, gait, seated)
    return found


def _head(found, world, look, lift, lean, tall):
    def ball(at, radius, color, to=None):
        found.append((Capsule(world(*at), world(*(to or at)), radius * tall), color))

    up, ahead = lift, 1.5 * lean
    ball((0, 0.835 + up, lean), 0.030, look.skin, (0, 0.875 + up, ahead))  # neck
    ball((0, 0.905 + up, ahead + 0.004), 0.047, look.skin, (0, 0.938 + up, ahead + 0.002))
    ball((0, 0.915 + up, ahead + 0.052), 0.008, look.skin, (0, 0.930 + up, ahead + 0.046))  # nose
    dark = (0.02, 0.02, 0.02)
    for side in (-1, 1):
        ball((0.019 * side, EYES + up, ahead + 0.044), 0.0065, dark)
    ball((0, 0.950 + up, ahead - 0.012), 0.050, look.hair)
    if look.long_hair:
        ball((0, 0.930 + up, ahead - 0.030), 0.042, look.hair, (0, 0.845 + up, ahead - 0.042))
    if look.hat:
        ball((0, 0.985 + up, ahead - 0.004), 0.046, look.hat)
        ball((-0.03, 0.966 + up, ahead + 0.01), 0.032, look.hat, (0.03, 0.966 + up, ahead + 0.01))


def _leg_angles(phase, gait, seated):
    """How far a thigh swings ahead and a knee bends, in radians, at a phase of the walk."""
    if seated:
        return math.radians(85.0), math.radians(85.0)
    swing = math.radians(SWING_DEG * gait * math.sin(phase))
    return swing, math.radians(KNEE_DEG * gait * max(0.0, math.cos(phase)))  # bends as it swings forward


def _leg(limb, look, side, hip_height, swing, bend):
    x = 0.052 * side
    knee = (x, hip_height - THIGH * math.cos(swing), THIGH * math.sin(swing))
    ankle = (x, knee[1] - SHIN * math.cos(swing - bend), knee[2] + SHIN * math.sin(swing - bend))
    color = look.top if look.coat else look.bottom
    limb((x, hip_height, 0.0), knee, 0.060 if look.coat else 0.050, color)
    limb(knee, ankle, 0.036, look.bottom)
    limb((x, ankle[1] - 0.012, ankle[2]), (x, ankle[1] - 0.014, ankle[2] + 0.075), 0.025, look.shoes)


def _arm(limb, look, side, height, lean, phase, gait, seated):
    swing = math.radians(35.0 if seated else ARM_DEG * gait * math.sin(phase))
    bend = math.radians(60.0 if seated else 8.0 + 14.0 * gait)
    top = (0.118 * side, height, lean)
    elbow = (0.138 * side, height - UPPER_ARM * math.cos(swing), lean + UPPER_ARM * math.sin(swing))
    hand = (0.140 * side, elbow[1] - FOREARM * math.cos(swing + bend), elbow[2] + FOREARM * math.sin(swing + bend))
    limb(top, elbow, 0.029, look.top)
    limb(elbow, hand, 0.023, look.top if look.coat else look.skin)
    limb(hand, hand, 0.028, look.skin)
