"""The page that lies beside a take: everything that made it, so that it can be made again and believed."""

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
    """What the render knows of a take: the rest is measured on the film itself."""

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
    peak_bytes: int | None = None  # resident memory at its highest
    measured: Sequence[Mapping[str, Any]] = ()  # of `Measured.to_json`: what the film itself says of the direction
    model: str = ""  # the name of the package; its precision is the plan's, its hash weights_sha256
    resumed_after: int = 0  # steps that an earlier attempt had made and saved: the timings are without them


def sidecar(facts: TakeFacts, film: Path, film_sha256: str, video: VideoFacts, label: Label) -> dict[str, Any]:
    """The page of a take whose film will be named `film`: a plain JSON document."""
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
    """Versions of what takes part in a render, read from package metadata without importing them."""
    found = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    return found | {name: version for name in _PACKAGES if (version := version_of(name))}
