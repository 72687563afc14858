"""How a network is asked at a step: the right one of two, with the words and without them, at times not at all.

    velocity = without + pull * (with - without)

The film is pulled away from what the second words say. Both passes go through the network together or one after the
other, which is the plan's to choose. Of two experts the first works while the noise is high, each with a pull of its
own, and one lies in the device's memory at a time.
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

PREVIS_LATENT = slice(20, 36)  # of our own model's maps: after mask and keyframe


@dataclass(frozen=True, slots=True, eq=False)
class NetworkInputs:
    """What a network reads besides the noise."""

    contexts: tuple[Tensor, ...]  # (1, n, text_dim) of each pass: what the film shows, and what it is pulled away from
    maps: Tensor | None = None  # (1, C, F, H, W): everything that is concatenated to the noise
    beside: ExtraInputs = NO_EXTRAS
    first: Tensor | None = None  # (1, out_channels, 1, H, W): the film's first latent frame, where it is given
    previs: Tensor | None = None  # (T, h, w, 3) uint8: our own model's, whose detail the film is finished with

    def imposed(self, latent: Tensor) -> Tensor:
        """The latent with the frame that is given."""
        return latent if self.first is None else torch.cat([self.first, latent[:, :, 1:]], 2)


class GuidedVelocity:
    """The velocity of a walk: what models/rendering/sampler.py asks for."""

    def __init__(
        self,
        network: Callable[[int], Transformer],
        card: Card,
        reading: NetworkInputs,
        pulls: Sequence[float] | None = None,
        batch: int = 1,
        cache: EasyCache | None = None,
    ) -> None:
        """network: gives the expert that works first (0) or second (1). pulls: of each expert; None: the card's.
        batch: passes that go through together.
        """
        self.network, self.card, self.reading, self.cache = network, card, reading, cache
        self.pulls, self.batch = tuple(pulls or card.guidance), batch
        if len(self.pulls) != card.experts:
            raise ValueError(
                f"guidance is {self.pulls}: {card.name} takes one number for each of {card.experts} experts"
            )

    def __call__(self, latent: Tensor, t: float) -> Tensor:
        """The velocity at a latent (1, C, F, H, W) and time t in 0..1000."""
        latent, expert = self.reading.imposed(latent), self.expert(t)
        if self.cache is None:
            said = self._said(latent, t, expert)
        else:
            said = self.cache(latent, expert, lambda: self._said(latent, t, expert))
        if len(said) == 1:
            return said[0]
        wanted, other = said
        return other + self.pulls[expert] * (wanted - other)

    def expert(self, t: float) -> int:
        """Which expert works at a time."""
        return int(self.card.experts == 2 and t < 1000 * self.card.boundary)

    def _said(self, latent: Tensor, t: float, expert: int) -> tuple[Tensor, ...]:
        """The velocity of each pass. Where the pull is 1, the second changes nothing and is not made."""
        contexts = self.reading.contexts if self.pulls[expert] != 1 else self.reading.contexts[:1]
        if self.batch == 1:
            return tuple(self._velocity(latent, t, expert, context) for context in contexts)
        return self._velocity(latent, t, expert, torch.cat(contexts)).split(1)

    def _velocity(self, latent: Tensor, t: float, expert: int, contexts: Tensor) -> Tensor:
        """(1, C, F, H, W) seen with some contexts (B, n, D) -> (B, C, F, H, W)."""
        maps, count = self.reading.maps, len(contexts)
        x = latent if maps is None else torch.cat([latent, maps], 1)
        times = torch.full((count,), t, dtype=torch.float32, device=latent.device)
        if self.reading.first is not None:  # it is without noise, and is told so
            times = times[:, None].repeat(1, latent.shape[2])
            times[:, 0] = 0
        x, beside = x.expand(count, *x.shape[1:]), self.reading.beside.repeated(count)
        said = self.network(expert)(x, times, contexts, beside)
        if self.card.prediction == "velocity" or maps is None:
            return said
        return (latent - said - maps[:, PREVIS_LATENT]) / (t / 1000)
