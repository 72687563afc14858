"""The end of the queue is the sum of what is left of it."""

import time
from dataclasses import fields, replace

import pytest

from appliance.library.forecast import QueueForecast, forecast
from appliance.library.take import Status, Take

NOW = time.mktime((2026, 3, 2, 12, 0, 0, 0, 0, -1))
STATED = {
    "slate": "12C T1", "scene": "12", "setup": "C", "take_number": 1, "action": "", "direction_json": "{}", "phase": "",
    "status": Status.QUEUED, "step": 0, "steps": 0, "seed": 7, "attempt": 0, "fence": 0, "queued_at": NOW,
    "cancel_requested": False, "predicted_seconds": 600.0,
}  # fmt: skip
WAITING = Take(**{field.name: STATED.get(field.name) for field in fields(Take)})
RENDERING = replace(WAITING, status=Status.RENDERING, started_at=NOW - 60, steps=8, predicted_seconds=400.0)


def test_waiting_takes_add_up_and_a_rendering_one_counts_what_is_left():
    found = forecast([RENDERING, WAITING, WAITING, replace(WAITING, status=Status.DELIVERED)], NOW)
    assert (found.takes, found.unknown) == (3, 0)
    assert found.seconds == pytest.approx(340 + 2 * 600)
    assert found.words(NOW) == "3 takes to go: done in about 25 min 40 s, at 12:25"


def test_takes_that_nobody_quoted_are_said():
    unquoted = replace(WAITING, predicted_seconds=None)
    assert forecast([unquoted, WAITING], NOW) == QueueForecast(2, 600.0, 1)
    assert forecast([unquoted, WAITING], NOW).words(NOW).endswith("at 12:10, and 1 not quoted")
    assert forecast([unquoted], NOW).words(NOW) == "1 take to go, none of them quoted"


def test_an_empty_queue_says_nothing_and_tomorrow_has_a_date():
    assert forecast([], NOW).words(NOW) == ""
    assert forecast([replace(WAITING, predicted_seconds=86_400.0)], NOW).at(NOW) == "2026-03-03 12:00"
