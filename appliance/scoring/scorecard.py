"""Statistics of the sweeps of a scorecard, as one JSON document."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

import numpy as np

from appliance.scoring.axes import IDENTITIES, Axis
from appliance.scoring.motion import MOVES
from models.stage.blocking import Array

FILMS = ("floor", "model", "dropped", "shuffled")
OWN = FILMS[:2]  # the films of the direction itself; the others are the model's films of other directions
MOST_UNSCORED = 0.3  # of an axis' films, for it to pass
CLEARLY = 0.5  # of a baseline's error: below it, the model is clearly better

Document = dict[str, Any]


@dataclass(slots=True)
class Sweep:
    """The measurements of one axis: one entry a film in every list."""

    axis: Axis
    doses: list[float] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    asked: list[float] = field(default_factory=list)
    values: dict[str, list[float | None]] = field(default_factory=lambda: {name: [] for name in FILMS})
    lags_s: list[float] = field(default_factory=list)  # of the model's moves
    commanded_px: list[float] = field(default_factory=list)  # of a move of the camera
    strayed_px: dict[str, list[Array]] = field(
        default_factory=lambda: {name: [] for name in OWN}
    )  # (7,) off the commanded motion
    still: dict[str, list[tuple[float | None, float | None]]] = field(
        default_factory=lambda: {name: [] for name in OWN}
    )  # of a locked-off camera: drift in pixels a frame, flicker in %
    known: dict[str, list[bool | None]] = field(
        default_factory=lambda: {name: [] for name in OWN}
    )  # whether the person was recognised


def row_of(sweep: Sweep) -> Document:
    """One axis: its points, the responses of model and baselines, and the verdicts."""
    axis, found = sweep.axis, {name: _response(sweep, name) for name in FILMS}
    model = found["model"]
    baselines = min(found["dropped"].mae, found["shuffled"].mae)
    points = [
        {"dose": dose, "seed": seed, "asked": rounded(asked)} | {name: rounded(sweep.values[name][i]) for name in FILMS}
        for i, (dose, seed, asked) in enumerate(zip(sweep.doses, sweep.seeds, sweep.asked, strict=True))
    ]
    return {
        "axis": axis.name,
        "unit": axis.unit,
        "tolerance": axis.tolerance,
        "passes": bool(model.mae <= axis.tolerance and model.unscored <= MOST_UNSCORED),
        "beats_baselines": bool(model.mae < CLEARLY * baselines),
        "obedience": rounded(math.exp(-model.mae / axis.tolerance)),
        "lag_s": rounded(median(sweep.lags_s)) if sweep.lags_s else None,
        **{name: {key: rounded(value) for key, value in asdict(found[name]).items()} for name in FILMS},
        "points": points,
    }


def summed_up(sweeps: Sequence[Sweep], frames: int) -> Document:
    """All axes of films of `frames` frames, and the statistics across axes."""
    rows = [row_of(sweep) for sweep in sweeps]
    moves = [sweep for sweep in sweeps if sweep.axis.curve is not None]
    lights = [sweep for sweep in sweeps if sweep.axis.name.startswith("key ")]
    return {
        "obedience": rounded(float(np.mean([row["obedience"] for row in rows]))),
        "passed": sum(row["passes"] for row in rows),
        "axes": rows,
        "identity": {"among": IDENTITIES}
        | {name: _top_1([one for sweep in sweeps for one in sweep.known[name]]) for name in OWN},
        "locked_off": {name: _stillness([one for sweep in sweeps for one in sweep.still[name]]) for name in OWN},
        "cross_talk": {
            "what": "pixels moved off the commanded axis, over pixels commanded on it",
            "moves": list(MOVES),
            **{name: {sweep.axis.name: cross_talk(sweep, name) for sweep in moves} for name in OWN},
        },
        "isolation": {
            "what": "pixels that a camera which is to stand still moves in a film, while only the key is changed",
            **{
                name: _median(
                    drift * (frames - 1) for sweep in lights for drift, _ in sweep.still[name] if drift is not None
                )
                for name in OWN
            },
        },
    }


def _response(sweep: Sweep, name: str) -> Response:
    """The response of one kind of film. The neutral dose has no film without the control other than its own."""
    neutral = sweep.axis.doses[sweep.axis.neutral]
    used = [i for i, dose in enumerate(sweep.doses) if name != "dropped" or dose != neutral]
    return response([sweep.asked[i] for i in used], [sweep.values[name][i] for i in used])


def cross_talk(sweep: Sweep, name: str) -> list[float | None]:
    """By each of MOVES, the pixels moved that were not asked for over the pixels commanded; on the axis itself, its
    error. Sums over films, so that small doses do not weigh more.
    """
    strayed, commanded = np.array(sweep.strayed_px[name]), np.array(sweep.commanded_px)
    measured = np.isfinite(strayed).all(axis=1) if len(strayed) else np.zeros(0, bool)
    if not measured.any() or commanded[measured].sum() < 1e-6:
        return [None] * len(MOVES)
    return [rounded(float(share)) for share in np.abs(strayed[measured]).sum(axis=0) / commanded[measured].sum()]


def in_words(row: Document) -> str:
    """One axis in one line."""
    mae, gain = row["model"]["mae"], row["model"]["gain"]
    found = "not measured" if mae is None else f"{mae:.3g} {row['unit']} off on average of {row['tolerance']:g} allowed"
    return f"{row['axis']}: {found}" + (f", gain {gain:.2f}" if gain is not None else "")


def rounded(value: float | None) -> float | None:
    """Five significant digits; None for what is not finite."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.5g}")


def _top_1(found: Sequence[bool | None]) -> Document:
    decided = [one for one in found if one is not None]
    return {
        "films": len(found),
        "unscored": rounded(1 - len(decided) / max(len(found), 1)),
        "top_1": rounded(sum(decided) / len(decided)) if decided else None,
    }


def _stillness(found: Sequence[tuple[float | None, float | None]]) -> Document:
    return {
        "films": len(found),
        "drift_px_a_frame": _median(drift for drift, _ in found if drift is not None),
        "worst_drift_px_a_frame": rounded(max((drift for drift, _ in found if drift is not None), default=math.nan)),
        "flicker_pct": _median(percent for _, percent in found if percent is not None),
    }


def _median(values: Iterable[float]) -> float | None:
    found = list(values)
    return rounded(median(found)) if found else None


@dataclass(frozen=True, slots=True)
class Response:
    """The response of an axis, in its own unit."""

    count: int  # films
    unscored: float  # 0..1, share of films that could not be measured
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
