"""How the kernels are tested without a GPU: interpreted, in a process of their own.

Triton decides once, when it is imported, whether to interpret. So a test file that wants kernels interpreted defines
`interpret_all() -> dict[str, Tensor]`, which runs its cases through their launchers, and its tests take the fixture
`interpreted`: those results, from one process for the file, because starting one takes seconds. This file, run as a
program with TRITON_INTERPRET=1, is that process.
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


def interpret(file: Path, results: Path) -> dict[str, torch.Tensor]:
    """What `interpret_all` of the test file returns where Triton interprets; kept in the file `results`."""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, __file__, file, results], check=True, env=environment, cwd=root)
    return load_file(results)


@pytest.fixture(scope="module")
def interpreted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """What the interpreted kernels returned to the `interpret_all` of the test's file."""
    pytest.importorskip("triton")
    return interpret(request.path, tmp_path_factory.mktemp("interpreted") / "results.safetensors")


def main(file: str, results: str) -> None:
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    assert spec and spec.loader, file
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    save_file({name: tensor.contiguous() for name, tensor in module.interpret_all().items()}, results)


if __name__ == "__main__":
    main(*sys.argv[1:])
