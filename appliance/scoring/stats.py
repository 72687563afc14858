"""Numbers of a dose-response: commanded against measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Response:
    """How an axis answers. Angles, metres and the like in the axis' own unit."""

    count: int  # films
    unscored: float  # 0..1, films that could not be measured; never left out silently
    mae: float  # mean absolute error
    bias: float  # mean error
    gain: float | None  # slope of measured over commanded; 1 is ideal. None where fewer than two levels were measured
    r2: float | None  # of that line
    worst: float  # largest absolute error


def response(asked: list[float], measured: list[float | None]) -> Response:
    """The response of measured values to commanded ones; None is a film that could not be scored."""
    pairs = np.array([(a, m) for a, m in zip(asked, measured, strict=True) if m is not None and np.isfinite(m)])
    unscored = 1 - len(pairs) / max(len(asked), 1)
    if not len(pairs):
        return Response(len(asked), unscored, np.inf, 0.0, None, None, np.inf)
    a, m = pairs.T
    errors = m - a
    gain = r2 = None
    spread = float(((a - a.mean()) ** 2).sum())
    if spread > 1e-12:
        gain = float(((a - a.mean()) * (m - m.mean())).sum() / spread)
        left = float(((m - m.mean() - gain * (a - a.mean())) ** 2).sum())
        total = float(((m - m.mean()) ** 2).sum())
        r2 = 1 - left / total if total > 1e-12 else 0.0
    size = np.abs(errors)
    return Response(len(asked), unscored, float(size.mean()), float(errors.mean()), gain, r2, float(size.max()))
