"""Where the films of takes are, and films that were published but not recorded before a daemon ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from appliance import paths
from appliance.delivery.publish import published
from appliance.library.library import Library
from appliance.library.take import Status, Take
from appliance.measuring.result import measured_of
from models.errors import RushesError


def film_of(library: Library, take: Take) -> Path:
    """The path of a take's film, published or not yet."""
    return library.takes_folder / paths.take_file(take.shot, take.take_number, take.id)


def note_published(library: Library) -> Iterator[Take]:
    """Records the takes whose film was published just before the last daemon ended, and yields them."""
    for take in library.takes(status=Status.RENDERING, limit=1_000):
        film = film_of(library, take)
        try:
            page = published(film)
        except RushesError as error:
            library.note(take.id, str(error), kind="warning")
            continue
        if page is not None:
            yield library.change(
                take,
                Status.DELIVERED,
                "its film was published before the daemon ended",
                measured_of(page.get("measured")),
                path=film,
                sha256=page["film"]["sha256"],
                seconds=page["timings_s"].get("total"),
                peak_bytes=page["peak_bytes"],
                phase="",
            )
