"""Numbers in words."""

import pytest

from appliance.units import bytes_words, clock, seconds_words, when


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 bytes"), (999, "999 bytes"), (1536, "1.5 KiB"), (12 * 2**30, "12 GiB"), (1000 * 2**20, "1.0 GiB")],
)
def test_bytes(count, words):
    assert bytes_words(count) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.42, "0.4 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (75, "1 min 15 s"), (7300, "2 h 01 min")],
)
def test_seconds(seconds, words):
    assert seconds_words(seconds) == words


@pytest.mark.parametrize(("seconds", "words"), [(-3, "0:00"), (75, "1:15"), (3700, "1:01:40")])
def test_countdown(seconds, words):
    assert clock(seconds) == words


def test_the_date_is_said_only_when_it_is_another_day():
    noon = 1_700_000_000.0
    assert len(when(noon, now=noon + 60)) == len("12:34")
    assert when(noon, now=noon + 3 * 86400).startswith("2023-11-1")
    assert when(None) == ""
