"""The kernel's films are the stage's: interpreted here at small sizes, and on a GPU at those of training.

Run as a program with TRITON_INTERPRET=1 it renders the small ones: Triton decides once whether to interpret.
"""

from __future__ import annotations

import pickle
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from models.stage import render as stage
from models.stage.blocking import Blocking
from models.stage.defocus import circle_px, defocus
from models.stage.solids import FAR
from models.training.shots import gpu_stage as screen
from models.training.shots import scenes
from models.training.shots import shoot as footage

HEIGHT, WIDTH, FRAMES = 32, 56, 2
NAMES = ("rgb", "previs", "depth")


def everything() -> Blocking:
    """A person who sits among boxes, balls and columns; the first frame is sharp, the second is not."""
    shot = scenes.shot(74, FRAMES, HEIGHT, WIDTH)
    seated = replace(shot.subjects[0], pose="sit")
    return replace(shot, subjects=(seated, *shot.subjects[1:]), t_stop=shot.t_stop / 1.5)


def trees() -> Blocking:
    """Nobody under trees, out of focus, before the sky."""
    return scenes.shot(181, FRAMES, HEIGHT, WIDTH)


def floor() -> Blocking:
    """No solid at all, and a key lamp that is out."""
    shot = scenes.shot(171, FRAMES, HEIGHT, WIDTH)
    key, *others = shot.lights
    lights = (replace(key, rgb=0 * key.rgb), *others)
    return replace(shot, set=replace(shot.set, props=()), subjects=(), lights=lights)


SHOTS = {made.__name__: made for made in (everything, trees, floor)}


def interpret_all(path: str) -> None:
    from kernels import raycast

    raycast.BLOCK = 2048  # a frame in one program: interpreted, programs cost and pixels hardly do
    found: dict[str, torch.Tensor] = {}
    for name, made in SHOTS.items():
        told = screen.tables(made())
        film = screen.render(told, torch.from_numpy(told.numbers))
        found |= {f"{name}.{what}": picture.contiguous() for what, picture in zip(NAMES, film, strict=True)}
    save_file(found, path)


def check(what: str, found: torch.Tensor, expected: np.ndarray) -> None:
    """Codes are equal but for rounding, and for rays that pass an edge on the other side."""
    assert found.dtype == torch.uint8 and found.shape == expected.shape, what
    error = np.abs(found.cpu().numpy().astype(int) - expected.astype(int))
    assert error.mean() <= 0.1, (what, error.mean())
    assert (error > 8).mean() <= 2e-3, (what, (error > 8).mean())


@pytest.fixture(scope="module")
def interpreted(python, tmp_path_factory) -> dict[str, torch.Tensor]:
    pytest.importorskip("triton")
    path = tmp_path_factory.mktemp("interpreted") / "films.safetensors"
    done = python(__file__, path, TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stderr[-4000:]
    return load_file(path)


@pytest.mark.parametrize("shot", SHOTS)
def test_the_kernel_shows_what_the_stage_shows(shot: str, interpreted) -> None:
    expected = footage.expose(SHOTS[shot]())
    for what in NAMES:
        check(f"{shot} {what}", interpreted[f"{shot}.{what}"], expected[what])


def test_the_shots_have_what_they_are_for() -> None:
    first, last = stage.render(everything())
    shares = [(first.ids == stage.SUBJECT).mean(), (first.ids == stage.SET).mean(), (first.ids == stage.GROUND).mean()]
    assert min(shares) > 0.1 and ((first.lit > 0.1) & (first.lit < 0.9)).any()
    assert {prop.shape for prop in everything().set.props} == {"box", "ball", "column"}
    assert any(prop.pattern_m > 0 for prop in everything().set.props)
    sizes = [
        circle_px(np, np.minimum(frame.depth, FAR), everything(), t).max() for t, frame in enumerate((first, last))
    ]
    assert sizes[0] < 1 < sizes[1]
    assert any(np.isinf(frame.depth).any() for frame in stage.render(trees()))


def test_on_the_cpu_the_stage_itself_renders() -> None:
    shot = trees()
    expected = footage.expose(shot)
    for what, picture in zip(NAMES, screen.film(screen.tables(shot), "cpu"), strict=True):
        assert np.array_equal(picture.numpy(), expected[what])


def test_tables_come_through_a_pickle() -> None:
    told = screen.tables(everything())
    again = pickle.loads(pickle.dumps(told))
    assert np.array_equal(again.numbers, told.numbers) and again.shapes == told.shapes
    assert again.blocking.digest() == told.blocking.digest()
    assert told.numbers.dtype == np.float32 and np.isfinite(told.numbers).all()


@pytest.mark.parametrize("stop", [0.7, 1.4, 4.0, 22.0])
def test_the_lens_of_a_film_is_the_lens_of_its_frames(stop: float) -> None:
    shot = replace(trees(), t_stop=stop)
    rng = np.random.default_rng(0)
    light = rng.random((FRAMES, HEIGHT, WIDTH, 3), dtype=np.float32)
    depth = np.exp(rng.uniform(-0.5, 3, (FRAMES, HEIGHT, WIDTH))).astype(np.float32)
    expected = np.stack([defocus(np, light[t], depth[t], shot, t) for t in range(FRAMES)])
    focus, scale = (torch.from_numpy(row.astype(np.float32)) for row in screen.lens(shot))
    found = screen.defocused(torch.from_numpy(light), torch.from_numpy(depth), focus, scale)
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("seed", [3, 26, 32, 74, 155, 181])
def test_on_a_gpu_a_film_is_its_footage(seed: int) -> None:
    shot = scenes.shot(seed, 5, footage.HEIGHT, footage.WIDTH)
    expected, told = footage.expose(shot), screen.tables(shot)
    for what, picture in zip(NAMES, screen.film(told, "cuda"), strict=True):
        assert picture.device.type == "cuda"
        check(f"{seed} {what}", picture, expected[what])


if __name__ == "__main__":
    interpret_all(sys.argv[1])
