"""A blocking and a request become the inputs of the network, as its card says. One `prepare_*` a model family.

    prepare_previs  the stage's films, camera rays and tokens, the model sheet of the shot's people, and pictures of any
                    of the film's frames
    prepare_wan     text embeddings; and, by the card:
                    a first frame             concatenated with a mask (I2V), or as the first latent frame (TI2V-5B)
                    its CLIP image tokens     read by cross-attention, next to the text (Wan 2.1)
                    the stage's depth         a control film: concatenated (Fun-Control), or in the hints (VACE)
                    the camera's rays         added to the tokens (Fun-Camera)

What a card reads is in models/controls/inputs.py. Formulas: wan/image2video.py, wan/textimage2video.py and wan/vace.py
of Wan-Video, and VideoX-Fun (all Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.card import Card, reads_text
from models.controls import inputs as card_inputs
from models.controls.films import SAMPLES, control_films
from models.controls.rays import camera_rays
from models.controls.tokens import context_tokens
from models.dit.wan_variants import NO_EXTRAS, ExtraInputs
from models.errors import BadInput
from models.events import NOTHING, Request
from models.geometry import TIME_STRIDE, Geometry
from models.loading.load import Model
from models.rendering.encode import encode_images
from models.rendering.guidance import NetworkInputs
from models.rendering.keyframes import grey_film, keyframe_mask
from models.stage import render as stage
from models.stage.blocking import Blocking
from models.stage.model_sheet import sheet


def condition(
    model: Model, blocking: Blocking, request: Request, contexts: tuple[Tensor, ...], at_once: int = 0
) -> NetworkInputs:
    """The inputs of a model's network; contexts: the text embeddings of models/rendering/encode.py, none for ours.

    at_once: control frames that are rendered at a time; 0: one a core. Raises BadInput for a picture that is missing.
    """
    if reads_text(model.card):
        return prepare_wan(model, blocking, request, contexts, at_once)
    return prepare_previs(model, blocking, request, at_once)


def prepare_previs(model: Model, blocking: Blocking, request: Request = NOTHING, at_once: int = 0) -> NetworkInputs:
    """The inputs of our own model; of the request, its pictures. What is not given is zeros: keyframes and their mask,
    and the model sheet of a shot without people.
    """
    request = card_inputs.readable(model.card, request)
    previs, depth = control_films(blocking, at_once)
    controls = [encode_film(model, film) for film in (previs, depth[..., None])]
    rays = torch.from_numpy(camera_rays(blocking))[None].to(model.device)
    pictures = {t: _fitted(picture, blocking) for t, picture in request.pictures(blocking.frames).items()}
    if pictures:
        keyframes = _encode_keyframes(model, pictures, blocking)
    else:
        keyframes = torch.zeros(1, TIME_STRIDE + model.card.out_channels, *rays.shape[2:], device=model.device)
    tokens = torch.from_numpy(context_tokens(blocking))[None].to(model.device)
    read_sheet = card_inputs.reads_model_sheet(model.card)
    extras = ExtraInputs(reference=_encode_model_sheet(model, blocking)) if read_sheet else NO_EXTRAS
    previs_bytes = torch.from_numpy(previs * 255).round().to(torch.uint8) if model.detail else None
    return NetworkInputs((tokens,), torch.cat([keyframes, *controls, rays], 1), extras, previs=previs_bytes)


def prepare_wan(
    model: Model, blocking: Blocking, request: Request, contexts: tuple[Tensor, ...], at_once: int = 0
) -> NetworkInputs:
    """The inputs of a model of the Wan family. Raises BadInput for a first or last frame that it needs and is not
    given.
    """
    card = model.card
    request = card_inputs.readable(card, request)
    first, last = (None if picture is None else _fitted(picture, blocking) for picture in (request.first, request.last))
    _check_needed(card, first, last)
    depth = control_films(blocking, at_once)[1][..., None] if card_inputs.reads_depth(card) else None
    return NetworkInputs(
        contexts,
        _concatenated(model, blocking, depth, first, last),
        ExtraInputs(
            pictures=_encode_clip(model, first, last) if card.image_dim else None,
            hints=vace_hints(model, depth, first) if card.vace_layers and depth is not None else None,
            rays=_pixel_rays(model, blocking) if card_inputs.reads_camera_rays(card) else None,
        ),
        _encode_picture(model, first) if card_inputs.replaces_first_latent(card) and first is not None else None,
    )


def _check_needed(card: Card, first: Tensor | None, last: Tensor | None) -> None:
    if card_inputs.needs_first_frame(card) and first is None:
        missing = "begins"
    elif card_inputs.needs_last_frame(card) and last is None:
        missing = "ends" if first is not None else "begins"
    else:
        return
    raise BadInput(
        f"{card.name} makes a film that {missing} with a picture, and none was given: give one, or choose another model"
    )


def _concatenated(
    model: Model, blocking: Blocking, depth: np.ndarray | None, first: Tensor | None, last: Tensor | None
) -> Tensor | None:
    """What is concatenated to the noise (1, C, F, H, W); None if nothing is."""
    card = model.card
    if card_inputs.concatenates_keyframes(card):
        ends = {0: first, blocking.frames - 1: last}
        return _encode_keyframes(model, {t: each for t, each in ends.items() if each is not None}, blocking)
    if not card_inputs.concatenates_first_frame(card):
        return None
    begins = torch.zeros(1, card.out_channels, *_latent_size(card, blocking), device=model.device)
    if first is not None:
        begins[:, :, :1] = _encode_picture(model, first)
    if depth is None or not card_inputs.concatenates_depth(card):
        return begins
    return torch.cat([encode_film(model, depth).to(model.device), begins], 1)


def _encode_clip(model: Model, first: Tensor | None, last: Tensor | None) -> Tensor:
    """CLIP's tokens of the first frame, and of the last; zeros where there is none."""
    pictures = [picture / 2 + 0.5 for picture in (first, last) if picture is not None]
    if pictures:
        return encode_images(model, pictures)
    return torch.zeros(1, model.card.picture_tokens, model.card.image_dim, device=model.device)


