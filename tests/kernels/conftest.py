"""Kernels tested without a GPU: run by Triton's interpreter, in one process for all test files.

Triton decides at import whether to interpret. A test file that wants its kernels interpreted defines
`interpret_all() -> dict[str, Tensor]`, which runs its cases through their launchers; its tests take the fixture
`interpreted`, the results. All files of a session share one process, because starting one takes seconds. This file, run
as a program with TRITON_INTERPRET=1, is that process.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

Results = dict[str, torch.Tensor]


@pytest.fixture(scope="session")
def interpreted_files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Results]:
    """The results of `interpret_all` of every test file of this session that uses them."""
    pytest.importorskip("triton")
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    files = sorted({item.path for item in items if "interpreted_files" in item.fixturenames})
    folder, root = tmp_path_factory.mktemp("interpreted"), Path(__file__).parents[2]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, __file__, folder, *files], check=True, env=environment, cwd=root)
    return {file: load_file(folder / f"{number}.safetensors") for number, file in enumerate(files)}


@pytest.fixture(scope="module")
def interpreted(request: pytest.FixtureRequest, interpreted_files: dict[Path, Results]) -> Results:
    """What the interpreted kernels returned to the `interpret_all` of the test's file."""
    return interpreted_files[request.path]


def main(folder: str, *files: str) -> None:
    torch.use_deterministic_algorithms(True)  # new tensors are then filled with NaN or the largest integer
    for number, file in enumerate(files):
        spec = importlib.util.spec_from_file_location(f"interpreted_{number}", file)
        assert spec and spec.loader, file
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        results = {name: tensor.contiguous() for name, tensor in module.interpret_all().items()}
        save_file(results, Path(folder) / f"{number}.safetensors")


if __name__ == "__main__":
    main(*sys.argv[1:])
