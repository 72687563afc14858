"""Choosing a shot: the list, its quote, and the queue; nothing is queued that cannot be shot."""

import shutil
from dataclasses import replace

import pytest

from appliance.daemon.instance import only_daemon
from appliance.library.library import Library
from appliance.shooting.quote import EXAMPLES
from models.card import WAN_14B
from tui.app import Desk
from tui.screens.board import Board
from tui.screens.new_take import Start, offers


async def until(pilot, condition):
    for _ in range(500):
        await pilot.pause(0.02)
        if condition():
            return
    raise AssertionError("it did not happen within ten seconds")


@pytest.fixture
def desk():
    return Desk()


def quote_of(desk):
    return str(desk.screen.query_one("#quote").render())


async def open_start(desk, pilot):
    await until(pilot, lambda: isinstance(desk.screen, Board))
    await pilot.press("n")
    await until(pilot, lambda: isinstance(desk.screen, Start))


def test_offers_are_the_shots_of_this_folder_and_the_examples(tmp_path):
    shutil.copy(EXAMPLES / "mara_crosses.toml", tmp_path / "mine.toml")
    (tmp_path / "pyproject.toml").write_text("")
    names = [name for name, _ in offers(tmp_path)]
    assert names[0] == "./mine.toml"
    assert "example  mara_crosses" in names
    assert not any("pyproject" in name for name in names)


async def test_the_first_offer_is_quoted_at_once(installation, desk):
    async with desk.run_test(size=(100, 40)) as pilot:
        await open_start(desk, pilot)
        await until(pilot, lambda: "frames of 224x128" in quote_of(desk))


async def test_a_shot_with_an_error_shows_it_and_is_not_queued(installation, desk, tmp_path):
    bad = tmp_path / "bad.toml"
    bad.write_text('scene = "1"\n[[moves]]\ntype = "pan"\namount_deg = 4000\n')
    async with desk.run_test(size=(100, 40)) as pilot:
        await open_start(desk, pilot)
        desk.screen.query_one("#path").value = str(bad)
        await until(pilot, lambda: "4000" in quote_of(desk))
        await pilot.press("tab", "enter")
        await pilot.pause(0.2)
        assert isinstance(desk.screen, Start)
        assert Library.open().takes() == []
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(desk.screen, Board))


async def test_missing_weights_are_a_notice_and_nothing_is_queued(installation, desk, monkeypatch, tmp_path):
    monkeypatch.setenv("RUSHES_WEIGHTS", str(tmp_path / "none.safetensors"))
    async with desk.run_test(size=(100, 40)) as pilot:
        await open_start(desk, pilot)
        await until(pilot, lambda: "frames of 224x128" in quote_of(desk))
        await pilot.press("enter")
        await until(pilot, lambda: len(desk._notifications) > 0)
        assert "none.safetensors" in next(iter(desk._notifications)).message
        assert Library.open().takes() == []


async def test_an_imported_model_is_chosen_and_the_take_is_shot_with_it(installation, desk, empty_package):
    card = replace(WAN_14B, name="wan2.1-t2v-14b-64x2", dim=64, ffn=128, heads=2, layers=2, text_dim=64, steps=4)
    empty_package(installation / "models" / "ours.safetensors", card)
    with only_daemon():  # this process is the daemon: none is started, and the take stays queued
        async with desk.run_test(size=(100, 40)) as pilot:
            await open_start(desk, pilot)
            model = desk.screen.query_one("#model")
            await until(pilot, lambda: model.display)
            assert "as the shot states   F4 switches to the next of 2" in str(model.render())
            await pilot.press("f4", "f4")
            await until(pilot, lambda: f"{card.name}, 4 steps" in quote_of(desk))
            assert "ours" in str(model.render())
            await pilot.press("enter")
            await until(pilot, lambda: [take.model for take in Library.open().takes()] == ["ours"])


async def test_the_model_line_is_not_there_without_a_choice(installation, desk):
    async with desk.run_test(size=(100, 40)) as pilot:
        await open_start(desk, pilot)
        await until(pilot, lambda: "frames of 224x128" in quote_of(desk))
        await pilot.press("f4")
        await pilot.pause(0.1)
        assert not desk.screen.query_one("#model").display and "previs" in quote_of(desk)
