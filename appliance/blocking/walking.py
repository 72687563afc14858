"""A subject's walk from mark to mark: position, heading and gait at every frame.

They start from rest and come to rest over 0.4 s, keep the stated mean speed, face the direction of travel, and turn
over 0.4 s at a mark. The walk cycle follows the distance covered, so feet do not slide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from appliance.direction.marks import legs
from appliance.direction.vocabulary import STANDING_M
from models.stage.optics import ease

Array = np.ndarray
RAMP_S = 0.4  # to full speed, and back to rest
TURN_S = 0.4
CYCLE_M = 1.4  # ground covered by one walk cycle (two steps) of a 1.75 m person
FULL_SWING_MPS = 1.0  # from this speed on the limbs swing fully


@dataclass(frozen=True, slots=True, eq=False)
class Walk:
    """A track at T frames."""

    position: Array  # (T, 3) m
    heading_deg: Array  # (T,)
    stride: Array  # (T,) walk cycles
    gait: Array  # (T,) 0..1


def walk(track: Any, path: str, t: Array, height_m: float, x_m: float = 0.0) -> Walk:
    """The marks of `track` walked by somebody of `height_m`, at times t (T,). Without marks they stand at x = `x_m`."""
    if not track:
        still = np.zeros((len(t), 3))
        still[:, 0] = x_m
        return Walk(still, np.zeros(len(t)), np.zeros(len(t)), np.zeros(len(t)))
    spans = legs(track, path)
    floor = np.array([(mark.x_m, mark.z_m) for mark in track], dtype=np.float64)
    xz = np.broadcast_to(floor[0], (len(t), 2)).copy()
    covered, speed = np.zeros(len(t)), np.zeros(len(t))
    headings = _headings(track, spans, floor)
    heading = _turned(headings, t)
    for i, (depart, arrive, metres) in enumerate(spans):
        if metres < 1e-6:
            continue
        from_rest = i == 0 or spans[i - 1][2] < 1e-6 or depart > spans[i - 1][1] + 1e-9
        last = i + 1 == len(spans)
        to_rest = last or spans[i + 1][2] < 1e-6 or spans[i + 1][0] > arrive + 1e-9
        done, pace = _trapezoid(t - depart, arrive - depart, metres, from_rest, to_rest)
        part = t >= depart
        xz[part] = floor[i] + (floor[i + 1] - floor[i]) * (done[part] / metres)[:, None]
        backward = track[i + 1].facing == "held" and _facing_away(floor[i + 1] - floor[i], _turned(headings, depart))
        covered += np.where(part, -done if backward else done, 0.0)
        speed = np.where(part & (t <= arrive), pace, np.where(part, 0.0, speed))
    position = np.stack([xz[:, 0], np.zeros(len(t)), xz[:, 1]], -1)
    stride = covered / (CYCLE_M * height_m / STANDING_M)
    return Walk(position, heading, stride, np.clip(speed / FULL_SWING_MPS, 0.0, 1.0))


def _trapezoid(since: Array, lasts: float, metres: float, from_rest: bool, to_rest: bool) -> tuple[Array, Array]:
    """Metres done and speed, `since` seconds after leaving: constant speed between ramps of constant acceleration."""
    ramp = min(RAMP_S, lasts / 2)
    up, down = ramp if from_rest else 0.0, ramp if to_rest else 0.0
    cruise = metres / (lasts - up / 2 - down / 2)
    tau = np.clip(since, 0.0, lasts)
    done, pace = cruise * (tau - up / 2), np.full_like(tau, cruise)
    if up:
        done = np.where(tau < up, cruise * tau**2 / (2 * up), done)
        pace = np.where(tau < up, cruise * tau / up, pace)
    if down:
        left = lasts - tau
        done = np.where(left < down, metres - cruise * left**2 / (2 * down), done)
        pace = np.where(left < down, cruise * left / down, pace)
    return done, pace


def _travel_deg(step: Array) -> float:
    """The heading of a step (dx, dz): 0 is +Z, 90 is +X."""
    return float(np.degrees(np.arctan2(step[0], step[1])))


def _facing_away(step: Array, heading_deg: Any) -> bool:
    return bool(np.cos(np.radians(_travel_deg(step) - float(heading_deg))) < -0.3)


def _headings(track: Any, spans: list[tuple[float, float, float]], floor: Array) -> list[tuple[float, float]]:
    """(time, heading) keys, each the short way round from the one before."""
    travel = [_travel_deg(floor[i + 1] - floor[i]) if spans[i][2] > 1e-6 else None for i in range(len(spans))]
    first = next(
        (
            bearing
            for bearing, mark in zip(travel, track[1:], strict=True)
            if bearing is not None and mark.facing == "travel"
        ),
        0.0,
    )
    start = track[0].heading_deg if track[0].heading_deg is not None else first
    keys = [(spans[0][0] if spans else 0.0, start)]

    def turn(at: float, to: float) -> None:
        from_deg = keys[-1][1]
        keys.append((at, from_deg + (to - from_deg + 180.0) % 360.0 - 180.0))

    for i, (depart, arrive, _) in enumerate(spans):
        mark = track[i + 1]
        bearing = travel[i] if mark.facing == "travel" else None
        short = min(TURN_S, (arrive - depart) / 3)
        if keys[-1][0] < depart:
            turn(depart, keys[-1][1])
        if bearing is not None:
            turn(depart + short, bearing)
            turn(arrive - short, bearing)
        if mark.heading_deg is not None:
            turn(arrive, mark.heading_deg)
        else:
            turn(arrive, keys[-1][1])
    return keys


def _turned(keys: list[tuple[float, float]], t: Any) -> Array:
    """Heading at t: smooth between keys."""
    times, values = np.array([key[0] for key in keys]), np.array([key[1] for key in keys])
    t = np.asarray(t, dtype=np.float64)
    if len(keys) == 1:
        return np.full(t.shape, values[0])
    i = np.clip(np.searchsorted(times, t, side="right") - 1, 0, len(keys) - 2)
    u = (t - times[i]) / np.maximum(times[i + 1] - times[i], 1e-9)
    return values[i] + (values[i + 1] - values[i]) * ease(u, "smooth")
