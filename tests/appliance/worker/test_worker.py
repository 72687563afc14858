"""The worker as the process it is: orders in, reports and a real film out, nothing else on its pipe."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.delivery.media.verify import probe_video
from appliance.direction.document import to_json
from appliance.direction.shot import from_plain
from appliance.library.library import Library
from appliance.library.machines import calibrations
from appliance.library.take import Status
from appliance.machine.probe import probe
from appliance.planning.plan import Plan, plan
from appliance.planning.request import PlanRequest
from appliance.processes import PARENT_PID, machine_name
from appliance.worker.protocol import (
    Cancelled,
    CancelOrder,
    Done,
    Failed,
    Note,
    Progress,
    Ready,
    RenderOrder,
    decode_report,
    encode,
)

ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

MAKE_PACKAGE = """
import sys
from pathlib import Path
import torch
from models.card import TINY
from models.weight_files.package_header import SCHEME_INT8, card_to_json
from models.loading.quantize import quantize
from models.dit.wan import Transformer
from models.vae.previs import VAE
from models.weight_files.tensors import save
torch.manual_seed(0)
parts = {f"transformer.{name}": value for name, value in quantize(Transformer(TINY).state_dict(), TINY).items()}
parts |= {f"vae.{name}": value for name, value in VAE().state_dict().items()}
facts = {"scheme": SCHEME_INT8, "card": card_to_json(TINY), "licence": "Apache-2.0", "training": "{}"}
save(Path(sys.argv[1]), parts, facts)
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The real network at its smallest, with weights that were never trained."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    subprocess.run([sys.executable, "-c", MAKE_PACKAGE, str(path)], check=True, env=ENVIRONMENT, timeout=120)
    return path


ENDS = (Done, Cancelled, Failed)


class Worker:
    """A worker process and its two pipes."""

    def __init__(self, log):
        with open(log, "ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "appliance.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=errors, env={**ENVIRONMENT, PARENT_PID: str(os.getpid())},
            )  # fmt: skip

    def order(self, order):
        self.process.stdin.write(encode(order))
        self.process.stdin.flush()

    def reports(self):
        """Its reports, as they come."""
        for line in self.process.stdout:
            yield decode_report(line)

    def until_end(self):
        """Every report up to the end of a take."""
        seen = []
        for report in self.reports():
            seen.append(report)
            if isinstance(report, ENDS):
                return seen
        raise AssertionError("the worker ended")

    def render(self, order):
        """The report with which a take ends."""
        self.order(order)
        return self.until_end()[-1]


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    worker = Worker(tmp_path_factory.mktemp("log") / "worker.log")  # it loads torch while the package is made
    yield worker
    worker.process.stdin.close()  # the end of its orders is its end
    assert worker.process.wait(10) == 0


def order(folder, package, take, checkpoints=None, **more):
    direction = from_plain(
        {"scene": "12", "setup": "C", "quality": "draft", "seed": 5, "time": {"duration_s": 0.5},
         "format": {"width": 64, "height": 64}, "subjects": [{"id": "mara"}], **more}
    )  # fmt: skip
    outcome = plan(PlanRequest(direction=direction, machine=probe()))
    assert isinstance(outcome, Plan)
    film = folder / "12C" / f"12C-T1_{take}.mp4"
    return outcome, RenderOrder(
        take, "12C T1", to_json(direction), outcome.to_json(), "tiny", package, film, checkpoints
    )  # fmt: skip


def frames_sha256(done):
    """Of the film that a finished take will publish."""
    assert isinstance(done, Done), done
    return probe_video(done.parts[".mp4"]).frames_sha256


def test_an_order_becomes_a_film_the_same_one_twice_and_another_of_another_seed(worker, package, tmp_path):
    digests = []
    for take, seed in ((1, 5), (2, 5), (3, 6)):
        outcome, wanted = order(tmp_path, package, take, seed=seed)
        worker.order(wanted)
        reports = worker.until_end()
        done = reports[-1]
        assert isinstance(done, Done), done
        phases = [report.phase for report in reports if isinstance(report, Progress)]
        assert phases[0] == "blocking" and phases[-3:] == ["developing", "measuring", "delivering"]
        steps = [report.step for report in reports if isinstance(report, Progress) and report.phase == "rendering"]
        assert steps == list(range(outcome.steps))
        assert not wanted.film.exists()  # publishing is the daemon's
        assert done.sha256 == hashlib.sha256(done.parts[".mp4"].read_bytes()).hexdigest()
        facts = probe_video(done.parts[".mp4"])
        assert (facts.frames, facts.width, facts.height) == (outcome.frames, 64, 64)
        page = json.loads(done.parts[".json"].read_text())
        assert page["take_id"] == take and page["seed"] == seed and len(page["weights_sha256"]) == 64
        assert page["timings_s"]["total"] > 0 and done.peak_bytes > 50_000_000
        assert page["measured"] == [row.to_json() for row in done.measured] and page["timings_s"]["measuring"] > 0
        assert {"pan", "zoom", "mara place", "key azimuth"} <= {row.axis for row in done.measured}
        digests.append(facts.frames_sha256)
    assert digests[0] == digests[1] != digests[2]


