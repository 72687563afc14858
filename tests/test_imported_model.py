"""An imported model, small and with random weights, all the way: from a shot file, by the command line, to a film. Its
prompt is encoded once; a render that is cut off goes on.
"""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from appliance.daemon.attempt import RenderTake, StopFlag, Timeouts
from appliance.daemon.instance import daemon_pid
from appliance.daemon.worker_process import WorkerProcess
from appliance.delivery.media.verify import probe_video
from appliance.library.library import Library
from appliance.library.take import Status
from appliance.processes import module_command, owner
from appliance.shooting.quote import read
from appliance.worker.protocol import Progress
from models.card import WAN_14B

ROOT = Path(__file__).resolve().parents[1]
CARD = replace(WAN_14B, name="wan2.1-t2v-14b-64x2", dim=64, ffn=128, heads=2, layers=2, text_dim=64, steps=4)
SHOT = """
scene = "12"
setup = "C"
seed = 7
model = "ours"
[time]
duration_s = 0.5
[format]
width = 64
height = 64
[text]
action = "{action}"
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory, spiece):
    return made(tmp_path_factory.mktemp("package") / "ours.safetensors", CARD, spiece)


def made(path, card, spiece):
    """A package as an import makes it: int8, with its encoder, its autoencoder and its vocabulary."""
    import torch

    from models.card import TextCard
    from models.dit.wan import Transformer
    from models.encoders.umt5 import TextEncoder
    from models.loading.quantize import quantize
    from models.vae.wan import KINDS, WanVAE
    from models.weight_files.package_header import SCHEME_INT8, card_to_json
    from models.weight_files.tensors import save

    text = TextCard("umt5-xxl", words=800, dim=64, ffn=128, heads=4, layers=2)
    torch.manual_seed(0)
    coder = WanVAE(replace(KINDS["wan2.1"], encoder_width=8, decoder_width=8))
    parts = {
        "transformer.": quantize(Transformer(card).state_dict(), card),
        "text.": quantize(TextEncoder(text).state_dict(), text),
        "vae.": coder.state_dict(),
    }
    tensors = {prefix + name: value for prefix, part in parts.items() for name, value in part.items()}
    tensors["tokenizer.file"] = torch.frombuffer(bytearray(spiece()), dtype=torch.uint8)
    sizes = {name: value for name, value in asdict(text).items() if name != "kept_blocks"}
    coded = {"kind": "wan2.1", "encoder_width": 8, "decoder_width": 8}
    facts = {"card": card_to_json(card), "text": json.dumps(sizes), "vae": json.dumps(coded)}
    save(path, tensors, facts | {"scheme": SCHEME_INT8, "licence": "Apache-2.0", "training": "{}"})
    return path


@pytest.fixture(scope="module")
def installation(tmp_path_factory, package):
    """An installation with the package; its daemon stays between the tests and ends with them."""
    folder = tmp_path_factory.mktemp("installation")
    (folder / "home" / "models").mkdir(parents=True)
    os.link(package, folder / "home" / "models" / "ours.safetensors")
    (folder / "shot.toml").write_text(SHOT.format(action="Rain on a mountain road."))
    yield folder
    lock = folder / "home" / "daemon.lock"
    if pid := daemon_pid(lock):
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 20
        while daemon_pid(lock) and time.monotonic() < deadline:
            time.sleep(0.05)


def rushes(installation, *arguments):
    """The one take that a verb with `--json` prints, and its sidecar."""
    environment = {
        **os.environ,
        "RUSHES_HOME": str(installation / "home"),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    run = subprocess.run(
        [sys.executable, "-P", "-m", "appliance", *arguments, "--json"],
        cwd=installation, env=environment, capture_output=True, stdin=subprocess.DEVNULL, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr + run.stdout
    (take,) = json.loads(run.stdout)
    return take, json.loads(Path(take["files"]["sidecar"]).read_text())


@pytest.fixture(scope="module")
def first(installation):
    return rushes(installation, "shoot", "shot.toml")


def test_a_shot_becomes_a_film_of_an_imported_model(first, package):
    take, page = first
    assert (take["status"], take["model"], take["plan"]["card"]) == ("delivered", "ours", CARD.name)
    film = probe_video(Path(take["files"]["film"]))
    assert (film.frames, film.width, film.height) == (9, 64, 64)
    assert (page["model"], page["plan"]["precision"], page["plan"]["steps"]) == ("ours", "int8", 4)
    assert page["asked"]["text.action"] == "text-only" and page["asked"]["seed"] == "exact"
    assert take["model_sha256"] and len(page["weights_sha256"]) == 64 != page["weights_sha256"]


def test_its_prompt_is_encoded_once_and_the_film_is_the_same(installation, first):
    take, page = first
    assert take["plan"]["text"] == "cpu" and page["timings_s"]["reading"] > 0
    again, its_page = rushes(installation, "retake", str(take["id"]), "--seed", "7")
    assert again["plan"]["text"] == "cached" and its_page["timings_s"]["reading"] == 0, "the encoder was loaded"
    assert np.array_equal(pictures(take["files"]["film"]), pictures(again["files"]["film"]))


def test_another_prompt_is_another_film(installation, first):
    (installation / "other.toml").write_text(SHOT.format(action="A quiet room."))
    other, page = rushes(installation, "shoot", "other.toml")
    assert page["timings_s"]["reading"] > 0
    assert apart(pictures(first[0]["files"]["film"]), pictures(other["files"]["film"])) > 2


def test_the_models_take_turns_in_one_worker(installation, first):
    take, _ = rushes(installation, "shoot", "shot.toml", "--model", "previs", "--quality", "draft")
    assert (take["status"], take["model"], take["plan"]["card"]) == ("delivered", "previs", "previs")


def test_a_film_begins_with_a_picture_where_the_model_reads_one(installation, first, spiece):
    """And follows the stage's depth: a small VACE, with a picture and without."""
    vace = replace(CARD, name="wan2.1-vace-14b-64x2", vace_layers=(0,), vace_channels=96, steps=2)
    made(installation / "home" / "models" / "vace.safetensors", vace, spiece)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)).save(installation / "first.png")
    films = []
    for name, refs in (("with.toml", '[refs]\nfirst = "first.png"\n'), ("without.toml", "")):
        (installation / name).write_text(SHOT.format(action="Rain.") + refs)
        take, page = rushes(installation, "shoot", name, "--model", "vace")
        assert (take["model"], page["asked"].get("refs.first", "exact")) == ("vace", "exact")
        films.append(pictures(take["files"]["film"]))
    assert apart(*films) > 0.5


