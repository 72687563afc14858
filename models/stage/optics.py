"""Angles, colour temperature, easing and the sRGB curve, shared by directing and the stage.

Rotations follow the film words: pan + right, tilt + up, roll + clockwise, in degrees. In OpenCV camera
axes these are Ry, Rx, Rz; a camera's orientation is BASE @ Ry(pan) @ Rx(tilt) @ Rz(roll), where BASE
looks along -Z of the world.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

BASE = np.diag([1.0, -1.0, -1.0])  # camera axes (x right, y down, z forward) of a camera that looks along -Z, Y up
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # of linear Rec.709, ITU-R BT.709-6
BALANCE_K = 5600.0  # the camera is balanced for daylight: a lamp of this temperature is white


def rotation(pan_deg: ArrayLike, tilt_deg: ArrayLike, roll_deg: ArrayLike) -> np.ndarray:
    """(..., 3, 3) camera-to-world rotation in OpenCV axes of a camera panned, tilted and rolled from -Z."""
    pan, tilt, roll = (np.radians(np.asarray(a, dtype=np.float64)) for a in (pan_deg, tilt_deg, roll_deg))
    pan, tilt, roll = np.broadcast_arrays(pan, tilt, roll)
    zero, one = np.zeros_like(pan), np.ones_like(pan)

    def stack(*rows):
        return np.stack([np.stack(row, -1) for row in rows], -2)

    ry = stack((np.cos(pan), zero, np.sin(pan)), (zero, one, zero), (-np.sin(pan), zero, np.cos(pan)))
    rx = stack((one, zero, zero), (zero, np.cos(tilt), -np.sin(tilt)), (zero, np.sin(tilt), np.cos(tilt)))
    rz = stack((np.cos(roll), -np.sin(roll), zero), (np.sin(roll), np.cos(roll), zero), (zero, zero, one))
    return BASE @ ry @ rx @ rz


def aim(position: ArrayLike, target: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Pan and tilt in degrees that turn a camera at `position` (..., 3) to look at `target` (..., 3)."""
    d = np.asarray(target, dtype=np.float64) - np.asarray(position, dtype=np.float64)
    pan = np.degrees(np.arctan2(d[..., 0], -d[..., 2]))
    tilt = np.degrees(np.arctan2(d[..., 1], np.hypot(d[..., 0], d[..., 2])))
    return pan, tilt


def ease(u: ArrayLike, kind: str = "smooth") -> np.ndarray:
    """Progress 0..1 of a move at time u in 0..1.

    linear, smooth (3u²-2u³), in (u²), out (2u-u²), hold (a step at the end) or exp(a), (1 - e^(-a u)) / (1 - e^(-a)).
    """
    u = np.clip(np.asarray(u, dtype=np.float64), 0.0, 1.0)
    if kind == "linear":
        return u
    if kind == "smooth":
        return u * u * (3.0 - 2.0 * u)
    if kind == "in":
        return u * u
    if kind == "out":
        return u * (2.0 - u)
    if kind == "hold":
        return np.where(u >= 1.0, 1.0, 0.0)
    if kind.startswith("exp(") and kind.endswith(")"):
        a = float(kind[4:-1])
        return u if abs(a) < 1e-9 else (1.0 - np.exp(-a * u)) / (1.0 - math.exp(-a))
    raise ValueError(f"ease {kind!r} is not one of linear, smooth, in, out, hold, exp(a)")


def planck_xy(kelvin: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """CIE 1931 chromaticity of a black body, 1667..25000 K (Kim et al., cubic spline, US patent 7024034)."""
    t = np.clip(np.asarray(kelvin, dtype=np.float64), 1667.0, 25000.0)
    i = 1e3 / t
    x = np.where(
        t <= 4000.0,
        -0.2661239 * i**3 - 0.2343589 * i**2 + 0.8776956 * i + 0.179910,
        -3.0258469 * i**3 + 2.1070379 * i**2 + 0.2226347 * i + 0.240390,
    )
    low = -1.1063814 * x**3 - 1.34811020 * x**2 + 2.18555832 * x - 0.20219683
    mid = -0.9549476 * x**3 - 1.37418593 * x**2 + 2.09137015 * x - 0.16748867
    high = 3.0817580 * x**3 - 5.87338670 * x**2 + 3.75112997 * x - 0.37001483
    return x, np.where(t <= 2222.0, low, np.where(t <= 4000.0, mid, high))


_XYZ_TO_RGB = np.array(  # IEC 61966-2-1, linear Rec.709 primaries
    [[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]]
)


def kelvin_rgb(kelvin: ArrayLike, duv: float = 0.0) -> np.ndarray:
    """(..., 3) linear Rec.709 colour of a lamp as a daylight-balanced camera sees it, luminance 1.

    `duv` shifts it off the black-body line in CIE 1960 uv: + is greener, - is more magenta.
    """
    rgb = _chromatic_rgb(kelvin, duv) / _chromatic_rgb(BALANCE_K, 0.0)  # von Kries balance in Rec.709
    rgb = np.clip(rgb, 0.0, None)
    return rgb / (rgb @ LUMINANCE)[..., None]


def _chromatic_rgb(kelvin, duv):
    x, y = planck_xy(kelvin)
    if duv:
        x2, y2 = planck_xy(np.clip(np.asarray(kelvin, dtype=np.float64), 1667.0, 24000.0) * 1.01)
        u, v = 4 * x / (-2 * x + 12 * y + 3), 6 * y / (-2 * x + 12 * y + 3)
        u2, v2 = 4 * x2 / (-2 * x2 + 12 * y2 + 3), 6 * y2 / (-2 * x2 + 12 * y2 + 3)
        length = np.hypot(u2 - u, v2 - v)
        normal = (v2 - v) / length, -(u2 - u) / length  # across the line
        sign = np.where(normal[1] >= 0, 1.0, -1.0)  # + is up in v: greener
        u, v = u + duv * sign * normal[0], v + duv * sign * normal[1]
        x, y = 3 * u / (2 * u - 8 * v + 4), 2 * v / (2 * u - 8 * v + 4)
    xyz = np.stack([x / y, np.ones_like(x), (1 - x - y) / y], -1)
    return xyz @ _XYZ_TO_RGB.T


def srgb_decode(code):
    """IEC 61966-2-1 code values 0..1 to linear light (numpy)."""
    c = np.clip(code, 0.0, 1.0)
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
