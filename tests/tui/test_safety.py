"""The desk shows any text without executing its control sequences, and restores the terminal when it ends."""

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.segment import Segment
from textual.color import Color

from appliance.direction.shot import from_plain
from appliance.library.connection import connect
from appliance.library.library import Library
from appliance.text_width import cells, wrap
from tui.output_filter import CleanLines
from tui.widgets.facts import facts

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "\x1b]0;owned\x07 \x1b]52;c;b3duZWQ=\x07 \x9b2J \u202etxt.exe [bold]x[/] [/] \x00"


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=80))
def test_no_text_leaves_the_filter_as_a_command(text):
    (clean,) = CleanLines().apply([Segment(text)], Color.parse("black"))
    assert not any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 or char in "\u202e\u2066\u200b" for char in clean.text)


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet="ab 雨夜[/]é", max_size=60), st.integers(3, 30))
def test_wrapped_lines_fit_and_lose_nothing_but_spaces(text, width):
    pieces = wrap(text, width)
    assert all(cells(piece) <= width for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())


def test_markup_in_facts_is_text():
    assert "[bold]x[/] [/]" in facts([("action", "[bold]x[/] [/]")], 60).plain


class Terminal:
    """The real desk in a pseudo-terminal."""

    def __init__(self, home: Path, **env: str) -> None:
        self.master, slave = pty.openpty()
        os.set_blocking(self.master, False)
        environment = {**os.environ, "RUSHES_HOME": str(home), "TERM": "xterm-256color", "COLORTERM": "truecolor",
                       "COLUMNS": "100", "LINES": "30", "LC_ALL": "C.UTF-8", **env}  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-m", "appliance", "desk"], cwd=ROOT, env=environment,
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self.seen = b""

    def read_until(self, text: bytes, seconds: float = 15.0) -> bytes:
        """Everything painted until `text` shows."""
        deadline = time.monotonic() + seconds
        while text not in self.seen and time.monotonic() < deadline:
            if select.select([self.master], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):
                    self.seen += os.read(self.master, 1 << 16)
        assert text in self.seen, f"{text!r} was not painted: {self.seen[-2000:]!r}"
        return self.seen

    def end(self) -> int:
        """The exit code, after reading the remaining output."""
        deadline = time.monotonic() + 10
        while self.process.poll() is None and time.monotonic() < deadline:
            if select.select([self.master], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):
                    self.seen += os.read(self.master, 1 << 16)
        code = self.process.poll()
        if code is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        assert code is not None, "the desk did not end within ten seconds"
        return code


@pytest.fixture
def hostile_home(tmp_path, monkeypatch) -> Path:
    """An installation with control sequences written into its library past every check."""
    home = tmp_path / "home"
    monkeypatch.setenv("RUSHES_HOME", str(home))
    with Library.open() as library:
        library.queue(from_plain({"scene": "12", "setup": "C", "text": {"action": "Mara"}}))
        path = library.path
    database = connect(path)
    database.execute("UPDATE takes SET action = ?, error = ?", (HOSTILE, HOSTILE))
    database.close()
    return home


def test_hostile_text_reaches_the_terminal_as_text(hostile_home):
    terminal = Terminal(hostile_home)
    seen = terminal.read_until(b"txt.exe")
    os.write(terminal.master, b"q")
    assert terminal.end() == 0
    for command in (b"\x1b]0;owned", b"\x1b]52;", b"\xc2\x9b", b"\xe2\x80\xae"):
        assert command not in seen


def test_no_color_sends_no_colour(hostile_home):
    terminal = Terminal(hostile_home, NO_COLOR="1")
    seen = terminal.read_until(b"txt.exe")
    os.write(terminal.master, b"q")
    terminal.end()
    assert b"38;2" not in seen and b"48;2" not in seen and b"38;5" not in seen and b"48;5" not in seen


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_the_terminal_restored(hostile_home, number):
    terminal = Terminal(hostile_home)
    terminal.read_until(b"txt.exe")
    terminal.process.send_signal(number)
    assert terminal.end() == 0
    assert b"\x1b[?1049l" in terminal.seen, "the alternate screen was not left"


@pytest.mark.parametrize("kind", ["dumb", ""])
def test_a_terminal_that_cannot_be_drawn_on_is_told_so_and_gets_no_control_sequence(tmp_path, kind):
    terminal = Terminal(tmp_path, TERM=kind)
    shown = terminal.read_until(b"as lines")
    assert terminal.end() == 1 and b"set TERM" in shown and b"\x1b" not in terminal.seen


def test_without_a_terminal_it_says_so(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "appliance", "desk"], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "RUSHES_HOME": str(tmp_path)}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert run.returncode == 1
    assert run.stderr.startswith("rushes: the desk needs a terminal") and run.stderr.count("\n") == 1
