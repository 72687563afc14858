"""Control films of a blocking: its previs and its depth, coded as the network reads them."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from models.stage import render as stage
from models.stage.blocking import Array, Blocking

SAMPLES = 2  # rays a pixel and side of the control films, in training and in use


def control_films(blocking: Blocking, at_once: int = 0) -> tuple[Array, Array]:
    """The shot as the stage renders it: previs (T, h, w, 3) and coded depth (T, h, w), float32 0..1.

    at_once: frames rendered at a time; 0: one a core.
    """
    size = (blocking.frames, blocking.height, blocking.width)
    previs, depth = np.empty((*size, 3), np.float32), np.empty(size, np.float32)

    def frame(t: int) -> None:
        shown = stage.render_frame(blocking, t, samples=SAMPLES)
        previs[t], depth[t] = shown.previs, code_depth(shown.depth, blocking.subject_distance_m)

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with ThreadPoolExecutor(at_once or cores) as pool:  # numpy releases the GIL while it computes
        list(pool.map(frame, range(blocking.frames)))
    return previs, depth


def code_depth(depth_m: Array, unit_m: float) -> Array:
    """Distances as 0..1: 1 at the lens, 0.5 at the subject's distance, 0 at infinity."""
    return unit_m / (unit_m + depth_m)