def test_a_render_that_is_cut_off_goes_on_with_its_embeddings(installation, first, monkeypatch, tmp_path):
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "models").mkdir()
    os.link(installation / "home" / "models" / "ours.safetensors", tmp_path / "models" / "ours.safetensors")
    with Library.open() as library:
        take = library.queue(read(installation / "shot.toml"))
        workers = [Mortal(step, tmp_path / "worker.log") for step in (2, None)]  # both load torch at the same time
        assert attempt(library, workers[0]).status is Status.QUEUED
        done = attempt(library, workers[1])
        assert done.status is Status.DELIVERED, done.error
        notes = [event.text for event in library.events(take.id)]
        assert any(text.startswith("resumed after step ") for text in notes), notes
        assert np.array_equal(pictures(done.path), pictures(first[0]["files"]["film"]))


def pictures(film):
    """(T, h, w, 3) 8-bit RGB."""
    with av.open(str(film)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]).astype(int)


def apart(one, other):
    """The mean difference of two films, in 8-bit codes."""
    return np.abs(one - other).mean()


def attempt(library, worker):
    """One attempt of a worker at the take that is queued; the take as it is then."""
    rendering = RenderTake(library, library.claim(owner(), 60), Timeouts(), StopFlag())
    assert rendering.plan()
    try:
        rendering.with_worker(worker)
    finally:
        worker.end()
    return library.take(rendering.take.id)


class Mortal(WorkerProcess):
    """A worker that is killed when it has reported a step (None: never)."""

    def __init__(self, step, log):
        super().__init__(module_command("appliance.worker"), log)
        self.step = step

    def reports(self, wait_s):
        reports = super().reports(wait_s)
        if self.step and any(isinstance(report, Progress) and report.step >= self.step for report in reports):
            os.kill(self.pid, signal.SIGKILL)
            self.step = None
        return reports
