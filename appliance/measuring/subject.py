"""Find a person in a film: position, size and identity, by template matching around the blocking's position.

The stage renders the person and the empty set behind. At every offset and size, the film is explained either by the
person there or by the empty set; the difference of squared errors is two correlations, so all offsets within REACH are
tried at once. The best offset is the person's position. One that explains little more than the empty set counts as not
found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from appliance.measuring.ground_truth import GroundTruth
from appliance.measuring.optical_flow import Array, unit
from models.stage import render as stage
from models.stage.blocking import Appearance

REACH = 0.15  # of the diagonal: search radius around the blocking's position
SIZES = (0.80, 0.86, 0.93, 1.0, 1.075, 1.16, 1.25)  # times the blocking's
ENOUGH = 0.25  # least `share` and `explained` of a person that was found
LIKER = 0.8  # of the empty set's error, which a recognised person must be below
FEWEST_PX = 40  # a person smaller than this in the frame is not searched for


@dataclass(frozen=True, slots=True)
class Found:
    """A person in one frame, relative to the blocking."""

    t: int
    offset_px: tuple[float, float]  # right and down of the blocking's position
    size: float  # times the blocking's
    share: float  # 0..1, how much of the person's difference to the empty set is there
    explained: (
        float  # 0..1, how much of the film's difference to the empty set the person is: of noise, next to nothing
    )

    @property
    def sure(self) -> bool:
        """Whether somebody was found at all."""
        return min(self.share, self.explained) >= ENOUGH


def find_subject(film: Array, ground: GroundTruth, index: int, frames: Sequence[int]) -> list[Found]:
    """The person `index` of a blocking in some frames of a film (T, h, w, 3), 8-bit or in 0..1; frames where the
    blocking shows too little of them are left out.
    """
    found = []
    for t in frames:
        shown = ground.frame(t)
        mask = (shown.ids == stage.SUBJECT + index).astype(np.float32)
        if mask.sum() >= FEWEST_PX:
            found.append(_search(t, unit(film[t]), shown.rgb, ground.without(index, t), mask))
    return found


def recognise(film: Array, ground: GroundTruth, index: int, found: Found, looks: Sequence[Appearance]) -> int | None:
    """The index of the appearance in `looks` that matches best; None where none matches better than the empty set.

    `find_subject` does not find a person of another appearance: that one is compared at the blocking's position.
    """
    found = found if found.sure else replace(found, offset_px=(0.0, 0.0), size=1.0)
    picture = unit(film[found.t])
    errors: list[float] = []
    empty: list[float] = []
    for look in looks:
        sprite, mask = _placed(*ground.looking(index, look, found.t), found)
        for known, shown in ((errors, sprite), (empty, ground.without(index, found.t))):
            known.append(float((mask[..., None] * (picture - shown) ** 2).sum() / max(mask.sum(), 1.0)))
    best = int(np.argmin(errors))
    return best if errors[best] < LIKER * empty[best] else None


def _search(t: int, film: Array, shown: Array, behind: Array, mask: Array) -> Found:
    high, wide = mask.shape
    reach = round(REACH * float(np.hypot(high, wide)))
    best: list[tuple[float, float, float, float]] = []
    for size in SIZES:
        sprite, alpha = _resized(shown.astype(np.float32), mask, size)
        gain = _gain(film, sprite, behind.astype(np.float32), alpha, reach)
        y, x = np.unravel_index(int(np.argmax(gain)), gain.shape)
        possible = float((alpha[..., None] * (sprite - behind) ** 2).sum())
        dx, dy = x + _peak(gain[y], int(x)) - reach, y + _peak(gain[:, x], int(y)) - reach
        best.append((float(gain[y, x]), dx, dy, float(gain[y, x]) / max(possible, 1e-6)))
    gains = np.array([each[0] for each in best])
    at = int(np.argmax(gains))
    size = float(np.exp(np.interp(at + _peak(gains, at), np.arange(len(SIZES)), np.log(SIZES))))
    gained, right, down, share = best[at]
    _, alpha = _resized(shown.astype(np.float32), mask, size)
    moved = cv2.warpAffine(alpha, np.array([[1, 0, right], [0, 1, down]]), mask.shape[::-1])
    unlike_empty = float((moved[..., None] * (film - behind) ** 2).sum())
    explained = float(np.clip(gained / max(unlike_empty, 1e-6), 0, 1))
    return Found(t, (right, down), size, float(np.clip(share, 0, 1)), explained)


def _gain(film: Array, sprite: Array, behind: Array, alpha: Array, reach: int) -> Array:
    """(2 reach + 1)²: how much less squared error the person at each offset has than the empty set."""
    pad = ((reach, reach), (reach, reach))
    # |F - B|² - |F - S|² at x + d, S moved along: -(2 F·B - B²) + 2 F·S - S²; outside the picture nothing counts.
    background = np.pad((behind**2 - 2 * film * behind).sum(-1), pad).astype(np.float32)
    inside = np.pad(np.ones_like(alpha), pad)
    gain = _correlate(background, alpha) - _correlate(inside, alpha * (sprite**2).sum(-1))
    for channel in range(3):
        gain = gain + 2 * _correlate(np.pad(film[..., channel], pad), alpha * sprite[..., channel])
    return gain


def _correlate(picture: Array, template: Array) -> Array:
    return np.asarray(cv2.matchTemplate(picture, np.ascontiguousarray(template), cv2.TM_CCORR))


def _resized(picture: Array, mask: Array, size: float) -> tuple[Array, Array]:
    """A picture and a mask made larger or smaller about the middle of the mask."""
    rows, columns = np.nonzero(mask)
    middle = columns.mean(), rows.mean()
    matrix = np.array([[size, 0, (1 - size) * middle[0]], [0, size, (1 - size) * middle[1]]])
    shape = mask.shape[::-1]
    return (cv2.warpAffine(picture, matrix, shape, borderMode=cv2.BORDER_REPLICATE),
            cv2.warpAffine(mask, matrix, shape))  # fmt: skip


def _placed(picture: Array, mask: Array, found: Found) -> tuple[Array, Array]:
    sprite, alpha = _resized(picture.astype(np.float32), mask, found.size)
    matrix = np.array([[1, 0, found.offset_px[0]], [0, 1, found.offset_px[1]]])
    shape = mask.shape[::-1]
    return (cv2.warpAffine(sprite, matrix, shape, borderMode=cv2.BORDER_REPLICATE),
            cv2.warpAffine(alpha, matrix, shape))  # fmt: skip


def _peak(line: Array, at: int) -> float:
    """Sub-pixel offset of the peak at `at`: the vertex of a parabola through it and its neighbours."""
    if not 0 < at < len(line) - 1:
        return 0.0
    left, middle, right = (float(v) for v in line[at - 1 : at + 2])
    bend = left - 2 * middle + right
    return 0.0 if bend >= 0 else float(np.clip(0.5 * (left - right) / bend, -0.5, 0.5))
