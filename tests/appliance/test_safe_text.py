"""A terminal must never obey what people and files say."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.safe_text import clean, one_line

PAYLOADS = {
    "clear screen": "\x1b[2J",
    "window title": "\x1b]0;owned\x07",
    "clipboard (OSC 52)": "\x1b]52;c;b3duZWQ=\x07",
    "link (OSC 8)": "\x1b]8;;http://x\x1b\\a\x1b]8;;\x1b\\",
    "C1 CSI": "\x9b2J",
    "C1 OSC": "\x9d0;x\x9c",
    "device control": "\x1bP+q\x1b\\",
    "reset": "\x1bc",
    "bidi override": "gnp\u202egpj.exe",
    "bidi isolate": "\u2066a\u2069",
    "zero width": "ad\u200bmin",
    "carriage return": "good\rbad",
    "null": "a\x00b",
    "lone surrogate": "a\ud800b",
    "invisible tags": "a\U000e0041b",
}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_a_payload_is_disarmed_one_for_one(payload):
    safe = clean(payload)
    assert len(safe) == len(payload)
    assert "\ufffd" in safe
    # Unicode's own classes as the oracle: control, format, surrogate and separators of lines.
    assert not {unicodedata.category(letter) for letter in safe} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@given(st.text(st.characters(codec=None)))
@settings(max_examples=50, deadline=None)
def test_any_text_becomes_harmless_and_stays_so(text):
    safe = clean(text)
    assert not any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in safe)
    assert clean(safe) == safe
    safe.encode()  # a lone surrogate would raise here


def test_plain_words_of_every_script_are_left_alone():
    text = "Mara crosses 12C T4: «très près», 玛拉走过, שלום, नमस्ते, é = e\u0301, 🎬"
    assert clean(text) == text


def test_newlines_stay_only_where_they_are_asked_for():
    assert clean("one\r\ntwo\nthree", keep_newlines=True) == "one\ntwo\nthree"
    assert clean("one\ntwo") == "one\ufffdtwo"


def test_one_line_is_one_line_of_the_promised_length():
    assert one_line("  first\n\n\tsecond \x1b[0m") == "first second \ufffd[0m"
    assert one_line("x" * 500, limit=10) == "x" * 9 + "…"
