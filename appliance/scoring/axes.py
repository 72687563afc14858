"""The axes a model is scored on: what is commanded, in seven doses, and how it is measured on a film.

Every film is a whole direction, solved as any other, in a set and with a person that no training shot has. A dose of 0
leaves the control out, so the film of dose 0, compared with the other doses, is what the model does without the
control: the second baseline. The first is the stage's own film, the third the films of other doses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from appliance.direction.document import from_toml
from appliance.direction.shot import ShotDirection
from appliance.measuring.camera import measure_camera
from appliance.measuring.ground_truth import GroundTruth
from appliance.measuring.light import Light, asked_light, measure_light
from appliance.measuring.subject import find_subject, recognise
from appliance.measuring.track import CameraTrack, angles, asked_camera
from models.stage import appearance as cast
from models.stage.blocking import Array, Blocking
from models.stage.render import project

SETS = ("room", "studio", "street")
SECONDS = 1.0
IDENTITIES = 8  # people among whom one is to be recognised
_SHOT = """
scene = "900"
setup = "S"
seed = {seed}
[time]
duration_s = {seconds}
[set]
name = "{place}"
seed = {set_seed}
[frame]
size = "{size}"
subject = "s"
[lens]
focal_mm = {focal}
[light]
ratio_stops = {ratio}
[light.key]
az_deg = {az}
el_deg = {el}
cct_k = {cct}
{move}
[[subjects]]
id = "s"
character = "{person}"
{track}
[cast.{person}]
bareheaded = true
"""


@dataclass(frozen=True, slots=True)
class Axis:
    """One control."""

    name: str
    unit: str
    doses: tuple[float, ...]
    tolerance: float  # of the mean absolute error (directing acceptance, the tolerances of a shot)
    shot: Callable[[float, int], ShotDirection]  # of a dose and a seed
    asked: Callable[[Blocking], float]  # by the blocking: what a perfect film measures
    measured: Callable[[Array, GroundTruth], float | None]  # on a film; None: it cannot be measured
    curve: Callable[[CameraTrack], Array] | None = None  # of a move of the camera: (T,) how far it has gone
    round: bool = False  # an angle, modulo 360

    @property
    def neutral(self) -> int:
        """The dose, by its number, that stands for the control left out: 0, or the middle one."""
        return len(self.doses) // 2


def shot(seed: int, *, move: str = "", size: str = "MWS", focal: float = 35, az: float = 45, el: float = 30,
         ratio: float = 2, cct: float = 5600, track: str = "", place: str | None = None) -> ShotDirection:  # fmt: skip
    """A direction with one thing commanded."""
    person = f"score-{seed}"
    return from_toml(_SHOT.format(
        seed=seed, seconds=SECONDS, place=place or SETS[seed % len(SETS)], set_seed=90_000 + seed, size=size,
        focal=focal, az=az, el=el, ratio=ratio, cct=cct, move=move, track=track, person=person,
    ))  # fmt: skip


def _move(kind: str, amount: str, dose: float) -> str:
    return f'[[moves]]\ntype = "{kind}"\n{amount} = {dose}\nease = "linear"' if dose else ""


def _camera(name: str, unit: str, kind: str, amount: str, doses: tuple[float, ...], tolerance: float,
            curve: Callable[[CameraTrack], Array], size: str = "WS") -> Axis:  # fmt: skip
    def measured(film: Array, ground: GroundTruth) -> float | None:
        track = measure_camera(film, ground)
        return float(curve(track)[-1]) if track.whole else None

    return Axis(name, unit, doses, tolerance, lambda dose, seed: shot(seed, move=_move(kind, amount, dose), size=size),
                lambda blocking: float(curve(asked_camera(blocking))[-1]), measured, curve)  # fmt: skip


def _light(name: str, unit: str, doses: tuple[float, ...], tolerance: float, read: Callable[[Light], float],
           build: Callable[[float, int], ShotDirection], round: bool = False) -> Axis:  # fmt: skip
    def asked(blocking: Blocking) -> float:
        return read(asked_light(blocking, blocking.frames // 2))

    def measured(film: Array, ground: GroundTruth) -> float | None:
        found = measure_light(film, ground, 0, ground.blocking.frames // 2)
        return None if found is None or found.fit < 0.5 else read(found)

    return Axis(name, unit, doses, tolerance, build, asked, measured, round=round)


def _crossing(dose: float, seed: int) -> ShotDirection:
    """A person who walks across by `dose` metres, the camera locked off."""
    marks = f"{{ t_s = 0.0, x_m = {-dose / 2}, z_m = 0.0 }}, {{ t_s = {SECONDS}, x_m = {dose / 2}, z_m = 0.0 }}"
    return shot(seed, track=f"track = [{marks}]", size="WS", move='[[moves]]\ntype = "static"')


def _walked(blocking: Blocking) -> float:
    """How far the person walks across the picture, in % of its diagonal."""
    chest = blocking.subjects[0].position[[0, -1]] + np.array([0, 1.0, 0])
    ends = [project(blocking, t, chest[i][None])[0][0, 0] for i, t in ((0, 0), (1, blocking.frames - 1))]
    return float(100 * (ends[1] - ends[0]) / np.hypot(blocking.width, blocking.height))


def _seen_walking(film: Array, ground: GroundTruth) -> float | None:
    blocking = ground.blocking
    found = find_subject(film, ground, 0, (0, blocking.frames - 1))
    if len(found) < 2 or not all(one.sure for one in found):
        return None
    diagonal = float(np.hypot(blocking.width, blocking.height))
    return _walked(blocking) + 100 * (found[1].offset_px[0] - found[0].offset_px[0]) / diagonal


def _size(film: Array, ground: GroundTruth) -> float | None:
    blocking = ground.blocking
    found = find_subject(film, ground, 0, (blocking.frames // 2,))
    return _height(blocking) + float(np.log2(found[0].size)) if found and found[0].sure else None


def _height(blocking: Blocking) -> float:
    """The person's height in the picture, as log2 of the picture's."""
    t = blocking.frames // 2
    away = float(np.linalg.norm(blocking.c2w[t, :, 3] - blocking.subjects[0].position[t]))
    return float(np.log2(blocking.subjects[0].appearance.height_m * blocking.focal_px[t] / away / blocking.height))


def identity(film: Array, ground: GroundTruth, seed: int) -> bool | None:
    """Whether the person of a film is recognised among IDENTITIES - 1 others; None where nobody was found."""
    blocking = ground.blocking
    found = find_subject(film, ground, 0, (blocking.frames // 2,))
    if not found:
        return None
    others = [cast.appearance(f"other-{seed}-{i}") for i in range(IDENTITIES - 1)]
    like = recognise(film, ground, 0, found[0], [blocking.subjects[0].appearance, *others])
    return None if like is None else like == 0


def _sizes(dose: float, seed: int) -> ShotDirection:
    return shot(seed, size=("EWS", "WS", "MWS", "MS", "MCU", "CU", "WS")[round(dose) % 7])


_TURN = (-15.0, -10.0, -5.0, 0.0, 5.0, 10.0, 15.0)
_GO = (-0.9, -0.6, -0.3, 0.0, 0.3, 0.6, 0.9)

AXES = (
    _camera("pan", "deg", "pan", "amount_deg", _TURN, 1.5, lambda c: angles(c)[:, 0]),
    _camera("tilt", "deg", "tilt", "amount_deg", tuple(d / 2 for d in _TURN), 1.5, lambda c: angles(c)[:, 1]),
    _camera("roll", "deg", "roll", "amount_deg", _TURN, 1.0, lambda c: angles(c)[:, 2]),
    _camera("truck", "m", "truck", "amount_m", _GO, 0.06, lambda c: c.position[:, 0]),
    _camera("pedestal", "m", "pedestal", "amount_m", tuple(d / 2 for d in _GO), 0.04,
            lambda c: -c.position[:, 1]),
    _camera("dolly", "m", "dolly", "amount_m", _GO, 0.06, lambda c: c.position[:, 2]),
    _camera("zoom", "octave", "zoom", "amount_x", (0.6, 0.7, 0.85, 0.0, 1.2, 1.5, 1.8), 0.06,
            lambda c: np.log2(c.focal_px / c.focal_px[0])),
    Axis("walk", "% of diagonal", (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5), 2.0, _crossing, _walked, _seen_walking),
    Axis("shot size", "octave", (0, 1, 2, 3, 4, 5, 6), 0.12, _sizes, _height, _size),
    _light("key azimuth", "deg", (-75, -50, -25, 0, 25, 50, 75), 10.0, lambda light: light.az_deg,
           lambda dose, seed: shot(seed, az=dose, size="MS", place="studio"), round=True),
    _light("key elevation", "deg", (5, 15, 25, 35, 45, 55, 65), 10.0, lambda light: light.el_deg,
           lambda dose, seed: shot(seed, el=dose, size="MS", place="studio")),
    _light("key ratio", "stops", (0.5, 1, 1.5, 2, 2.5, 3, 4), 0.35, lambda light: light.ratio_stops,
           lambda dose, seed: shot(seed, ratio=dose, size="MS", place="studio")),
    _light("key colour", "mired", (140, 165, 190, 215, 240, 275, 310), 25.0, lambda light: light.mired,
           lambda dose, seed: shot(seed, cct=1e6 / dose, size="MS", place="studio")),
)  # fmt: skip
