"""The folders of saved steps: handed from attempt to attempt by their fence, and gone with their take."""

import subprocess
import sys

import pytest

from appliance.daemon import checkpoints
from appliance.direction.shot import from_plain
from appliance.library.library import Library
from appliance.library.take import Status
from appliance.processes import owner


@pytest.fixture
def library(tmp_path):
    with Library.open(tmp_path / "library.db") as library:
        yield library


def claimed(library):
    take = library.claim(owner(), 60)
    return take, checkpoints.take_over(library, take)


def folders(library):
    return {folder.name for folder in (library.path.parent / "checkpoints").iterdir()}


def test_an_attempt_takes_over_what_the_last_one_saved_and_leaves_it_nowhere_to_write(library):
    library.queue(from_plain({"scene": "12", "setup": "C"}))
    take, first = claimed(library)
    assert first.name == f"{take.id}.1" and not list(first.iterdir())
    (first / "step-3.safetensors").write_bytes(b"saved")
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    (first / f".step-4.safetensors.{gone.stdout.strip()}.part").write_bytes(b"half")
    library.release(take, "it crashed")
    again, second = claimed(library)
    assert (again.id, second.name) == (take.id, f"{take.id}.3")
    assert {path.name: path.read_bytes() for path in second.iterdir()} == {"step-3.safetensors": b"saved"}
    with pytest.raises(FileNotFoundError):
        (first / "step-4.safetensors").write_bytes(b"late")


def test_an_older_attempt_cannot_take_over_from_a_younger(library):
    library.queue(from_plain({"scene": "12", "setup": "C"}))
    old, _ = claimed(library)
    library.release(old, "it crashed")
    _, mine = claimed(library)
    (mine / "step-5.safetensors").write_bytes(b"mine")
    checkpoints.take_over(library, old)
    assert (mine / "step-5.safetensors").read_bytes() == b"mine"


@pytest.mark.parametrize("status", [Status.DELIVERED, Status.FAILED, Status.CANCELLED])
def test_what_a_take_saved_goes_when_it_ends_and_no_sooner(library, status):
    for setup in "AB":
        library.queue(from_plain({"scene": "12", "setup": setup}))
    ends, _ = claimed(library)
    library.release(ends, "the daemon was stopped", blameless=True)
    checkpoints.sweep(library)
    assert folders(library) == {f"{ends.id}.1"}  # it waits in the queue
    ends, _ = claimed(library)
    other, _ = claimed(library)
    checkpoints.sweep(library)
    assert folders(library) == {f"{ends.id}.3", f"{other.id}.1"}
    library.change(ends, status)
    (library.path.parent / "checkpoints" / "999.1").mkdir()  # of a take that the library does not know
    checkpoints.sweep(library)
    assert folders(library) == {f"{other.id}.1"}


def test_an_installation_that_never_rendered_has_nothing_to_sweep(library):
    checkpoints.sweep(library)
    assert not (library.path.parent / "checkpoints").exists()
