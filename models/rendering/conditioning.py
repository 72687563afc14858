"""A blocking, and what else is asked for, become what the network of a card reads.

Our own model reads the stage's films and the numbers of the direction, the sheet of the shot's people where its card
has a reference, and pictures of any of the film's frames. A house's reads words; and, by its card:

    a picture that the film begins with   concatenated with a mask (I2V), or as the first latent frame itself (TI2V-5B)
    what CLIP sees of it                  beside the words (Wan 2.1)
    the stage's depth, as a control film  concatenated (Fun-Control), or as hints (VACE)
    the camera's rays                     added to the tokens (Fun-Control-Camera)

Formulas: wan/image2video.py, wan/textimage2video.py and wan/vace.py of Wan-Video, and VideoX-Fun (all Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.controls.films import SAMPLES, control_films
from models.controls.rays import camera_rays
from models.controls.tokens import context_tokens
from models.dit.wan_variants import NO_EXTRAS, ExtraInputs
from models.errors import BadInput
from models.events import NOTHING, Request
from models.geometry import TIME_STRIDE, Geometry
from models.loading.load import Model
from models.rendering import encode as words
from models.rendering.guidance import NetworkInputs
from models.rendering.keyframes import grey_film, keyframe_mask
from models.stage import render as stage
from models.stage.blocking import Blocking
from models.stage.model_sheet import sheet


def condition(model: Model, blocking: Blocking, request: Request = NOTHING, at_once: int = 0) -> NetworkInputs:
    """What our own model reads; of the request, its pictures. What is not given is zeros: keyframes with their mask,
    and the sheet of a shot without people.

    at_once: control frames that are made at a time; 0: one a core.
    """
    previs, depth = control_films(blocking, at_once)
    controls = [encoded(model, film) for film in (previs, depth[..., None])]
    rays = torch.from_numpy(camera_rays(blocking))[None].to(model.device)
    if pictures := _shown(request, blocking):
        keys = torch.cat([part.to(model.device) for part in _keyframed(model, pictures, blocking)], 1)
    else:
        keys = torch.zeros(1, TIME_STRIDE + model.card.out_channels, *rays.shape[2:], device=model.device)
    tokens = torch.from_numpy(context_tokens(blocking))[None].to(model.device)
    beside = ExtraInputs(reference=_reference(model, blocking)) if model.card.reference_channels else NO_EXTRAS
    shown = torch.from_numpy(previs * 255).round().to(torch.uint8) if model.detail else None
    return NetworkInputs((tokens,), torch.cat([keys, *controls, rays], 1), beside, previs=shown)


def condition_house(
    model: Model, blocking: Blocking, request: Request, contexts: tuple[Tensor, ...], at_once: int = 0
) -> NetworkInputs:
    """What a house's model reads; contexts: of its words (models/rendering/encode.py). Raises BadInput where a picture
    is missing that the film begins or ends with.
    """
    card, channels = model.card, model.card.out_channels
    size = Geometry(blocking.frames, blocking.height, blocking.width, card.space_stride).latent
    first, last = (None if picture is None else _fitted(picture, blocking) for picture in (request.first, request.last))
    concatenated = card.in_channels - channels
    keyed = concatenated == 4 + channels
    if (keyed and first is None) or (card.image_positions and last is None):
        what = "ends with a picture" if first is not None else "begins with a picture"
        raise BadInput(f"{card.name} makes a film that {what}, and none was given: give one, or choose another model")
    controls = concatenated == 2 * channels or card.vace_layers
    depth = control_films(blocking, at_once)[1][..., None] if controls else None
    maps: list[Tensor] = []
    if keyed and first is not None:
        maps = _keyframed(model, {0: first} if last is None else {0: first, blocking.frames - 1: last}, blocking)
    elif concatenated:
        begins = torch.zeros(1, channels, *size)
        if first is not None:
            begins[:, :, :1] = _encoded_picture(model, first)
        maps = [begins] if depth is None else [encoded(model, depth), begins]
    beside = ExtraInputs()
    if card.image_dim:
        shown = [picture / 2 + 0.5 for picture in (first, last) if picture is not None]
        if shown:
            seen = words.pictures(model, shown[: 2 if card.image_positions else 1])
        else:
            seen = torch.zeros(1, card.picture_tokens, card.image_dim, device=model.device)
        beside = beside._replace(pictures=seen)
    if card.camera_channels:
        rays = torch.from_numpy(camera_rays(blocking, cell=1))[None].to(model.device)
        beside = beside._replace(rays=rays)
    if card.vace_layers and depth is not None:
        beside = beside._replace(hints=hints(model, depth, first))
    joined = torch.cat([part.to(model.device) for part in maps], 1) if maps else None
    alone = first is not None and not concatenated and card.vae == "wan2.2"
    given = _encoded_picture(model, first) if alone and first is not None else None
    return NetworkInputs(contexts, joined, beside, given)


def hints(model: Model, control: np.ndarray, first: Tensor | None) -> Tensor:
    """What VACE reads of a control film (T, h, w, 1) in 0..1: latents of what stays, latents of what is to be made in
    its likeness, and where that is, pixel by pixel. A first picture (1, 3, h, w) in -1..1 stays.
    """
    frames, height, width, _ = control.shape
    film = torch.from_numpy(control).permute(3, 0, 1, 2)[None].float().expand(-1, 3, -1, -1, -1) * 2 - 1
    made = torch.ones(1, 1, frames, height, width)
    if first is not None:
        film = torch.cat([first[:, :, None], film[:, :, 1:]], 2)
        made[:, :, 0] = 0
    weight = next(model.vae.parameters())
    still, moved = (
        model.vae.encode_stream(part.to(weight) for part in _in_chunks(film * share)) for share in (1 - made, made)
    )
    return torch.cat([still, moved, folded_mask(made, model.card.space_stride).to(still)], 1)


def folded_mask(made: Tensor, cell: int) -> Tensor:
    """(1, 1, T, h, w) -> (1, cell * cell, F, H, W): pixels of a cell as channels, row by row; of the frames the nearest
    to the middle of each latent frame's share.
    """
    cells = F.pixel_unshuffle(made.transpose(1, 2), cell).transpose(1, 2)
    size = ((made.shape[2] + 3) // TIME_STRIDE, *cells.shape[3:])
    return F.interpolate(cells, size, mode="nearest-exact")


def encoded(model: Model, film: np.ndarray) -> Tensor:
    """A film (T, h, w, 3 or 1) in 0..1 to latents (1, C, F, H, W) float32; four frames at a time go to the device."""
    weight = next(model.vae.parameters())

    def chunk(frames: np.ndarray) -> Tensor:
        pixels = torch.from_numpy(frames).to(weight.device, torch.float32).permute(3, 0, 1, 2)[None] * 2 - 1
        return pixels.to(weight.dtype).expand(-1, 3, -1, -1, -1)

    return model.vae.encode_stream(map(chunk, (film[:1], *(film[at : at + 4] for at in range(1, len(film), 4)))))


def _encoded_picture(model: Model, picture: Tensor) -> Tensor:
    """(1, 3, h, w) in -1..1 as a film of one frame: (1, C, 1, H, W)."""
    return model.vae.encode_stream([picture[:, :, None].to(next(model.vae.parameters()))])


def _reference(model: Model, blocking: Blocking) -> Tensor:
    """The sheet of a shot's people as a latent (1, C, H, W); zeros where there is nobody."""
    people = sheet(blocking)
    if people is None:
        size = Geometry(blocking.frames, blocking.height, blocking.width, model.card.space_stride).latent[1:]
        return torch.zeros(1, model.card.reference_channels, *size, device=model.device)
    drawn = stage.render_frame(people, 0, samples=SAMPLES).rgb
    return encoded(model, drawn[None])[:, :, 0]


