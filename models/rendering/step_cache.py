"""EasyCache: reuse the network's last output at steps whose input has hardly changed.

Later denoising steps change little. Whenever the network runs, the change of its output relative to the change of its
input is measured; while the change that this predicts, summed since then, stays below a tolerance, the output is taken
as the input plus the difference of the last output from its own input. Needs no constants of a model (EasyCache, Zhou
et al. 2025).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from models.rendering.sampler import State

ALWAYS = 7  # first steps at which the film is laid out: the network runs at each of them, and at the last


class EasyCache:
    """The cache of one render. Its contents are saved in each step's state, so that a render can be resumed."""

    def __init__(self, tolerance: float, state: State) -> None:
        """tolerance: of the predicted change, relative to the output; 0 runs the network at every step. state: where
        denoising is, as `attach` left it.
        """
        self.tolerance, self.index, self.of = tolerance, state.index, state.of
        self.rate, self.drift, self.skipped, self.expert = state.cache_numbers or (math.nan, 0.0, 0.0, 0.0)
        self.last: Tensor | None = None  # the input of the last step
        self.input: Tensor | None = None  # the input of the last step at which the network ran
        self.outputs: tuple[Tensor, ...] = ()  # and its outputs
        if state.cached:
            self.last, self.input, *outputs = state.cached
            self.outputs = tuple(outputs)

    def __call__(self, latent: Tensor, expert: int, run: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """The network's output at a latent for each guidance pass, computed or reused.

        The first pass decides for both. expert: of two; the outputs of one predict nothing of the other.
        """
        if expert != self.expert:
            self.expert, self.rate, self.outputs = float(expert), math.nan, ()
        if self._near(latent):
            assert self.input is not None
            outputs = tuple(latent + (output - self.input) for output in self.outputs)
            self.skipped += 1
        else:
            outputs = run()
            if self.outputs and self.input is not None:
                self.rate = _size(outputs[0] - self.outputs[0]) / max(_size(latent - self.input), 1e-12)
            self.input, self.outputs, self.drift = latent, outputs, 0.0
        self.last = latent
        self.index += 1
        return outputs

    def _near(self, latent: Tensor) -> bool:
        """Whether the outputs can be reused; the predicted change is added to the sum."""
        if not self.outputs or self.last is None or not ALWAYS <= self.index < self.of - 1 or math.isnan(self.rate):
            return False
        self.drift += self.rate * _size(latent - self.last) / max(_size(self.outputs[0]), 1e-12)
        return self.drift < self.tolerance

    def attach(self, state: State) -> State:
        """The state with the contents of the cache."""
        tensors = () if self.last is None or self.input is None else (self.last, self.input, *self.outputs)
        return replace(state, cached=tensors, cache_numbers=(self.rate, self.drift, self.skipped, self.expert))


def _size(x: Tensor) -> float:
    return float(x.abs().mean())
