"""Camera rays of a blocking: Pluecker coordinates on the latent grid or for every pixel."""

from __future__ import annotations

import numpy as np

from models.geometry import SPACE_STRIDE, TIME_STRIDE
from models.stage.blocking import Array, Blocking


def camera_rays(blocking: Blocking, cell: int = SPACE_STRIDE) -> Array:
    """Pluecker rays (24, F, H, W) float32: moment o x d then direction d, each folded over the four frames of a latent.

    Channel = component * 4 + sub-frame; the first frame fills its group. Poses are relative to frame 0, lengths in
    units of the subject's distance. cell: side in pixels of the cells whose centres
    the rays pass through.
    """
    high, wide = blocking.height // cell, blocking.width // cell
    rotation, origin = _relative(blocking)
    x = (np.arange(wide) + 0.5) * cell - blocking.width / 2
    y = (np.arange(high) + 0.5) * cell - blocking.height / 2
    before = TIME_STRIDE - 1
    groups = np.empty((6, TIME_STRIDE, (before + blocking.frames) // TIME_STRIDE, high, wide), np.float32)
    for t, focal in enumerate(blocking.focal_px):  # all frames in float64 would be gigabytes, where a cell is a pixel
        pixel = np.stack(np.broadcast_arrays(x[None, :] / focal, y[:, None] / focal, 1.0), -1)
        direction = pixel @ rotation[t].T
        direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
        moment = np.cross(np.broadcast_to(origin[t], direction.shape), direction)
        both = np.moveaxis(np.concatenate([moment, direction], -1), -1, 0)  # (6, H, W)
        if t == 0:
            groups[:, :, 0] = both[:, None]
        else:
            group, sub_frame = divmod(before + t, TIME_STRIDE)
            groups[:, sub_frame, group] = both
    return groups.reshape(6 * TIME_STRIDE, -1, high, wide)


def _relative(blocking: Blocking) -> tuple[Array, Array]:
    """Camera poses relative to frame 0: rotations (T, 3, 3) and origins (T, 3) in units of the subject's distance."""
    first = blocking.c2w[0, :, :3]
    origin = (blocking.c2w[:, :, 3] - blocking.c2w[0, :, 3]) @ first / blocking.subject_distance_m
    return np.einsum("ji,tjk->tik", first, blocking.c2w[:, :, :3]), origin
