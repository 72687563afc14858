"""What the command line prints is aligned, no wider than the terminal, and free of control characters."""

import json
from dataclasses import dataclass
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.cli.page import plain, say, say_json, table
from appliance.library.take import Status
from appliance.text_width import cells, cut, pad


def test_wide_characters_take_two_cells_and_marks_none():
    assert cells("雨夜 12C") == 8
    assert cells("e\u0301") == 1


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet="ab雨夜é…x", max_size=30), st.integers(1, 20))
def test_cut_then_pad_is_exactly_as_wide_as_asked(text, width):
    shown = pad(cut(text, width), width)
    assert cells(shown) == width
    if cells(text) <= width:
        assert shown.startswith(text)


def test_columns_line_up(capsys):
    table(("#", "action"), [("1", "雨夜"), ("12", "harbour")], stretch=1)
    assert capsys.readouterr().out == "#   action\n1   雨夜\n12  harbour\n"


def test_nothing_printed_can_command_the_terminal(capsys):
    say("a\x1b]0;title\x07b\x9b2Jc")
    table(("x",), [("\x1b[31m",)], stretch=0)
    say_json({"title": "\x1b[31mred", "two\nlines": "a\nb"})
    out = capsys.readouterr().out
    assert not any(char in out for char in "\x1b\x07\x9b")


def test_json_of_a_dataclass(capsys):
    @dataclass
    class Thing:
        path: Path
        status: Status
        sizes: tuple[int, ...]

    say_json(Thing(Path("/a/b"), Status.QUEUED, (1, 2)))
    assert json.loads(capsys.readouterr().out) == {"path": "/a/b", "status": "queued", "sizes": [1, 2]}
    assert plain(None) is None
