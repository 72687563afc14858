"""Torch, the database driver and the screen are loaded only where they belong: read in the source, and tried."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from tree import imported, modules

HEAVY = {"torch", "triton", "safetensors"}
# Folders whose modules load torch, and in the others the modules that may. `models` itself: root files do not.
WITH_TORCH = {
    "kernels.linear", "kernels.rowwise", "kernels.attention", "kernels.vae", "kernels.bench", "kernels.toolchain",
    "models.dit", "models.vae", "models.encoders", "models.importing", "models.loading", "models.rendering",
    "models.training", "models.training.shots", "models.bench", "appliance.worker",
}  # fmt: skip
MODULES_WITH_TORCH = {
    "kernels.ops", "kernels.raycast", "models.weight_files.tensors", "models.weight_files.gguf_blocks",
    "models.weight_files.package_writer", "models.weight_files.pickle_child",
}  # fmt: skip
# Torch-free modules of folders that load torch: a plan reads which kernels a GPU runs, the doctor how Triton compiles,
# and the daemon speaks to its worker.
TORCH_FREE = {"kernels.dispatch", "kernels.toolchain.driver", "models.vae.tiling", "appliance.worker.protocol"}


def loads_torch(name: str) -> bool:
    """Whether a module of ours may load torch."""
    path = modules()[name].path
    if name in TORCH_FREE or path.name == "__init__.py":
        return False
    return name in MODULES_WITH_TORCH or ".".join(path.parent.parts) in WITH_TORCH


def test_torch_stays_behind_its_wall():
    """No torch-free module imports torch, nor one of ours that may load it, but in a child process: see `# torch`."""
    wrong = []
    for name, module in modules().items():
        if loads_torch(name):
            continue
        lines = module.text.splitlines()
        for imports, line, where in imported(module):
            ours = imports
            while ours and ours not in modules():
                ours = ours.rpartition(".")[0]
            heavy = (imports.split(".")[0] in HEAVY and where != "types") or (ours and loads_torch(ours))
            if heavy and not (where == "function" and "# torch" in lines[line - 1]):
                wrong.append(f"{module.path}:{line} imports {imports}")
    assert not wrong, "\n".join(wrong)


def test_every_torch_free_module_imports_without_torch(python):
    """In one process in which torch, triton and safetensors cannot be imported at all."""
    names = [name for name, module in modules().items() if not loads_torch(name) and "__main__" not in name]
    assert len(names) > 150
    code = f"""
import importlib, sys
for heavy in {sorted(HEAVY)}:
    sys.modules[heavy] = None
for name in {names}:
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(name, error)
"""
    done = python("-c", code)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_one_sqlite_in_a_process():
    """sqlite3 beside pysqlite3 would put two SQLites in one process, whose locks cancel each other."""
    wrong = [
        f"{module.path}:{line}: take sqlite3 from appliance.library.connection"
        for name, module in modules().items()
        for imports, line, _ in imported(module)
        if imports.split(".")[0] in {"sqlite3", "pysqlite3"} and name != "appliance.library.connection"
    ]
    assert not wrong, "\n".join(wrong)


DESK = HEAVY | {"numpy", "PIL", "av", "sqlite_utils", "kernels"}
SCREEN = {"textual", "rich"}


@pytest.mark.parametrize(
    ("code", "never"),
    [
        ("import tui.app, tui.screens.board", DESK),
        ("import appliance.cli.main", HEAVY | SCREEN | {"numpy", "PIL", "av", "sqlite_utils"}),
        ("import appliance.cli.library", HEAVY | SCREEN | {"numpy", "av", "sqlite_utils"}),
        ("import appliance.cli.shoot, appliance.cli.machine", HEAVY | SCREEN),
        ("import appliance.daemon.serve", HEAVY | SCREEN | {"numpy", "av", "sqlite_utils"}),
        ("import appliance.planning.plan", HEAVY | {"numpy", "av", "pynvml", "psutil"}),
        ("import appliance.delivery.labels.aigc", HEAVY | {"numpy", "av", "PIL"}),
        ("import appliance.direction.document", HEAVY | SCREEN | {"numpy"}),
        ("from appliance.direction.document import from_toml; from_toml('[set]')", HEAVY | SCREEN),
        ("from appliance.machine.probe import probe; probe()", HEAVY | {"numpy"}),
        ("import models.cost.footprint, models.weight_files.package_header", HEAVY | {"numpy"}),
        (
            "from models.controls.films import control_films; from models.controls.rays import camera_rays;"
            "from models.controls.tokens import context_tokens; from models.training.shots import scenes, shoot;"
            "shot = scenes.shot(5, 5, 32, 48); control_films(shot), camera_rays(shot), context_tokens(shot)",
            HEAVY | {"array_api_compat"},
        ),
        # With torch, but without its compiler, which some arithmetic on the meta device and custom ops wake: seconds.
        (
            "import torch; from kernels import ops; q, s = ops.quant_rows(torch.ones(2, 3));"
            "ops.int8_linear(q, s, q, s, None, 'none', torch.float32)",
            {"triton", "torch._dynamo"},
        ),
        (
            "from models.card import TINY; from models.loading.quantize import load_quantized, quantize;"
            "from models.dit.wan import Transformer;"
            "load_quantized(TINY, quantize(Transformer(TINY).state_dict(), TINY))",
            {"triton", "torch._dynamo"},
        ),
    ],
    ids=lambda value: value.split(";")[0] if isinstance(value, str) else "",
)
def test_nothing_is_loaded_that_is_not_needed(python, code, never):
    done = python("-c", f"import sys\n{code}\nprint('\\n'.join(sys.modules))")
    assert done.returncode == 0, done.stderr
    assert not never & set(done.stdout.split())
