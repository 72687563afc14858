"""One stage on two array libraries: numpy and torch agree."""

from __future__ import annotations

import numpy as np
import pytest

from models.stage import render as stage
from models.training.shots import scenes

SEEDS = (0, 1, 2, 3, 7, 11)
FIELDS = ("rgb", "previs", "clay", "depth", "normal", "lit", "ids")


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("array_api_compat.torch")


def both(torch, seed, samples, kind):
    """A frame of a training scene from each library, by field."""
    blocking = scenes.shot(seed, 3, 64, 96)
    one = stage.render_frame(blocking, 2, np, samples=samples, dtype=getattr(np, kind))
    other = stage.render_frame(blocking, 2, torch, samples=samples, dtype=getattr(torch, kind))
    return [(name, getattr(one, name), getattr(other, name).numpy()) for name in FIELDS]


@pytest.mark.parametrize(("seed", "samples"), [*((seed, 1) for seed in SEEDS), (3, 2)])
def test_in_float64_the_two_agree_everywhere(torch, seed, samples):
    for name, one, other in both(torch, seed, samples, "float64"):
        assert one.shape == other.shape and one.dtype == other.dtype, name
        if name == "ids":
            np.testing.assert_array_equal(one, other)
            continue
        np.testing.assert_array_equal(np.isfinite(one), np.isfinite(other))
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(("seed", "samples"), [*((seed, 1) for seed in SEEDS), (3, 2)])
def test_in_float32_the_two_agree_nearly_everywhere(torch, seed, samples):
    """A ray that grazes an edge may fall either way; everything else is the same."""
    for name, one, other in both(torch, seed, samples, "float32"):
        assert one.dtype == other.dtype, name
        with np.errstate(invalid="ignore"):
            gap = np.abs(one - other) / np.maximum(1, np.abs(one)) if name == "depth" else np.abs(one - other)
        gap = np.where(np.isinf(one) & np.isinf(other), 0, gap)
        assert (gap < 1e-4).mean() > 0.995, name


@pytest.mark.parametrize("seed", SEEDS)
def test_float32_is_the_float64_picture(seed):
    blocking = scenes.shot(seed, 3, 64, 96)
    exact, single = (stage.render_frame(blocking, 1, dtype=dtype) for dtype in (np.float64, np.float32))
    for name in ("rgb", "previs", "clay", "lit"):
        gap = np.abs(getattr(exact, name) - getattr(single, name))
        assert (gap < 2e-3).mean() > 0.99, name
    assert (exact.ids == single.ids).mean() > 0.998
