"""The daemon with a small worker process that misbehaves on request: no take is lost, no fault stops the queue."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from appliance.daemon.instance import daemon_pid
from appliance.direction.shot import from_plain
from appliance.library.library import Library
from appliance.library.machines import machines
from appliance.library.take import Status

ROOT = Path(__file__).resolve().parents[3]
SERVE = """
import json, sys
from appliance.daemon.attempt import Timeouts
from appliance.daemon.instance import log
from appliance.daemon.serve import serve
from models.errors import RushesError
try:
    command, timeouts = [sys.executable, "-P", sys.argv[1]], Timeouts(**json.loads(sys.argv[2]))
    serve(until_idle=True, worker_command=command, timeouts=timeouts)
except RushesError as error:
    log(str(error))
    sys.exit(error.exit_code)
"""
QUICK = {"poll_s": 0.05, "beat_s": 0.2, "leave_s": 0.3, "cancel_s": 1.0}


class Installation:
    """A folder with a library, and the daemons that serve it."""

    def __init__(self, home):
        self.home = home
        self.library = Library.open(home / "library.db")
        self.daemons = []

    def queue(self, action):
        format = {"width": 64, "height": 64}
        return self.library.queue(
            from_plain(
                {"scene": "12", "setup": "C", "time": {"duration_s": 0.5}, "format": format, "text": {"action": action}}
            )
        )

    def serve(self, environment=None, **timeouts):
        worker = str(ROOT / "tests" / "appliance" / "small_worker.py")
        with open(self.home / "served.log", "ab") as log:
            daemon = subprocess.Popen(
                [sys.executable, "-c", SERVE, worker, json.dumps(QUICK | timeouts)], stderr=log,
                env={**os.environ, "RUSHES_HOME": str(self.home), "PYTHONPATH": str(ROOT), **(environment or {})},
            )  # fmt: skip
        self.daemons.append(daemon)
        return daemon

    def wait(self, what, seconds=30.0):
        deadline = time.monotonic() + seconds
        while not (seen := what()):
            assert time.monotonic() < deadline, (self.home / "served.log").read_text()
            time.sleep(0.02)
        return seen

    def ended(self, take, seconds=30.0):
        return self.wait(lambda: (now := self.library.take(take.id)).ended and now, seconds)

    def worker_of(self, take):
        """The process that renders a take, as its worker noted."""
        notes = [event.text for event in self.library.events(take.id) if event.text.startswith("worker ")]
        return int(notes[-1].split()[1]) if notes else None

    def history(self, take):
        return " | ".join(event.text for event in self.library.events(take.id))


@pytest.fixture
def installation(tmp_path):
    installation = Installation(tmp_path)
    yield installation
    for daemon in installation.daemons:
        if daemon.poll() is None:
            daemon.kill()
        daemon.wait()
    installation.library.close()


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"


def test_takes_are_delivered_in_order_by_one_warm_worker(installation):
    takes = [installation.queue("walk"), installation.queue("turn")]
    daemon = installation.serve()
    assert daemon.wait(60) == 0  # it leaves when there is no more to do
    first, second = (installation.library.take(take.id) for take in takes)
    assert first.status is second.status is Status.DELIVERED
    assert first.ended_at <= second.started_at
    assert installation.worker_of(first) == installation.worker_of(second)
    assert gone(installation.worker_of(first))
    for take in (first, second):
        assert take.path == installation.home / "takes" / "12C" / f"12C-T{take.take_number}_{take.id}.mp4"
        assert take.sha256 == hashlib.sha256(take.path.read_bytes()).hexdigest()
        assert json.loads(take.path.with_suffix(".json").read_text())["film"]["sha256"] == take.sha256
        assert take.path.with_suffix(".png").exists()
        assert (take.seconds, take.peak_bytes, take.error) == (2.5, 7, None)
        assert json.loads(take.plan_json)["seed"] == take.seed
        assert take.predicted_seconds > 0
    assert not list(installation.home.rglob("*.part"))
    ((machine, facts, _),) = machines(installation.library)
    assert first.machine == second.machine == machine == "".join(os.uname().nodename.split())
    assert facts["cores"] >= 1 and facts["ram_total_bytes"] > 2**20 and isinstance(facts["gpus"], list)


def test_a_crash_costs_one_attempt_and_a_second_crash_the_take_but_never_the_queue(installation):
    once, ever, fine = installation.queue("crash once"), installation.queue("crash"), installation.queue("walk")
    installation.serve()
    assert installation.ended(fine, 60).status is Status.DELIVERED
    once, ever = installation.library.take(once.id), installation.library.take(ever.id)
    assert (once.status, once.attempt) == (Status.DELIVERED, 2)
    assert "crashed (SIGSEGV); it will be tried once more" in installation.history(once)
    assert (ever.status, ever.attempt) == (Status.FAILED, 2)
    assert "SIGSEGV" in ever.error and "\n" not in ever.error


FAILURES = {
    "fail": (1, "could not, for fail"),
    "disk": (1, "could not, for disk"),
    "memory": (1, "out of memory on cpu, and nothing smaller fits"),
    "babble": (2, "the worker sent something that is no report: not a JSON report: Loading checkpoint shards: 100%"),
    "hang": (2, "the worker stopped responding (silent for 2 s)"),
}


def test_a_worker_that_fails_costs_its_take_at_most_two_attempts_and_the_queue_goes_on(installation):
    takes = {action: installation.queue(action) for action in FAILURES}
    after = installation.queue("walk")
    installation.serve(silence_s=1.5, silence_quotes=0.0)
    assert installation.ended(after, 60).status is Status.DELIVERED
    ended = {action: installation.library.take(take.id) for action, take in takes.items()}
    assert {take.status for take in ended.values()} == {Status.FAILED}
    assert {action: take.attempt for action, take in ended.items()} == {
        action: attempts for action, (attempts, _) in FAILURES.items()
    }
    wrong = {action: take.error for action, take in ended.items() if FAILURES[action][1] not in take.error}
    assert not wrong


def test_a_take_waits_while_the_worker_speaks_another_version_of_the_protocol(installation):
    version = installation.home / "version"
    version.write_text("99")
    take = installation.queue("walk")
    daemon = installation.serve({"SMALL_WORKER_VERSION": str(version)}, version_s=0.3)
    (warning,) = installation.wait(
        lambda: [event for event in installation.library.events() if event.kind == "warning"]
    )
    assert "the worker speaks protocol version 99, this daemon version 1" in warning.text
    assert "stop the daemon, then start it again" in warning.text
    log = installation.home / "daemon.log"
    installation.wait(lambda: (installation.home / "served.log").read_text().count("speaks protocol version 99") >= 5)
    waiting = installation.library.take(take.id)
    assert (waiting.status, waiting.attempt, waiting.fence, waiting.error) == (Status.QUEUED, 0, 2, None)
    assert installation.worker_of(take) is None, "it was given the order"
    assert daemon.poll() is None and "Traceback" not in log.read_text()
    version.unlink()
    assert installation.ended(take).status is Status.DELIVERED
    assert [event.kind for event in installation.library.events()].count("warning") == 1


def test_a_killed_daemon_takes_its_worker_with_it_and_the_next_one_goes_on(installation):
    take = installation.queue("slow")
    daemon = installation.serve()
    worker = installation.wait(lambda: installation.worker_of(take))
    installation.wait(lambda: installation.library.take(take.id).step > 1)
    daemon.kill()
    daemon.wait()
    installation.wait(lambda: gone(worker), 2.0)
    assert installation.library.take(take.id).status is Status.RENDERING  # nobody was left to write
    installation.serve()
    installation.wait(lambda: installation.worker_of(take) != worker)
    again = installation.library.take(take.id)
    assert (again.status, again.attempt) == (Status.RENDERING, 2)
    assert "the daemon ended while it rendered" in installation.history(take)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_daemon_gives_its_take_back(installation, number):
    take = installation.queue("slow")
    daemon = installation.serve()
    worker = installation.wait(lambda: installation.worker_of(take))
    daemon.send_signal(number)
    assert daemon.wait(10) == 0
    assert gone(worker)
    take = installation.library.take(take.id)
    assert (take.status, take.attempt, take.step) == (Status.QUEUED, 0, 0)


def test_a_cancelled_take_stops_and_the_worker_stays_warm(installation):
    take, after = installation.queue("slow"), installation.queue("walk")
    installation.serve()
    worker = installation.wait(lambda: installation.worker_of(take))
    asked = time.monotonic()
    installation.library.request_cancel(take.id)
    assert installation.ended(take).status is Status.CANCELLED
    assert time.monotonic() - asked < 2.0
    assert installation.ended(after).status is Status.DELIVERED
    assert installation.worker_of(after) == worker


def test_a_worker_that_does_not_heed_a_cancel_is_ended(installation):
    take, after = installation.queue("deaf"), installation.queue("walk")
    installation.serve()
    worker = installation.wait(lambda: installation.worker_of(take))
    installation.library.request_cancel(take.id)
    assert installation.ended(take).status is Status.CANCELLED
    assert installation.ended(after).status is Status.DELIVERED
    assert installation.worker_of(after) != worker and gone(worker)


def test_an_idle_worker_gives_its_memory_back(installation):
    take = installation.queue("walk")
    daemon = installation.serve(leave_s=600, worker_idle_s=0.3)
    installation.ended(take)
    installation.wait(lambda: gone(installation.worker_of(take)))
    assert daemon.poll() is None
    assert installation.ended(installation.queue("walk")).status is Status.DELIVERED


def test_an_installation_has_one_daemon(installation):
    first = installation.serve(leave_s=600)
    assert installation.wait(lambda: daemon_pid(installation.home / "daemon.lock")) == first.pid
    second = installation.serve()
    assert second.wait(20) == 1
    assert f"a daemon (process {first.pid}) serves" in (installation.home / "served.log").read_text()
    first.kill()
    first.wait()
    assert daemon_pid(installation.home / "daemon.lock") is None  # the lock dies with its holder
    assert installation.serve(leave_s=0).wait(60) == 0


def test_a_film_that_was_published_but_not_noted_is_noted_and_not_rendered_again(installation):
    import numpy as np

    from appliance.daemon.recovery import film_of
    from appliance.delivery.publish import publish_take
    from appliance.delivery.take_files import TakeFacts, TakeWriter

    installation.queue("crash")  # what would happen if it were rendered
    take = installation.library.claim("box boot 1", 600)
    film = film_of(installation.library, take)
    with TakeWriter(film.parent, film.stem, width=64, height=64, fps=16, frames=5) as writer:
        writer.write(np.zeros((5, 64, 64, 3), np.float32))
        files = writer.finish(TakeFacts("12C T1", 1, {}, {}, "b", {}, 1, "w", "k", {"total": 3.0}, 9))
    publish_take(files.film, files.parts)
    installation.serve().wait(60)
    noted = installation.library.take(take.id)
    assert (noted.status, noted.path, noted.sha256) == (Status.DELIVERED, film, files.sha256)
    assert (noted.seconds, noted.peak_bytes) == (3.0, 9)


def test_pictures_left_by_a_cut_off_publication_are_in_nobodys_way(installation):
    from appliance.daemon.recovery import film_of

    take = installation.queue("walk")
    film = film_of(installation.library, take)
    film.parent.mkdir(parents=True)
    for picture in (".strip.png", ".png"):
        film.with_suffix(picture).write_bytes(b"of the attempt before")
    film.with_suffix(".json").write_bytes(b"{}")
    installation.serve()
    assert installation.ended(take).status is Status.DELIVERED
    for picture in (".strip.png", ".png"):
        assert film.with_suffix(picture).read_bytes().startswith(b"\x89PNG")


def test_no_take_is_begun_on_a_disk_without_reserve(installation):
    take = installation.queue("walk")
    daemon = installation.serve(disk_floor_bytes=1 << 60)
    warning = installation.wait(lambda: [event for event in installation.library.events() if event.kind == "warning"])[
        0
    ]
    assert "MiB free" in warning.text
    time.sleep(4 * QUICK["poll_s"])
    assert daemon.poll() is None
    assert installation.library.take(take.id).status is Status.QUEUED
    assert len([event for event in installation.library.events() if event.kind == "warning"]) == 1
    daemon.terminate()
    assert daemon.wait(10) == 0


def test_a_direction_that_cannot_be_read_fails_its_take_alone(installation):
    broken, fine = installation.queue("walk"), installation.queue("walk")
    with installation.library.immediate():
        installation.library.set(broken.id, {"direction_json": '{"scene": "12", "colour": 1}'})
    installation.serve()
    assert installation.ended(fine).status is Status.DELIVERED
    broken = installation.library.take(broken.id)
    assert broken.status is Status.FAILED and "colour" in broken.error


def test_a_take_that_is_queued_as_the_daemon_leaves_is_not_forgotten(installation):
    for _ in range(3):
        installation.serve(leave_s=0.0)
        installation.wait(
            lambda: daemon_pid(installation.home / "daemon.lock") is not None
        )  # it leaves as soon as it may
        take = installation.queue("walk")
        if daemon_pid(installation.home / "daemon.lock") is None:  # what ensure_running looks at
            installation.serve(leave_s=0.0)
        assert installation.ended(take).status is Status.DELIVERED


ENSURE = """
from appliance.daemon.instance import ensure_running
print(ensure_running(), ensure_running())
"""


def test_a_daemon_is_started_where_there_is_none_and_outlives_who_started_it(python, tmp_path):
    done = python("-c", ENSURE, cwd=tmp_path, RUSHES_HOME=str(tmp_path / "installation"))
    assert done.returncode == 0, done.stderr
    first, second = map(int, done.stdout.split())
    assert first == second == daemon_pid(tmp_path / "installation" / "daemon.lock")
    os.kill(first, signal.SIGTERM)
    deadline = time.monotonic() + 10
    while daemon_pid(tmp_path / "installation" / "daemon.lock") is not None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "stopped" in (tmp_path / "installation" / "daemon.log").read_text()


def test_a_daemon_that_cannot_start_says_why(python, tmp_path):
    (tmp_path / "library.db").write_bytes(b"no database " * 500)
    done = python("-c", ENSURE, RUSHES_HOME=str(tmp_path))
    assert "the daemon did not start" in done.stderr and "is not a Rushes library" in done.stderr
