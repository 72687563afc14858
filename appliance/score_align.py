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

from appliance.flow import Array

CELL_PX, OF_A_CELL = 16, 20  # the strongest pixels of each cell are looked at
BLURS_PX = (4.0, 2.0, 0.0)  # from coarse to fine: from how far a pose is found
ROUNDS = 5
LIKE = 0.6  # correlation of the pictures' detail, aligned; below it they do not show the same
DETAIL_PX = 5.0  # of Gaussian: what is smoother is no detail
FEWEST = 150
PARAMETERS = 7  # of a pose: three of turn, three of travel in units of the median depth, log of the focal length

# Pixels squared that a parameter of 1 is worth: travels and zooms are believed only as far as the pictures show them.
RIDGE = np.array([0, 0, 0, 1, 1, 1, 1]) * 0.3


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


Solved = tuple[Pose, Array]  # and the variance (7,) of its parameters, travel in metres


class KeyFrame:
    """One picture to which later ones are aligned."""

    def __init__(self, picture: Array, where: Array, depth: Array, focal: float) -> None:
        """picture (h, w) grey; where (h, w) bool, what stands still and may be looked at; depth (h, w) metres."""
        self._focal = focal
        self._middle = np.array(picture.shape[::-1]) / 2
        columns, rows = _strongest(picture, where)
        pixels = np.stack([columns, rows], 1) + 0.5
        away = depth[rows, columns].astype(np.float64)
        self._points = np.concatenate([(pixels - self._middle) / focal * away[:, None], away[:, None]], 1)
        self._near = float(np.median(away)) if len(away) else 1.0
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
        seen, inside = self._seen(picture.shape, pose)
        if inside.sum() < FEWEST:
            return None
        likeness = np.corrcoef(_sampled(_detail(picture), seen[inside]), self._detail[inside])[0, 1]
        return (pose, spread) if likeness >= LIKE else None

    def _aligned(self, picture: Array, values: Array, pose: Pose) -> Solved | None:
        slopes = np.gradient(picture)[::-1]  # along x, along y
        gain, offset = 1.0, 0.0
        for _ in range(ROUNDS):
            seen, inside = self._seen(picture.shape, pose)
            if inside.sum() < FEWEST:
                return None
            _, change = pose.show(self._points[inside], self._focal)
            shown, value = _sampled(picture, seen[inside]), values[inside]
            gx, gy = (_sampled(slope, seen[inside]) for slope in slopes)
            residual = shown - gain * value - offset
            jacobian = np.concatenate(
                [gx[:, None] * change[0] + gy[:, None] * change[1], -value[:, None], -np.ones((len(value), 1))], 1
            )
            scale = max(4.685 * 1.48 * float(np.median(np.abs(residual))), 4.0)
            weight = np.clip(1 - (residual / scale) ** 2, 0, None) ** 2
            slope = float((weight * (gx**2 + gy**2)).sum())
            hold = np.concatenate([RIDGE * slope, [1e-6, 1e-6]])
            normal = (jacobian * weight[:, None]).T @ jacobian + np.diag(hold + 1e-6)
            pulled = np.concatenate([pose.pull(self._near), [0, 0]]) * hold
            step = np.linalg.solve(normal, -(jacobian * weight[:, None]).T @ residual - pulled)
            pose, gain, offset = pose.moved(step[:PARAMETERS], self._near), gain + step[7], offset + step[8]
            if np.abs(step[:PARAMETERS]).max() < 1e-5:
                break
        noise = float((weight * residual**2).sum() / weight.sum())
        metres = np.array([1, 1, 1, self._near, self._near, self._near, 1])
        return pose, noise * np.diag(np.linalg.inv(normal))[:PARAMETERS] * metres**2

    def _seen(self, shape: tuple[int, ...], pose: Pose) -> tuple[Array, Array]:
        seen = pose.show(self._points, self._focal)[0] + self._middle
        high, wide = shape[:2]
        inside = (seen[:, 0] > 2) & (seen[:, 0] < wide - 2) & (seen[:, 1] > 2) & (seen[:, 1] < high - 2)
        return seen, inside


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
    return np.concatenate(columns), np.concatenate(rows)


def _blurred(picture: Array, blur_px: float) -> Array:
    grey = picture.astype(np.float32)
    return cv2.GaussianBlur(grey, (0, 0), blur_px) if blur_px else grey


def _detail(picture: Array) -> Array:
    return picture.astype(np.float32) - _blurred(picture, DETAIL_PX)


def _sampled(picture: Array, at: Array) -> Array:
    """The values of a picture (h, w) between its pixels, at (P, 2) with pixel centres at +0.5."""
    x, y = (at - 0.5).astype(np.float32).T
    taken = cv2.remap(np.ascontiguousarray(picture, np.float32), x[None], y[None], cv2.INTER_LINEAR)
    return taken[0].astype(np.float64)
