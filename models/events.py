"""The request of a render and the events that it reports. Torch-free, for the daemon and the desk use them too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from models.placement import Placement


@dataclass(frozen=True, slots=True)
class Settings:
    """How to render a blocking: everything that changes the picture besides the blocking and the weights."""

    steps: int
    seed: int
    solver: str = "unipc"  # of models/card.py: SOLVERS
    device: str = "cpu"  # "cpu" | "cuda:0"
    attention: str | None = None  # of kernels/dispatch.py; None: the one chosen for the device
    placement: Placement = field(default_factory=Placement)  # which blocks stay in the device's memory
    guidance: tuple[float, ...] | None = None  # guidance scale of each expert; None: as the card says
    batch: int = 1  # passes of guidance that go through the network together: the same film
    text: str = "cpu"  # where the text encoder runs: "cpu", "gpu", or "streamed" through the GPU layer by layer
    # predicted change up to which the last output is reused (models/rendering/step_cache.py); 0: never
    cache_tolerance: float = 0.0


@dataclass(frozen=True, slots=True)
class Embedding:
    """The embedding of a text: `tokens` rows of bf16 numbers, one after another, little-endian."""

    text: str
    tokens: int
    data: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """What a model is given besides the blocking. Ours reads no text: its directions are numbers, and pictures."""

    positive: str = ""
    negative: str = ""
    known: tuple[Embedding, ...] = ()  # cached embeddings; the text encoder is loaded only where one is missing
    first: Any = None  # (h, w, 3) uint8 numpy, sRGB, of any size: the picture that the film begins with
    last: Any = None  # the same of its end, for a model that reads two
    keys: Mapping[int, Any] = field(default_factory=dict)  # the same by their frames, for a model that reads any

    def pictures(self, frames: int) -> dict[int, Any]:
        """All pictures by frame, of a film of so many frames; first and last win over a key of the same frame."""
        ends = {0: self.first, frames - 1: self.last}
        found = dict(self.keys) | {t: picture for t, picture in ends.items() if picture is not None}
        return dict(sorted(found.items()))


NOTHING = Request()


@dataclass(frozen=True, slots=True)
class Loaded:
    """The weights are in memory and verified."""

    seconds: float
    weights_sha256: str
    kernels_sha256: str


@dataclass(frozen=True, slots=True)
class TextEncoded:
    """Texts were encoded. Their embeddings can be cached, and given to a later render."""

    embeddings: tuple[Embedding, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Conditioned:
    """The inputs of the network are ready."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Resumed:
    """The first `index` steps were made by an interrupted render: this one continues after them."""

    index: int
    of: int


@dataclass(frozen=True, slots=True)
class Noted:
    """Something worth recording that changes nothing in the film, in one line."""

    text: str


@dataclass(frozen=True, slots=True)
class Stepped:
    """One denoising step is done: index counts from 1."""

    index: int
    of: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Decoded:
    """Some final frames, in order. `frames` is (n, h, w, 3) float32 numpy in 0..1, display-referred Rec.709."""

    first: int
    frames: Any
    seconds: float


Event = Loaded | TextEncoded | Conditioned | Resumed | Noted | Stepped | Decoded
