"""Classifier-free guidance, expert switching and step caching: the velocity of one denoising step.

    velocity = without + scale * (with - without)

The film is pushed away from what the negative prompt describes. Both passes go through the network as one batch or one
after the other, as the plan chooses. Of two experts the first denoises while the noise is high, each with a guidance
scale of its own, and one is in the device's memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.card import Card
from models.dit.wan import Transformer
from models.dit.wan_variants import NO_EXTRAS, ExtraInputs
from models.rendering.step_cache import EasyCache

PREVIS_LATENT = slice(20, 36)  # of our own model's maps: after mask and keyframe latents


@dataclass(frozen=True, slots=True, eq=False)
class NetworkInputs:
    """What a network reads besides the noise."""

    contexts: tuple[Tensor, ...]  # (1, n, text_dim) of each pass: the prompt, and the negative prompt
    maps: Tensor | None = None  # (1, C, F, H, W): everything that is concatenated to the noise
    extras: ExtraInputs = NO_EXTRAS
    first_latent: Tensor | None = None  # (1, out_channels, 1, H, W): the film's first latent frame, where it is given
    previs: Tensor | None = None  # (T, h, w, 3) uint8, for our own model, whose detail is restored from it

    def with_first_latent(self, latent: Tensor) -> Tensor:
        """The latent with its first frame replaced, where one is given."""
        return latent if self.first_latent is None else torch.cat([self.first_latent, latent[:, :, 1:]], 2)


class GuidedVelocity:
    """The velocity function that models/rendering/sampler.py integrates."""

    def __init__(
        self,
        network: Callable[[int], Transformer],
        card: Card,
        inputs: NetworkInputs,
        scales: Sequence[float] | None = None,
        batch: int = 1,
        cache: EasyCache | None = None,
    ) -> None:
        """network: returns the expert for high noise (0) or low noise (1). scales: guidance of each expert; None: the
        card's. batch: passes that go through the network together.
        """
        self.network, self.card, self.inputs, self.cache = network, card, inputs, cache
        self.scales, self.batch = tuple(scales or card.guidance), batch
        if len(self.scales) != card.experts:
            raise ValueError(
                f"guidance is {self.scales}: {card.name} takes one number for each of {card.experts} experts"
            )

    def __call__(self, latent: Tensor, t: float) -> Tensor:
        """The velocity at a latent (1, C, F, H, W) and time t in 0..1000."""
        latent, expert = self.inputs.with_first_latent(latent), self.expert(t)
        if self.cache is None:
            velocities = self._passes(latent, t, expert)
        else:
            velocities = self.cache(latent, expert, lambda: self._passes(latent, t, expert))
        if len(velocities) == 1:
            return velocities[0]
        conditional, unconditional = velocities
        return unconditional + self.scales[expert] * (conditional - unconditional)

    def expert(self, t: float) -> int:
        """Which expert denoises at a time."""
        return int(self.card.experts == 2 and t < 1000 * self.card.boundary)

    def _passes(self, latent: Tensor, t: float, expert: int) -> tuple[Tensor, ...]:
        """The velocity of each pass. At a guidance scale of 1 the second changes nothing and is not computed."""
        contexts = self.inputs.contexts if self.scales[expert] != 1 else self.inputs.contexts[:1]
        if self.batch == 1:
            return tuple(self._velocity(latent, t, expert, context) for context in contexts)
        return self._velocity(latent, t, expert, torch.cat(contexts)).split(1)

    def _velocity(self, latent: Tensor, t: float, expert: int, contexts: Tensor) -> Tensor:
        """A latent (1, C, F, H, W) with a batch of contexts (B, n, D) -> (B, C, F, H, W)."""
        maps, count = self.inputs.maps, len(contexts)
        x = latent if maps is None else torch.cat([latent, maps], 1)
        times = torch.full((count,), t, dtype=torch.float32, device=latent.device)
        if self.inputs.first_latent is not None:  # free of noise, so its time is 0
            times = times[:, None].repeat(1, latent.shape[2])
            times[:, 0] = 0
        x, extras = x.expand(count, *x.shape[1:]), self.inputs.extras.repeated(count)
        output = self.network(expert)(x, times, contexts, extras)
        if self.card.prediction == "velocity" or maps is None:
            return output
        return (latent - output - maps[:, PREVIS_LATENT]) / (t / 1000)
