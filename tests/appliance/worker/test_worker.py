"""The worker as the process it is: orders in, reports and a real film out, nothing else on its line."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from appliance.direction.document import to_json
from appliance.direction.shot import from_plain
from appliance.library.library import Library
from appliance.library.machines import calibrations
from appliance.library.take import Status
from appliance.machine.probe import probe
from appliance.planning.plan import Plan, plan
from appliance.processes import PARENT_PID, machine_name

ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

MAKE_PACKAGE = """
import sys
from pathlib import Path
import torch
from models.card import TINY
from models.weight_files.safetensors_header import card_to_json
from models.loading.quantize import SCHEME, quantize
from models.dit.wan import Transformer
from models.vae.previs import VAE
from models.weight_files.tensors import save
torch.manual_seed(0)
parts = {f"transformer.{name}": value for name, value in quantize(Transformer(TINY).state_dict(), TINY).items()}
parts |= {f"vae.{name}": value for name, value in VAE().state_dict().items()}
facts = {"scheme": SCHEME, "card": card_to_json(TINY), "licence": "Apache-2.0", "training": "{}"}
save(Path(sys.argv[1]), parts, facts)
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The real network at its smallest, with weights that were never trained."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    subprocess.run([sys.executable, "-c", MAKE_PACKAGE, str(path)], check=True, env=ENVIRONMENT, timeout=120)
    return path


class Worker:
    """A worker process, spoken to over its pipes."""

    def __init__(self, log):
        with open(log, "ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "appliance.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=errors, env={**ENVIRONMENT, PARENT_PID: str(os.getpid())},
            )  # fmt: skip

    def order(self, **order):
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()

    def until(self, *kinds):
        """Every report up to the first of these kinds."""
        seen = []
        while True:
            line = self.process.stdout.readline()
            assert line, "the worker ended"
            seen.append(json.loads(line))
            if seen[-1]["report"] in kinds:
                return seen


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    worker = Worker(tmp_path_factory.mktemp("log") / "worker.log")
    worker.until("ready")
    yield worker
    worker.process.stdin.close()  # the end of its orders is its end
    assert worker.process.wait(10) == 0


def order(folder, package, take, checkpoints=None, **more):
    direction = from_plain(
        {"scene": "12", "setup": "C", "quality": "draft", "seed": 5, "time": {"duration_s": 0.5},
         "format": {"width": 64, "height": 64}, "subjects": [{"id": "mara"}], **more}
    )  # fmt: skip
    outcome = plan(direction, probe())
    assert isinstance(outcome, Plan)
    film = folder / "12C" / f"12C-T1_{take}.mp4"
    return outcome, film, {
        "order": "render", "take": take, "slate": "12C T1", "direction": to_json(direction), "plan": outcome.to_json(),
        "model": "tiny", "package": str(package), "film": str(film), "checkpoints": checkpoints and str(checkpoints),
        "words": {"positive": "", "negative": "", "known": []}, "pictures": {"first": None, "last": None, "keys": []},
    }  # fmt: skip


def test_an_order_becomes_a_film_the_same_one_twice(worker, package, tmp_path):
    from appliance.delivery.media.verify import probe_video

    digests = []
    for take in (1, 2):
        outcome, film, wanted = order(tmp_path, package, take)
        worker.order(**wanted)
        reports = worker.until("done", "error")
        done = reports[-1]
        assert done["report"] == "done", done
        steps = [
            report["step"] for report in reports if report["report"] == "progress" and report["phase"] == "rendering"
        ]
        assert steps == list(range(outcome.steps))
        phases = [report["phase"] for report in reports if report["report"] == "progress"]
        assert phases[0] == "blocking" and phases[-3:] == ["developing", "measuring", "delivering"]
        assert not film.exists()  # publishing is the daemon's
        part = Path(done["parts"][".mp4"])
        assert done["sha256"] == hashlib.sha256(part.read_bytes()).hexdigest()
        facts = probe_video(part)
        assert (facts.frames, facts.width, facts.height) == (outcome.frames, 64, 64)
        page = json.loads(Path(done["parts"][".json"]).read_text())
        assert page["take_id"] == take and page["seed"] == 5 and len(page["weights_sha256"]) == 64
        assert page["timings_s"]["total"] > 0 and done["peak_bytes"] > 50_000_000
        assert page["measured"] == done["measured"] and page["timings_s"]["measuring"] > 0
        assert {"pan", "zoom", "mara place", "key azimuth"} <= {row["axis"] for row in page["measured"]}
        digests.append(facts.frames_sha256)
    assert digests[0] == digests[1]


