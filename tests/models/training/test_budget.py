"""A training in three calls, each a process with its own working folder: only the carried folder is shared."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from models.card import TINY
from models.training import __main__ as command
from models.training import autoencoder
from models.training import budget as calls
from models.training import run as state
from models.training.shots import scenes
from models.training.shots import shoot as footage
from models.weight_files.tensors import open_package

SIZES = {"HEIGHT": 96, "WIDTH": 112, "SHORT": 9, "LONG": 9}
SHOTS = 2  # of a call

# The command, at the size of the footage that is there.
SMALL = f"""
from models.training import autoencoder, detail
from models.training.shots import shoot
for name, value in {SIZES}.items():
    setattr(shoot, name, value)
autoencoder.BATCH = detail.PAIRS = 1
from models.training.__main__ import main
main()
"""


def test_three_calls_of_nine_minutes_are_well_spent():
    shares = calls.budgets(3, 9)
    assert shares == pytest.approx(
        {"autoencoder": 5.94, "transformer": 13.78, "decoder": 2.38, "detail": 1.66}, abs=0.01
    )
    before_training, package = 3 * 9 * calls.START, 9 * calls.FINISH
    assert sum(shares.values()) + before_training + package == pytest.approx(27)
    assert shares["autoencoder"] < 9 * (1 - calls.START)  # done in the first
    seeds = [range(calls.first_seed(n), calls.first_seed(n + 1)) for n in range(3)]
    assert seeds[0][0] == scenes.TEST_SEEDS and seeds[0][-1] < seeds[1][0] and seeds[1][-1] < seeds[2][0]


def run_of(path: Path, minutes: float, *, done: bool) -> None:
    run = state.Run(path, torch.nn.Linear(2, 2), minutes=minutes if done else 1e9, lr=1e-3)
    run.seconds = 60 * minutes
    run.save()


def test_the_last_call_divides_its_time_among_what_is_left(tmp_path):
    runs = {name: tmp_path / name for name in calls.SHARES}
    run_of(runs["autoencoder"], 6.0, done=True)
    run_of(runs["transformer"], 9.0, done=False)
    budgets = {"autoencoder": 6.0, "transformer": 15.0, "decoder": 2.0, "detail": 1.0}
    now = time.monotonic()
    early = calls.Call(runs, budgets, now + 9 * 60, 1.0, last=False)
    assert {part: early.minutes(part) for part in runs} == budgets and not early.finished and not early.cut_off
    last = calls.Call(runs, budgets, now + (1.0 + 4.5) * 60, 1.0, last=True)  # half of what is left to do
    found = {part: last.minutes(part) for part in runs}
    assert found == pytest.approx({"autoencoder": 0.0, "transformer": 9 + 3, "decoder": 1.0, "detail": 0.5}, abs=0.02)
    late = calls.Call(runs, budgets, now, 1.0, last=True)
    assert 9 < late.minutes("transformer") < 9.001 and 0 < late.minutes("decoder") < 0.001  # a step at least
    assert not late.cut_off and not late.finished  # it goes on to the package
    run_of(runs["transformer"], 12.0, done=True)
    run_of(runs["decoder"], 1.0, done=True)
    assert not late.finished
    run_of(runs["detail"], 0.5, done=True)
    assert late.finished and not calls.Call(runs, budgets, now, 1.0, last=False).finished
    assert calls.Call(runs, budgets, now, 1.0, last=False).cut_off


@pytest.fixture(scope="module")
def shot():
    """One small shot, used for all: what a call learns is not tested here."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SIZES.items():
            patch.setattr(footage, name, value)
        yield footage.shoot(scenes.TEST_SEEDS)


@pytest.fixture(scope="module")
def three(shot, python, tmp_path_factory):
    """What lay in the carried folder after each of three calls, and the folder of the package."""
    top = tmp_path_factory.mktemp("calls")
    after = []
    for number in range(3):
        work = top / f"work{number}"
        (work / "footage").mkdir(parents=True)
        seeds = range(calls.first_seed(number), calls.first_seed(number) + SHOTS)
        for seed in seeds:  # what the call is to render is there: that it asks for no other is seen below
            save_file(shot, work / "footage" / f"{seed:07d}.safetensors")
        done = python("-c", SMALL, *arguments(top, work), OMP_NUM_THREADS="1")
        assert done.returncode == 0, done.stderr
        assert [int(p.stem) for p in sorted((work / "footage").iterdir())] == list(seeds)
        files = {path.name: path.stat().st_size for path in (top / "carry").iterdir()}
        after.append((files, json.loads((top / "carry" / "manifest.json").read_text()), progress(top, number)))
        assert (top / "out" / "small.safetensors").exists() == (number == 2)
    return after, top