def test_a_measurement_that_fails_is_noted_and_costs_no_take(capfd):
    """Nothing was developed here, so there is nothing to measure."""
    from appliance.blocking.solve import block
    from appliance.measuring.frames import FrameBuffer
    from appliance.worker.take import _measure

    class Pipe(list):
        report = list.append

    direction, pipe, timings = from_plain({"subjects": [{"id": "mara"}]}), Pipe(), {}
    assert _measure(pipe, 3, FrameBuffer(block(direction)), direction, timings) == () and timings == {}
    (note,) = pipe
    assert isinstance(note, Note) and note.take == 3 and note.text.startswith("not measured (ValueError: ")
    assert "Traceback" in capfd.readouterr().err  # for the daemon's log


def test_a_keyframe_reaches_the_network_and_is_refused_in_one_line_where_it_is_no_picture(worker, package, tmp_path):
    from PIL import Image

    shown = tmp_path / "shown.png"
    digests = set()
    for take, (color, frame) in enumerate((("red", 4), ("blue", 4), ("blue", 5)), start=1):
        Image.new("RGB", (300, 200), color).save(shown)
        wanted = replace(order(tmp_path, package, take)[1], keyframes=((frame, shown),))
        digests.add(frames_sha256(worker.render(wanted)))
    assert len(digests) == 3
    shown.write_text("no picture")
    failed = worker.render(wanted)
    assert isinstance(failed, Failed) and failed.kind == "bad_input" and "\n" not in failed.error
    assert f"{shown} is not a picture that can be read" in failed.error and "use PNG" in failed.error


def test_a_take_whose_worker_is_killed_again_and_again_is_the_film_of_an_unbroken_one(worker, package, tmp_path):
    """No step that was reported is made twice, and at most the one that ran when the worker died."""
    saved = tmp_path / "checkpoints"
    saved.mkdir()
    wanted = order(tmp_path, package, 1, checkpoints=saved, quality="print")[1]
    made, log = 0, tmp_path / "worker.log"
    workers = [Worker(log) for _ in range(3)]  # each loads torch while the one before it renders
    for doomed, last in zip(workers, (1, 5, None), strict=True):
        doomed.order(wanted)
        reports = []
        for report in doomed.reports():
            reports.append(report)
            if isinstance(report, ENDS) or (last and _rendered(report) >= last):
                break
        doomed.process.kill()
        reports += doomed.reports()
        doomed.process.communicate()
        notes = [report.text for report in reports if isinstance(report, Note)]
        steps = [step for report in reports if (step := _rendered(report))]
        if made:
            assert notes in ([f"resumed after step {made} of 10"], [f"resumed after step {made + 1} of 10"]), (
                log.read_text()
            )
            assert steps[0] in (made, made + 1)
        assert steps == list(range(steps[0], steps[0] + len(steps)))
        made = steps[-1]
    done = reports[-1]
    assert isinstance(done, Done), log.read_text()
    page = json.loads(done.parts[".json"].read_text())
    assert page["resumed_after"] >= 5 and {path.name for path in saved.iterdir()} == {
        "step-9.safetensors", "step-10.safetensors",
    }  # fmt: skip
    unbroken = worker.render(order(tmp_path, package, 2, quality="print")[1])
    assert frames_sha256(done) == frames_sha256(unbroken)
    assert json.loads(unbroken.parts[".json"].read_text())["resumed_after"] == 0


def _rendered(report):
    """The denoising steps that a report says are done; 0 of any other report."""
    return report.step if isinstance(report, Progress) and report.phase == "rendering" else 0


def test_a_cancelled_take_leaves_nothing_and_the_worker_goes_on(worker, package, tmp_path):
    worker.order(CancelOrder(11))
    assert worker.render(order(tmp_path, package, 11)[1]) == Cancelled(11)
    assert not list(tmp_path.rglob("*.mp4*"))
    assert isinstance(worker.render(order(tmp_path, package, 12)[1]), Done)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda data: data[: len(data) // 2], "truncated|bytes|short"),
        (lambda data: b"PK\x03\x04" * 5000, "safetensors"),
        (None, "read"),
    ],
    ids=["cut off", "another format", "missing"],
)
def test_weights_that_are_not_whole_are_bad_input_in_one_line(worker, package, tmp_path, spoil, says):
    bad = tmp_path / "bad.safetensors"
    if spoil:
        bad.write_bytes(spoil(package.read_bytes()))
    failed = worker.render(order(tmp_path, bad, 21)[1])
    assert isinstance(failed, Failed) and failed.kind == "bad_input"
    assert re.search(says, failed.error) and "\n" not in failed.error and "bad.safetensors" in failed.error
    assert not list(tmp_path.rglob("*.mp4*"))


