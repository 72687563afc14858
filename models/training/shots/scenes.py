"""Random directed shots for training, with every move, lens and lamp of the vocabulary: a pure function of a seed.

Seeds below TEST_SEEDS are for testing only and never trained on.
"""

from __future__ import annotations

import math

import numpy as np

from models.stage import appearance as cast
from models.stage import optics, sets
from models.stage.blocking import Array, Blocking, LightTrack, SubjectTrack
from models.stage.render import project, solid_of
from models.stage.solids import Solid

TEST_SEEDS = 10_000
ATTEMPTS = 12  # to sample a shot that is worth shooting
LENSES_MM = (18.0, 24.0, 25.0, 35.0, 35.0, 50.0, 50.0, 85.0, 135.0)
SENSOR_W_MM = 24.89
VISIBLE_M = (7.0, 2.6, 2.1, 2.1, 1.25, 0.95, 0.95, 0.62, 0.36)  # frame heights: EWS WS MWS MS MCU CU
FPS = 16.0
MOVES = (
    "pan", "tilt", "roll", "truck", "pedestal", "dolly", "arc", "crane", "zoom", "dolly_zoom", "handheld", "follow",
)  # fmt: skip
EASES = ("linear", "linear", "smooth", "in", "out", "exp(3)")


def shot(seed: int, frames: int, height: int, width: int) -> Blocking:
    """The shot of a seed: one to two people (or none) in a set, one or two camera moves, key, fill and rim.

    A shot that nobody would want is sampled again: a camera inside a building, or a person that few frames show.
    """
    rng = np.random.Generator(np.random.Philox(key=seed))
    sampled = _sample(rng, frames, height, width)
    for _ in range(ATTEMPTS - 1):
        if worth_shooting(sampled):
            break
        sampled = _sample(rng, frames, height, width)
    return sampled


def worth_shooting(blocking: Blocking) -> bool:
    """Whether the camera is in no solid, and half of five frames show the first person, if there is one."""
    checked = np.unique(np.linspace(0, blocking.frames - 1, 5).round().astype(int))
    walls = [solid_of(prop) for prop in blocking.set.props]
    eyes = [tuple(float(c) for c in blocking.c2w[t, :, 3]) for t in checked]
    if any(_inside(wall, eye) for wall in walls for eye in eyes):
        return False
    if not blocking.subjects:
        return True
    person = blocking.subjects[0]
    seen = [_sees(blocking, int(t), person, walls) for t in checked]
    return sum(seen) * 2 >= len(seen)


def _sees(blocking: Blocking, t: int, person: SubjectTrack, walls: list[Solid]) -> bool:
    """Whether the head or the chest of a person is in the picture and not occluded."""
    eye = blocking.c2w[t, :, 3]
    for share in (0.93, 0.72):
        point = person.position[t] + [0, share * person.appearance.height_m, 0]
        (x, y), depth = (found[0] for found in project(blocking, t, point[None]))
        if not (depth > 0.2 and 0 <= x < blocking.width and 0 <= y < blocking.height):
            continue
        reach = float(np.linalg.norm(point - eye))
        ray = [np.array([c]) for c in (point - eye) / reach]
        if all(float(wall.hit(np, [float(c) for c in eye], ray)[0]) > reach - 0.3 for wall in walls):
            return True
    return False


def _inside(solid: Solid, point: tuple[float, ...]) -> bool:
    """Whether a point is inside a solid: rays from far left and far right both hit the surface before the point."""
    middle, radius = solid.bound
    if math.dist(middle, point) > radius:
        return False
    far, x = 2 * radius + 1, point[0]
    from_left = solid.hit(np, [x - far, *point[1:]], [np.array([1.0]), np.array([0.0]), np.array([0.0])])
    from_right = solid.hit(np, [x + far, *point[1:]], [np.array([-1.0]), np.array([0.0]), np.array([0.0])])
    return bool(from_left[0] < far and from_right[0] < far)


def _sample(rng: np.random.Generator, frames: int, height: int, width: int) -> Blocking:
    u = np.arange(frames) / max(frames - 1, 1)
    seconds = frames / FPS
    subjects = tuple(_person(rng, i, u, seconds) for i in range(rng.choice([0, 1, 1, 1, 2])))
    target = np.array([0, 0.9, 0.0])
    if subjects:
        target = subjects[0].position[0] + [0, 0.55 * subjects[0].appearance.height_m, 0]
    c2w, focal, focus, distance = _camera(rng, u, target, subjects, width, height)
    lights, ambient = _lighting(rng, u, c2w)
    return Blocking(
        fps=FPS, width=width, height=height, c2w=c2w, focal_mm=focal, sensor_w_mm=SENSOR_W_MM, focus_m=focus,
        t_stop=float(rng.choice([1.4, 2.0, 2.8, 4.0, 8.0])), lights=lights, ambient=ambient,
        exposure_ev=np.full(frames, rng.choice([0.0, 0.0, 0.0, -1.0, 0.7])), subjects=subjects,
        set=sets.build(str(rng.choice(sets.NAMES)), int(rng.integers(2**31))), subject_distance_m=distance,
    )  # fmt: skip


