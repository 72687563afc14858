"""The sizes of a model, as data: one frozen record, and the named models we know.

A variant says only how it differs from its base. Sizes of Wan are those of its config.json files
(Wan-Video/Wan2.1 and Wan2.2, Apache-2.0).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

PREDICTIONS = ("velocity", "change")
SOLVERS = ("unipc", "dpm++", "euler", "renoise")  # of models/rendering/sampler.py


@dataclass(frozen=True, slots=True)
class Card:
    """One diffusion transformer and what surrounds it."""

    name: str
    dim: int  # D
    ffn: int  # hidden width of the feed-forward
    heads: int  # N
    layers: int
    in_channels: int  # latent channels the patch embedding reads: noise and what is concatenated to it
    out_channels: int = 16
    text_dim: int = 4096  # width of one context token before the text embedding
    text_len: int = 512  # context tokens, zero-padded to this many and not masked
    freq_dim: int = 256
    patch: tuple[int, int, int] = (1, 2, 2)
    eps: float = 1e-6
    shift: float = 5.0  # of the flow schedule
    steps: int = 50
    fps: float = 16.0
    vae: str = "wan2.1"
    space_stride: int = 8  # pixels to a latent cell, each way: 8 for the autoencoders of 16 channels, 16 for that of 48
    passes: int = 2  # forwards a step: with the prompt and without it (guidance); 1 without guidance
    experts: int = 1  # networks of this size that share the steps, one after the other
    boundary: float = 0.0  # noise level down to which the first expert denoises; below it the second
    prediction: str = "velocity"  # the network outputs the flow's "velocity", or the "change" of the previs to the film
    frames: int = 81  # of the films it was trained on
    solver: str = "unipc"  # of SOLVERS
    levels: tuple[
        float, ...
    ] = ()  # noise levels that a network was distilled to: one for each step, instead of `shift`
    whole_times: bool = False  # whether the network was trained on integer times only
    guidance: tuple[float, ...] = (5.0,)  # guidance scale of each expert, high noise first; 1.0: none
    image_dim: int = 0  # width of CLIP's image tokens, which the cross-attention reads next to the text; 0: none
    image_positions: int = 0  # learnt positions of these tokens, which tell two pictures apart; 0: none
    vace_layers: tuple[int, ...] = ()  # blocks that receive a hint, each from a VACE block of its own
    vace_channels: int = 0  # channels of the hints' input
    camera_channels: int = 0  # of the rays that the camera adapter folds into cells and adds to the tokens
    reference_channels: int = 0  # of the reference latent, whose tokens come before the film's

    @property
    def head_dim(self) -> int:
        """E, the width of one head."""
        return self.dim // self.heads

    @property
    def picture_tokens(self) -> int:
        """How many image tokens the cross-attention reads: 257 of each picture."""
        return self.image_positions or (257 if self.image_dim else 0)

    @property
    def kept_blocks(self) -> frozenset[int]:
        """The blocks that quantization leaves in bf16: the first two and the last three, which lose most by rounding.

        None in a network of at most 8 blocks: no block of one so shallow was seen to need more than int8.
        """
        return frozenset({0, 1, *range(self.layers - 3, self.layers)}) if self.layers > 8 else frozenset()


# The shipped model predicts the change from the previs to the film: with an output of zero the film is the previs, so
# it only learns what that lacks: highlights, air, the lens. Like every network that predicts the film instead of a
# velocity, it is nearly right at any noise (Li & He 2025, "Back to basics", on x-prediction).
# Channels on its patch embedding, in this order: 16 noise, 4 keyframe mask, 16 keyframe latent
# (the layout of Wan I2V), 16 latent of the previs film, 16 latent of the depth film (the layout of Fun-Control),
# 24 Pluecker rays (the layout of Fun-Camera, pooled to the latent grid). Before the film's tokens come those of the
# model sheet of its people (the layout of Fun-Control V1.1).
PREVIS = Card(
    name="previs", dim=384, ffn=1536, heads=6, layers=8, in_channels=16 + 4 + 16 + 16 + 16 + 24,
    text_dim=64, text_len=16, shift=4.0, steps=4, vae="previs", passes=1, prediction="change",
    frames=33, guidance=(1.0,), reference_channels=16,
)  # fmt: skip
TINY = replace(PREVIS, name="tiny", dim=32, ffn=64, heads=2, layers=2)  # tests: the whole path in a second

WAN_1_3B = Card(name="wan2.1-t2v-1.3b", dim=1536, ffn=8960, heads=12, layers=30, in_channels=16, whole_times=True)
WAN_14B = Card(name="wan2.1-t2v-14b", dim=5120, ffn=13824, heads=40, layers=40, in_channels=16, whole_times=True)

# Noise, a mask and the latent of keyframes on the patch embedding; their CLIP image tokens in the cross-attention.
# The files of 480P and 720P have the same shapes, and so do those of Fun-InP.
WAN_I2V_480P = replace(
    WAN_14B, name="wan2.1-i2v-14b-480p", in_channels=16 + 4 + 16, image_dim=1280, steps=40, shift=3.0
)
WAN_I2V_720P = replace(WAN_I2V_480P, name="wan2.1-i2v-14b-720p", shift=5.0)
WAN_FLF2V = replace(WAN_I2V_720P, name="wan2.1-flf2v-14b", image_positions=2 * 257, steps=50, shift=16.0)
WAN_INP_1_3B = replace(WAN_1_3B, name="wan2.1-fun-inp-1.3b", in_channels=16 + 4 + 16, image_dim=1280)

# Latents of what is kept of a film, of what is to be made, and a mask of 8x8 pixels a cell: 16 + 16 + 64 channels.
WAN_VACE_1_3B = replace(
    WAN_1_3B, name="wan2.1-vace-1.3b", vace_layers=tuple(range(0, 30, 2)), vace_channels=96, shift=16.0
)
WAN_VACE_14B = replace(
    WAN_14B, name="wan2.1-vace-14b", vace_layers=tuple(range(0, 40, 5)), vace_channels=96, shift=16.0
)

# Noise, a control film and the first frame on the patch embedding. V1.1 adds a reference picture (`ref_conv`).
WAN_CONTROL_1_3B = replace(WAN_1_3B, name="wan2.1-fun-control-1.3b", in_channels=3 * 16, image_dim=1280)
WAN_CONTROL_14B = replace(WAN_14B, name="wan2.1-fun-control-14b", in_channels=3 * 16, image_dim=1280)
WAN_CONTROL_1_3B_V11 = replace(WAN_CONTROL_1_3B, name="wan2.1-fun-control-1.3b-v1.1", reference_channels=16)
WAN_CONTROL_14B_V11 = replace(WAN_CONTROL_14B, name="wan2.1-fun-control-14b-v1.1", reference_channels=16)
# Noise and the first frame; the camera's rays, six numbers a pixel for four frames, through the adapter.
WAN_CAMERA_1_3B = replace(
    WAN_1_3B, name="wan2.1-fun-camera-1.3b", in_channels=2 * 16, image_dim=1280, camera_channels=4 * 6
)
WAN_CAMERA_14B = replace(
    WAN_14B, name="wan2.1-fun-camera-14b", in_channels=2 * 16, image_dim=1280, camera_channels=4 * 6
)

# The 5B reads cells of 4x16x16: a quarter of the tokens for the same picture. The A14B is two networks of the 14B's
# size: one for high noise, which lays out the shot, one for low noise, which finishes it; one runs at a time.
WAN_5B = Card(
    name="wan2.2-ti2v-5b", dim=3072, ffn=14336, heads=24, layers=30, in_channels=48, out_channels=48,
    fps=24.0, frames=121, vae="wan2.2", space_stride=16, whole_times=True,
)  # fmt: skip
WAN_A14B = replace(
    WAN_14B, name="wan2.2-t2v-a14b", shift=12.0, steps=40, experts=2, boundary=0.875, guidance=(4.0, 3.0)
)
WAN_I2V_A14B = replace(
    WAN_A14B, name="wan2.2-i2v-a14b", in_channels=16 + 4 + 16, shift=5.0, boundary=0.9, guidance=(3.5, 3.5)
)

CARDS = {
    card.name: card
    for card in (
        PREVIS, WAN_1_3B, WAN_14B, WAN_I2V_480P, WAN_I2V_720P, WAN_FLF2V, WAN_INP_1_3B, WAN_VACE_1_3B, WAN_VACE_14B,
        WAN_CONTROL_1_3B, WAN_CONTROL_14B, WAN_CONTROL_1_3B_V11, WAN_CONTROL_14B_V11, WAN_CAMERA_1_3B, WAN_CAMERA_14B,
        WAN_5B, WAN_A14B, WAN_I2V_A14B,
    )
}  # fmt: skip

# How networks that were distilled to a few steps are sampled: solver, shift, and steps or noise levels.
# LightX2V's, also as LoRAs: 1, 0.9375, 0.8333, 0.6250, of which Wan 2.2's experts take two each. FastWan's: fresh
# noise at each level. rCM's: sin t / (sin t + cos t) of t = atan 80, 1.5, 1.4 and 1. All without guidance.
FEW_STEPS: dict[str, tuple[str, float, int | tuple[float, ...]]] = {
    "lightx2v": ("euler", 5.0, 4),
    "mean-flow": ("euler", 5.0, 2),
    "fastwan": ("renoise", 8.0, (1.0, 0.757, 0.522)),
    "rcm": ("renoise", 5.0, (0.98765432, 0.93378106, 0.85289539, 0.60897905)),
}


def few_steps(card: Card, method: str) -> Card:
    """The card of a network that was distilled by one of the methods of FEW_STEPS."""
    solver, shift, grid = FEW_STEPS[method]
    levels = grid if isinstance(grid, tuple) else ()
    steps = len(grid) if isinstance(grid, tuple) else grid
    return replace(
        card, solver=solver, shift=shift, steps=steps, levels=levels, guidance=(1.0,) * card.experts, passes=1
    )


def steps_of(quality: str, card: Card) -> int:
    """Denoising steps of a quality: draft is half of the card's steps, take all of them, print two and a half times as
    many, at most 60 where the card has fewer. 2, 4 and 10 for the shipped model. A network that was distilled to its
    steps takes these at every quality.
    """
    if reads_text(card) and card.passes == 1:
        return card.steps
    if quality == "draft":
        return max(1, card.steps // 2)
    if quality == "print":
        return max(card.steps, min(60, round(2.5 * card.steps)))
    return card.steps


@dataclass(frozen=True, slots=True)
class TextCard:
    """One umT5 encoder (google/umt5-xxl, Apache-2.0, and wan/modules/t5.py for the facts)."""

    name: str
    words: int  # rows of the token embedding; a few more than the tokenizer has pieces
    dim: int  # D, and the width of all heads together
    ffn: int
    heads: int  # N
    layers: int
    tokens: int = 512  # the most it reads, the end token included
    eps: float = 1e-6
    kept_blocks: frozenset[int] = frozenset()  # left in bf16 by quantization: none, its layers are much alike


UMT5_XXL = TextCard("umt5-xxl", words=256_384, dim=4096, ffn=10_240, heads=64, layers=24)


def reads_text(card: Card) -> bool:
    """Whether text reaches this network. Ours reads the camera, the lamps and the set instead."""
    return card.vae != "previs"
