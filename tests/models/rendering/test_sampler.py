"""Schedules against published numbers, solvers against diffusers and against an equation solved by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from models.card import CARDS, FEW_STEPS, PREVIS, SOLVERS, WAN_5B, WAN_14B, WAN_A14B, WAN_I2V_A14B, few_steps
from models.rendering.sampler import Schedule, State, denoise, noise, schedule


def drift(x: torch.Tensor, t: float) -> torch.Tensor:
    """A smooth made-up velocity, nonlinear in both arguments."""
    return torch.sin(2 * x + t / 300) + 0.5 * x * math.cos(t / 200) + t / 1000


def last(states) -> torch.Tensor:
    *_, state = states
    return state.latent


def test_wan_unipc_grid() -> None:
    four = schedule("unipc", 4, shift=5.0, truncate=True)
    assert four.sigmas == pytest.approx((0.99979984, 0.937265, 0.833055, 0.624687, 0), abs=1e-6)
    assert four.times == (999, 937, 833, 624)
    assert schedule("unipc", 4, shift=5.0).times == pytest.approx((999.79984, 937.2654, 833.0555, 624.6874), abs=1e-3)


def test_euler_grid() -> None:
    four = schedule("euler", 4, shift=5.0)
    assert four.sigmas == pytest.approx((1, 0.9375, 0.8333333, 0.625, 0), abs=1e-6)
    assert four.times == pytest.approx((1000, 937.5, 833.33333, 625), abs=1e-4)


@pytest.mark.parametrize("shift", [3.0, 5.0, 8.0, 12.0, 16.0])
def test_whole_times_are_those_of_wan(shift: float) -> None:
    """Where a time is nearly whole, one bit decides: of 12 steps with a shift of 5, which expert makes the sixth."""
    for steps in range(1, 101):
        for solver, highest in (("unipc", float(np.float32(0.999))), ("dpm++", 1.0)):
            grid = np.linspace(highest, 0, steps + 1)[:-1]
            times = (shift * grid / (1 + (shift - 1) * grid) * 1000).astype(np.int64)
            assert schedule(solver, steps, shift, truncate=True).times == tuple(times)
    assert schedule("dpm++", 12, 5.0, truncate=True).times[5] == 875


def test_wan_dpm_grid() -> None:
    four = schedule("dpm++", 4, shift=5.0, truncate=True)
    assert four.sigmas == pytest.approx((1, 0.9375, 0.8333333, 0.625, 0), abs=1e-6)
    assert four.times == (1000, 937, 833, 625)


@pytest.mark.parametrize(
    ("way", "levels"),
    [
        ("lightx2v", (1, 0.9375, 0.833333, 0.625, 0)),
        ("mean-flow", (1, 0.833333, 0)),
        ("fastwan", (1, 0.757, 0.522, 0)),
        ("rcm", (80 / 81, *(math.tan(t) / (1 + math.tan(t)) for t in (1.5, 1.4, 1.0)), 0)),
    ],
)
def test_few_steps(way: str, levels: tuple[float, ...]) -> None:
    """As they were distilled, with fractions of times, and without guidance."""
    card = few_steps(WAN_A14B, way)
    plan = schedule(card.solver, card.steps, card.shift, card.whole_times, card.levels)
    assert plan.sigmas == pytest.approx(levels, abs=1e-6)
    assert plan.times == pytest.approx([1000 * level for level in levels[:-1]], abs=1e-3)
    assert card.guidance == (1.0, 1.0) and card.passes == 1
    assert set(FEW_STEPS) == {"lightx2v", "mean-flow", "fastwan", "rcm"}


@pytest.mark.parametrize(
    ("card", "steps", "shift", "high"),
    [(WAN_A14B, 40, 12.0, 26), (WAN_I2V_A14B, 40, 5.0, 15), (WAN_I2V_A14B, 20, 8.0, 10), (WAN_I2V_A14B, 4, 5.0, 2)],
)
def test_how_many_steps_are_the_first_experts(card, steps, shift, high) -> None:
    times = schedule("unipc", steps, shift, truncate=True).times
    assert sum(t >= 1000 * card.boundary for t in times) == high


def test_cards_are_sampled_as_published() -> None:
    """Shift, steps, guidance (of the expert that begins first), frames a second and frames of each model."""
    expected = {
        "wan2.1-t2v-1.3b": (5, 50, (5,), 16, 81), "wan2.1-t2v-14b": (5, 50, (5,), 16, 81),
        "wan2.1-i2v-14b-480p": (3, 40, (5,), 16, 81), "wan2.1-i2v-14b-720p": (5, 40, (5,), 16, 81),
        "wan2.1-flf2v-14b": (16, 50, (5,), 16, 81), "wan2.1-vace-1.3b": (16, 50, (5,), 16, 81),
        "wan2.1-vace-14b": (16, 50, (5,), 16, 81), "wan2.2-t2v-a14b": (12, 40, (4, 3), 16, 81),
        "wan2.2-i2v-a14b": (5, 40, (3.5, 3.5), 16, 81), "wan2.2-ti2v-5b": (5, 50, (5,), 24, 121),
    }  # fmt: skip
    for name, numbers in expected.items():
        card = CARDS[name]
        assert (card.shift, card.steps, card.guidance, card.fps, card.frames) == numbers
        assert card.solver == "unipc" and card.whole_times
    assert not PREVIS.whole_times and WAN_5B.out_channels == 48 and WAN_14B.levels == ()


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_schedule_only_descends(solver: str) -> None:
    for steps in (1, 2, 7, 50):
        sigmas = schedule(solver, steps, shift=4.0).sigmas
        assert len(sigmas) == steps + 1 and sigmas[-1] == 0, steps
        assert all(a > b for a, b in itertools.pairwise(sigmas)), steps


@pytest.mark.parametrize(
    ("steps", "shift", "grid"),
    [
        (1, 5.0, "unipc"), (2, 3.0, "unipc"), (3, 5.0, "unipc"), (4, 5.0, "unipc"), (8, 4.0, "unipc"),
        (20, 8.0, "unipc"), (40, 12.0, "unipc"), (1, 5.0, "theirs"), (3, 5.0, "theirs"), (20, 8.0, "theirs"),
    ],
)  # fmt: skip
def test_unipc_equals_diffusers(steps: int, shift: float, grid: str) -> None:
    import diffusers  # seconds, which only these tests are to cost

    theirs = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=shift
    )
    theirs.set_timesteps(steps)
    if grid == "theirs":  # starts a millionth below pure noise
        sigmas = theirs.sigmas.double().tolist()
        plan = Schedule(tuple(sigmas), tuple(1000 * s for s in sigmas[:-1]))
    else:
        plan = schedule("unipc", steps, shift)
        theirs.sigmas = torch.tensor(plan.sigmas)
    x = noise((2, 16, 3, 4, 5), seed=1)
    ours, other = list(denoise(drift, x, plan)), x
    assert len(ours) == steps
    for i, state in enumerate(ours):
        other = theirs.step(drift(other, plan.times[i]), theirs.timesteps[i], other, return_dict=False)[0]
        assert (state.index, state.of) == (i + 1, steps)
        assert float((state.latent - other).norm() / other.norm()) < 1e-5


@pytest.mark.parametrize(
    ("steps", "grid"),
    [*((steps, "ours") for steps in (1, 2, 3, 4, 8, 20, 40)), (1, "theirs"), (3, "theirs"), (20, "theirs")],
)
def test_dpm_equals_diffusers(steps: int, grid: str) -> None:
    import diffusers

    theirs = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=5.0
    )
    theirs.set_timesteps(steps)
    plan = schedule("dpm++", steps, 5.0)
    if grid == "theirs":  # starts just below pure noise; ours, and the original's, at it
        sigmas = theirs.sigmas.double().tolist()
        plan = Schedule(tuple(sigmas), tuple(1000 * s for s in sigmas[:-1]))
    else:
        theirs.sigmas = torch.tensor(plan.sigmas)
    x = noise((2, 16, 3, 4, 5), seed=1)
    other = x
    for i, state in enumerate(denoise(drift, x, plan, "dpm++")):
        other = theirs.step(drift(other, plan.times[i]), theirs.timesteps[i], other, return_dict=False)[0]
        assert float((state.latent - other).norm() / other.norm()) < 1e-5


@pytest.mark.parametrize("steps", [4, 8, 20, 40])
def test_euler_equals_diffusers(steps: int) -> None:
    import diffusers

    plan = schedule("euler", steps, 5.0)
    theirs = diffusers.FlowMatchEulerDiscreteScheduler(shift=1.0)
    theirs.set_timesteps(sigmas=list(plan.sigmas[:-1]))
    assert theirs.timesteps.tolist() == pytest.approx(plan.times, rel=1e-6)
    x = noise((2, 16, 3, 4, 5), seed=1)
    other = x
    for i, state in enumerate(denoise(drift, x, plan, "euler")):
        other = theirs.step(drift(other, plan.times[i]), theirs.timesteps[i], other, return_dict=False)[0]
        assert float((state.latent - other).norm() / other.norm()) < 1e-5


def test_a_film_made_noisy_again_by_hand() -> None:
    plan, seed = schedule("renoise", 3, 8.0, levels=(1.0, 0.757, 0.522)), 5
    x = noise((1, 4, 2, 2, 2), seed)
    states = list(denoise(drift, x, plan, "renoise", seed=seed))
    x0 = x - drift(x, 1000.0)
    added = (states[0].latent - (1 - 0.757) * x0) / 0.757
    assert torch.allclose(added, noise(x.shape, seed, draw=1), atol=1e-5)
    assert not torch.equal(noise(x.shape, seed, draw=1), noise(x.shape, seed, draw=2))
    assert not torch.equal(noise(x.shape, seed, draw=1), noise(x.shape, seed + 1, draw=1))
    torch.testing.assert_close(states[2].latent, states[1].latent - 0.522 * drift(states[1].latent, 522.0))
    assert not torch.equal(states[2].latent, last(denoise(drift, x, plan, "renoise", seed=6)))


def test_euler_by_hand() -> None:
    plan = Schedule((0.8, 0.5, 0.0), (800.0, 500.0))
    x = torch.tensor([1.0])
    states = list(denoise(lambda x, t: x * t / 1000, x, plan, "euler"))
    first = 1.0 + (0.5 - 0.8) * 0.8
    assert states[0].latent.item() == pytest.approx(first)
    assert states[1].latent.item() == pytest.approx(first + (0 - 0.5) * first * 0.5)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_last_step_lands_on_x0(solver: str) -> None:
    film = noise((1, 16, 2, 4, 4), seed=5)
    plan = schedule(solver, 6, shift=4.0)

    def towards_film(x: torch.Tensor, t: float) -> torch.Tensor:
        return (x - film) / plan.sigmas[plan.times.index(t)]

    torch.testing.assert_close(last(denoise(towards_film, noise(film.shape, 1), plan, solver)), film)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("dpm++", 2), ("unipc", 2)])
def test_error_falls_with_the_order_of_the_solver(solver: str, order: int) -> None:
    """Films drawn from a Gaussian N(m, s) have a linear velocity, and the flow through them is known exactly.

    On a grid even in log-SNR, which is refined everywhere when steps are added, and which stops before zero noise.
    """
    m, s = 0.7, 0.4

    def spread(sigma: float) -> float:
        return math.hypot((1 - sigma) * s, sigma)

    def velocity(x: torch.Tensor, t: float) -> torch.Tensor:
        sigma = t / 1000
        z = (x - (1 - sigma) * m) / spread(sigma) ** 2
        return sigma * z - (m + (1 - sigma) * s**2 * z)

    start = torch.linspace(-2, 2, 9, dtype=torch.float64)
    errors = []
    for steps in (20, 320):
        sigmas = tuple(1 / (1 + math.exp(-3 + 6 * i / steps)) for i in range(steps + 1))
        exact = (1 - sigmas[-1]) * m + spread(sigmas[-1]) / spread(sigmas[0]) * (start - (1 - sigmas[0]) * m)
        end = last(denoise(velocity, start, Schedule(sigmas, tuple(1000 * x for x in sigmas[:-1])), solver))
        errors.append(float((end - exact).abs().max()))
    assert math.log2(errors[0] / errors[1]) / 4 == pytest.approx(order, abs=0.3)


@pytest.mark.parametrize("solver", SOLVERS)
def test_denoising_resumes_from_any_state(solver: str) -> None:
    plan = schedule(solver, 7, shift=4.0)
    x = noise((1, 16, 2, 4, 4), seed=2)
    states = list(denoise(drift, x, plan, solver))
    for state in states[:-1]:
        reread = State(state.index, state.of, state.latent.clone(), tuple(h.clone() for h in state.history))
        assert torch.equal(last(denoise(drift, x, plan, solver, resume=reread)), states[-1].latent)
    assert list(denoise(drift, x, plan, solver, resume=states[-1])) == []


def test_noise_is_the_same_everywhere() -> None:
    first = noise((1, 16, 3, 4, 4), seed=42)
    torch.manual_seed(0)
    assert torch.equal(first, noise((1, 16, 3, 4, 4), seed=42)) and first.dtype == torch.float32
    assert not torch.equal(first, noise((1, 16, 3, 4, 4), seed=43))
    # what a Mersenne twister seeded with 42 has given torch for years: a change here changes every film ever kept
    expected = torch.tensor([1.9269, 1.4873, 0.9007, -2.1055])
    torch.testing.assert_close(noise((64,), seed=42)[:4], expected, atol=1e-4, rtol=0)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="steps is 0"):
        schedule("unipc", 0, 5.0)
    with pytest.raises(ValueError, match=r"'ddim'.*unipc, dpm\+\+, euler"):
        schedule("ddim", 4, 5.0)
    with pytest.raises(ValueError, match="steps is 4: this network was distilled to 3"):
        schedule("renoise", 4, 5.0, levels=(1.0, 0.757, 0.522))
    plan, x = schedule("unipc", 4, 5.0), noise((1,), 0)
    with pytest.raises(ValueError, match="3 steps, the schedule 4"):
        list(denoise(drift, x, plan, resume=State(1, 3, x)))
