"""A checkpoint is imported, listed, checked and quoted, and errors of the importing process are reported."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.catalog import importer
from appliance.catalog.importer import ProgressView
from appliance.catalog.installed import card_and_package, packages_here
from appliance.units import bytes_words
from models.card import CARDS, WAN_14B
from models.errors import BadInput, RushesError

ROOT = Path(__file__).parents[3]
SHOT = ROOT / "appliance" / "examples" / "mara_crosses.toml"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A transformer of Wan's kind, two blocks of 256 channels."""
    import torch
    from safetensors.torch import save_file

    from models.dit.wan import Transformer

    network = Transformer(replace(WAN_14B, dim=256, ffn=512, heads=2, layers=2, text_dim=64))
    generator = torch.Generator().manual_seed(0)
    state = {name: torch.randn(t.shape, generator=generator) / 16 for name, t in network.state_dict().items()}
    path = tmp_path_factory.mktemp("disk") / "wan2.1_t2v_14B.safetensors"
    save_file(state, path)
    return path


def rushes(python, home: Path, *arguments: object):
    return python("-m", "appliance", *arguments, RUSHES_HOME=str(home))


def test_a_model_is_imported_listed_checked_and_quoted(python, tmp_path, checkpoint):
    incomplete = rushes(python, tmp_path, "models", "import", checkpoint, "--card", "wan2.1-t2v-14b")
    assert incomplete.returncode == 2 and "use --partial" in incomplete.stderr and incomplete.stderr.count("\n") == 1
    options = ("--partial", "--name", "ours", "--card", "wan2.1-t2v-14b", "--json")
    imported = rushes(python, tmp_path, "models", "import", *options, checkpoint)
    assert imported.returncode == 0, imported.stderr
    done = json.loads(imported.stdout)
    assert done["path"] == str(tmp_path / "models" / "ours.safetensors") and "converting 100%" in imported.stderr
    assert {row["form"] for row in done["report"]} == {"int8", "bf16"}
    listed = json.loads(rushes(python, tmp_path, "models", "--json").stdout)
    (own,) = listed["house"]
    assert (own["name"], own["card"], own["precision"], own["parts"], own["trouble"]) == (
        "ours", "wan2.1-t2v-14b-256x2", "int8", ["transformer"], "",
    )  # fmt: skip
    assert "imported\n" in rushes(python, tmp_path, "models").stdout
    checked = rushes(python, tmp_path, "models", "check", "ours")
    assert checked.returncode == 0 and "sha256" in checked.stdout and "Apache-2.0" in checked.stdout
    document = json.loads(rushes(python, tmp_path, "models", "check", "ours", "--json").stdout)
    assert document["whole"] and document["data_sha256"] == done["data_sha256"] and len(document["report"]) == 27
    quote = rushes(python, tmp_path, "quote", SHOT, "--model", "ours")
    package = tmp_path / "models" / "ours.safetensors"
    weights = f"ours, {bytes_words(package.stat().st_size)} on disk, in int8"
    assert weights in quote.stdout, quote.stdout + quote.stderr
    data = bytearray(package.read_bytes())
    data[-1] ^= 1
    package.write_bytes(data)
    damaged = rushes(python, tmp_path, "models", "check", "ours")
    assert damaged.returncode == 2 and "is damaged" in damaged.stderr
    unknown = rushes(python, tmp_path, "models", "check", "theirs")
    assert unknown.returncode == 2 and "it must be one of previs, ours" in unknown.stderr


def test_a_file_that_is_no_package_is_listed_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path))
    assert packages_here() == []
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "bad.safetensors").write_bytes(b"nothing at all")
    (one,) = packages_here()
    assert one.name == "bad" and "not a safetensors file" in one.trouble
    with pytest.raises(BadInput, match="there is no model 'bad': you can shoot with previs"):
        card_and_package("bad")
    assert card_and_package("wan2.1-t2v-14b") == (CARDS["wan2.1-t2v-14b"], None)


def test_an_importing_process_that_dies_is_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path))
    for code, says in (
        ("import os; os.kill(os.getpid(), 9)", "was killed"),
        ("import sys; sys.exit(3)", "ended with exit code 3"),
        ("print('x')", "a line that is not an event"),
        ('print(\'{"event": "error", "text": "no", "code": 1}\')', "^no$"),
    ):
        monkeypatch.setattr(importer.processes, "module_command", lambda *_, code=code: [sys.executable, "-c", code])
        with pytest.raises(RushesError, match=says):
            importer.import_model([], [], io.StringIO())


def test_ctrl_c_ends_the_process_and_keeps_finished_work(tmp_path, checkpoint):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "RUSHES_HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "appliance", "models", "import", str(checkpoint), "--partial"]
    run = subprocess.Popen(
        [*command, "--card", "wan2.1-t2v-14b"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("models/.importing-*")) and time.monotonic() < deadline and run.poll() is None:
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=30)
    if run.returncode != 0:  # else it had finished before the signal
        assert run.returncode == 130 and b"the same command resumes" in out and err == b"rushes: interrupted\n"


class Terminal(io.StringIO):
    """A terminal that records its output."""

    def isatty(self) -> bool:
        return True


def test_progress_is_a_bar_on_a_terminal_and_tenths_elsewhere():
    events = [{"event": "progress", "what": "hashing a b", "done": n, "of": 100} for n in range(0, 101)]
    lines, bar = io.StringIO(), Terminal()
    for out in (lines, bar):
        shown = ProgressView(out)
        for event in [
            *events,
            {"event": "found", "part": "vae", "path": "x\x1b[2J", "layout": "original", "stored": "f32"},
        ]:
            shown.event(event)
        shown.close()
    assert len(lines.getvalue().splitlines()) == 12 and "hashing 100%" in lines.getvalue()
    assert " 50%" in bar.getvalue() and "\x1b[2J" not in bar.getvalue() + lines.getvalue()
