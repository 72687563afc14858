"""An installation with a real library and a fixed clock, so that every screen is the same on every day."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.direction.shot import from_plain
from appliance.library.connection import connect
from appliance.library.library import Library
from appliance.library.take import Status

NOON = 1_800_000_000.0  # a Friday in January 2027, 08:00 UTC


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty installation in the test's own folder; times are shown in UTC."""
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.chdir(tmp_path)
    before = os.environ.get("TZ")
    os.environ["TZ"] = "UTC"
    time.tzset()
    yield tmp_path / "home"
    os.environ.pop("TZ")
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


@pytest.fixture
def full_library(installation: Path) -> Path:
    """Seven takes: one renders, two wait, two are done, one failed, one was cancelled."""
    mara = {
        "frame": {"size": "MS", "subject": "mara"},
        "moves": [{"type": "pan", "amount_deg": 20}, {"type": "dolly", "amount_m": 1.2}],
        "subjects": [{"id": "mara", "track": [{"x_m": -1}, {"x_m": 1.2}]}],
        "light": {"key": {"az_deg": -60, "cct_k": 3200}},
        "seed": 81723,
    }
    with Library.open() as library:
        done = _queue(library, "12", "B", "Mara waits at the gate", mara)
        _end(library, done, Status.DELIVERED, seconds=31.4, peak_bytes=912 * 2**20)
        _end(library, _queue(library, "11", "D", "Harbour dusk, crane up over boats"), Status.FAILED,
             error="the machine ran out of memory: ask for a shorter or smaller shot")  # fmt: skip
        _end(library, _queue(library, "12", "B", "雨夜的灯笼小巷，镜头缓缓推进", mara), Status.DELIVERED, seconds=29.0)
        library.request_cancel(_queue(library, "7", "F", "Two-shot, market stall").id)
        rendering = _queue(library, "12", "C", "Mara crosses to the window", mara)
        claimed = library.claim("test 0 1", 3600)
        assert claimed is not None and claimed.id == rendering.id
        library.record(claimed, predicted_seconds=40.0)
        library.progress(claimed, "rendering", 5, 8)
        _queue(library, "12", "C", "Mara crosses to the window, another seed", mara)
        _queue(library, "14", "A", "Lao Zhang sits down")
        path = library.path
    database = connect(path)
    database.execute("UPDATE takes SET queued_at = ? - 3600 + id * 240", (NOON,))
    database.execute("UPDATE takes SET started_at = queued_at + 60 WHERE started_at IS NOT NULL")
    database.execute("UPDATE takes SET ended_at = queued_at + 100 WHERE ended_at IS NOT NULL")
    database.execute("UPDATE takes SET started_at = ? - 24 WHERE status = 'rendering'", (NOON,))
    database.close()
    return installation


def _queue(library, scene, setup, action, more=None):
    return library.queue(from_plain({"scene": scene, "setup": setup, "text": {"action": action}, **(more or {})}))


def _end(library, take, status, **facts):
    claimed = library.claim("test 0 1", 60)
    assert claimed is not None and claimed.id == take.id
    library.change(claimed, status, **facts)
