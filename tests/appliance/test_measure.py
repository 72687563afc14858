"""The script for the day a GPU is at hand, walked without one, and without what a rented machine would not have."""

import json
from pathlib import Path

import pytest

from appliance import measure
from models.errors import BadInput

ROOT = Path(__file__).resolve().parents[2]
ABSENT = ("av", "textual", "rich", "sqlite_utils", "hypothesis", "diffusers")


def test_a_dry_run_walks_all_of_it(python, tmp_path):
    for name in ABSENT:
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('{name} is not on that machine')\n")
    done = python(
        "-m",
        "appliance.measure",
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


def test_without_a_gpu_it_says_so_in_one_line(capsys):
    from appliance.device import probe

    if probe().gpus:
        pytest.skip("a GPU is here")
    assert measure.main([]) == BadInput.exit_code
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("there is no GPU to measure") and said.err.count("\n") == 1


def test_a_measurement_that_fails_is_a_finding_with_its_reason():
    assert "the card in these weights" in measure.run({"card": "{}", "geometry": {}, "placement": {}})["failed"]