def test_a_measurement_that_fails_is_noted_and_costs_no_take(capfd):
    """Nothing was developed here, so there is nothing to measure."""
    from appliance.blocking.solve import block
    from appliance.measuring.frames import FrameBuffer
    from appliance.worker.take import _measured

    class Notes(list):
        def report(self, kind, **facts):
            self.append((kind, facts))

    direction, notes, timings = from_plain({"subjects": [{"id": "mara"}]}), Notes(), {}
    assert _measured(notes, 3, FrameBuffer(block(direction)), direction.tolerances, timings) == [] and timings == {}
    ((kind, facts),) = notes
    assert (kind, facts["take"]) == ("note", 3) and facts["text"].startswith("not measured (ValueError: ")
    assert "Traceback" in capfd.readouterr().err  # for the daemon's log


def test_a_keyframe_reaches_the_network_and_is_refused_in_one_line_where_it_is_no_picture(worker, package, tmp_path):
    from PIL import Image

    from appliance.delivery.media.verify import probe_video

    shown = tmp_path / "shown.png"
    digests = []
    for color, frame in (("red", 4), ("blue", 4), ("blue", 5), ("blue", 5)):
        Image.new("RGB", (300, 200), color).save(shown)
        wanted = order(tmp_path, package, len(digests) + 1)[2]
        wanted["pictures"]["keys"] = [[frame, str(shown)]]
        worker.order(**wanted)
        done = worker.until("done", "error")[-1]
        assert done["report"] == "done", done
        digests.append(probe_video(Path(done["parts"][".mp4"])).frames_sha256)
    assert len(set(digests)) == 3 and digests[2] == digests[3]
    shown.write_text("no picture")
    worker.order(**wanted)
    error = worker.until("done", "error")[-1]
    assert (error["report"], error["kind"]) == ("error", "bad_input") and "\n" not in error["error"]
    assert f"{shown} is no picture that can be read" in error["error"] and "bring PNG" in error["error"]


def test_another_seed_is_another_film(worker, package, tmp_path):
    from appliance.delivery.media.verify import probe_video

    seen = set()
    for take, seed in ((1, 5), (2, 6)):
        worker.order(**order(tmp_path, package, take, seed=seed)[2])
        seen.add(probe_video(Path(worker.until("done", "error")[-1]["parts"][".mp4"])).frames_sha256)
    assert len(seen) == 2


def test_a_take_whose_worker_is_killed_again_and_again_is_the_film_of_an_unbroken_one(worker, package, tmp_path):
    """No step that was reported is made twice, and at most the one that ran when the worker died."""
    from appliance.delivery.media.verify import probe_video

    saved = tmp_path / "checkpoints"
    saved.mkdir()
    wanted = order(tmp_path, package, 1, checkpoints=saved, quality="print")[2]
    made = 0
    for last in (1, 5, None):
        log = tmp_path / "worker.log"
        doomed = Worker(log)
        doomed.order(**wanted)
        reports = []
        while not (reports and reports[-1]["report"] in ("done", "error")):
            reports.append(json.loads(doomed.process.stdout.readline()))
            if last and reports[-1].get("step", 0) >= last and reports[-1]["phase"] == "rendering":
                break
        doomed.process.kill()
        reports += map(json.loads, doomed.process.stdout.readlines())
        doomed.process.communicate()
        notes = [report["text"] for report in reports if report["report"] == "note"]
        steps = [report["step"] for report in reports if report.get("phase") == "rendering" and report["step"]]
        if made:
            assert notes in ([f"resumed after step {made} of 10"], [f"resumed after step {made + 1} of 10"]), (
                log.read_text()
            )
            assert steps[0] in (made, made + 1)
        assert steps == list(range(steps[0], steps[0] + len(steps)))
        made = steps[-1]
    assert reports[-1]["report"] == "done", log.read_text()
    page = json.loads(Path(reports[-1]["parts"][".json"]).read_text())
    assert page["resumed_after"] >= 5 and {path.name for path in saved.iterdir()} == {
        "step-9.safetensors", "step-10.safetensors",
    }  # fmt: skip
    worker.order(**order(tmp_path, package, 2, quality="print")[2])
    unbroken = worker.until("done", "error")[-1]
    films = [probe_video(Path(done["parts"][".mp4"])).frames_sha256 for done in (reports[-1], unbroken)]
    assert films[0] == films[1]
    assert json.loads(Path(unbroken["parts"][".json"]).read_text())["resumed_after"] == 0


