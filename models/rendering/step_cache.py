"""Steps at which the network is not asked: what it would say is taken from what it said last.

A walk's later steps change little. How much an answer changes with its question is measured whenever the network is
asked; while the change that this predicts, summed since then, stays below a tolerance, the answer is the question plus
what the last answer differed from its own question by. Needs no numbers of a model (EasyCache, Zhou et al. 2025).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from models.rendering.sampler import State

ALWAYS = 7  # first steps at which the film is laid out: the network is asked at each, and at the last


class EasyCache:
    """The memory of one walk. What it holds after a step goes into the step's state, so that a walk can go on."""

    def __init__(self, tolerance: float, state: State) -> None:
        """tolerance: of the predicted change, relative to the answer; 0 asks at every step. state: where the walk is,
        as `kept` left it.
        """
        self.tolerance, self.index, self.of = tolerance, state.index, state.of
        self.rate, self.drift, self.spared, self.which = state.facts or (math.nan, 0.0, 0.0, 0.0)
        self.seen: Tensor | None = None
        self.asked: Tensor | None = None
        self.said: tuple[Tensor, ...] = ()
        if state.said:
            self.seen, self.asked, *answers = state.said
            self.said = tuple(answers)

    def __call__(self, latent: Tensor, which: int, ask: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """What the network says of a latent, once with the words and once without them, or what it would say.

        The first answer decides for both. which: of two experts; nothing that the first said tells of the second.
        """
        if which != self.which:
            self.which, self.rate, self.said = float(which), math.nan, ()
        if self._near(latent):
            assert self.asked is not None
            answers = tuple(latent + (answer - self.asked) for answer in self.said)
            self.spared += 1
        else:
            answers = ask()
            if self.said and self.asked is not None:
                self.rate = _size(answers[0] - self.said[0]) / max(_size(latent - self.asked), 1e-12)
            self.asked, self.said, self.drift = latent, answers, 0.0
        self.seen = latent
        self.index += 1
        return answers

    def _near(self, latent: Tensor) -> bool:
        """Whether the network need not be asked; the predicted change is added to the sum."""
        if not self.said or self.seen is None or not ALWAYS <= self.index < self.of - 1 or math.isnan(self.rate):
            return False
        self.drift += self.rate * _size(latent - self.seen) / max(_size(self.said[0]), 1e-12)
        return self.drift < self.tolerance

    def kept(self, state: State) -> State:
        """The state with what is remembered."""
        tensors = () if self.seen is None or self.asked is None else (self.seen, self.asked, *self.said)
        return replace(state, said=tensors, facts=(self.rate, self.drift, self.spared, self.which))


def _size(x: Tensor) -> float:
    return float(x.abs().mean())
