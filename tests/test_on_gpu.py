"""install/on_gpu.sh needs only torch, triton, numpy, safetensors and pytest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]

# Packages that a bare machine lacks cannot be found, as if they were not installed.
BARE = """
from importlib.machinery import PathFinder
LACKS = {"hypothesis", "textual", "av", "sqlite_utils", "pysqlite3", "diffusers", "array_api_compat"}
find = PathFinder.find_spec
lacks = lambda _, name, *more: None if name.partition(".")[0] in LACKS else find(name, *more)
PathFinder.find_spec = classmethod(lacks)
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU: run install/on_gpu.sh itself")
def test_a_bare_machine_collects_the_tests_and_runs_the_benchmarks(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(BARE)
    bare = {"PYTHONPATH": str(tmp_path), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "OMP_NUM_THREADS": "1"}
    settings = {"OUT": str(tmp_path / "out"), "RUSHES_PYTHON": sys.executable}
    run = subprocess.run(
        [ROOT / "install" / "on_gpu.sh", "--dry-run", "--only=a"], env=os.environ | bare | settings, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout
    last = (tmp_path / "out" / "tests.log").read_text().strip().split("\n")[-1]
    assert "skipped" in last and "failed" not in last and "error" not in last
    documents = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json")]
    assert {document["benchmark"] for document in documents} == {"kernels", "models"}
    assert all(document["rows"] and not document["failed"] for document in documents)
    (models,) = (document for document in documents if document["benchmark"] == "models")
    assert "ModuleNotFoundError" in models["rows"][0]["baselines"]["diffusers"]["cannot"]


def test_an_unknown_step_is_refused():
    run = subprocess.run([ROOT / "install" / "on_gpu.sh", "test"], capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr == "on_gpu.sh: test is not one of tests, kernels, models\n"
