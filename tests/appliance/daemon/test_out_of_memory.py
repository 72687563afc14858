"""A plan that runs out of memory is written down, a smaller one is tried once, and the queue goes on."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.daemon.attempt import RenderTake, StopFlag, Timeouts
from appliance.daemon.worker_process import WorkerProcess
from appliance.direction.shot import from_plain
from appliance.library.library import Library
from appliance.library.take import Status
from appliance.machine.device import Gpu
from appliance.machine.probe import probe
from appliance.planning.plan import Plan
from appliance.processes import owner

ROOT = Path(__file__).resolve().parents[3]
GIB = 2**30
CARD = Gpu(0, "GPU-0", "NVIDIA GeForce RTX 3060", (8, 6), 12 * GIB, 11 * GIB)


def shot(action):
    format = {"width": 224, "height": 128}
    return from_plain(
        {"scene": "12", "setup": "C", "seed": 5, "time": {"duration_s": 2.0}, "format": format,
         "text": {"action": action}}
    )  # fmt: skip


@pytest.fixture
def library(tmp_path):
    with Library.open(tmp_path / "library.db") as library:
        yield library


@pytest.fixture
def attempt(library, tmp_path):
    """Claims the take that waits and renders it, on a machine with a GPU, by a small worker; the plan it was given."""
    with_gpu = replace(probe(), cores=2, gpus=(CARD,), torch="2.13.0", no_gpu=None, ram_free_bytes=8 * GIB)
    command = [sys.executable, "-P", str(ROOT / "tests" / "appliance" / "small_worker.py")]

    def attempt():
        take = library.claim(owner(), 60)
        rendering = RenderTake(library, take, Timeouts(), StopFlag())
        assert rendering.plan(with_gpu)
        worker = WorkerProcess(command, tmp_path / "worker.log")
        try:
            rendering.with_worker(worker)
        finally:
            worker.end()
        assert rendering.worker_is_spent == (library.take(take.id).status is not Status.DELIVERED)
        return Plan.from_json(library.take(take.id).plan_json)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        yield attempt


def test_the_next_smaller_plan_is_tried_and_the_miss_is_shown(library, attempt):
    take = library.queue(shot("memory once"))
    first = attempt()
    missed = library.take(take.id)
    assert (missed.status, missed.attempt) == (Status.QUEUED, 0)  # the plan was wrong, not the take
    assert (missed.missed_place, missed.missed_bytes) == (first.device, first.memory_bytes) and first.device == "cuda:0"
    second = attempt()
    done = library.take(take.id)
    assert done.status is Status.DELIVERED and second.device == "cpu"
    assert (done.predicted_bytes, done.peak_bytes, done.missed_place) == (second.memory_bytes, 7, "cuda:0")
    history = [(event.kind, event.text) for event in library.events(take.id)]
    assert any(kind == "miss" and text.startswith("cuda:0 ran out of memory where") for kind, text in history)
    assert any(kind == "queued" and text.endswith("the next smaller plan is tried") for kind, text in history)

    from tui.wording.take_lines import details

    said = dict(details(done, now=done.ended_at))
    assert said["out of memory"].startswith("cuda:0 ran out of memory where") and "predicted" in said["memory"]


def test_a_second_miss_is_the_end_and_says_so_in_a_sentence(library, attempt):
    take = library.queue(shot("memory"))
    attempt()
    attempt()
    ended = library.take(take.id)
    assert ended.status is Status.FAILED and "\n" not in ended.error
    assert ended.error.startswith("cpu ran out of memory where") and "after a larger plan had too" in ended.error
    assert [event.kind for event in library.events(take.id)].count("miss") == 2


# The worker as it is, in a process that may grow by 512 MiB once torch is loaded and has its threads: a film of this
# size takes three times as much.
LIMITED = """
import resource
import torch
from appliance.machine.cgroups import cores
torch.set_num_threads(cores())
torch.ones(512, 512) @ torch.ones(512, 512)
import appliance.worker.film, appliance.worker.take
from appliance.worker.__main__ import main
[grown] = [int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmSize")]
limit = grown + 512 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
main()
"""
SERVE = """
import sys
from appliance.daemon.attempt import Timeouts
from appliance.daemon.serve import serve
serve(until_idle=True, worker_command=[sys.executable, "-P", "-c", sys.argv[1]], timeouts=Timeouts(leave_s=0.2))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are Linux's here")
def test_a_real_worker_under_a_real_limit_of_memory(library, tmp_path):
    """The real daemon and worker with the shipped weights; the CPU has no smaller plan, and the take says so."""
    take = library.queue(replace(shot("walk"), format=replace(shot("walk").format, width=640, height=352)))
    environment = {**os.environ, "RUSHES_HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SERVE, LIMITED], env=environment, timeout=240, stderr=subprocess.PIPE, text=True
    )
    assert done.returncode == 0, done.stderr
    missed = library.take(take.id)
    assert missed.status is Status.FAILED and missed.missed_place == "cpu", (
        missed.error, (tmp_path / "daemon.log").read_text()
    )  # fmt: skip
    assert missed.missed_bytes > GIB // 2 and "\n" not in missed.error
    assert missed.error.startswith("it ran out of memory on cpu, and nothing smaller fits: it needs")
    assert "smaller: format.width" in missed.error  # and what would help
    assert [event.kind for event in library.events(missed.id)].count("miss") == 1
    assert not list(tmp_path.rglob("*.part"))
