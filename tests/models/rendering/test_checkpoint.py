"""Saved steps of a toy sampler: what is read back is exact, whole and of this render, or is skipped with a reason."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models.rendering.checkpoint import Checkpoints
from models.rendering.sampler import State, denoise, noise, schedule
from models.weight_files.safetensors_header import read_header

ROOT = Path(__file__).resolve().parents[3]
LEVELS = schedule("unipc", 6, 3.0)
START = State(0, 6, noise((1, 2, 1, 2, 3), seed=1))


def states(solver="unipc", start=START):
    """A sampler whose every step depends on all before it."""
    return list(denoise(lambda x, t: torch.sin(3 * x) + x.mean() * t / 1000, start.latent, LEVELS, solver, start))


def same(one: State, other: State) -> bool:
    tensors = [(one.latent, *one.history), (other.latent, *other.history)]
    return (one.index, one.of) == (other.index, other.of) and all(map(torch.equal, *tensors))


def saved(folder: Path, steps: int = 6, key: str = "k") -> Checkpoints:
    """A folder as a render leaves it that is interrupted after so many steps."""
    checkpoints = Checkpoints(folder, key)
    assert [checkpoints.save(state) for state in states()[:steps]] == [None] * steps
    return checkpoints


@pytest.mark.parametrize(("solver", "step"), [*(("unipc", step) for step in range(7)), ("euler", 3)])
def test_a_render_interrupted_anywhere_ends_in_the_same_bits(tmp_path, solver, step):
    unbroken = states(solver)
    before = Checkpoints(tmp_path, "k")
    for state in unbroken[:step]:
        assert before.save(state) is None
    resumed, skipped = Checkpoints(tmp_path, "k").newest(START)
    assert same(resumed, unbroken[step - 1] if step else START) and skipped == []
    assert all(map(same, states(solver, resumed), unbroken[step:]))


def test_two_generations_are_kept(tmp_path):
    for steps, names in ((1, {"step-1"}), (2, {"step-1", "step-2"}), (6, {"step-5", "step-6"})):
        saved(tmp_path, steps)
        assert {path.name for path in tmp_path.iterdir()} == {f"{name}.safetensors" for name in names}


def test_half_written_files_of_a_killed_render_are_removed(tmp_path):
    saved(tmp_path, 3)
    torn = tmp_path / ".step-4.safetensors.4711.part"
    torn.write_bytes((tmp_path / "step-3.safetensors").read_bytes()[:100])
    resumed, skipped = Checkpoints(tmp_path, "k").newest(START)
    assert resumed.index == 3 and skipped == [] and not torn.exists()


def test_a_file_says_what_it_is_and_any_reader_reads_it(tmp_path):
    from safetensors.torch import load_file

    saved(tmp_path, 5)
    path = tmp_path / "step-5.safetensors"
    facts = read_header(path).metadata
    assert {name: facts[name] for name in ("format", "key", "index", "of")} == {
        "format": "rushes.checkpoint/1", "key": "k", "index": "5", "of": "6",
    }  # fmt: skip
    read = load_file(path)
    assert read.keys() == {"latent", "history.0", "history.1", "history.2"}
    assert torch.equal(read["latent"], states()[4].latent)


@pytest.mark.parametrize("torn", [[5], [5, 4]])
def test_a_torn_file_costs_a_step_and_two_cost_all(tmp_path, torn):
    unbroken = states()
    whole = saved(tmp_path, 5)
    for index in torn:
        path = tmp_path / f"step-{index}.safetensors"
        os.truncate(path, path.stat().st_size - 7)
    resumed, skipped = whole.newest(START)
    assert same(resumed, unbroken[3] if len(torn) == 1 else START)
    assert [line.split(" is not used")[0] for line in skipped] == [f"saved step {index}" for index in torn]
    assert all("is cut off" in line and "\n" not in line for line in skipped)
    assert same([state for state in states(start=resumed) if whole.save(state) is None][-1], unbroken[-1])


def test_no_flipped_bit_is_believed(tmp_path):
    whole = saved(tmp_path, 5)
    path = tmp_path / "step-5.safetensors"
    data = path.read_bytes()
    for at in range(len(data)):
        spoilt = bytearray(data)
        spoilt[at] ^= 1 << at % 8
        path.write_bytes(spoilt)
        resumed, skipped = whole.newest(START)
        assert resumed.index == 4 and len(skipped) == 1, f"byte {at}"
    path.write_bytes(data)
    assert whole.newest(START)[0].index == 5


def test_steps_of_another_render_are_neither_used_nor_kept(tmp_path):
    saved(tmp_path, 6, "another key")
    mine = Checkpoints(tmp_path, "k")
    resumed, skipped = mine.newest(START)
    assert resumed is START and len(skipped) == 2 and "is of another render" in skipped[0]
    for steps, state in enumerate(states()[:3], 1):
        assert mine.save(state) is None
        assert mine.newest(START)[0].index == steps
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("start", [State(0, 7, START.latent), State(0, 6, START.latent[..., :2])], ids=["of", "size"])
def test_a_state_of_another_shape_is_not_used(tmp_path, start):
    resumed, skipped = saved(tmp_path, 5).newest(start)
    assert resumed is start and len(skipped) == 2


def test_a_step_under_anothers_name_is_not_used(tmp_path):
    whole = saved(tmp_path, 3)
    (tmp_path / "step-3.safetensors").rename(tmp_path / "step-5.safetensors")
    resumed, skipped = whole.newest(START)
    assert resumed.index == 2 and "saved step 5" in skipped[0]


def test_what_is_no_step_of_ours_is_left_alone(tmp_path):
    (tmp_path / "step-9.safetensors").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    whole = saved(tmp_path, 0)
    resumed, skipped = whole.newest(START)
    assert resumed is START and "is not a file" in skipped[0]
    whole.save(states()[0])
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_disk_that_refuses_is_told_once_and_tried_again(tmp_path):
    mine, walk = Checkpoints(tmp_path, "k"), states()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        trouble = [mine.save(state) for state in walk[:3]]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert trouble[0].startswith("cannot save progress; continuing without resume: cannot write")
    assert trouble[1:] == [None, None] and not list(tmp_path.iterdir())
    assert mine.save(walk[3]) is None and same(mine.newest(START)[0], walk[3])


def test_a_walk_whose_folder_was_taken_over_has_nowhere_to_write(tmp_path):
    (tmp_path / "31.1").mkdir()
    late = saved(tmp_path / "31.1", 3)
    (tmp_path / "31.1").rename(tmp_path / "31.3")
    assert "31.1" in late.save(states()[3])
    assert late.newest(START) == (START, [])
    assert [path.name for path in tmp_path.iterdir()] == ["31.3"]
    assert Checkpoints(tmp_path / "31.3", "k").newest(START)[0].index == 3


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from models.rendering.checkpoint import Checkpoints
from models.rendering.sampler import State, denoise, noise, schedule

folder, steps = Path(sys.argv[1]), 8
levels, start = schedule("unipc", steps, 3.0), State(0, steps, noise((1, 16, 9, 16, 28), 1))

def walk(state):
    return denoise(lambda x, t: torch.sin(3 * x) + x.mean() * t / 1000, state.latent, levels, resume=state)

unbroken = list(walk(start))
lives = repeated = told = 0
while told < steps:
    told_by, tell = os.pipe()
    child = os.fork()
    if not child:
        saved = Checkpoints(folder, "k")
        for state in walk(saved.newest(start)[0]):
            assert saved.save(state) is None
            os.write(tell, bytes([state.index]))
        os._exit(0)
    os.close(tell)
    first = os.read(told_by, 1)[0]
    os.kill(child, signal.SIGKILL)  # it is in the middle of its next step by now, or of saving it
    os.waitpid(child, 0)
    rest = os.read(told_by, steps)
    os.close(told_by)
    repeated += first <= told
    told = max([first, *rest])
    state, skipped = Checkpoints(folder, "k").newest(start)
    assert told <= state.index <= told + 1, (told, state.index)
    assert not skipped, skipped
    assert torch.equal(state.latent, unbroken[state.index - 1].latent)
    assert all(map(torch.equal, state.history, unbroken[state.index - 1].history))
    told, lives = state.index, lives + 1
print(lives, repeated, told)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks after torch is loaded")
def test_killed_in_every_step_no_step_is_made_twice_and_every_file_is_whole(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    lives, repeated, told = map(int, run.stdout.split())
    assert 3 <= lives <= 8 and (repeated, told) == (0, 8)
