"""What the network of a card reads of a request's pictures and of the stage. Nothing else derives this from a card.

Reports and requests promise by these functions, models/rendering/conditioning.py prepares inputs by them, and
models/cost counts by them.
"""

from __future__ import annotations

from dataclasses import replace

from models.card import Card, reads_text
from models.events import Request
from models.geometry import TIME_STRIDE


def concatenates_keyframes(card: Card) -> bool:
    """Whether a mask of four channels and the latents of the given frames, and only these, are concatenated to the
    noise (Wan I2V and FLF2V). Such a network was never trained without a first frame.
    """
    return _concatenated(card) == TIME_STRIDE + card.out_channels


def concatenates_depth(card: Card) -> bool:
    """Whether the latents of a control film are concatenated to the noise, before those of the first frame
    (Fun-Control).
    """
    return _concatenated(card) == 2 * card.out_channels


def concatenates_first_frame(card: Card) -> bool:
    """Whether the latents of a film that is empty after its first frame are concatenated to the noise (Fun-Control and
    Fun-Camera).
    """
    return reads_text(card) and _concatenated(card) > 0 and not concatenates_keyframes(card)


def replaces_first_latent(card: Card) -> bool:
    """Whether the first latent frame itself is that of the picture, free of noise (Wan 2.2 TI2V)."""
    return card.vae == "wan2.2" and not _concatenated(card)


def reads_first_frame(card: Card) -> bool:
    """Whether a film may begin with a picture."""
    return _concatenated(card) > 0 or bool(card.vace_layers) or replaces_first_latent(card)


def needs_first_frame(card: Card) -> bool:
    """Whether it must (I2V)."""
    return concatenates_keyframes(card)


def needs_last_frame(card: Card) -> bool:
    """Whether it must end with a picture too (FLF2V, which learnt positions for the image tokens of two)."""
    return card.image_positions > 0


def reads_last_frame(card: Card) -> bool:
    """Whether a film may end with a picture."""
    return needs_last_frame(card) or reads_keyframes(card)


def reads_keyframes(card: Card) -> bool:
    """Whether any frame may be a picture: of ours where the card has a reference, for those weights were trained with
    keyframes anywhere, the ones before them with the first alone.
    """
    return reads_model_sheet(card)


def reads_model_sheet(card: Card) -> bool:
    """Whether the model sheet of a shot's people is read, as a reference latent."""
    return not reads_text(card) and card.reference_channels > 0


def reads_depth(card: Card) -> bool:
    """Whether the stage's depth is its control film: camera, people and set reach it as geometry."""
    return concatenates_depth(card) or bool(card.vace_layers)


def reads_camera_rays(card: Card) -> bool:
    """Whether the camera reaches it as the ray of each pixel, through an adapter (Fun-Camera)."""
    return card.camera_channels > 0


def encoded_films(card: Card) -> int:
    """Films that go through the autoencoder before denoising: previs and depth for ours; for Wan what is concatenated
    in latents; for VACE what is kept of a film and what is to change.
    """
    if not reads_text(card):
        return 2
    return _concatenated(card) // card.out_channels + (2 if card.vace_layers else 0)


def readable(card: Card, request: Request) -> Request:
    """The request with only those pictures that the card reads."""
    return replace(
        request,
        first=request.first if reads_first_frame(card) else None,
        last=request.last if reads_last_frame(card) else None,
        keys=request.keys if reads_keyframes(card) else {},
    )


def _concatenated(card: Card) -> int:
    """Latent channels that are concatenated to the noise."""
    return card.in_channels - card.out_channels
