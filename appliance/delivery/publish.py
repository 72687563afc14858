"""Publishes a take's files: the film last, so that a film that exists is complete."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from appliance.atomic_files import file_sha256, publish
from models.errors import RushesError

COMPANION_SUFFIXES = (
    ".strip.png",
    ".png",
    ".json",
)  # the files next to a film: filmstrip, thumbnail, sidecar


def publish_take(film: Path, parts: Mapping[str, Path]) -> None:
    """Gives a take's parts (by suffix) their public names, the film last. May be called again after an interruption."""
    for suffix in (*COMPANION_SUFFIXES, ".mp4"):
        final = film.with_suffix(suffix)
        if parts[suffix].exists() or not final.exists():
            publish(parts[suffix], final)


def published(film: Path) -> dict[str, Any] | None:
    """The sidecar of a published film; None when there is no film. Raises RushesError when it is of another film."""
    if not film.exists():
        return None
    sidecar = film.with_suffix(".json")
    try:
        document = json.loads(sidecar.read_bytes())
        recorded = document["film"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        recorded = None
    if recorded != file_sha256(film):
        raise RushesError(f"{film} is not the film that {sidecar.name} describes: move both away and retake it")
    return document
