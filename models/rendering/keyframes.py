"""Given frames (keyframes) as a network of the Wan I2V layout reads them: a mask, and a film of these frames alone.

Four frames are one latent frame, and each has a channel of the mask; the film's first frame is a latent frame of its
own, and fills all four. Where nothing is given the film is mid-grey and the mask 0 (wan/image2video.py and
first_last_frame2video.py of Wan-Video, Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from models.geometry import SPACE_STRIDE, TIME_STRIDE


def keyframes(film: Tensor, at: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The frames `at` of a film (1, 3, T, h, w) in -1..1, T = 4n + 1: a film of the same size in which every other
    frame is mid-grey, and its mask (1, 4, F, H, W) for cells of 8x8 pixels. Any frames, in any order, or none. Raises
    ValueError for a frame outside the film.
    """
    frames, height, width = film.shape[2:]
    size = ((frames + TIME_STRIDE - 1) // TIME_STRIDE, height // SPACE_STRIDE, width // SPACE_STRIDE)
    mask = keyframe_mask(size, at).to(film)
    kept = torch.zeros_like(film)
    chosen = list(at)
    kept[:, :, chosen] = film[:, :, chosen]
    return kept, mask


def keyframe_mask(size: tuple[int, int, int], at: Sequence[int]) -> Tensor:
    """(1, 4, F, H, W) of a latent grid F, H, W: 1 where a frame of the film is given. Frame 0 is all channels of latent
    frame 0; frame t > 0 is channel (t - 1) % 4 of latent frame 1 + (t - 1) // 4. Raises ValueError for a frame outside
    the film's 4 (F - 1) + 1.
    """
    mask = torch.zeros(1, TIME_STRIDE, *size)
    last = TIME_STRIDE * (size[0] - 1)
    for t in at:
        if not 0 <= t <= last:
            raise ValueError(f"keyframe {t} is not a frame of the film: its frames are 0 to {last}")
        if t == 0:
            mask[:, :, 0] = 1
        else:
            group, channel = divmod(t - 1, TIME_STRIDE)
            mask[:, channel, 1 + group] = 1
    return mask


def grey_film(pictures: Mapping[int, Tensor], frames: int, like: Tensor) -> Iterator[Tensor]:
    """The film that `keyframes` returns, from pictures (1, 3, h, w) in -1..1 by their frames (at least one), in the
    autoencoder's chunks: the first frame, then four at a time, with the dtype and device of `like`.
    """
    shape = next(iter(pictures.values())).shape
    grey = like.new_zeros(shape)
    shown = {t: picture.to(like) for t, picture in pictures.items()}
    for start, end in ((0, 1), *((t, t + TIME_STRIDE) for t in range(1, frames, TIME_STRIDE))):
        yield torch.stack([shown.get(t, grey) for t in range(start, end)], 2)
