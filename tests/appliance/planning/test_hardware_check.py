"""The script for the day a GPU is at hand, walked without one, and without what a rented machine would not have."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.planning import hardware_check as measure
from models.errors import BadInput

ROOT = Path(__file__).resolve().parents[3]
ABSENT = ("av", "textual", "rich", "sqlite_utils", "hypothesis", "diffusers")


def test_a_dry_run_walks_all_of_it(python, tmp_path):
    for name in ABSENT:
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('{name} is not on that machine')\n")
    done = python(
        "-m",
        "appliance.planning.hardware_check",
        "--dry-run",
        "--card",
        "wan2.1-t2v-14b",
        "--play",
        "8",
        PYTHONPATH=f"{tmp_path}:{ROOT}",
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout.strip().split("\n")[-1])
    assert document["format"] == "rushes.measured/1" and document["dry_run"]
    assert document["rates"]["rates"]["flops_int8"] > 0
    assert [row["width"] for row in document["plans"]] == [832, 1280]
    for row in document["plans"]:
        assert row["predicted_forward_s"] > 0 and row["measured"]["peak_bytes"] > 0
        assert row["memory_bytes"] > row["measured"]["predicted_bytes"] > 0  # the plan's is of a whole film
    stay, memory, disk = document["streaming"]
    assert [row["placement"]["resident_blocks"] for row in (stay, memory, disk)] == [None, 0, 0]
    assert stay["same"] and memory["same"] and disk["same"] and stay["throughput"] == 1
    assert disk["placement"]["source"] == "disk" and disk["throughput"] > 0
    table = done.stdout.split("\n")
    assert sum("wan2.1-t2v-14b" in line and "int8, all stay" in line for line in table) == 2


def test_it_can_be_stopped_even_where_it_was_started_to_ignore_that():
    """In the background of a script: what was measured until then is in the document."""
    command = [
        sys.executable,
        "-m",
        "appliance.planning.hardware_check",
        "--dry-run",
        "--card",
        "wan2.1-t2v-1.3b",
        "--play",
        "8",
    ]
    with subprocess.Popen(
        ["bash", "-c", 'trap "" INT; exec "$@"', "-", *command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as child:  # fmt: skip
        first = child.stdout.readline()
        child.send_signal(signal.SIGINT)
        said, errors = child.communicate(timeout=60)
    assert child.returncode == 130, errors
    assert "its rates: " in first and "GFLOP/s in int8" in first
    document = json.loads(said.strip().split("\n")[-1])
    assert document["interrupted"] and document["rates"]["rates"]["flops_int8"] > 0 and len(document["plans"]) < 2


def test_after_its_limit_nothing_more_is_begun(capsys):
    assert measure.main(["--dry-run", "--card", "wan2.1-t2v-1.3b", "--play", "8", "--limit", "0"]) == 0
    document = json.loads(capsys.readouterr().out.strip().split("\n")[-1])
    assert document["rates"] and not document["plans"] and not document["streaming"]
    assert document["not_begun"] == [
        "wan2.1-t2v-1.3b 832x480 on 8 GiB", "wan2.1-t2v-1.3b 1280x720 on 8 GiB", "wan2.1-t2v-1.3b in slots",
    ]  # fmt: skip


def test_without_a_gpu_it_says_so_in_one_line(capsys):
    from appliance.machine.probe import probe

    if probe().gpus:
        pytest.skip("a GPU is here")
    assert measure.main([]) == BadInput.exit_code
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("there is no GPU to measure") and said.err.count("\n") == 1


def test_a_measurement_that_fails_is_a_finding_with_its_reason():
    assert "the card in these weights" in measure.run({"card": "{}", "geometry": {}, "placement": {}})["failed"]
