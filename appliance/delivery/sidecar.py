"""The sidecar of a take: a JSON file next to the film with all that is needed to reproduce and verify it."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.delivery.labels.aigc import Label
from appliance.delivery.media.verify import VideoFacts
from appliance.machine.host import version_of

SCHEMA = "rushes-take/1"
_PACKAGES = ("rushes", "torch", "triton", "numpy", "safetensors", "av", "pillow")


@dataclass(frozen=True, slots=True)
class TakeFacts:
    """What the render knows of a take; the rest is measured on the film."""

    take: str  # "12C T4"
    take_id: int
    direction: Mapping[str, Any]  # as its JSON
    asked: Mapping[str, str]  # field -> exact | approximate | text-only | ignored
    blocking_sha256: str
    plan: Mapping[str, Any]  # as its JSON
    seed: int
    weights_sha256: str
    kernels_sha256: str
    timings_s: Mapping[str, float] = field(default_factory=dict)  # part of the render -> seconds
    peak_bytes: int | None = None  # peak memory of the GPU that rendered, or of the worker process
    measured: Sequence[Mapping[str, Any]] = ()  # rows of `Measured.to_json`
    model: str = ""  # name of the package; its precision is in the plan, its hash is weights_sha256
    resumed_after: int = 0  # steps that an earlier attempt had saved: the timings do not include them


def sidecar(facts: TakeFacts, film: Path, film_sha256: str, video: VideoFacts, label: Label) -> dict[str, Any]:
    """The sidecar of a take whose film will be named `film`, as a JSON document."""
    return {
        "schema": SCHEMA,
        "take": facts.take,
        "take_id": facts.take_id,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "film": {"file": film.name, "sha256": film_sha256, **asdict(video)},
        "label": label.to_json(),
        "seed": facts.seed,
        "direction": dict(facts.direction),
        "asked": dict(facts.asked),
        "measured": [dict(row) for row in facts.measured],
        "blocking_sha256": facts.blocking_sha256,
        "plan": dict(facts.plan),
        "model": facts.model,
        "weights_sha256": facts.weights_sha256,
        "kernels_sha256": facts.kernels_sha256,
        "timings_s": {name: round(seconds, 4) for name, seconds in facts.timings_s.items()},
        "resumed_after": facts.resumed_after,
        "peak_bytes": facts.peak_bytes,
        "software": software(),
    }


def software() -> dict[str, str]:
    """Versions of Python and of the packages used in a render, read from their metadata without importing them."""
    found = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    return found | {name: version for name in _PACKAGES if (version := version_of(name))}
