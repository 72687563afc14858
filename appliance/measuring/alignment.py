"""A camera's pose by all that a key frame shows of the standing world, not its corners alone: direct alignment.

The brightest edges of the key frame, spread over it, are points whose depth is known. A pose shows them somewhere in a
later picture; the pose sought is the one where that picture has the brightness that the key frame has (Gauss-Newton
on brightness, with gain and offset of the exposure, Tukey weights for what people cover). Where walls are
plain, corners are few and edges long: it finds what the corners cannot tell.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from appliance.measuring.optical_flow import SMOOTH_PX, Array

# The strongest pixels of each cell are looked at. Small cells: faint edges between the strong ones are what tells a
# dolly from a zoom, a tilt from a pedestal (cells of 16 pixels put a tilt of 7.5 degrees off by 0.8, of 8 by 0.01).
CELL_PX, OF_A_CELL = 8, 16
MOST = 8000  # of them in all: large pictures are looked at less closely, not for longer
BLURS_PX = (4.0, 2.0, 0.0)  # from coarse to fine: from how far a pose is found
ROUNDS = 5
LIKE = 0.6  # correlation of the pictures' detail, aligned; below it they do not show the same
DETAIL_PX = 5.0  # of Gaussian: what is smoother is no detail
FEWEST = 150
ROUNDING = 1 / 12  # grey levels squared: of 8 bits
PARAMETERS = 7  # of a pose: three of turn, three of travel in units of the median depth, log of the focal length

# Pixels squared that a parameter of 1 is worth: travels and zooms are believed only as far as the pictures show them.
# Small: of a dolly and a zoom that undo each other little is seen, and 0.3 made a sixth of a zoom of 1.8 a dolly.
RIDGE = np.array([0, 0, 0, 1, 1, 1, 1]) * 0.003


@dataclass(frozen=True, slots=True, eq=False)
class Pose:
    """How a camera stands to a key frame's: a point p there is turn @ p + travel here, seen through e^zoom the lens."""

    turn: Array = field(default_factory=lambda: np.eye(3))
    travel: Array = field(default_factory=lambda: np.zeros(3))
    zoom: float = 0.0

    def moved(self, step: Array, near: float) -> Pose:
        """This pose after a small step of PARAMETERS."""
        by = rotation(step[:3])
        return Pose(by @ self.turn, by @ self.travel + step[3:6] * near, self.zoom + float(step[6]))

    def pull(self, near: float) -> Array:
        """What RIDGE holds back: the parameters as they are, turns left out."""
        return np.array([0, 0, 0, *(self.travel / near), self.zoom])

    def show(self, points: Array, focal: float) -> tuple[Array, Array]:
        """Where points (P, 3) of the key frame's camera are seen from the middle of the picture, (P, 2) pixels, and how
        that changes with each parameter, (2, P, 7) pixels.
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
    """The least squares of one picture about a pose: PARAMETERS of it, then gain and offset of the exposure."""

    normal: Array  # (9, 9)
    slope: Array  # (9,)
    noise: float  # of a pixel, grey levels squared


Solved = tuple[Pose, Array]  # and the variance (7,) of its parameters, travel in metres


class KeyFrame:
    """One picture to which later ones are aligned."""

    def __init__(self, picture: Array, where: Array, depth: Array, focal: float) -> None:
        """picture (h, w) grey; where (h, w) bool, what stands still and may be looked at; depth (h, w) metres."""
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
        """The pose of a later picture, looked for from `start`; None where the two do not show the same."""
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
            told = self.evidence(picture, values, pose, exposure)
            if told is None:
                return None
            step = -np.linalg.solve(told.normal, told.slope)
            pose, exposure = pose.moved(step[:PARAMETERS], self.near), (exposure[0] + step[7], exposure[1] + step[8])
            spread = told.noise * np.diag(np.linalg.inv(told.normal))[:PARAMETERS]
            solved = pose, spread * metres(self.near) ** 2
            if np.abs(step[:PARAMETERS]).max() < 1e-5:
                break
        return solved

    def evidence(self, picture: Array, values: Array, pose: Pose, exposure: tuple[float, float]) -> Evidence | None:
        """What a picture (h, w) tells of pose and exposure (gain, offset: what makes the key frame's values (P,) its
        own), about those given; None where it shows too few of the points.
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
        """A later picture and the key frame's values, made as soft as each other where `pose` shows one of them larger:
        what grows s times takes its softness of SMOOTH_PX with it, which is blurred on by sqrt(s^2 - 1) times that.
        """
        more = self.growth(pose) ** 2
        later, first = (SMOOTH_PX * float(np.sqrt(max(by - 1, 0.0))) for by in (more, 1 / more))
        return _blurred(picture, later), _blurred(self._picture, first)[self._at]

    def growth(self, pose: Pose) -> float:
        """How many times larger than in the key frame things are."""
        nearer = self._points[:, 2] / np.maximum(self._points @ pose.turn[2] + pose.travel[2], 0.05)
        return float(np.exp(pose.zoom) * np.median(nearer))

    def likeness(self, picture: Array, pose: Pose) -> tuple[float, float]:
        """The correlation of a picture's detail with the key frame's, and the share of the key frame that it shows."""
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
    """(7,) what turns steps of a pose into radians, metres and logs."""
    return np.array([1, 1, 1, near, near, near, 1])


def rotation(vector: Array) -> Array:
    """Rodrigues: the turn about a vector by its length in radians."""
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
    """The values of a picture (h, w) between its pixels, at (P, 2) with pixel centres at +0.5."""
    x, y = (at - 0.5).astype(np.float32).T
    taken = cv2.remap(np.ascontiguousarray(picture, np.float32), x[None], y[None], cv2.INTER_LINEAR)
    return taken[0].astype(np.float64)
