"""Direct alignment: a camera's pose by the brightness of all strong edges of a key frame, not by corners alone.

The strongest edges of the key frame, spread over it, are points of known depth. A pose projects them into a later
picture; the pose sought is the one where that picture has the brightness of the key frame (Gauss-Newton on brightness,
with gain and offset of the exposure, Tukey weights against what people cover). Plain walls have few corners but long
edges, which determine the pose.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from appliance.measuring.optical_flow import SMOOTH_PX, Array

# The strongest pixels of each cell are used. Small cells: faint edges between the strong ones tell a dolly from a zoom
# and a tilt from a pedestal (cells of 16 pixels put a tilt of 7.5 degrees off by 0.8, of 8 by 0.01).
CELL_PX, OF_A_CELL = 8, 16
MOST = 8000  # pixels in all: large pictures are sampled more sparsely, in the same time
BLURS_PX = (4.0, 2.0, 0.0)  # from coarse to fine
ROUNDS = 5
LIKE = 0.6  # correlation of the aligned pictures' detail, below which they do not show the same
DETAIL_PX = 5.0  # of a Gaussian high-pass
FEWEST = 150
ROUNDING = 1 / 12  # variance of 8-bit rounding, grey levels squared
PARAMETERS = 7  # of a pose: three of turn, three of travel in units of the median depth, log of the focal length

# Ridge prior in pixels squared for a parameter of 1, on translation and zoom, which a picture may leave open.
# Small: a dolly and a zoom that cancel out show little; 0.3 turned a sixth of a zoom of 1.8 into a dolly.
RIDGE = np.array([0, 0, 0, 1, 1, 1, 1]) * 0.003


@dataclass(frozen=True, slots=True, eq=False)
class Pose:
    """A camera relative to a key frame's: a point p there is turn @ p + travel here; focal length times e^zoom."""

    turn: Array = field(default_factory=lambda: np.eye(3))
    travel: Array = field(default_factory=lambda: np.zeros(3))
    zoom: float = 0.0

    def moved(self, step: Array, near: float) -> Pose:
        """This pose after a small step of PARAMETERS."""
        by = rotation(step[:3])
        return Pose(by @ self.turn, by @ self.travel + step[3:6] * near, self.zoom + float(step[6]))

    def pull(self, near: float) -> Array:
        """The parameters that RIDGE pulls to 0: all but the turn."""
        return np.array([0, 0, 0, *(self.travel / near), self.zoom])

    def show(self, points: Array, focal: float) -> tuple[Array, Array]:
        """Points (P, 3) of the key frame's camera projected, (P, 2) pixels from the middle of the picture, and the
        Jacobian by PARAMETERS, (2, P, 7).
        """
        x, y, z = (points @ self.turn.T + self.travel).T
        z = np.maximum(z, 0.05)
        f, near, zero, u, v = focal * np.exp(self.zoom), np.median(points[:, 2]), np.zeros_like(x), x / z, y / z
        deep = np.full_like(x, near)
        du = np.stack([-u * y, z + u * x, -y, deep, zero, -u * near, x], 1)
        dv = np.stack([-z - v * y, v * x, x, zero, deep, -v * near, y], 1)
        return f * np.stack([u, v], 1), np.stack([du, dv]) * (f / z)[:, None]


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Normal equations of one picture at a pose: its PARAMETERS, then gain and offset of the exposure."""

    normal: Array  # (9, 9)
    slope: Array  # (9,)
    noise: float  # variance of a pixel, grey levels squared


Solved = tuple[Pose, Array]  # and the variance (7,) of its parameters, travel in metres


class KeyFrame:
    """One picture to which later ones are aligned."""

    def __init__(self, picture: Array, where: Array, depth: Array, focal: float) -> None:
        """picture (h, w) grey; where (h, w) bool, the static set; depth (h, w) metres."""
        self._picture, self._focal = picture, focal
        self._middle = np.array(picture.shape[::-1]) / 2
        columns, rows = _strongest(picture, where)
        pixels = np.stack([columns, rows], 1) + 0.5
        away = depth[rows, columns].astype(np.float64)
        self._points = np.concatenate([(pixels - self._middle) / focal * away[:, None], away[:, None]], 1)
        self.near = float(np.median(away)) if len(away) else 1.0
        self._at = rows, columns
        self._values = [_blurred(picture, blur)[rows, columns] for blur in BLURS_PX]
        self._detail = _detail(picture)[rows, columns]

    def align(self, picture: Array, start: Pose) -> Solved | None:
        """The pose of a later picture, starting from `start`; None where the two do not show the same."""
        if len(self._points) < FEWEST:
            return None
        pose = start
        for blur, values in zip(BLURS_PX, self._values, strict=True):
            found = self._aligned(_blurred(picture, blur), values, pose)
            if found is None:
                return None
            pose, spread = found
        return (pose, spread) if self.likeness(picture, pose)[0] >= LIKE else None

    def _aligned(self, picture: Array, values: Array, pose: Pose) -> Solved | None:
        exposure = (1.0, 0.0)
        solved = None
        for _ in range(ROUNDS):
            found = self.evidence(picture, values, pose, exposure)
            if found is None:
                return None
            step = -np.linalg.solve(found.normal, found.slope)
            pose, exposure = pose.moved(step[:PARAMETERS], self.near), (exposure[0] + step[7], exposure[1] + step[8])
            spread = found.noise * np.diag(np.linalg.inv(found.normal))[:PARAMETERS]
            solved = pose, spread * metres(self.near) ** 2
            if np.abs(step[:PARAMETERS]).max() < 1e-5:
                break
        return solved

    def evidence(self, picture: Array, values: Array, pose: Pose, exposure: tuple[float, float]) -> Evidence | None:
        """The normal equations of a picture (h, w) at a pose and an exposure (gain and offset to the key frame's values
        (P,)); None where it shows too few of the points.
        """
        seen, inside = self._seen(picture.shape, pose)
        if inside.sum() < FEWEST:
            return None
        at, value = seen[inside], values[inside]
        _, change = pose.show(self._points[inside], self._focal)
        gx, gy = ((sampled(picture, at + by) - sampled(picture, at - by)) / 2 for by in np.eye(2))
        residual = sampled(picture, at) - exposure[0] * value - exposure[1]
        jacobian = np.concatenate(
            [gx[:, None] * change[0] + gy[:, None] * change[1], -value[:, None], -np.ones((len(value), 1))], 1
        )
        scale = max(4.685 * 1.48 * float(np.median(np.abs(residual))), 4.0)
        weight = np.clip(1 - (residual / scale) ** 2, 0, None) ** 2
        hold = np.concatenate([RIDGE, [0, 0]]) * float((weight * (gx**2 + gy**2)).sum())
        weighed = (jacobian * weight[:, None]).T
        return Evidence(
            weighed @ jacobian + np.diag(hold + 1e-6),
            weighed @ residual + hold * np.concatenate([pose.pull(self.near), [0, 0]]),
            max(float((weight * residual**2).sum() / weight.sum()), ROUNDING),
        )

    def matched(self, picture: Array, pose: Pose) -> tuple[Array, Array]:
        """A later picture and the key frame's values, blurred alike where `pose` shows one of them larger: scaled by s,
        a blur of SMOOTH_PX becomes s times as wide, so the other is blurred by sqrt(s^2 - 1) times SMOOTH_PX.
        """
        more = self.growth(pose) ** 2
        later, first = (SMOOTH_PX * float(np.sqrt(max(by - 1, 0.0))) for by in (more, 1 / more))
        return _blurred(picture, later), _blurred(self._picture, first)[self._at]

    def growth(self, pose: Pose) -> float:
        """The median scale relative to the key frame."""
        nearer = self._points[:, 2] / np.maximum(self._points @ pose.turn[2] + pose.travel[2], 0.05)
        return float(np.exp(pose.zoom) * np.median(nearer))

    def likeness(self, picture: Array, pose: Pose) -> tuple[float, float]:
        """The correlation of a picture's detail with the key frame's, and the share of the key frame still visible."""
        seen, inside = self._seen(picture.shape, pose)
        if inside.sum() < FEWEST:
            return 0.0, 0.0
        alike = np.corrcoef(sampled(_detail(picture), seen[inside]), self._detail[inside])[0, 1]
        return float(alike), float(inside.mean())

    def _seen(self, shape: tuple[int, ...], pose: Pose) -> tuple[Array, Array]:
        seen = pose.show(self._points, self._focal)[0] + self._middle
        high, wide = shape[:2]
        inside = (seen[:, 0] > 2) & (seen[:, 0] < wide - 2) & (seen[:, 1] > 2) & (seen[:, 1] < high - 2)
        return seen, inside


def metres(near: float) -> Array:
    """(7,) units of a pose's parameters in radians, metres and logs."""
    return np.array([1, 1, 1, near, near, near, 1])


