"""RGB to the 8-bit YUV of a film, exactly: BT.709, limited range, white is Y 235 and black is Y 16.

swscale is not used: with 16-bit RGB it takes 65280 for full scale, and its reduction to 8 bits dithers, so a grey card
is tinted by one code (128/129) and a luma ramp is off by up to 0.98 code, where plain arithmetic stays within half a
code. Every step is one IEEE operation per element, so the codes are the same on every machine.
"""

from __future__ import annotations

import numpy as np

KR, KG, KB = 0.2126, 0.7152, 0.0722  # ITU-R BT.709-6, luma


def yuv420(rgb: np.ndarray) -> np.ndarray:
    """(h * 3 / 2, w) uint8 planes Y, U, V of one picture (h, w, 3) in 0..1; height and width are even.

    Values outside 0..1 are clipped. Chroma is sited as H.264 assumes: on the left luma column, between two rows.
    """
    rgb = np.clip(np.asarray(rgb, dtype=np.float32), 0.0, 1.0)
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    luma = np.float32(KR) * red + np.float32(KG) * green + np.float32(KB) * blue
    planes = (
        _code(np.float32(16) + np.float32(219) * luma, 16, 235),
        _code(np.float32(128) + np.float32(224 / (2 * (1 - KB))) * _halve(blue - luma), 16, 240),
        _code(np.float32(128) + np.float32(224 / (2 * (1 - KR))) * _halve(red - luma), 16, 240),
    )
    return np.concatenate([plane.reshape(-1) for plane in planes]).reshape(rgb.shape[0] * 3 // 2, rgb.shape[1])


def _halve(plane: np.ndarray) -> np.ndarray:
    """Half the size in both directions: 1 2 1 around every even column, then the mean of two rows."""
    left = np.concatenate([plane[:, :1], plane[:, 1:-1:2]], axis=1)  # the column before each even one; the edge repeats
    columns = np.float32(0.25) * left + np.float32(0.5) * plane[:, ::2] + np.float32(0.25) * plane[:, 1::2]
    return np.float32(0.5) * (columns[::2] + columns[1::2])


def _code(plane: np.ndarray, low: int, high: int) -> np.ndarray:
    return np.clip(np.rint(plane), low, high).astype(np.uint8)
