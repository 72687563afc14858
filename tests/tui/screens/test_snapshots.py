"""How the desk looks: a change of a screen changes a picture in this folder, which is to be reviewed."""

import pytest

from tui.app import Desk
from tui.live.messages import MachineSeen
from tui.screens.board import Board

NOON = 1_800_000_000.0
SIZES = [(80, 24), (120, 40)]


def desk() -> Desk:
    """The desk at noon on a machine that never changes."""
    return Desk(clock=lambda: NOON, probe=lambda: MachineSeen("no GPU, 2 cores, 19 GiB free", "daemon running"))


async def _settle(pilot, *keys: str) -> None:
    for _ in range(500):
        await pilot.pause(0.02)
        screen = pilot.app.screen
        if isinstance(screen, Board) and screen._snapshot is not None and screen._machine:
            break
    await pilot.press(*keys)
    await pilot.pause(0.1)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_board(full_library, snap_compare, size):
    assert snap_compare(desk(), terminal_size=size, run_before=_settle)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_an_empty_library(installation, snap_compare, size):
    assert snap_compare(desk(), terminal_size=size, run_before=_settle)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_keys(installation, snap_compare, size):
    assert snap_compare(desk(), terminal_size=size, run_before=lambda pilot: _settle(pilot, "question_mark"))


def test_the_question_before_a_render_is_stopped(full_library, snap_compare):
    assert snap_compare(desk(), terminal_size=(80, 24), run_before=lambda pilot: _settle(pilot, "x"))


def test_the_board_without_colour(full_library, snap_compare, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert snap_compare(desk(), terminal_size=(80, 24), run_before=_settle)
