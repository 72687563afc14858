"""The product's promise, on the shipped weights: a shot file becomes the film that it directs, the same one each time.

Direction is measured: pans by phase correlation of neighbouring frames, light by the brightness of the two sides of a
person. The stage only gives the position of the person.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from appliance.blocking.solve import block
from appliance.direction.document import from_toml
from models.events import Decoded, Event, Loaded, Settings, Stepped
from models.rendering.render import render
from models.stage import render as stage
from models.stage.blocking import Blocking
from models.training.release import SHIPPED

FRAMES, STEPS = 17, 4
SHOT = """
scene = "1"
setup = "A"
[time]
duration_s = 1.0
[set]
name = "{place}"
seed = 3
[frame]
size = "{size}"
subject = "mara"
[light]
ratio_stops = 3
[light.key]
az_deg = {key}
el_deg = 25
[[moves]]
type = "pan"
amount_deg = {pan}
ease = "linear"
[[subjects]]
id = "mara"
[cast.mara]
bareheaded = true
top = "#8a8a8a"
"""


def events_of(blocking: Blocking, seed: int) -> list[Event]:
    """What a render reports, the frames included."""
    return list(render(blocking, Settings(STEPS, seed), SHIPPED))


def film_of(events: list[Event]) -> np.ndarray:
    """The frames (T, h, w, 3) that a render reported."""
    return np.concatenate([event.frames for event in events if isinstance(event, Decoded)])


def shoot(pan: float = 0.0, key: float = -40.0, place: str = "room", size: str = "MS", seed: int = 5):
    """The film (T, h, w, 3) of a shot, and its blocking."""
    blocking = block(from_toml(SHOT.format(pan=pan, key=key, place=place, size=size)))
    return film_of(events_of(blocking, seed)), blocking


@pytest.fixture(scope="module")
def events():
    """One render of the shot with seed 5."""
    return events_of(block(from_toml(SHOT.format(pan=0.0, key=-40.0, place="room", size="MS"))), seed=5)


@pytest.fixture(scope="module")
def film(events):
    return film_of(events)


@pytest.fixture(scope="module")
def pans():
    """The film and the blocking of a pan to either side, by its degrees."""
    return {degrees: shoot(pan=degrees, size="WS") for degrees in (20.0, -20.0)}


def test_the_same_shot_and_seed_give_the_same_frames(film):
    assert np.array_equal(shoot(seed=5)[0], film)


def test_another_seed_gives_another_film(film):
    assert not np.array_equal(shoot(seed=6)[0], film)


def test_a_render_reports_every_step_and_every_frame_once(events):
    assert isinstance(events[0], Loaded) and len(events[0].weights_sha256) == 64
    assert [(e.index, e.of) for e in events if isinstance(e, Stepped)] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    chunks = [e for e in events if isinstance(e, Decoded)]
    assert [c.first for c in chunks] == [0, 1, 5, 9, 13] and sum(len(c.frames) for c in chunks) == FRAMES


def test_a_film_is_a_picture_and_it_moves_as_the_stage_does(pans):
    film, blocking = pans[20.0]
    true = np.stack([frame.rgb for frame in stage.render(blocking)])
    assert 0.02 < film.mean() < 0.98 and film.std() > 0.05, "black, white or flat"
    error = np.sqrt(np.mean((film - true) ** 2))
    shuffled = np.sqrt(np.mean((film - true[::-1]) ** 2))
    assert error < shuffled, "no closer to the directed film than to the same film backwards"


@pytest.mark.parametrize("degrees", [20.0, -20.0])
def test_a_pan_turns_the_picture_the_other_way_and_as_far(pans, degrees):
    film, blocking = pans[degrees]
    moved = sum(shift(a, b)[0] for a, b in pairwise(film))
    focal = float(blocking.focal_px[0])
    expected = -focal * np.radians(degrees)  # small steps about the middle of the picture
    assert np.sign(moved) == np.sign(expected)
    assert abs(moved - expected) < 0.35 * abs(expected)


def test_the_key_lights_the_side_it_stands_on():
    balance = {}
    for azimuth in (-60, 60):
        film, blocking = shoot(key=azimuth, place="studio")
        balance[azimuth] = np.mean([side_balance(film[t], blocking, t) for t in (0, 8, 16)])
    assert balance[-60] > 0.02 and balance[60] < -0.02


def shift(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """How far (x, y) in pixels the picture moved, by phase correlation with a parabola through the peak."""
    window = np.outer(np.hanning(before.shape[0]), np.hanning(before.shape[1]))
    a, b = (np.fft.rfft2((p.mean(-1) - p.mean()) * window) for p in (before, after))
    cross = b * np.conj(a)
    plane = np.fft.irfft2(cross / (np.abs(cross) + 1e-3 * np.abs(cross).max()), s=before.shape[:2])
    y, x = np.unravel_index(np.argmax(plane), plane.shape)
    found = []
    for axis, at in ((1, x), (0, y)):
        line = plane[y, :] if axis == 1 else plane[:, x]
        left, middle, right = line[at - 1], line[at], line[(at + 1) % len(line)]
        bend = left - 2 * middle + right
        fine = at + (0.5 * (left - right) / bend if bend else 0.0)
        found.append(float(fine - len(line) if fine > len(line) / 2 else fine))
    return found[0], found[1]


def side_balance(picture: np.ndarray, blocking, t: int) -> float:
    """Brightness of a person's left half in the picture less that of the right half."""
    person = stage.render_frame(blocking, t).ids >= stage.SUBJECT
    columns = np.arange(picture.shape[1])[None, :] + np.zeros_like(person)
    middle = np.median(columns[person])
    light = picture.mean(-1)
    return float(light[person & (columns < middle)].mean() - light[person & (columns >= middle)].mean())


def test_shift_measures_a_known_shift():
    rng = np.random.default_rng(0)
    wide = np.repeat(rng.random((40, 80, 1)), 3, -1).repeat(4, 0).repeat(4, 1)[:128, :]
    # The window moves 5 right and 2 up: the picture moves 5 left and 2 down.
    x, y = shift(wide[4:124, 20:244], wide[2:122, 25:249])
    assert abs(x + 5) < 0.5 and abs(y - 2) < 0.5


def test_the_shipped_package_is_here_and_small():
    assert Path(SHIPPED).is_file() and Path(SHIPPED).stat().st_size < 40 * 2**20
