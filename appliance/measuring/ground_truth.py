"""The stage's own frames of a blocking, with depth and masks: rendered on first use, shared by all estimators."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.stage import render as stage
from models.stage.blocking import Appearance, Array, Blocking
from models.stage.render import Frame

MARGIN_PX = 3  # of the picture's edge, and around people
EDGE_PX, STEP = 7, 1.3  # where depth grows by more than STEP within EDGE_PX, one thing occludes another


class GroundTruth:
    """The stage's frames of one blocking, one ray a pixel.

    Whole frames are cached where `frame` or `film` asks for them; else only depth and mask, so that a long film whose
    every frame is a key frame takes 5 bytes a pixel instead of 60.
    """

    def __init__(self, blocking: Blocking) -> None:
        self.blocking = blocking
        self._frames: dict[int, Frame] = {}
        self._depths: dict[int, tuple[Array, Array]] = {}
        self._empty: dict[tuple[int, int], Array] = {}
        self._looks: dict[tuple[int, Appearance, int], tuple[Array, Array]] = {}

    def frame(self, t: int) -> Frame:
        """Frame t: picture, depth, normals and ids."""
        if t not in self._frames:
            self._frames[t] = stage.render_frame(self.blocking, t)
        return self._frames[t]

    def film(self) -> Array:
        """(T, h, w, 3) uint8, the stage's own film. Its measured error is the noise floor of an estimator."""
        pictures = [self.frame(t).rgb for t in range(self.blocking.frames)]
        return np.stack([np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8) for picture in pictures])

    def depth(self, t: int) -> Array:
        """(h, w) metres along the lens axis; inf where there is sky."""
        return self._depth_and_static(t)[0]

    def standing(self, t: int) -> Array:
        """(h, w) bool: the static set, without people and sky."""
        return self._depth_and_static(t)[1]

    def followable(self, t: int) -> Array:
        """(h, w) bool: the static set, away from the picture's edge, from people and from occlusion edges."""
        depth, standing = self._depth_and_static(t)
        return _inside(standing & _away_from_edges(depth))

    def without(self, index: int, t: int) -> Array:
        """(h, w, 3) the picture of frame t without person `index`."""
        if (index, t) not in self._empty:
            others = tuple(s for i, s in enumerate(self.blocking.subjects) if i != index)
            self._empty[index, t] = stage.render_frame(replace(self.blocking, subjects=others), t).rgb
        return self._empty[index, t]

    def looking(self, index: int, look: Appearance, t: int) -> tuple[Array, Array]:
        """Frame t with person `index` of appearance `look`: its picture (h, w, 3), and the person's mask (h, w)."""
        key = (index, look, t)
        if key not in self._looks:
            subjects = list(self.blocking.subjects)
            subjects[index] = replace(subjects[index], appearance=look)
            shown = stage.render_frame(replace(self.blocking, subjects=tuple(subjects)), t)
            self._looks[key] = shown.rgb, (shown.ids == stage.SUBJECT + index).astype(np.float32)
        return self._looks[key]

    def _depth_and_static(self, t: int) -> tuple[Array, Array]:
        if t not in self._depths:
            shown = self._frames.get(t) or stage.render_frame(self.blocking, t)
            self._depths[t] = shown.depth, (shown.ids > stage.SKY) & (shown.ids < stage.SUBJECT)
        return self._depths[t]


def _inside(mask: Array) -> Array:
    """A mask eroded by MARGIN_PX, the picture's edge included."""
    import cv2

    kernel = np.ones((2 * MARGIN_PX + 1, 2 * MARGIN_PX + 1), np.uint8)
    padded = np.pad(mask.astype(np.uint8), 1)
    return cv2.erode(padded, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)[1:-1, 1:-1].astype(bool)


def _away_from_edges(depth: Array) -> Array:
    """Away from occlusion edges: a corner formed by two objects at different depths moves with neither."""
    import cv2

    finite = np.isfinite(depth)
    metres = np.where(finite, depth, 1e6).astype(np.float32)
    around = np.ones((EDGE_PX, EDGE_PX), np.uint8)
    return finite & (cv2.dilate(metres, around) < STEP * cv2.erode(metres, around))