def _person(rng, i: int, u: Array, seconds: float) -> SubjectTrack:
    look = cast.sample(rng)
    start = np.array([rng.uniform(-1.2, 1.2) + i * rng.choice([-1.0, 1.0]), 0.0, rng.uniform(-1.0, 0.8)])
    heading = float(rng.uniform(-180, 180))
    if rng.random() < 0.6:  # walks
        speed = float(rng.uniform(0.4, 1.6))
        ahead = np.array([np.sin(np.radians(heading)), 0, np.cos(np.radians(heading))])
        way = optics.ease(u, rng.choice(["linear", "smooth", "in", "out"])) * speed * seconds
        start = start - ahead * way[-1] / 2
        path = start + ahead * way[:, None]
        gait = np.clip(np.gradient(way) * FPS / 1.0, 0, 1)
        return SubjectTrack(f"s{i}", look, path, np.full(len(u), heading), way / (0.8 * look.height_m), gait)
    turn = float(rng.choice([0.0, 0.0, 1.0])) * rng.uniform(-120, 120)
    still = np.zeros(len(u))
    heading = heading + optics.ease(u) * turn
    pose = "sit" if rng.random() < 0.12 else "stand"
    return SubjectTrack(f"s{i}", look, np.tile(start, (len(u), 1)), heading, still, still, pose)


def _camera(rng, u: Array, target: Array, subjects, width: int, height: int):
    """A framing of the target, then moves on top: c2w, focal lengths, focus, and the distance to the target."""
    focal = float(rng.choice(LENSES_MM))
    visible = float(rng.choice(VISIBLE_M)) * rng.uniform(0.85, 1.2)
    distance = float(np.clip(visible * focal / (SENSOR_W_MM * height / width), 1.0, 9.0))
    azimuth = np.radians(rng.uniform(-70, 70))
    elevation = np.radians(rng.choice([0, 3, 8, 15, 30, -8]) + rng.uniform(-2, 2))
    if visible < 1.3 and subjects:  # closer framings look at the head
        target = subjects[0].position[len(u) // 2] + [0, subjects[0].appearance.height_m * (0.9 - 0.25 * visible), 0]
    direction = np.array([np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)])
    eye = np.asarray(target) + distance * direction
    eye[1] = max(eye[1], 0.15)
    pan0, tilt0 = optics.aim(eye, np.asarray(target) + rng.normal(0, 0.06, 3) * distance)
    position, pan, tilt = np.tile(eye, (len(u), 1)), np.full(len(u), pan0), np.full(len(u), tilt0)
    roll, focals = np.zeros(len(u)), np.full(len(u), focal)
    for _ in range(rng.choice([0, 1, 1, 1, 1, 2])):
        move = rng.choice(MOVES)
        begin, end = sorted(rng.uniform(-0.2, 1.2, 2)) if rng.random() < 0.4 else (0.0, 1.0)
        e = optics.ease((u - begin) / max(end - begin, 0.2), rng.choice(EASES))
        size = rng.uniform(-1, 1)
        flat = np.radians(pan0)
        right, ahead = np.array([np.cos(flat), 0, np.sin(flat)]), np.array([np.sin(flat), 0, -np.cos(flat)])
        if move == "pan":
            pan = pan + 40 * size * e
        elif move == "tilt":
            tilt = tilt + 20 * size * e
        elif move == "roll":
            roll = roll + 25 * size * e
        elif move == "truck":
            position = position + right * (0.7 * distance * size * e)[:, None]
        elif move == "pedestal":
            position = position + np.array([0, 0.4 * distance * size, 0]) * e[:, None]
        elif move == "dolly":
            position = position + ahead * (0.5 * distance * size * e)[:, None]
        elif move in ("arc", "crane"):
            position, pan, tilt = _orbit(position, target, pan, tilt, 60 * size * e, vertical=move == "crane")
        elif move == "zoom":
            focals = focals * 2.0 ** (size * e)
        elif move == "dolly_zoom":
            travel = 0.5 * distance * size * e
            position = position + ahead * travel[:, None]
            focals = focals * (distance - travel) / distance
        elif move == "handheld":
            for axis in (pan, tilt, roll):
                axis += _shake(rng, len(u), rng.uniform(0.1, 0.8))
        elif move == "follow" and subjects:
            seen = subjects[0].position + (np.asarray(target) - subjects[0].position[0]) * [0, 1, 0]
            p, q = optics.aim(position, seen)
            pan, tilt = pan + (p - p[0]), tilt + (q - q[0])
    position[:, 1] = np.maximum(position[:, 1], 0.1)
    c2w = np.concatenate([optics.rotation(pan, tilt, roll), position[:, :, None]], 2)
    focus = np.full(len(u), distance)
    if rng.random() < 0.15:  # rack
        focus = distance * (1 + (rng.choice([0.5, 2.0, 4.0]) - 1) * optics.ease(u))
    return c2w, np.clip(focals, 12, 200), focus, distance


