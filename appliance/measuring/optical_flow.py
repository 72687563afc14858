"""Corners, and pyramidal Lucas-Kanade tracks with a forward-backward check."""

from __future__ import annotations

import cv2
import numpy as np

Array = np.ndarray
MOST, QUALITY, APART_PX = 300, 0.005, 4.0  # corners a frame: how many, how weak against the best, how close
WINDOW_PX, LEVELS = 11, 3  # 3 halvings: motions up to about 40 pixels a frame are followed
RETURN_PX = 0.35  # largest forward-backward error of a track
LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)  # of Rec.709 code values
SMOOTH_PX = 1.0  # of Gaussian blur beforehand: pixel noise is no feature of the set


def unit(picture: Array) -> Array:
    """A picture, 8-bit or already in 0..1, as float32 in 0..1."""
    return picture.astype(np.float32) / np.float32(255) if picture.dtype == np.uint8 else picture.astype(np.float32)


def luma(film: Array) -> Array:
    """(T, h, w) float32 in 0..1, Rec.709 luma of a film."""
    return np.stack([unit(picture) @ LUMA for picture in film])


def grey(film: Array) -> Array:
    """A film (T, h, w, 3), 8-bit or in 0..1, as smooth 8-bit luma (T, h, w), stretched so that dark shots track too."""
    luminous = luma(film)
    low, high = np.percentile(luminous, (0.5, 99.5))
    gain = np.float32(255.0 / max(float(high - low), 1e-3))
    smooth = (cv2.GaussianBlur((picture - low) * gain, (0, 0), SMOOTH_PX) for picture in luminous)
    return np.stack([np.clip(picture, 0, 255).astype(np.uint8) for picture in smooth])


def corners(picture: Array, where: Array) -> Array:
    """The corners (P, 2) of a picture (h, w) uint8 inside a mask (h, w) bool, as (x, y), pixel centres at +0.5."""
    found = cv2.goodFeaturesToTrack(picture, MOST, QUALITY, APART_PX, mask=where.astype(np.uint8), blockSize=5)
    return np.zeros((0, 2)) if found is None else found[:, 0].astype(np.float64) + 0.5


def follow(before: Array, after: Array, points: Array, guess: Array) -> tuple[Array, Array]:
    """Where points (P, 2) of one picture are in a later one, searched near `guess`: (P, 2), and which are sure (P,).

    Sure are those whose forward-backward error is below RETURN_PX.
    """
    if not len(points):
        return points, np.zeros(0, bool)
    start = (points - 0.5)[:, None].astype(np.float32)
    first = (guess - 0.5)[:, None].astype(np.float32)
    there, found = _track(before, after, start, first)
    back, returned = _track(after, before, there, start)
    home = np.linalg.norm(back - start, axis=2)[:, 0] < RETURN_PX
    return there[:, 0].astype(np.float64) + 0.5, home & (found[:, 0] == 1) & (returned[:, 0] == 1)


def _track(before: Array, after: Array, points: Array, guess: Array) -> tuple[Array, Array]:
    end = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 0.01)
    window, flag = (WINDOW_PX, WINDOW_PX), cv2.OPTFLOW_USE_INITIAL_FLOW
    there, found, _ = cv2.calcOpticalFlowPyrLK(
        before, after, points, guess.copy(), winSize=window, maxLevel=LEVELS, criteria=end, flags=flag
    )
    return np.asarray(there), np.asarray(found)
