"""Flow matching: the schedule of noise levels, and the solvers that denoise along it.

    x_sigma = (1 - sigma) * x0 + sigma * noise      velocity v = noise - x0      time t = 1000 * sigma

Denoising is a chain of `State`s, each made from the one before by a pure step; a state is all that a checkpoint needs,
and `denoise` resumes from any of them to the same film. Formulas, as Wan runs them: UniPC (Zhao et al. 2023, "bh2",
order 2, predicting x0), DPM++ 2M (Lu et al. 2022, midpoint), Euler; and "renoise", for networks distilled to a few
levels: x0 with fresh noise at each level. All arithmetic on noise levels is float64; latents stay float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from models.card import SOLVERS

VelocityFn = Callable[[Tensor, float], Tensor]  # (latent, t in 0..1000) -> velocity of the latent's shape
CACHE_NUMBERS = 4  # of a State with a step cache


@dataclass(frozen=True, slots=True)
class Schedule:
    """Noise levels from nearly 1 down to 0, one more than there are steps, and the network's time at each."""

    sigmas: tuple[float, ...]
    times: tuple[float, ...]

    @property
    def steps(self) -> int:
        """How many denoising steps there are."""
        return len(self.times)


@dataclass(frozen=True, slots=True)
class State:
    """Denoising after `index` of `of` steps: the latent, and the history that a multistep solver needs.

    history: empty for Euler and at the start; for DPM++ (x0 of the last step,); for UniPC (x0 of the last step, the
    latent the last step started from, and, from the second step on, x0 of the step before it).
    """

    index: int
    of: int
    latent: Tensor
    history: tuple[Tensor, ...] = ()
    cached: tuple[Tensor, ...] = ()  # of the latent's shape: models/rendering/step_cache.py, where it is in use
    cache_numbers: tuple[float, ...] = ()  # of the same, CACHE_NUMBERS of them


