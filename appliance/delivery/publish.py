"""A finished take's files, published together: the film last, so that a film that is there is complete."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from appliance.atomic_files import file_sha256, publish
from models.errors import RushesError

BESIDE = (".strip.png", ".png", ".json")  # what lies beside a take's film, by suffix: filmstrip, thumbnail, page


def publish_take(film: Path, parts: Mapping[str, Path]) -> None:
    """Give a take's parts (by suffix) their names, the film last: whoever sees a film finds the rest beside it.

    May be called again after an interruption.
    """
    for suffix in (*BESIDE, ".mp4"):
        final = film.with_suffix(suffix)
        if parts[suffix].exists() or not final.exists():
            publish(parts[suffix], final)


def published(film: Path) -> dict[str, Any] | None:
    """The page of a published film; None when there is no film. Raises RushesError when the page is of another."""
    if not film.exists():
        return None
    page = film.with_suffix(".json")
    try:
        document = json.loads(page.read_bytes())
        noted = document["film"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        noted = None
    if noted != file_sha256(film):
        raise RushesError(f"{film} is not the film that {page.name} describes: move both away and retake it")
    return document
