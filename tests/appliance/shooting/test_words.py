"""A take in words: one state has one word, on every page."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.direction.shot import from_plain
from appliance.library.library import Library
from appliance.library.take import Status, Take
from appliance.planning.plan import Plan
from appliance.shooting.plan_words import film_words, render_words
from appliance.shooting.quote import EXAMPLES
from appliance.shooting.requests import quote
from appliance.shooting.take_words import cancel_words, ending_words, progress_words, state_words, take_facts


@pytest.fixture
def take(tmp_path, monkeypatch) -> Take:
    """A queued take in a new installation."""
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path))
    with Library.open() as library:
        return library.queue(from_plain({"scene": "12", "setup": "C", "text": {"action": "Mara waits"}}))


def test_states(take):
    now = take.queued_at + 20
    rendering = replace(take, status=Status.RENDERING, steps=8, step=8, phase="delivering", started_at=take.queued_at)
    words = [
        state_words(take, now),
        state_words(rendering, now),
        state_words(replace(rendering, cancel_requested=True), now),
        *(state_words(replace(take, status=status), now) for status in (Status.DELIVERED, Status.FAILED)),
        state_words(replace(take, status=Status.CANCELLED, cancel_requested=True), now),
    ]
    assert words == ["queued", "rendering 97%", "stopping", "delivered", "FAILED", "cancelled"]
    assert progress_words(rendering, now) == "rendering 97%, delivering" and progress_words(take, now) == "queued"
    steps = replace(rendering, step=0, phase="rendering"), replace(rendering, step=5, phase="rendering")
    assert [progress_words(each, now).partition("%")[2] for each in steps] == ["", ", step 5/8"]
    stopping = replace(rendering, cancel_requested=True)
    assert progress_words(stopping, now) == take_facts(stopping, now)["state"] == "stopping"
    assert cancel_words(rendering) == "will stop after the current step"
    assert cancel_words(replace(take, status=Status.CANCELLED)) == "cancelled"


def test_endings(take):
    assert ending_words(replace(take, status=Status.DELIVERED, seconds=31.4)) == "delivered in 31 s"
    assert ending_words(replace(take, status=Status.FAILED, error="out of memory")) == "FAILED  out of memory"
    assert ending_words(replace(take, status=Status.FAILED)) == "FAILED  no reason was recorded"


def test_the_plan_of_a_quote_and_of_a_take_have_the_same_words(take):
    (quoted,) = quote([EXAMPLES / "mara_crosses.toml"])
    plan, rows = quoted.require_plan(), dict(quoted.rows())
    facts = take_facts(replace(take, plan_json=plan.to_json()), take.queued_at)
    assert facts["plan"] == f"{rows['film']}\n{rows['plan']}"
    assert rows["film"] == "33 frames of 224x128 at 16 fps" and rows["plan"].startswith("previs, 4 steps on ")
    assert take_facts(take, take.queued_at)["plan"] == "not planned yet"


def test_a_plan_of_an_older_library_has_words():
    """Stored plans may lack fields that were added later; the words need only those that every plan has had."""
    old = {"card": "previs", "frames": 33, "width": 224, "height": 128, "fps": 16.0, "steps": 4, "device": "cpu"}
    assert set(old) <= set(Plan.__dataclass_fields__)
    assert film_words(old) == "33 frames of 224x128 at 16 fps"
    assert render_words({**old, "precision": "int8"}) == "previs, 4 steps on cpu, int8"