def schedule(solver: str, steps: int, shift: float, truncate: bool = False, levels: Sequence[float] = ()) -> Schedule:
    """The noise levels for a solver.

    unipc: those of Wan's FlowUniPC, which start just below 1; the others: evenly from 1; both shifted once. levels:
    those that a network was distilled to, instead of all this; ValueError if there are not `steps` of them.
    truncate: give the network integer times only, as Wan does with UniPC and DPM++ (the fraction would change its
    picture), and never with the others.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}: a film needs at least one")
    if solver not in SOLVERS:
        raise ValueError(f"solver is {solver!r}: it must be one of {', '.join(SOLVERS)}")
    if levels:
        if len(levels) != steps:
            raise ValueError(f"steps is {steps}: this network was distilled to {len(levels)}")
        sigmas = list(levels)
    else:
        # To the last bit as Wan's code has them (float32's 0.999, then numpy): the next number would be another time.
        even = np.linspace(np.float64(np.float32(0.999)) if solver == "unipc" else 1.0, 0.0, steps + 1)[:-1]
        sigmas = (shift * even / (1 + (shift - 1) * even)).tolist()
    times = [1000 * s for s in sigmas]
    whole = truncate and solver in ("unipc", "dpm++")
    return Schedule((*sigmas, 0.0), tuple(float(int(t)) if whole else t for t in times))


def noise(shape: tuple[int, ...], seed: int, draw: int = 0) -> Tensor:
    """Gaussian float32 noise drawn on the CPU, so that a seed means the same film on every machine. `draw` counts the
    draws of one render after its first.
    """
    generator = torch.Generator("cpu").manual_seed((seed + draw * 0x9E3779B97F4A7C15) % 2**63 if draw else seed)
    return torch.randn(shape, generator=generator, dtype=torch.float32)


def denoise(
    velocity: VelocityFn,
    latent: Tensor,
    levels: Schedule,
    solver: str = "unipc",
    resume: State | None = None,
    seed: int = 0,
) -> Iterator[State]:
    """Denoise to the film, yielding the state after every step; the last one's latent is the film.

    latent: noise, float32, any shape. resume: a state of an interrupted run of the same levels and solver, from which
    only the remaining steps are made. seed: of the noise that "renoise" adds.
    """
    if solver not in SOLVERS:
        raise ValueError(f"solver is {solver!r}: it must be one of {', '.join(SOLVERS)}")
    state = resume or State(0, levels.steps, latent)
    if state.of != levels.steps:
        raise ValueError(f"the render to resume has {state.of} steps, the schedule {levels.steps}")
    steps: dict[str, Callable[[tuple[float, ...], State, Tensor], State]] = {
        "unipc": unipc_step, "dpm++": dpm_step, "euler": euler_step, "renoise": partial(renoise_step, seed=seed),
    }  # fmt: skip
    while state.index < state.of:
        v = velocity(state.latent, levels.times[state.index]).to(state.latent.dtype)
        state = steps[solver](levels.sigmas, state, v)
        yield state


def euler_step(sigmas: tuple[float, ...], state: State, v: Tensor) -> State:
    """Straight along the velocity to the next noise level."""
    i = state.index
    return State(i + 1, state.of, state.latent + (sigmas[i + 1] - sigmas[i]) * v)


def renoise_step(sigmas: tuple[float, ...], state: State, v: Tensor, seed: int) -> State:
    """To x0 as the network predicts it, and back up to the next noise level with fresh noise."""
    i, x = state.index, state.latent
    x0, level = x - sigmas[i] * v, sigmas[i + 1]
    if level:
        fresh = noise(tuple(x.shape), seed, draw=i + 1).to(x)
        x0 = (1 - level) * x0 + level * fresh
    return State(i + 1, state.of, x0)


def dpm_step(sigmas: tuple[float, ...], state: State, v: Tensor) -> State:
    """Along x0 and its change since the last step, to the next noise level."""
    i, x = state.index, state.latent
    x0 = x - sigmas[i] * v
    return State(i + 1, state.of, _predict(sigmas, i, _order(i, state.of), x, x0, state.history), (x0,))


def unipc_step(sigmas: tuple[float, ...], state: State, v: Tensor) -> State:
    """Correct the result of the last step with the network's prediction there, then predict the next point.

    The network does not run again at the corrected point: x0 stays as predicted before the correction.
    """
    i, x = state.index, state.latent
    x0 = x - sigmas[i] * v
    if i > 0:
        x = _correct(sigmas, i, state, x0)
    before = state.history[:1]
    x_next = _predict(sigmas, i, _order(i, state.of), x, x0, before)
    return State(i + 1, state.of, x_next, (x0, x, *before))


def _order(i: int, steps: int) -> int:
    """Order 2, but 1 where there is no history yet and where the last step lands on zero noise."""
    return min(2, i + 1, steps - i)


def _predict(
    sigmas: tuple[float, ...], i: int, order: int, x: Tensor, x0: Tensor, before: tuple[Tensor, ...]
) -> Tensor:
    """The point at sigma i+1, from the point x and the x0 predicted at sigma i and, for order 2, at i-1."""
    if sigmas[i + 1] == 0.0:
        return x0  # log-SNR is infinite there, and every term but this one vanishes
    h = _log_snr(sigmas[i + 1]) - _log_snr(sigmas[i])
    e = math.expm1(-h)
    alpha = 1 - sigmas[i + 1]
    x_next = (sigmas[i + 1] / sigmas[i]) * x - alpha * e * x0
    if order == 2:
        r = (_log_snr(sigmas[i]) - _log_snr(sigmas[i - 1])) / h
        x_next = x_next - (0.5 * alpha * e / r) * (x0 - before[0])
    return x_next


def _correct(sigmas: tuple[float, ...], i: int, state: State, x0: Tensor) -> Tensor:
    """The point at sigma i again, now that the x0 predicted there is known; of the order of the step that led there."""
    before, origin, *older = state.history
    h = _log_snr(sigmas[i]) - _log_snr(sigmas[i - 1])
    e = math.expm1(-h)
    alpha = 1 - sigmas[i]
    x = (sigmas[i] / sigmas[i - 1]) * origin - alpha * e * before
    if _order(i - 1, state.of) == 1:
        return x - (0.5 * alpha * e) * (x0 - before)
    r = (_log_snr(sigmas[i - 2]) - _log_snr(sigmas[i - 1])) / h  # negative: the older point lies behind
    phi = -e / h - 1  # E/hh - 1 with hh = -h
    b1 = phi / e
    b2 = 2 * (-phi / h - 0.5) / e
    rho_old = (b1 - b2) / (1 - r)  # solves rho_old + rho_new = b1 and r * rho_old + rho_new = b2
    rho_new = b1 - rho_old
    return x - (alpha * e) * (rho_old / r * (older[0] - before) + rho_new * (x0 - before))


def _log_snr(sigma: float) -> float:
    """ln((1 - sigma) / sigma): minus infinity for pure noise, past which every term of a lower order still holds."""
    return math.log1p(-sigma) - math.log(sigma) if sigma < 1 else -math.inf
