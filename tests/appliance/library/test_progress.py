"""A bar that only goes forward, and a countdown that believes what it measures."""

from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.library.progress import AFTER_STEPS, BEFORE_STEPS, progress
from appliance.library.take import Status, Take

STATED = {
    "id": 1, "slate": "12C T1", "scene": "12", "setup": "C", "take_number": 1, "action": "Mara crosses",
    "direction_json": "{}", "status": Status.RENDERING, "phase": "drafting", "step": 0, "steps": 8, "seed": 7,
    "attempt": 1, "fence": 1, "queued_at": 90.0, "started_at": 100.0, "predicted_seconds": 40.0,
    "cancel_requested": False,
}  # fmt: skip
HALF = BEFORE_STEPS + (1 - BEFORE_STEPS - AFTER_STEPS) / 2  # of the work is done half way through the steps
RENDERING = Take(**{field.name: STATED.get(field.name) for field in fields(Take)})


def test_before_the_first_step_the_prediction_counts_down():
    at = progress(RENDERING, now=102.0)
    assert at.left_seconds == pytest.approx(38.0)
    assert at.left == "0:38"
    assert 0 < at.fraction < 0.1
    assert at.words == "drafting"


def test_a_start_that_takes_long_leaves_the_steps_their_time():
    assert progress(RENDERING, now=170.0).left_seconds == pytest.approx((1 - BEFORE_STEPS) * 40)


def test_a_prediction_that_was_half_the_truth_is_corrected_as_work_proceeds():
    """A render that takes 80 s where 40 s were predicted, half way through its steps."""
    late = progress(replace(RENDERING, step=4), now=100.0 + 80 * HALF)
    truth, countdown, prediction = 80 * (1 - HALF), 40 - 80 * HALF, 40 * (1 - HALF)
    assert max(countdown, prediction) < late.left_seconds < truth
    assert truth - late.left_seconds < (truth - prediction) / 2


def test_a_right_prediction_stays_right():
    half = progress(replace(RENDERING, step=4), now=100.0 + 40 * HALF)
    assert half.left_seconds == pytest.approx(40 * (1 - HALF))


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 500), st.floats(0.1, 300), st.integers(1, 50))
def test_more_steps_are_never_less_progress(elapsed, predicted, steps):
    fractions = []
    for step in range(steps + 1):
        take = replace(RENDERING, step=step, steps=steps, predicted_seconds=predicted)
        at = progress(take, now=100.0 + elapsed)
        assert at.left_seconds >= 0
        fractions.append(at.fraction)
    assert fractions == sorted(fractions) and fractions[-1] < 1


def test_without_a_plan_nothing_is_promised():
    at = progress(replace(RENDERING, steps=0, predicted_seconds=None), now=130.0)
    assert (at.left_seconds, at.left, at.words) == (None, "--", "drafting")


def test_ends():
    assert progress(replace(RENDERING, status=Status.DELIVERED), 200.0).fraction == 1.0
    assert progress(replace(RENDERING, status=Status.QUEUED, step=0), 200.0).words == "waiting"
    assert progress(replace(RENDERING, status=Status.FAILED), 200.0).words == "failed"


def test_the_bar_is_as_wide_as_asked():
    half = replace(progress(RENDERING, 100.0), fraction=0.5)
    assert half.bar(12) == "[#####-----]"
