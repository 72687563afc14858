"""A disk that really fills up in the middle of a render: a small tmpfs in a mount namespace of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
UNSHARE = ["unshare", "--user", "--map-root-user", "--mount"]

FILL = """
import errno, os, subprocess, sys, time
from pathlib import Path
from appliance.direction.shot import from_plain
from appliance.library.library import Library
from appliance.library.connection import LibraryFull
from appliance.library.take import Status

home, go, worker = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m", "none", str(home)], check=True)

def wait(what):
    deadline = time.monotonic() + 30
    while not (seen := what()):
        assert time.monotonic() < deadline, library.events()
        time.sleep(0.02)
    return seen

serve = (
    "from appliance.daemon.attempt import Timeouts; from appliance.daemon.serve import serve; import sys;"
    "serve(worker_command=[sys.executable, '-P', sys.argv[1]],"
    " timeouts=Timeouts(poll_s=0.05, beat_s=0.2, disk_floor_bytes=2**20))"
)
with Library.open(home / "library.db") as library:
    shot = {"scene": "1", "setup": "A", "time": {"duration_s": 0.5}, "format": {"width": 64, "height": 64}}
    take = library.queue(from_plain({**shot, "text": {"action": "wait"}}))
    daemon = subprocess.Popen([sys.executable, "-c", serve, worker], env={**os.environ, "RUSHES_HOME": str(home)})
    try:
        wait(lambda: library.take(take.id).step > 0)
        with open(home / "ballast", "wb", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(bytes(65536))
            except OSError as error:
                assert error.errno == errno.ENOSPC
        acknowledged = 1
        try:
            while acknowledged < 500:
                library.queue(from_plain({**shot, "setup": "B"}))
                acknowledged += 1
        except LibraryFull as error:
            print(error)
        go.touch()
        time.sleep(1.5)
        assert daemon.poll() is None
        assert not library.take(take.id).ended
        assert len(library.takes(limit=1000)) == acknowledged
        assert library.faults() == []
        assert not list(home.rglob("*.mp4"))
        (home / "ballast").unlink()
        done = wait(lambda: (now := library.take(take.id)).ended and now)
        assert (done.status, done.attempt) == (Status.DELIVERED, 1), done
        assert len(library.takes(limit=1000)) == acknowledged < 500
    finally:
        daemon.terminate()
        assert daemon.wait(20) == 0
"""


def namespaces_are_allowed():
    return (
        shutil.which("unshare") is not None and not subprocess.run([*UNSHARE, "true"], capture_output=True).returncode
    )


@pytest.mark.skipif(not namespaces_are_allowed(), reason="needs unshare(1) and user namespaces to mount a small disk")
def test_a_disk_that_fills_up_costs_time_and_nothing_else(tmp_path):
    home = tmp_path / "installation"
    home.mkdir()
    worker = ROOT / "tests" / "appliance" / "small_worker.py"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SMALL_WORKER_GO": str(tmp_path / "go")}
    done = subprocess.run(
        [*UNSHARE, sys.executable, "-c", FILL, str(home), str(tmp_path / "go"), str(worker)],
        capture_output=True, text=True, timeout=120, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the disk is full, the library" in done.stdout or "the disk refused" in done.stdout
    assert "Traceback" not in done.stderr
