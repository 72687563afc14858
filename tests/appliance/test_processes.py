"""Children end with everything they started, and how they ended is said in words."""

import os
import signal
import subprocess
import sys
import time

import pytest

from appliance import processes as process

FAMILY = "import subprocess, sys, time; c = subprocess.Popen(['sleep', '60']); print(c.pid, flush=True); time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


def start(script):
    child = process.start_child([sys.executable, "-c", script], subprocess.DEVNULL)
    return child, child.stdout.readline()


def lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_the_end_of_a_child_is_the_end_of_what_it_started():
    child, said = start(FAMILY)
    grandchild = int(said)
    assert lives(grandchild)
    assert process.end(child, grace_s=0) == -signal.SIGKILL
    deadline = time.monotonic() + 2
    while lives(grandchild):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_whoever_does_not_leave_when_asked_is_ended_after_the_grace():
    child, _ = start(STUBBORN)
    began = time.monotonic()
    assert process.end(child, grace_s=0.3) == -signal.SIGKILL
    assert 0.3 <= time.monotonic() - began < 5
    polite, _ = start("import time; print('up', flush=True); time.sleep(60)")
    assert process.end(polite, grace_s=5) == -signal.SIGTERM


def test_an_end_can_be_asked_twice_and_after_the_fact():
    child, _ = start("print('up', flush=True)")
    deadline = time.monotonic() + 5
    while not process.exited(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert process.end(child, grace_s=1) == 0
    assert process.end(child, grace_s=1) == 0


@pytest.mark.parametrize(("status", "words"), [
    (3, "ended with exit code 3"), (-9, "killed (SIGKILL"), (-11, "crashed (SIGSEGV)"), (-15, "ended by SIGTERM"),
    (-64, "SIGRTMAX"), (-99, "signal 99"),
])  # fmt: skip
def test_an_exit_is_said_in_words(status, words):
    assert words in process.exit_words(status)


def test_a_child_finds_our_modules_first_and_nothing_in_the_folder_it_starts_in(tmp_path):
    (tmp_path / "appliance").mkdir()
    (tmp_path / "appliance" / "paths.py").write_text("raise SystemExit('not ours')")
    (tmp_path / "json.py").write_text("raise SystemExit('not ours')")
    command = process.module_command("appliance.paths")
    done = subprocess.run(command, cwd=tmp_path, env=process.environment(), capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_owner_names_this_run_of_this_machine():
    host, boot, pid = process.owner().split()
    assert host and boot == process.boot_id() and int(pid) == os.getpid()