def _orbit(position, target, pan, tilt, degrees, *, vertical: bool):
    """Travel around the target; the camera turns with it, so the target stays where it is in the picture."""
    before = optics.aim(position, target)
    away = position - target
    radius, azimuth = np.linalg.norm(away, axis=1), np.arctan2(away[:, 0], away[:, 2])
    elevation = np.arcsin(np.clip(away[:, 1] / radius, -1, 1))
    if vertical:
        elevation = np.clip(elevation + np.radians(degrees / 2), -0.2, 1.2)
    else:
        azimuth = azimuth + np.radians(degrees)
    ring = np.stack([np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)], 1)
    moved = target + radius[:, None] * ring
    after = optics.aim(moved, target)
    turn = (after[0] - before[0] + 180) % 360 - 180
    return moved, pan + turn, tilt + after[1] - before[1]


def _shake(rng, frames: int, rms_deg: float) -> Array:
    """Band-limited noise, 0.5 to 3 Hz."""
    t = np.arange(frames) / FPS
    wave = sum(np.sin(2 * np.pi * rng.uniform(0.5, 3.0) * t + rng.uniform(0, 6.28)) for _ in range(4))
    return rms_deg * wave / np.sqrt(2.0)


def _lighting(rng, u: Array, c2w: Array) -> tuple[tuple[LightTrack, ...], Array]:
    """Key, fill and rim around the camera's axis of frame 0; a fifth of the shots moves or dims the key."""
    ahead = c2w[0, :, 2]
    front = np.degrees(np.arctan2(-ahead[0], -ahead[2]))  # azimuth of the camera seen from the subject
    changing = rng.random() < 0.2
    key_az = rng.uniform(-180, 180) if rng.random() < 0.4 else rng.uniform(-90, 90)
    drift = rng.uniform(-90, 90) * optics.ease(u) if changing and rng.random() < 0.5 else 0 * u
    dim = rng.uniform(-3, 1) * optics.ease(u) if changing else 0 * u
    key_k, other_k = rng.uniform(150, 420, 2)  # mired
    low_key = rng.random() < 0.3
    key_el, key_stops, key_size = rng.uniform(5, 70), rng.uniform(-0.7, 0.4) + dim, rng.choice([0.5, 5, 20, 40])
    key = _lamp("key", front + key_az + drift, key_el, key_stops, 1e6 / key_k, key_size)
    fill_az = front - np.sign(key_az) * rng.uniform(20, 70) + 0 * u
    fill = _lamp("fill", fill_az, rng.uniform(0, 40), -rng.uniform(0.5, 5) + 0 * u, 1e6 / other_k, 60)
    rim_az, rim_el = front + 180 + rng.uniform(-40, 40) + 0 * u, rng.uniform(20, 60)
    rim = _lamp("rim", rim_az, rim_el, -rng.uniform(-0.5, 6) + 0 * u, 1e6 / rng.uniform(110, 400), 8)
    room = (0.02 if low_key else rng.uniform(0.06, 0.3)) * optics.kelvin_rgb(1e6 / rng.uniform(130, 300))
    return (key, fill, rim), np.tile(room, (len(u), 1))


def _lamp(name: str, az_deg: Array, el_deg: float, stops: Array, kelvin: float, size_deg: float) -> LightTrack:
    az, el = np.radians(az_deg), np.radians(el_deg)
    toward = np.stack([np.sin(az) * np.cos(el), np.sin(el) + 0 * az, np.cos(az) * np.cos(el)], 1)
    return LightTrack(name, toward, 2.0 ** stops[:, None] * optics.kelvin_rgb(kelvin), float(size_deg))