def _shown(request: Request, blocking: Blocking) -> dict[int, Tensor]:
    """The pictures of a request by the frames that they are, as `_fitted` gives them."""
    return {t: _fitted(picture, blocking) for t, picture in request.pictures(blocking.frames).items()}


def _keyframed(model: Model, shown: dict[int, Tensor], blocking: Blocking) -> list[Tensor]:
    """Pictures by their frames -> their mask (1, 4, F, H, W) and the latent (1, C, F, H, W) of a film of them alone."""
    size = Geometry(blocking.frames, blocking.height, blocking.width, model.card.space_stride).latent
    film = grey_film(shown, blocking.frames, like=next(model.vae.parameters()))
    return [keyframe_mask(size, list(shown)), model.vae.encode_stream(film)]


def _in_chunks(film: Tensor) -> Iterator[Tensor]:
    yield film[:, :, :1]
    yield from film[:, :, 1:].split(TIME_STRIDE, 2)


def _fitted(picture: np.ndarray, blocking: Blocking) -> Tensor:
    """A picture (h, w, 3) uint8 of any size -> (1, 3, h, w) in -1..1, the film's size: it covers it, and is cropped."""
    height, width = blocking.height, blocking.width
    pixels = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1
    scale = max(height / pixels.shape[2], width / pixels.shape[3])
    size = [max(side, round(scale * own)) for side, own in zip((height, width), pixels.shape[2:], strict=True)]
    if size != list(pixels.shape[2:]):
        pixels = F.interpolate(pixels, size, mode="bicubic", antialias=True, align_corners=False).clamp(-1, 1)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return pixels[:, :, top : top + height, left : left + width]
