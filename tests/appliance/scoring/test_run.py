"""The scorecard: numbers by hand, the command as people run it, and what is kept beside the weights."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from appliance.cli.score import record
from appliance.scoring.axes import AXES
from appliance.scoring.page import HEAD, markdown, picture, table_rows
from appliance.scoring.run import axes_named
from appliance.scoring.scorecard import FILMS, Sweep, cross_talk, response, row_of, summed_up
from models.errors import BadInput

ROOT = Path(__file__).resolve().parents[3]
PAN = next(axis for axis in AXES if axis.name == "pan")


def test_a_response_by_hand():
    found = response([0, 1, 2, 3], [0.5, 1.5, 2.5, None])
    assert (found.count, found.unscored, found.mae, found.bias, found.worst) == (4, 0.25, 0.5, 0.5, 0.5)
    assert (found.gain, found.r2) == (pytest.approx(1), pytest.approx(1))
    half = response([-2, 0, 2], [-1, 0, 1])
    assert (half.gain, half.mae, half.bias) == (pytest.approx(0.5), pytest.approx(2 / 3), 0)
    noisy = response([0, 1, 2], [0, 3, 2])  # the line 2/3 + x leaves 8/3 of 14/3
    assert noisy.gain == pytest.approx(1) and noisy.r2 == pytest.approx(1 - (8 / 3) / (14 / 3))


def test_a_response_to_nothing():
    none = response([1, 2], [None, float("nan")])
    assert (none.unscored, none.mae, none.gain) == (1, math.inf, None)
    flat = response([1, 2, 3], [5, 5, 5])
    assert (flat.gain, flat.r2) == (0, 0)
    assert response([1, 1], [1, 2]).gain is None


def sweep(model=(-14.0, 0.5, 15.0), dropped=(0.0, 0.0, 0.0)):
    made = Sweep(PAN, [-15.0, 0.0, 15.0], [0, 0, 0], [-15.0, 0.0, 15.0])
    made.values = {"floor": [-15.0, 0.0, 15.0], "model": list(model), "dropped": list(dropped),
                   "shuffled": [0.0, 15.0, -15.0]}  # fmt: skip
    made.known = {"floor": [True] * 3, "model": [True, False, None]}
    made.still = {"floor": [(0.0, 0.0)], "model": [(0.2, 1.0)]}
    made.commanded_px = [50.0, 50.0]
    made.strayed_px = {"floor": [np.zeros(7)] * 2, "model": [np.arange(7.0), -np.arange(7.0)]}
    return made


def test_one_axis_by_hand():
    row = row_of(sweep())
    assert row["passes"] and row["beats_baselines"]
    assert (
        row["model"]["mae"] == 0.5 and row["floor"]["mae"] == 0 and row["dropped"]["mae"] == 15
    )  # the neutral dose left out
    assert row["obedience"] == pytest.approx(math.exp(-0.5 / 1.5), rel=1e-4)
    assert not row_of(sweep(model=(-13, 3, 15)))["passes"]
    lost = row_of(sweep(model=(-15.0, None, None)))  # what it shows is right, but most cannot be told
    assert lost["model"]["mae"] == 0 and not lost["passes"]
    nothing = row_of(sweep(model=(None,) * 3))
    assert nothing["model"]["mae"] is None and nothing["obedience"] == 0 and not nothing["beats_baselines"]
    assert not row_of(sweep(dropped=(-14.5, 9.0, 14.6)))["beats_baselines"]
    assert row_of(sweep(dropped=(None, 0.0, None)))["beats_baselines"]  # untold, it shows nothing that can be measured


def test_all_axes_by_hand():
    whole = summed_up([sweep()], frames=17)
    assert cross_talk(sweep(), "model") == pytest.approx([2 * i / 100 for i in range(7)])
    assert whole["cross_talk"]["floor"]["pan"] == [0] * 7
    assert whole["identity"]["model"] == {"films": 3, "unscored": pytest.approx(1 / 3, rel=1e-3), "top_1": 0.5}
    assert whole["locked_off"]["model"]["drift_px_a_frame"] == 0.2 and whole["isolation"]["model"] is None
    json.dumps(whole, allow_nan=False)


def test_axes_by_name_and_with_fewer_doses():
    assert [axis.name for axis in axes_named(["roll", "pan", "roll"])] == ["roll", "pan"]
    assert len(axes_named([])) == len(AXES)
    (few,) = axes_named(["zoom"], doses=3)
    assert few.doses == (0.6, 0.0, 1.8) and few.doses[few.neutral] == 0
    with pytest.raises(BadInput, match=r'axis is "spin".*pan, tilt'):
        axes_named(["spin"])


def document(folder):
    facts = {
        "schema": "rushes-score/1",
        "device": "cpu",
        "steps": 8,
        "seeds": 1,
        "frames": 17,
        "width": 224,
        "height": 128,
    }
    return facts | summed_up([sweep(), sweep(model=(None, 80.0, 2.0))], frames=17)


def test_the_page_and_the_picture(tmp_path):
    made = document(tmp_path)
    rows = table_rows(made)
    assert len(rows) == 2 and {len(row) for row in rows} == {len(HEAD)}
    assert rows[0][-1] == "ok" and rows[1][-1].startswith("OFF") and "no better than uncontrolled" in rows[1][-1]
    (tmp_path / "page.png").write_bytes(picture(made))
    with Image.open(tmp_path / "page.png") as page:
        assert page.size == (2 * 236 + 16, 206 + 48)
        assert len(page.convert("RGB").getcolors(10_000)) > 8
    assert (tmp_path / "page.png").stat().st_size < 60_000


def test_scores_are_kept_beside_the_weights_once(tmp_path):
    page = tmp_path / "TRAINING.md"
    page.write_text("# How\n\nIt was.\n\n## Elsewhere\n\nMore.\n")
    made = document(tmp_path)
    record(made, tmp_path)
    record(made | {"steps": 4}, tmp_path)
    text = page.read_text()
    assert (
        text.startswith("# How\n\nIt was.\n\n## Elsewhere\n\nMore.\n\n## Scorecard\n")
        and text.count("## Scorecard") == 1
    )
    assert "4 steps" in text and "8 steps" not in text and f"| {' | '.join(HEAD)} |" in text
    assert json.loads((tmp_path / "SCORES.json").read_text())["steps"] == 4
    page.write_text(f"# How\n\n{markdown(made)}\n## Elsewhere\n\nMore.\n")
    record(made, tmp_path)
    assert page.read_text() == f"# How\n\n{markdown(made)}\n## Elsewhere\n\nMore.\n"


def test_the_command_scores_one_axis(python, tmp_path):
    run = python("-m", "appliance", "score", "--axis", "pan", "--seeds", "1", "--doses", "3", "--steps", "2", "--json",
                 cwd=tmp_path, RUSHES_HOME=str(tmp_path / "house"))  # fmt: skip
    assert run.returncode == 0, run.stderr
    made = json.loads(run.stdout)
    assert made == json.loads((tmp_path / "rushes-score.json").read_text())
    assert (tmp_path / "rushes-score.png").read_bytes().startswith(b"\x89PNG")
    told = run.stderr.splitlines()
    assert told[0].startswith("3 films of 17 frames, 2 steps each: about ") and told[1].startswith("pan: ")
    (row,) = made["axes"]
    assert [point["dose"] for point in row["points"]] == [-15.0, 0.0, 15.0]
    assert row["floor"]["mae"] < 0.2 and row["floor"]["gain"] == pytest.approx(1, abs=0.02)
    assert row["shuffled"]["mae"] > 5 and [row[name]["count"] for name in FILMS] == [3, 3, 2, 3]
    assert row["model"]["mae"] < row["shuffled"]["mae"]  # shipped weights, however few steps, pan when told to
    assert len(made["package"]["data_sha256"]) == 64 and made["identity"]["floor"]["top_1"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("--axis", "spin"), "it must be one of pan"), (("--out", "nowhere"), "nowhere is not a folder"),
     (("--model", "none.safetensors", "--axis", "pan"), "none.safetensors"),
     (("--record", "--doses", "3"), "leave --axis and --doses out")],
)  # fmt: skip
def test_what_cannot_be_scored_is_said_in_one_line(python, tmp_path, arguments, words):
    run = python("-m", "appliance", "score", *arguments, cwd=tmp_path)
    assert run.returncode == 2 and words in run.stderr and run.stderr.count("\n") == 1, run.stderr


def test_interrupted_it_leaves_no_worker_and_no_files(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    run = subprocess.Popen(
        [sys.executable, "-P", "-m", "appliance", "score", "--axis", "pan", "--steps", "50"], cwd=tmp_path,
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert "films of 17 frames" in run.stdout.readline()
    assert list(tmp_path.glob("rushes-score-*"))
    time.sleep(0.3)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=30)
    assert (run.returncode, err) == (130, "rushes: interrupted\n")
    assert list(tmp_path.iterdir()) == []