def arguments(top: Path, work: Path) -> list[str]:
    return [
        "--work", str(work), "--carry", str(top / "carry"), "--call-minutes", "0.1", "--card", "tiny",
        "--vae-minutes", "0.0001", "--minutes", "9",  # a step; more than all calls
        "--shots", str(SHOTS), "--renderers", "1", "--threads", "1", "--check-shots", "1",
        "--out", str(top / "out" / "small.safetensors"),
    ]  # fmt: skip


def progress(top: Path, number: int) -> dict[str, dict]:
    """The facts of all runs, from the folder of a call that is over."""
    return {name: calls.facts_of(top / f"work{number}" / f"{name}.safetensors") for name in calls.SHARES}


def test_each_call_resumes_with_its_own_seeds(three):
    after, top = three
    before: dict[str, dict] = {name: {"step": 0, "history": []} for name in calls.SHARES}
    for number, (files, manifest, runs) in enumerate(after):
        assert len(files) <= 8 and max(files.values()) < 16 * 2**20 and sum(files.values()) < 64 * 2**20
        assert [call["first_seed"] for call in manifest["calls"]] == [calls.first_seed(n) for n in range(number + 1)]
        assert all(call["shots"] == SHOTS for call in manifest["calls"])
        for name, run in runs.items():  # the curve spans all calls
            assert run["step"] >= before[name]["step"]
            assert run["history"][: len(before[name]["history"])] == before[name]["history"]
        before = runs
    assert all(run["done"] for run in before.values())
    assert after[0][2]["autoencoder"]["done"] and after[1][2]["decoder"]["step"] == 0
    assert after[2][2]["transformer"]["step"] > after[1][2]["transformer"]["step"]
    found = [state.read(top / f"work{number}" / "autoencoder.safetensors")[0] for number in range(3)]
    for one, next_one, (_, _, runs) in zip(found, found[1:], after, strict=False):
        for name in ("mean", "std"):  # what the latents are measured by is measured once
            assert torch.equal(one[name], next_one[name]) or not runs["transformer"]["step"]
    assert not (found[2]["std"] == 1).any()


def test_the_last_call_ends_with_a_package_that_records_its_training(three):
    after, top = three
    opened = open_package(top / "out" / "small.safetensors")
    training = json.loads(opened.metadata["training"])
    assert opened.card == TINY and training["shots"] == 3 * SHOTS
    assert {name: run["steps"] for name, run in training["runs"].items()} == {
        name: facts["step"] for name, facts in after[-1][2].items()
    }
    said = (top / "out" / "TRAINING.md").read_text()
    assert "in 3 calls of the command" in said and "seeds from 10000, 110000 and 210000 on" in said


def test_the_carried_folder_alone_makes_the_package_again(three, shot, tmp_path, monkeypatch):
    _, top = three
    before = open_package(top / "out" / "small.safetensors")
    monkeypatch.setattr(
        sys, "argv", ["training", *arguments(top, tmp_path / "work"), "--out", str(tmp_path / "a.safetensors")]
    )
    monkeypatch.setattr(autoencoder, "BATCH", 0)  # nothing is trained
    threads = torch.get_num_threads()
    command.main()
    torch.set_num_threads(threads)
    again = open_package(tmp_path / "a.safetensors")
    old, new = (json.loads(package.metadata["training"]) for package in (before, again))
    assert new == old and not (tmp_path / "work" / "footage").exists()
    for name, tensor in before.part("vae.").items():
        torch.testing.assert_close(again.part("vae.")[name], tensor, rtol=0, atol=0)
    exact = before.part("transformer.")
    for name, tensor in again.part("transformer.").items():
        gap = np.abs(tensor.float().numpy() - exact[name].float().numpy()).max()
        assert gap <= (1 if tensor.dtype == torch.int8 else 0.01 * exact[name].abs().max().item() + 1e-6), name


def test_minutes_that_make_no_sense_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["training", "--work", str(tmp_path), "--call-minutes", "0"])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2 and "both must be above 0" in capsys.readouterr().err
