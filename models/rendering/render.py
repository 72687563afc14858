"""The main path: a blocking becomes frames.

model    = load(package)               weights proved whole, kept warm between shots
reading  = condition(model, blocking)  control films, rays and tokens; or words and pictures, by the model's card
latent   = denoise(...)                one Stepped a step, saved before it is told
frames   = decode(...)                 chunk by chunk, final as they come
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.card import reads_text
from models.events import (
    NOTHING,
    Conditioned,
    Decoded,
    Event,
    Loaded,
    Noted,
    Request,
    Resumed,
    Settings,
    Stepped,
    Worded,
)
from models.geometry import Geometry
from models.loading.load import Model, load, source_sha256
from models.rendering import encode as words
from models.rendering.checkpoint import Checkpoints
from models.rendering.conditioning import condition, condition_house
from models.rendering.guidance import PREVIS_LATENT, GuidedVelocity, NetworkInputs
from models.rendering.sampler import Schedule, State, denoise, noise, schedule
from models.rendering.step_cache import EasyCache
from models.stage.blocking import Blocking


def render(
    blocking: Blocking, settings: Settings, package: Path, checkpoints: Path | None = None, request: Request = NOTHING
) -> Iterator[Event]:
    """Render a blocking: Loaded, Worded where texts were read, Conditioned, a Stepped a step, then Decoded chunks.

    The same blocking, request, settings, weights and machine give the same frames. `checkpoints` is a folder for this
    render alone: each step is on the disk there before its Stepped, and a render that finds some goes on after the
    last, says so by Resumed, and gives the frames that an unbroken one gives. What the disk refuses or spoils is only
    Noted. Raises BadInput for weights that are not whole, for a device that is not there, and for a picture that is
    missing.
    """
    clock = _Clock()
    model = load(package, settings.device, settings.placement, settings.attention)
    yield Loaded(clock.lap(), model.weights_sha256, model.kernels_sha256)
    if model.experts.note:
        yield Noted(model.experts.note)
    at_once = settings.placement.stage_frames
    if reads_text(model.card):
        with torch.inference_mode():
            contexts, new = words.contexts(model, request, settings.text)
        if new:
            yield Worded(new, clock.lap())
        with torch.inference_mode():
            reading = condition_house(model, blocking, request, contexts, at_once)
    else:
        with torch.inference_mode():
            reading = condition(model, blocking, request, at_once)
    yield Conditioned(clock.lap())
    levels, state = begin(model, blocking, settings)
    saved = Checkpoints(checkpoints, walk_key(blocking, settings, model, request, reading)) if checkpoints else None
    if saved:
        state, passed_over = saved.newest(state)
        yield from map(Noted, passed_over)
        if state.index:
            yield Resumed(state.index, state.of)
    steps = walk(model, reading, levels, settings, state)
    for state in steps:
        if saved and (trouble := saved.keep(state)):
            yield Noted(trouble)
        yield Stepped(state.index, state.of, clock.lap())
    first, latent = 0, reading.imposed(state.latent)
    for frames in _inferring(decode(model, latent, settings.placement.vae_tile, reading)):
        yield Decoded(first, frames, clock.lap())
        first += len(frames)


def begin(model: Model, blocking: Blocking, settings: Settings) -> tuple[Schedule, State]:
    """The noise levels of a walk, and where it starts: the noise of the seed."""
    card = model.card
    levels = schedule(settings.solver, settings.steps, card.shift, card.whole_times, card.levels)
    size = Geometry(blocking.frames, blocking.height, blocking.width, card.space_stride).latent
    start = noise((1, card.out_channels, *size), settings.seed).to(model.device)
    return levels, State(0, levels.steps, start * levels.sigmas[0] if card.levels else start)


def walk(model: Model, reading: NetworkInputs, levels: Schedule, settings: Settings, state: State) -> Iterator[State]:
    """The states after `state`, one a step; the last one's latent is the film."""
    cache = EasyCache(settings.spare, state) if settings.spare else None
    guide = GuidedVelocity(model.experts.network, model.card, reading, settings.guidance, settings.batch, cache)
    states = denoise(guide, state.latent, levels, settings.solver, state, settings.seed)
    return _inferring(states if cache is None else map(cache.kept, states))


def decode(model: Model, latent: Tensor, tile: int = 0, reading: NetworkInputs | None = None) -> Iterator[np.ndarray]:
    """Frames (n, h, w, 3) float32 in 0..1, in order; `tile` pixels of a side at once, 0 for whole frames.

    Where the reading has a previs, the detail that the latent lost is given back from it.
    """
    films = model.vae.decode_stream(latent, tile=tile)
    for film in films if reading is None or reading.previs is None else _finished(model, films, reading, tile):
        yield (film[0].permute(1, 2, 3, 0) * 0.5 + 0.5).contiguous().cpu().numpy()


def _finished(model: Model, films: Iterator[Tensor], reading: NetworkInputs, tile: int) -> Iterator[Tensor]:
    """The chunks of a film with the detail of its previs."""
    assert model.detail is not None and reading.maps is not None and reading.previs is not None
    first = 0
    for film, plain in zip(films, model.vae.decode_stream(reading.maps[:, PREVIS_LATENT], tile=tile), strict=True):
        previs = reading.previs[first : first + film.shape[2]]
        yield model.detail.restored(film, plain, previs)
        first += len(previs)


def walk_key(blocking: Blocking, settings: Settings, model: Model, request: Request, reading: NetworkInputs) -> str:
    """One hash of all that a walk's numbers come from: on one machine, equal keys mean equal bits at every step.

    The placement is no part of it, nor is where words are read, but what became of them: a render that a smaller plan
    takes up, or one that knows its words by now, goes on after the steps already made.
    """
    code = (model.kernels_sha256, source_sha256("models"), torch.__version__)
    numbers = {name: value for name, value in asdict(settings).items() if name not in ("placement", "text")}
    shown = request.pictures(blocking.frames)
    read = [context.float().cpu().numpy() for context in reading.contexts]
    asked = [(array.shape, hashlib.sha256(array.tobytes()).hexdigest()) for array in (*shown.values(), *read)]
    facts = json.dumps([blocking.digest(), numbers, model.weights_sha256, code, list(shown), asked])
    return hashlib.sha256(facts.encode()).hexdigest()


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
