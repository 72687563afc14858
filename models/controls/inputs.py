"""What a model reads of a direction's pictures, depth and rays, by its card."""

from __future__ import annotations

from models.card import Card


def takes_first(card: Card) -> bool:
    """Whether a film may begin with a picture: one that is concatenated, kept by VACE, or the first latent frame."""
    return card.in_channels > card.out_channels or bool(card.vace_layers) or card.vae == "wan2.2"


def needs_first(card: Card) -> bool:
    """Whether it must: a mask and the picture are what the network was trained to read beside noise (I2V)."""
    return card.in_channels - card.out_channels == 4 + card.out_channels


def needs_last(card: Card) -> bool:
    """Whether it must end with a picture too: the places of two were learnt (FLF2V)."""
    return card.image_positions > 0


def takes_last(card: Card) -> bool:
    """Whether it may end with a picture."""
    return needs_last(card) or takes_keys(card)


def takes_keys(card: Card) -> bool:
    """Whether any frame may be a picture. Ours may be where its card has a reference: those weights were trained with
    keyframes anywhere, the ones before them with the first alone.
    """
    return card.vae == "previs" and card.reference_channels > 0


def reads_depth(card: Card) -> bool:
    """Whether the stage's depth is its control film: camera, people and set reach it as geometry."""
    return card.in_channels == 3 * card.out_channels or bool(card.vace_layers)


def reads_rays(card: Card) -> bool:
    """Whether the camera reaches it as the ray of each pixel."""
    return card.camera_channels > 0
