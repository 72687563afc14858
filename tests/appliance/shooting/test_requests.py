"""Requests: the same shot asked for at the command line and at the desk is the same row of the library."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from appliance.cli.main import main
from appliance.daemon.instance import only_daemon
from appliance.library.library import Library
from appliance.library.take import Status, Take
from appliance.shooting import requests
from appliance.shooting.quote import EXAMPLES
from appliance.shooting.requests import Overrides
from models.errors import BadInput, RushesError

SHOT = EXAMPLES / "mara_crosses.toml"
OF_ONE_REQUEST = {"id", "take_number", "slate", "queued_at", "prev_take"}  # differ between two requests


@pytest.fixture(autouse=True)
def installation(tmp_path, monkeypatch):
    """A new installation, whose daemon this process is: requests start none, and nothing is rendered."""
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "home"))
    with only_daemon():
        yield tmp_path / "home"


def row(take: Take) -> dict[str, object]:
    return {field.name: getattr(take, field.name) for field in fields(take) if field.name not in OF_ONE_REQUEST}


def takes() -> list[Take]:
    with Library.open() as library:
        return library.takes()[::-1]


@pytest.mark.parametrize(
    ("flags", "overrides"),
    [
        ((), None),
        (("--seed", "5", "--quality", "draft", "--device", "cpu"), Overrides(5, "draft", None, "cpu")),
    ],
    ids=["plain", "overrides"],
)
def test_a_shot_queued_at_the_command_line_is_the_row_that_the_request_makes(flags, overrides):
    assert main(["shoot", str(SHOT), "--detach", *flags]) == 0
    (queued,) = requests.queue([SHOT], overrides)
    by_cli, by_request = takes()
    assert row(by_cli) == row(by_request) and queued.take == by_request
    assert (by_cli.slate, by_request.slate) == ("12C T1", "12C T2")
    assert by_request.predicted_seconds == queued.quote.require_plan().seconds > 0


def test_a_retake_at_the_command_line_is_the_row_that_the_request_makes():
    requests.queue([SHOT], Overrides(device="cpu"))
    assert main(["retake", "12C-T1", "--seed", "9", "--detach"]) == 0
    queued = requests.retake("12C-T1", seed=9)
    first, by_cli, by_request = takes()
    assert row(by_cli) == row(by_request) and queued.take == by_request
    assert by_cli.prev_take == by_request.prev_take == first.id
    assert (first.seed, by_request.seed, by_request.device) == (7, 9, "cpu")


def test_a_retake_without_a_seed_draws_new_ones():
    requests.queue([SHOT])
    assert len({7, requests.retake(1).take.seed, requests.retake(1).take.seed}) == 3


def test_a_take_cancelled_at_the_command_line_is_the_row_that_the_request_makes():
    requests.queue([SHOT, SHOT])
    assert main(["cancel", "1"]) == 0
    cancelled = requests.cancel(2)
    by_cli, by_request = ({**row(take), "ended_at": None} for take in takes())
    assert by_cli == by_request and cancelled.status is Status.CANCELLED
    with pytest.raises(BadInput, match="already cancelled"):
        requests.cancel("12C-T2")


def test_every_error_of_every_file_is_named_and_nothing_is_queued(tmp_path):
    wrong = []
    for name, text in (("pan", "[[moves]]\ntype = 'pan'\namount_deg = 4000\n"), ("lens", "[lens]\nfocal_mm = 1\n")):
        wrong.append(Path(tmp_path / f"{name}.toml"))
        wrong[-1].write_text(text)
    with pytest.raises(BadInput) as raised:
        requests.queue([SHOT, *wrong])
    assert "2 files have errors" in str(raised.value) and "\n" not in str(raised.value)
    assert "4000" in str(raised.value) and "focal_mm" in str(raised.value)
    assert takes() == []


def test_a_shot_that_this_machine_cannot_shoot_is_refused_with_a_remedy_and_nothing_is_queued():
    with pytest.raises(RushesError, match=r"cuda:9.*cpu"):
        requests.queue([SHOT], Overrides(device="cuda:9"))
    with pytest.raises(BadInput, match="there is no model"):
        requests.queue([SHOT], Overrides(model="wan2.1-t2v-14b"))
    assert takes() == []


def test_a_quote_queues_nothing_and_has_the_queue_before_it():
    (alone,) = requests.quote([SHOT])
    requests.queue([SHOT])
    (behind,) = requests.quote([SHOT])
    assert (alone.ahead.takes, behind.ahead.takes) == (0, 1) and len(takes()) == 1
    assert "queue" not in dict(alone.rows())
    assert dict(behind.rows())["queue"].startswith("2 takes to go") and "including this one" in behind.rows()[3][1]
