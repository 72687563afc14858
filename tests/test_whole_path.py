"""One small shot all the way with the shipped model: from a file, by the command line, to a film."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from appliance.daemon.instance import daemon_pid
from appliance.delivery.media.verify import probe_video
from appliance.library.library import Library

ROOT = Path(__file__).resolve().parents[1]
SHOT = """
scene = "12"
setup = "C"
seed = 7
quality = "draft"
[time]
duration_s = 0.5
[format]
width = 96
height = 64
[[subjects]]
id = "mara"
"""


@pytest.fixture(scope="module")
def installation(tmp_path_factory):
    """An installation with one shot file; its daemon stays between the tests and ends with them."""
    folder = tmp_path_factory.mktemp("installation")
    (folder / "shot.toml").write_text(SHOT)
    yield folder
    lock = folder / "home" / "daemon.lock"
    if pid := daemon_pid(lock):
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 20
        while daemon_pid(lock) and time.monotonic() < deadline:
            time.sleep(0.05)


def start(installation: Path, *arguments: str) -> subprocess.Popen:
    environment = {
        **os.environ,
        "RUSHES_HOME": str(installation / "home"),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "appliance", *arguments],
        cwd=installation, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip


def rushes(installation: Path, *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    run = start(installation, *arguments)
    out, err = run.communicate(timeout=300)
    return run.returncode, out, err


def until_status(installation: Path, take: str, status: str) -> dict:
    """The take as the command line shows it, once it has that status; at most two minutes."""
    deadline = time.monotonic() + 120
    with Library.open(installation / "home" / "library.db") as library:
        while library.take(take).status != status and time.monotonic() < deadline:
            time.sleep(0.02)
    found = json.loads(rushes(installation, "take", take, "--json")[1])
    assert found["status"] == status
    return found


@pytest.fixture(scope="module")
def first(installation):
    """The first take of the shot as `rushes shoot --json` tells of it, and what was said meanwhile."""
    code, out, err = rushes(installation, "shoot", "shot.toml", "--json")
    assert code == 0, err
    (take,) = json.loads(out)
    return take, err


def test_a_shot_becomes_a_film_with_all_that_belongs_to_it(first):
    take, _ = first
    assert (take["slate"], take["status"], take["seed"], take["error"]) == ("12C T1", "delivered", 7, None)
    assert set(take["files"]) == {"film", "filmstrip", "thumbnail", "sidecar"}
    assert all(Path(path).stat().st_size > 100 for path in take["files"].values())
    film = probe_video(Path(take["files"]["film"]))
    assert (film.frames, film.width, film.height) == (9, 96, 64)
    assert take["plan"]["frames"] == 9


def test_progress_went_to_stderr_as_plain_lines(first):
    _, err = first
    lines = err.splitlines()
    assert lines[-1].startswith("12C T1  delivered in ")
    # Whoever follows looks ten times a second, so any one phase of a take of a second may pass unseen.
    phases = [line.removeprefix("12C T1  ").split()[0] for line in lines[:-1]]
    before = ["waiting", "planning", "starting", "blocking"]
    rendered = ["loading", "conditioning", "rendering", "developing", "measuring", "delivering"]
    assert phases == sorted(phases, key=[*before, *rendered].index)
    assert {*rendered} & {*phases}
    assert "\x1b" not in err


def test_the_same_seed_is_the_same_film_and_another_is_not(installation, first):
    code, out, err = rushes(installation, "retake", "12C-T1", "--seed", "7", "--json")
    assert code == 0, err
    (same,) = json.loads(out)
    assert (same["slate"], same["prev_take"]) == ("12C T2", first[0]["id"])
    code, out, err = rushes(installation, "retake", "12C-T1", "--json")
    assert code == 0, err
    (other,) = json.loads(out)
    hashes = [probe_video(Path(take["files"]["film"])).frames_sha256 for take in (first[0], same, other)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_detach_returns_at_once_and_the_daemon_renders_on(installation, first):
    code, out, _ = rushes(installation, "shoot", "shot.toml", "--detach")
    assert code == 0 and "queued as #" in out
    take = until_status(installation, out.split("  ")[0].replace(" ", "-"), "delivered")
    assert Path(take["files"]["filmstrip"]).is_file()  # made by whoever renders, not by whoever looks on


def test_ctrl_c_cancels_what_it_follows(installation, first):
    (installation / "long.toml").write_text(SHOT.replace("0.5", "4").replace('"C"', '"D"').replace("draft", "print"))
    run = start(installation, "shoot", "long.toml")
    while "rendering" not in run.stdout.readline():
        assert run.poll() is None, run.stderr.read()
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "cancelling 12D T1" in out and err == "rushes: interrupted\n"
    assert until_status(installation, "12D-T1", "cancelled")["files"] == {}
    assert not list((installation / "home" / "takes").rglob(".*.part")), "something half-written was left"