def test_a_cancelled_take_leaves_nothing_and_the_worker_goes_on(worker, package, tmp_path):
    wanted = order(tmp_path, package, 11)[2]
    worker.order(order="cancel", take=11)
    worker.order(**wanted)
    assert worker.until("cancelled", "done", "error")[-1] == {"report": "cancelled", "take": 11}
    assert not list(tmp_path.rglob("*.mp4*"))
    worker.order(**order(tmp_path, package, 12)[2])
    assert worker.until("done", "error")[-1]["report"] == "done"


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
    import re

    bad = tmp_path / "bad.safetensors"
    if spoil:
        bad.write_bytes(spoil(package.read_bytes()))
    worker.order(**order(tmp_path, bad, 21)[2])
    report = worker.until("done", "error")[-1]
    assert (report["report"], report["kind"]) == ("error", "bad_input")
    assert re.search(says, report["error"]) and "\n" not in report["error"] and "bad.safetensors" in report["error"]
    assert not list(tmp_path.rglob("*.mp4*"))


def test_a_folder_that_cannot_be_written_is_one_line(worker, package, tmp_path):
    (tmp_path / "12C").write_text("a file where the folder should be")
    worker.order(**order(tmp_path, package, 31)[2])
    report = worker.until("done", "error")[-1]
    assert report["report"] == "error" and report["kind"] in ("failed", "disk")
    assert "12C" in report["error"] and "Traceback" not in report["error"]


GUARD = """
import os
from appliance.worker import Line
line = Line()
print("Python prints")
os.system("echo C prints")
line.report("ready")
"""


def test_nothing_but_reports_is_on_the_line():
    worker = subprocess.Popen(
        [sys.executable, "-c", GUARD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )  # fmt: skip
    assert json.loads(worker.stdout.readline()) == {"report": "ready"}
    reports, printed = worker.communicate(timeout=30)
    assert reports == b""
    assert b"C prints" in printed


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


@pytest.mark.parametrize("shipped", [False, True], ids=["smallest network", "shipped weights"])
def test_from_queue_to_film_with_the_real_daemon_and_worker(package, tmp_path, shipped):
    if shipped:
        package = ROOT / "models" / "weights" / "previs.safetensors"
    with Library.open(tmp_path / "library.db") as library:
        direction = from_plain(
            {
                "scene": "12",
                "setup": "C",
                "quality": "draft",
                "time": {"duration_s": 0.5},
                "format": {"width": 64, "height": 64},
            }
        )
        takes = [library.queue(direction), library.queue(direction)]
        script = "from appliance.daemon import Patience, serve; serve(until_idle=True, patience=Patience(leave_s=0.2))"
        environment = {**ENVIRONMENT, "RUSHES_HOME": str(tmp_path), "RUSHES_WEIGHTS": str(package)}
        done = subprocess.run([sys.executable, "-c", script], env=environment, timeout=120, stderr=subprocess.PIPE)
        assert done.returncode == 0, done.stderr.decode()
        for take in takes:
            ended = library.take(take.id)
            assert ended.status is Status.DELIVERED, (ended.error, (tmp_path / "daemon.log").read_text())
            assert hashlib.sha256(ended.path.read_bytes()).hexdigest() == ended.sha256
            assert 0 < ended.seconds < 60 and ended.step == ended.steps
        [calibration] = calibrations(library, "previs", machine_name()).values()
        assert calibration.takes == 2


def test_a_killed_daemon_and_a_killed_worker_cost_a_step_and_never_the_film(package, tmp_path):
    import psutil

    shot = {"scene": "12", "setup": "C", "quality": "print", "seed": 5, "time": {"duration_s": 0.5},
            "format": {"width": 64, "height": 64}}  # fmt: skip
    script = "from appliance.daemon import Patience, serve; serve(until_idle=True, patience=Patience(leave_s=0.2))"
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
            page = json.loads(ended.path.with_suffix(".json").read_text())
            films.add(page["film"]["frames_sha256"])
            history = " | ".join(event.text for event in library.events(take.id))
            assert page["resumed_after"] >= 3 * (fence > 1)
            assert (f"resumed after step {page['resumed_after']} of 10" in history) == (fence > 1), history
        assert len(films) == 1
        [calibration] = calibrations(library, "previs", machine_name()).values()
        assert calibration.takes == 1  # half a render says nothing of a whole one
    assert list((tmp_path / "checkpoints").iterdir()) == []
