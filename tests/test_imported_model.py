"""A house's own checkpoint, small and never trained, all the way: from a shot file, by the command line, to a film; its
words are read once; a render that is cut off goes on.
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
    from models.loading.quantize import SCHEME, quantize
    from models.vae.wan import KINDS, WanVAE
    from models.weight_files.package_header import card_to_json
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
    save(path, tensors, facts | {"scheme": SCHEME, "licence": "Apache-2.0", "training": "{}"})
    return path


@pytest.fixture(scope="module")
def house(tmp_path_factory, package):
    """A house that brought the package; its daemon stays between the tests and ends with them."""
    folder = tmp_path_factory.mktemp("house")
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


def rushes(house, *arguments):
    """The one take that a verb of `--json` tells of, and its page."""
    environment = {**os.environ, "RUSHES_HOME": str(house / "home"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-P", "-m", "appliance", *arguments, "--json"],
        cwd=house, env=environment, capture_output=True, stdin=subprocess.DEVNULL, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr + run.stdout
    (take,) = json.loads(run.stdout)
    return take, json.loads(Path(take["files"]["sidecar"]).read_text())


@pytest.fixture(scope="module")
def first(house):
    return rushes(house, "shoot", "shot.toml")


def test_a_shot_becomes_a_film_of_the_houses_own_model(first, package):
    take, page = first
    assert (take["status"], take["model"], take["plan"]["card"]) == ("delivered", "ours", CARD.name)
    film = probe_video(Path(take["files"]["film"]))
    assert (film.frames, film.width, film.height) == (9, 64, 64)
    assert (page["model"], page["plan"]["precision"], page["plan"]["steps"]) == ("ours", "int8", 4)
    assert page["asked"]["text.action"] == "text-only" and page["asked"]["seed"] == "exact"
    assert take["model_sha256"] and len(page["weights_sha256"]) == 64 != page["weights_sha256"]


def test_its_words_are_read_once_and_the_film_is_the_same(house, first):
    take, page = first
    assert take["plan"]["text"] == "cpu" and page["timings_s"]["reading"] > 0
    again, its_page = rushes(house, "retake", str(take["id"]), "--seed", "7")
    assert again["plan"]["text"] == "cached" and its_page["timings_s"]["reading"] == 0, "the encoder was loaded"
    assert np.array_equal(pictures(take["files"]["film"]), pictures(again["files"]["film"]))


def test_other_words_are_another_film(house, first):
    (house / "other.toml").write_text(SHOT.format(action="A quiet room."))
    other, page = rushes(house, "shoot", "other.toml")
    assert page["timings_s"]["reading"] > 0
    assert apart(pictures(first[0]["files"]["film"]), pictures(other["files"]["film"])) > 2


def test_the_models_take_turns_in_one_worker(house, first):
    take, _ = rushes(house, "shoot", "shot.toml", "--model", "previs", "--quality", "draft")
    assert (take["status"], take["model"], take["plan"]["card"]) == ("delivered", "previs", "previs")


def test_a_film_begins_with_a_picture_where_the_model_reads_one(house, first, spiece):
    """And follows the stage's depth: a small VACE, with a picture and without."""
    vace = replace(CARD, name="wan2.1-vace-14b-64x2", vace_layers=(0,), vace_channels=96, steps=2)
    made(house / "home" / "models" / "vace.safetensors", vace, spiece)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)).save(house / "first.png")
    films = []
    for name, refs in (("with.toml", '[refs]\nfirst = "first.png"\n'), ("without.toml", "")):
        (house / name).write_text(SHOT.format(action="Rain.") + refs)
        take, page = rushes(house, "shoot", name, "--model", "vace")
        assert (take["model"], page["asked"].get("refs.first", "exact")) == ("vace", "exact")
        films.append(pictures(take["files"]["film"]))
    assert apart(*films) > 0.5


def test_a_render_that_is_cut_off_goes_on_with_its_words(house, first, monkeypatch, tmp_path):
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "models").mkdir()
    os.link(house / "home" / "models" / "ours.safetensors", tmp_path / "models" / "ours.safetensors")
    with Library.open() as library:
        take = library.queue(read(house / "shot.toml"))
        assert attempt(library, tmp_path, kill_after=2).status is Status.QUEUED
        done = attempt(library, tmp_path)
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


def attempt(library, folder, kill_after=None):
    """One attempt at the take that waits, by a worker that dies after a step; the take as it stands then."""
    rendering = RenderTake(library, library.claim(owner(), 60), Timeouts(), StopFlag())
    assert rendering.plan()
    worker = Mortal(kill_after, folder / "worker.log")
    try:
        rendering.with_worker(worker)
    finally:
        worker.end()
    return library.take(rendering.take.id)


class Mortal(WorkerProcess):
    """A worker that is killed when it has reported a step."""

    def __init__(self, step, log):
        super().__init__(module_command("appliance.worker"), log)
        self.step = step

    def reports(self, wait_s):
        reports = super().reports(wait_s)
        if self.step and any(report.get("step", 0) >= self.step for report in reports):
            os.kill(self.pid, signal.SIGKILL)
            self.step = None
        return reports