def test_a_folder_that_cannot_be_written_is_one_line(worker, package, tmp_path):
    (tmp_path / "12C").write_text("a file where the folder should be")
    failed = worker.render(order(tmp_path, package, 31)[1])
    assert isinstance(failed, Failed) and failed.kind in ("failed", "disk")
    assert "12C" in failed.error and "Traceback" not in failed.error


GUARD = """
import os
from appliance.worker.pipe import WorkerPipe
from appliance.worker.protocol import Ready
pipe = WorkerPipe()
print("Python prints")
os.system("echo C prints")
pipe.report(Ready())
"""


def test_nothing_but_reports_is_on_the_pipe():
    worker = subprocess.Popen(
        [sys.executable, "-c", GUARD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )  # fmt: skip
    assert decode_report(worker.stdout.readline()) == Ready()
    reports, printed = worker.communicate(timeout=30)
    assert reports == b""
    assert b"C prints" in printed and b"Python prints" in printed


def test_an_order_that_cannot_be_read_ends_the_worker_with_the_reason():
    worker = subprocess.Popen(
        [sys.executable, "-c", GUARD + "import time; time.sleep(60)"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT,
    )  # fmt: skip
    _, printed = worker.communicate(b'{"type": "cancel", "take": "31"}\n', timeout=30)
    assert worker.returncode == 1
    assert b'the daemon sent an order that cannot be read: cancel.take is "31", not int' in printed


PARENT = """
import subprocess, sys, os
from appliance.processes import PARENT_PID
command = [sys.executable, "-P", "-m", "appliance.worker"]
environment = {**os.environ, PARENT_PID: str(os.getpid())}
child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
child.stdout.readline()
print(child.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_worker_dies_with_its_parent():
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT
    )
    pid = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 2
    while (status := Path(f"/proc/{pid}/stat")).exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    parent.stdin.close()
    parent.stdout.close()


def test_a_killed_daemon_and_a_killed_worker_cost_a_step_and_never_the_film(package, tmp_path):
    import psutil

    shot = {"scene": "12", "setup": "C", "quality": "print", "seed": 5, "time": {"duration_s": 0.5},
            "format": {"width": 64, "height": 64}}  # fmt: skip
    script = (
        "from appliance.daemon.attempt import Timeouts; from appliance.daemon.serve import serve;"
        "serve(until_idle=True, timeouts=Timeouts(leave_s=0.2))"
    )
    environment = {**ENVIRONMENT, "RUSHES_HOME": str(tmp_path), "RUSHES_WEIGHTS": str(package)}
    with Library.open(tmp_path / "library.db") as library, open(tmp_path / "served.log", "ab") as log:
        takes = [library.queue(from_plain(shot)) for _ in range(3)]

        def serve():
            return subprocess.Popen([sys.executable, "-c", script], env=environment, stderr=log)

        def in_the_middle(take):
            deadline = time.monotonic() + 120
            while not 3 <= library.take(take.id).step < 9:
                assert time.monotonic() < deadline, (tmp_path / "daemon.log").read_text()
                time.sleep(0.002)

        daemon = serve()
        in_the_middle(takes[1])
        daemon.kill()
        daemon.wait()
        daemon = serve()
        in_the_middle(takes[2])
        [worker] = psutil.Process(daemon.pid).children()
        worker.kill()
        assert daemon.wait(120) == 0
        films = set()
        for take, fence in zip(takes, (1, 3, 3), strict=True):
            ended = library.take(take.id)
            assert (ended.status, ended.fence) == (Status.DELIVERED, fence), ended
            assert hashlib.sha256(ended.path.read_bytes()).hexdigest() == ended.sha256
            assert 0 < ended.seconds < 60 and ended.step == ended.steps
            page = json.loads(ended.path.with_suffix(".json").read_text())
            films.add(page["film"]["frames_sha256"])
            history = " | ".join(event.text for event in library.events(take.id))
            assert page["resumed_after"] >= 3 * (fence > 1)
            assert (f"resumed after step {page['resumed_after']} of 10" in history) == (fence > 1), history
        assert len(films) == 1
        [calibration] = calibrations(library, "previs", machine_name()).values()
        assert calibration.takes == 1  # half a render says nothing of a whole one
    assert list((tmp_path / "checkpoints").iterdir()) == []
