"""The board, driven by keys against a real library."""

import pytest

from appliance.library.library import Library
from appliance.library.take import Status
from appliance.shooting.take_words import state_words
from appliance.text_width import cells
from tui.app import Desk
from tui.screens.board import Board
from tui.screens.dialogs import Confirm, Page
from tui.widgets.take_list import TakeList
from tui.wording.take_lines import STYLES

NOON = 1_800_000_000.0


@pytest.fixture
def desk():
    """The desk with a fixed clock."""
    return Desk(clock=lambda: NOON)


async def until(pilot, condition):
    """Wait for what another thread does, at most ten seconds."""
    for _ in range(500):
        await pilot.pause(0.02)
        if condition():
            return
    raise AssertionError("it did not happen within ten seconds")


def takes_on(desk):
    return [take.slate for take in desk.screen.query_one(TakeList)._takes]


def lines_of(desk):
    """What the screen shows, as text."""
    return ["".join(segment.text for segment in line) for line in desk.screen._compositor.render_strips()]


async def opened(desk, pilot):
    await until(pilot, lambda: isinstance(desk.screen, Board) and desk.screen._snapshot is not None)


async def test_rendering_first_then_waiting_then_what_ended_last(full_library, desk):
    async with desk.run_test(size=(80, 24)) as pilot:
        await opened(desk, pilot)
        assert takes_on(desk)[:3] == ["12C T1", "12C T2", "14A T1"]
        assert sorted(takes_on(desk)[3:]) == ["11D T1", "12B T1", "12B T2", "7F T1"]


async def test_a_commit_of_another_process_shows_at_once(full_library, desk):
    async with desk.run_test(size=(80, 24)) as pilot:
        await opened(desk, pilot)
        with Library.open() as library:
            library.request_cancel(library.take("14A").id)
        await until(pilot, lambda: takes_on(desk)[:2] == ["12C T1", "12C T2"] and "14A T1" in takes_on(desk)[2:])


async def test_cancelling_a_waiting_take_takes_one_key(full_library, desk):
    async with desk.run_test(size=(80, 24)) as pilot:
        await opened(desk, pilot)
        await pilot.press("j", "x")
        await until(pilot, lambda: Library.open().take("12C T2").status is Status.CANCELLED)


async def test_cancelling_a_rendering_take_asks_first(full_library, desk):
    async with desk.run_test(size=(80, 24)) as pilot:
        await opened(desk, pilot)
        await pilot.press("x")
        await until(pilot, lambda: isinstance(desk.screen, Confirm))
        await pilot.press("enter")  # focus is on the answer that changes nothing
        await until(pilot, lambda: isinstance(desk.screen, Board))
        assert not Library.open().take("12C T1").cancel_requested
        await pilot.press("x")
        await until(pilot, lambda: isinstance(desk.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: Library.open().take("12C T1").cancel_requested)


async def test_search_narrows_and_escape_shows_all(full_library, desk):
    async with desk.run_test(size=(80, 24)) as pilot:
        await opened(desk, pilot)
        await pilot.press("slash", *"gate")
        await until(pilot, lambda: takes_on(desk) == ["12C T1", "12C T2", "14A T1", "12B T1"])
        await pilot.press("escape")
        await until(pilot, lambda: len(takes_on(desk)) == 7)


async def test_letters_in_the_search_box_are_text_not_keys(full_library, desk):
    async with desk.run_test(size=(80, 24)) as pilot:
        await opened(desk, pilot)
        await pilot.press("slash", "x", "q", "n")
        await pilot.pause(0.2)
        assert isinstance(desk.screen, Board)
        assert Library.open().take("12C T1").cancel_requested is False


async def test_enter_shows_a_take_in_full_and_why_it_failed(full_library, desk):
    async with desk.run_test(size=(80, 24)) as pilot:
        await opened(desk, pilot)
        row = takes_on(desk).index("11D T1")
        await pilot.press(*"j" * row, "enter")
        await until(pilot, lambda: isinstance(desk.screen, Page))
        shown = dict(desk.screen._rows)
        assert "ran out of memory" in shown["error"]
        assert 'scene = "11"' in shown["direction"]
        await pilot.press("q")
        await until(pilot, lambda: isinstance(desk.screen, Board))


async def test_the_cursor_stays_on_its_take_when_rows_are_added_above(full_library, desk):
    async with desk.run_test(size=(80, 24)) as pilot:
        await opened(desk, pilot)
        await pilot.press("G")
        rows = desk.screen.query_one(TakeList)
        chosen = rows.current.slate
        with Library.open() as library:
            library.request_cancel(library.take("14A").id)
        await until(pilot, lambda: "14A T1" in takes_on(desk)[2:])
        assert rows.current.slate == chosen


async def test_an_empty_library_says_what_to_press(installation, desk):
    async with desk.run_test(size=(80, 24)) as pilot:
        await opened(desk, pilot)
        line = desk.screen.query_one(TakeList).render_line(1).text
        assert "Press n" in line
        await pilot.press("enter", "x", "r", "j", "G")  # nothing to act on, and nothing breaks
        assert isinstance(desk.screen, Board)


async def test_a_library_that_cannot_be_read_is_a_notice_and_no_crash(installation, desk):
    installation.mkdir(parents=True)
    (installation / "library.db").write_bytes(b"this is no database" * 100)
    async with desk.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: len(desk._notifications) > 0)
        shown = next(iter(desk._notifications)).message
        assert "library.db" in shown and "\n" not in shown


async def test_help_lists_the_keys_of_the_bindings(installation, desk):
    async with desk.run_test(size=(80, 24)) as pilot:
        await opened(desk, pilot)
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(desk.screen, Page))
        keys = " ".join(name for name, _ in desk.screen._rows).split()
        assert {"n", "x", "r", "/", "q", "enter"} <= set(keys)


async def test_q_quits_and_the_render_goes_on(full_library, desk):
    async with desk.run_test(size=(80, 24)) as pilot:
        await opened(desk, pilot)
        await pilot.press("q")
    assert Library.open().take("12C T1").status is Status.RENDERING


def test_the_word_of_a_state_finds_the_takes_in_it(full_library):
    with Library.open() as library:
        takes = library.board()
        assert {take.status for take in takes} == set(Status) == set(STYLES)
        for take in takes:
            word = state_words(take, NOON).casefold().split()[0]
            assert take.id in [found.id for found in library.takes(words=[word])], "a search matches the stored status"


@pytest.mark.parametrize("size", [(40, 12), (60, 18), (80, 24), (100, 30), (120, 40), (200, 60)])
async def test_every_size_shows_the_bar_the_keys_and_the_cursor(full_library, desk, size):
    with Library.open() as library:
        library.rows("UPDATE takes SET action = ? WHERE status = 'rendering'", "雨夜 a long action " * 20)
    async with desk.run_test(size=size) as pilot:
        await opened(desk, pilot)
        await until(pilot, lambda: "Details" in lines_of(desk)[-1])
        lines = lines_of(desk)
        assert all(cells(line) <= size[0] for line in lines)
        assert "RUSHES" in lines[0]
        assert any("━" in line and "left" in line for line in lines)
        assert "Quit" in lines[-1] or size[0] < 60
        assert any(line.startswith("> 12C T1") for line in lines)
