"""The main path: a blocking becomes frames.

model     = load(package)                  weights verified, cached between shots
contexts  = encode_prompts(model, request) text embeddings, for a model that reads text
inputs    = condition(model, blocking)     control films, camera rays, tokens or pictures, by the model's card
latent    = denoise_film(model, inputs)    one Stepped a step, saved before it is reported
frames    = decode(model, latent)          chunk by chunk, in order
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
    TextEncoded,
)
from models.geometry import Geometry
from models.loading.load import Model, load, source_sha256
from models.rendering.checkpoint import Checkpoints
from models.rendering.conditioning import condition
from models.rendering.encode import encode_prompts
from models.rendering.guidance import PREVIS_LATENT, GuidedVelocity, NetworkInputs
from models.rendering.sampler import Schedule, State, denoise, noise, schedule
from models.rendering.step_cache import EasyCache
from models.stage.blocking import Blocking


def render(
    blocking: Blocking, settings: Settings, package: Path, checkpoints: Path | None = None, request: Request = NOTHING
) -> Iterator[Event]:
    """Render a blocking: Loaded, TextEncoded if texts were encoded, Conditioned, one Stepped a step, Decoded chunks.

    The same blocking, request, settings, weights and machine give the same frames. `checkpoints` is a folder for this
    render alone: each step is on disk there before its Stepped, and a render that finds saved steps continues after the
    last, reports it by Resumed, and gives the frames of an uninterrupted one. What the disk refuses or damages is only
    Noted. Raises BadInput for damaged weights, for a device that is not there, and for a picture that is missing.
    """
    clock = _Clock()
    model = load(package, settings.device, settings.placement, settings.attention)
    yield Loaded(clock.lap(), model.weights_sha256, model.kernels_sha256)
    if model.experts.note:
        yield Noted(model.experts.note)
    with torch.inference_mode():
        contexts, encoded = encode_prompts(model, request, settings.text)
    if encoded:
        yield TextEncoded(encoded, clock.lap())
    with torch.inference_mode():
        inputs = condition(model, blocking, request, contexts, settings.placement.stage_frames)
    yield Conditioned(clock.lap())
    levels, state = initial_state(model, blocking, settings)
    saved = (
        Checkpoints(checkpoints, checkpoint_key(blocking, settings, model, request, inputs)) if checkpoints else None
    )
    if saved:
        state, skipped = saved.newest(state)
        yield from map(Noted, skipped)
        if state.index:
            yield Resumed(state.index, state.of)
    states = denoise_film(model, inputs, levels, settings, state)
    for state in states:
        if saved and (trouble := saved.save(state)):
            yield Noted(trouble)
        yield Stepped(state.index, state.of, clock.lap())
    first, latent = 0, inputs.with_first_latent(state.latent)
    for frames in _inferring(decode(model, latent, settings.placement.vae_tile, inputs)):
        yield Decoded(first, frames, clock.lap())
        first += len(frames)


def initial_state(model: Model, blocking: Blocking, settings: Settings) -> tuple[Schedule, State]:
    """The schedule of noise levels, and the state before the first step: the noise of the seed."""
    card = model.card
    levels = schedule(settings.solver, settings.steps, card.shift, card.whole_times, card.levels)
    size = Geometry(blocking.frames, blocking.height, blocking.width, card.space_stride).latent
    start = noise((1, card.out_channels, *size), settings.seed).to(model.device)
    return levels, State(0, levels.steps, start * levels.sigmas[0] if card.levels else start)


def denoise_film(
    model: Model, inputs: NetworkInputs, levels: Schedule, settings: Settings, state: State
) -> Iterator[State]:
    """The states after `state`, one a step; the last one's latent is the film."""
    cache = EasyCache(settings.cache_tolerance, state) if settings.cache_tolerance else None
    velocity = GuidedVelocity(model.experts.network, model.card, inputs, settings.guidance, settings.batch, cache)
    states = denoise(velocity, state.latent, levels, settings.solver, state, settings.seed)
    return _inferring(states if cache is None else map(cache.attach, states))


def decode(model: Model, latent: Tensor, tile: int = 0, inputs: NetworkInputs | None = None) -> Iterator[np.ndarray]:
    """Frames (n, h, w, 3) float32 in 0..1, in order; `tile` pixels of a side at once, 0 for whole frames.

    If the inputs have a previs, the detail that the latent lost is restored from it.
    """
    films = model.vae.decode_stream(latent, tile=tile)
    for film in films if inputs is None or inputs.previs is None else _restored(model, films, inputs, tile):
        yield (film[0].permute(1, 2, 3, 0) * 0.5 + 0.5).contiguous().cpu().numpy()


def _restored(model: Model, films: Iterator[Tensor], inputs: NetworkInputs, tile: int) -> Iterator[Tensor]:
    """The chunks of a film with the detail of its previs."""
    assert model.detail is not None and inputs.maps is not None and inputs.previs is not None
    first = 0
    for film, plain in zip(films, model.vae.decode_stream(inputs.maps[:, PREVIS_LATENT], tile=tile), strict=True):
        previs = inputs.previs[first : first + film.shape[2]]
        yield model.detail.restore(film, plain, previs)
        first += len(previs)


def checkpoint_key(
    blocking: Blocking, settings: Settings, model: Model, request: Request, inputs: NetworkInputs
) -> str:
    """One hash of everything that the latents come from: on one machine, equal keys mean equal bits at every step.

    The placement is left out, and so is where text is encoded; the embeddings are in: a render that is retried with a
    smaller plan, or with cached embeddings, continues after the steps already made.
    """
    code = (model.kernels_sha256, source_sha256("models"), torch.__version__)
    numbers = {name: value for name, value in asdict(settings).items() if name not in ("placement", "text")}
    pictures = request.pictures(blocking.frames)
    embeddings = [context.float().cpu().numpy() for context in inputs.contexts]
    given = [(array.shape, hashlib.sha256(array.tobytes()).hexdigest()) for array in (*pictures.values(), *embeddings)]
    facts = json.dumps([blocking.digest(), numbers, model.weights_sha256, code, list(pictures), given])
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