def _pixel_rays(model: Model, blocking: Blocking) -> Tensor:
    """The camera's rays through every pixel (1, 24, F, h, w)."""
    return torch.from_numpy(camera_rays(blocking, cell=1))[None].to(model.device)


def vace_hints(model: Model, control: np.ndarray, first: Tensor | None) -> Tensor:
    """What VACE reads of a control film (T, h, w, 1) in 0..1: latents of what stays, latents of what is to be made in
    its likeness, and a mask of where that is, pixel by pixel. A first frame (1, 3, h, w) in -1..1 stays.
    """
    frames, height, width, _ = control.shape
    film = torch.from_numpy(control).permute(3, 0, 1, 2)[None].float().expand(-1, 3, -1, -1, -1) * 2 - 1
    made = torch.ones(1, 1, frames, height, width)
    if first is not None:
        film = torch.cat([first[:, :, None], film[:, :, 1:]], 2)
        made[:, :, 0] = 0
    weight = next(model.vae.parameters())
    inactive, reactive = (
        model.vae.encode_stream(part.to(weight) for part in _in_chunks(film * share)) for share in (1 - made, made)
    )
    return torch.cat([inactive, reactive, folded_mask(made, model.card.space_stride).to(inactive)], 1)


def folded_mask(made: Tensor, cell: int) -> Tensor:
    """(1, 1, T, h, w) -> (1, cell * cell, F, H, W): pixels of a cell as channels, row by row; of the frames the nearest
    to the middle of each latent frame's share.
    """
    cells = F.pixel_unshuffle(made.transpose(1, 2), cell).transpose(1, 2)
    size = ((made.shape[2] + 3) // TIME_STRIDE, *cells.shape[3:])
    return F.interpolate(cells, size, mode="nearest-exact")


def encode_film(model: Model, film: np.ndarray) -> Tensor:
    """A film (T, h, w, 3 or 1) in 0..1 to latents (1, C, F, H, W) float32; four frames at a time go to the device."""
    weight = next(model.vae.parameters())

    def chunk(frames: np.ndarray) -> Tensor:
        pixels = torch.from_numpy(frames).to(weight.device, torch.float32).permute(3, 0, 1, 2)[None] * 2 - 1
        return pixels.to(weight.dtype).expand(-1, 3, -1, -1, -1)

    return model.vae.encode_stream(map(chunk, (film[:1], *(film[at : at + 4] for at in range(1, len(film), 4)))))


def _encode_picture(model: Model, picture: Tensor) -> Tensor:
    """(1, 3, h, w) in -1..1 as a film of one frame: (1, C, 1, H, W)."""
    return model.vae.encode_stream([picture[:, :, None].to(next(model.vae.parameters()))])


def _encode_model_sheet(model: Model, blocking: Blocking) -> Tensor:
    """The model sheet of a shot's people as a latent (1, C, H, W); zeros where there is nobody."""
    people = sheet(blocking)
    if people is None:
        size = _latent_size(model.card, blocking)[1:]
        return torch.zeros(1, model.card.reference_channels, *size, device=model.device)
    picture = stage.render_frame(people, 0, samples=SAMPLES).rgb
    return encode_film(model, picture[None])[:, :, 0]


def _encode_keyframes(model: Model, pictures: dict[int, Tensor], blocking: Blocking) -> Tensor:
    """Pictures by their frames -> their mask and the latents of a film of them alone: (1, 4 + C, F, H, W)."""
    film = grey_film(pictures, blocking.frames, like=next(model.vae.parameters()))
    mask = keyframe_mask(_latent_size(model.card, blocking), list(pictures))
    return torch.cat([part.to(model.device) for part in (mask, model.vae.encode_stream(film))], 1)


def _latent_size(card: Card, blocking: Blocking) -> tuple[int, int, int]:
    return Geometry(blocking.frames, blocking.height, blocking.width, card.space_stride).latent


def _in_chunks(film: Tensor) -> Iterator[Tensor]:
    yield film[:, :, :1]
    yield from film[:, :, 1:].split(TIME_STRIDE, 2)


def _fitted(picture: np.ndarray, blocking: Blocking) -> Tensor:
    """A picture (h, w, 3) uint8 of any size -> (1, 3, h, w) in -1..1, scaled to cover the film's size and cropped."""
    height, width = blocking.height, blocking.width
    pixels = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1
    scale = max(height / pixels.shape[2], width / pixels.shape[3])
    size = [max(side, round(scale * own)) for side, own in zip((height, width), pixels.shape[2:], strict=True)]
    if size != list(pixels.shape[2:]):
        pixels = F.interpolate(pixels, size, mode="bicubic", antialias=True, align_corners=False).clamp(-1, 1)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return pixels[:, :, top : top + height, left : left + width]