def rotation(vector: Array) -> Array:
    """Rodrigues' formula: the rotation about a vector by its length in radians."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * (k @ k)


def _strongest(picture: Array, where: Array) -> tuple[Array, Array]:
    """Columns and rows of the pixels with the strongest slope in each cell."""
    slope = np.hypot(*np.gradient(picture.astype(np.float32))) * where
    columns, rows = [], []
    for top in range(0, picture.shape[0], CELL_PX):
        for left in range(0, picture.shape[1], CELL_PX):
            cell = slope[top : top + CELL_PX, left : left + CELL_PX]
            order = np.argsort(cell, axis=None)[::-1][:OF_A_CELL]
            row, column = np.unravel_index(order[cell.ravel()[order] > 1.0], cell.shape)
            rows.append(row + top)
            columns.append(column + left)
    column, row = np.concatenate(columns), np.concatenate(rows)
    every = max(1, -(-len(column) // MOST))
    return column[::every], row[::every]


def _blurred(picture: Array, blur_px: float) -> Array:
    grey = picture.astype(np.float32)
    return cv2.GaussianBlur(grey, (0, 0), blur_px) if blur_px else grey


def _detail(picture: Array) -> Array:
    return picture.astype(np.float32) - _blurred(picture, DETAIL_PX)


def sampled(picture: Array, at: Array) -> Array:
    """A picture (h, w) sampled bilinearly at (P, 2), pixel centres at +0.5."""
    x, y = (at - 0.5).astype(np.float32).T
    taken = cv2.remap(np.ascontiguousarray(picture, np.float32), x[None], y[None], cv2.INTER_LINEAR)
    return taken[0].astype(np.float64)
