"""The main path: a blocking becomes frames.

model    = load(package)               weights proved whole, kept warm between shots
reading  = condition(model, blocking)  control films, rays and tokens
latent   = denoise(...)                one Stepped a step, saved before it is told
frames   = decode(...)                 chunk by chunk, final as they come
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models import conditions
from models.blocking import Blocking
from models.checkpoint import Checkpoints
from models.events import Conditioned, Decoded, Event, Loaded, Noted, Resumed, Settings, Stepped
from models.geometry import Geometry
from models.loading import Model, load, source_sha256
from models.sampler import Schedule, State, denoise, noise, schedule

PREVIS_LATENT = slice(20, 36)  # of the maps: after mask and keyframe


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What the network reads besides the noise."""

    maps: Tensor  # (1, 76, F, H, W): everything that is concatenated to the noise
    context: Tensor  # (1, n, 64)


def render(blocking: Blocking, settings: Settings, package: Path, checkpoints: Path | None = None) -> Iterator[Event]:
    """Render a blocking: Loaded, Conditioned, a Stepped a step, then Decoded chunks in order.

    The same blocking, settings, weights and machine give the same frames. `checkpoints` is a folder for this render
    alone: each step is on the disk there before its Stepped, and a render that finds some goes on after the last, says
    so by Resumed, and gives the frames that an unbroken one gives. What the disk refuses or spoils is only Noted.
    Raises BadInput for weights that are not whole and for a device that is not there.
    """
    clock = _Clock()
    model = load(package, settings.device, settings.placement, settings.attention)
    yield Loaded(clock.lap(), model.weights_sha256, model.kernels_sha256)
    if model.note:
        yield Noted(model.note)
    with torch.inference_mode():
        reading = condition(model, blocking, settings.placement.stage_frames)
    yield Conditioned(clock.lap())
    levels, state = begin(model, blocking, settings)
    saved = Checkpoints(checkpoints, walk_key(blocking, settings, model)) if checkpoints else None
    if saved:
        state, passed_over = saved.newest(state)
        yield from map(Noted, passed_over)
        if state.index:
            yield Resumed(state.index, state.of)
    steps = walk(model, reading, levels, settings.solver, state)
    for state in steps:
        if saved and (trouble := saved.keep(state)):
            yield Noted(trouble)
        yield Stepped(state.index, state.of, clock.lap())
    first = 0
    for frames in _inferring(decode(model, state.latent, settings.placement.vae_tile)):
        yield Decoded(first, frames, clock.lap())
        first += len(frames)


def condition(model: Model, blocking: Blocking, at_once: int = 0) -> Reading:
    """Compile a blocking into what the network reads. No keyframe is given yet: its mask and latent are zeros.

    at_once: control frames that are made at a time; 0: one a core.
    """
    previs, depth = conditions.control_films(blocking, at_once)
    controls = [_encode(model, film) for film in (previs, depth[..., None])]
    rays = torch.from_numpy(conditions.rays(blocking))[None].to(model.device)
    keyframe = torch.zeros(1, 4 + model.card.out_channels, *rays.shape[2:], device=model.device)
    tokens = torch.from_numpy(conditions.context(blocking))[None].to(model.device)
    return Reading(torch.cat([keyframe, *controls, rays], 1), tokens)


def begin(model: Model, blocking: Blocking, settings: Settings) -> tuple[Schedule, State]:
    """The noise levels of a walk, and where it starts: the noise of the seed."""
    levels = schedule(settings.solver, settings.steps, model.card.shift)
    size = (1, model.card.out_channels, *Geometry(blocking.frames, blocking.height, blocking.width).latent)
    return levels, State(0, levels.steps, noise(size, settings.seed).to(model.device))


def walk(model: Model, reading: Reading, levels: Schedule, solver: str, state: State) -> Iterator[State]:
    """The states after `state`, one a step; the last one's latent is the film."""
    return _inferring(denoise(lambda x, t: velocity(model, reading, x, t), state.latent, levels, solver, state))


def velocity(model: Model, reading: Reading, latent: Tensor, t: float) -> Tensor:
    """The flow at a latent (1, 16, F, H, W) and time t in 0..1000."""
    times = torch.tensor([t], dtype=torch.float32, device=model.device)
    given = model.transformer(torch.cat([latent, reading.maps], 1), times, reading.context)
    if model.card.prediction == "velocity":
        return given
    film = given if model.card.prediction == "film" else given + reading.maps[:, PREVIS_LATENT]
    return (latent - film) / (t / 1000)


def decode(model: Model, latent: Tensor, tile: int = 0) -> Iterator[np.ndarray]:
    """Frames (n, h, w, 3) float32 in 0..1, in order; `tile` pixels of a side at once, 0 for whole frames."""
    for film in model.vae.decode_stream(latent, tile=tile):
        yield (film[0].permute(1, 2, 3, 0) * 0.5 + 0.5).contiguous().cpu().numpy()


def walk_key(blocking: Blocking, settings: Settings, model: Model) -> str:
    """One hash of all that a walk's numbers come from: on one machine, equal keys mean equal bits at every step.

    The placement is no part of it: a render that a smaller placement takes up goes on after the steps already made.
    """
    code = (model.kernels_sha256, source_sha256("models"), torch.__version__)
    numbers = {name: value for name, value in asdict(settings).items() if name != "placement"}
    facts = json.dumps([blocking.digest(), numbers, model.weights_sha256, code])
    return hashlib.sha256(facts.encode()).hexdigest()


def _encode(model: Model, film: np.ndarray) -> Tensor:
    """A film (T, h, w, 3 or 1) in 0..1 to latents (1, 16, F, H, W) float32; four frames at a time go to the device."""
    weight = next(model.vae.parameters())

    def chunk(frames: np.ndarray) -> Tensor:
        pixels = torch.from_numpy(frames).to(weight.device, torch.float32).permute(3, 0, 1, 2)[None] * 2 - 1
        return pixels.to(weight.dtype).expand(-1, 3, -1, -1, -1)

    return model.vae.encode_stream(map(chunk, (film[:1], *(film[at : at + 4] for at in range(1, len(film), 4)))))


def _inferring(items: Iterator) -> Iterator:
    """Run an iterator without autograd, and leave the caller's mode alone between its items."""
    while True:
        with torch.inference_mode():
            try:
                item = next(items)
            except StopIteration:
                return
        yield item


class _Clock:
    def __init__(self) -> None:
        self.mark = time.monotonic()

    def lap(self) -> float:
        """Seconds since the last lap."""
        before, self.mark = self.mark, time.monotonic()
        return self.mark - before
