"""The arrows of the map, enforced: tui -> appliance -> models -> kernels, never back; torch only where it belongs."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("kernels", "models", "appliance", "tui")  # each may import those before it, and itself
FILES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TORCH_FREE_MODELS = ("models.stage", "models.controls", "models.cost", "models.weight_files")  # and the root files
WITH_TORCH = {  # of models.weight_files
    "models.weight_files.tensors", "models.weight_files.gguf_blocks", "models.weight_files.package_writer",
    "models.weight_files.pickle_child",
}  # fmt: skip
# a plan reads which way a card computes; the doctor, ours
TORCH_FREE_KERNELS = {"kernels.dispatch", "kernels.toolchain.driver"}
HEAVY = {"torch", "triton", "safetensors"}


def imports(path: Path):
    """Every import in a file, deferred ones too, as (module, line)."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno} imports relatively; imports are flat"
            yield node.module or "", node.lineno


def test_there_is_something_to_check():
    assert {path.parts[0] for path in FILES} == set(PACKAGES)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_point_down(path):
    below = PACKAGES[: PACKAGES.index(path.parts[0]) + 1]
    for module, line in imports(path):
        top = module.split(".")[0]
        assert top not in PACKAGES or top in below, f"{path}:{line} imports {module}, which lies above it"


@pytest.mark.parametrize("path", [path for path in FILES if path.parts[0] in ("appliance", "tui")], ids=str)
def test_only_the_worker_touches_torch(path):
    if path == Path("appliance/worker/__main__.py"):
        return
    for module, line in imports(path):
        parts = module.split(".")
        if module not in TORCH_FREE_KERNELS:
            assert parts[0] not in {"torch", "triton", "kernels"}, f"{path}:{line} imports {module}"
        if parts[0] == "models" and len(parts) > 1:
            assert parts[1] in TORCH_FREE_MODELS, f"{path}:{line} imports {module}, which loads torch"


@pytest.mark.parametrize("path", [path for path in FILES if path.parts[0] == "models"], ids=str)
def test_the_torch_free_models_are_torch_free(path):
    if path.stem not in TORCH_FREE_MODELS or len(path.parts) > 2:
        return
    for module, line in imports(path):
        parts = module.split(".")
        assert parts[0] not in HEAVY | {"kernels"}, f"{path}:{line} imports {module}"
        if parts[0] == "models" and len(parts) > 1:
            assert parts[1] in TORCH_FREE_MODELS, f"{path}:{line} imports {module}, which loads torch"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_one_sqlite_in_a_process(path):
    """sqlite3 beside pysqlite3 would put two SQLites in one process, whose locks cancel each other."""
    for module, line in imports(path):
        allowed = path == Path("appliance/library/connection.py")  # chooses the driver that sqlite-utils would
        assert allowed or module.split(".")[0] not in {"sqlite3", "pysqlite3"}, (
            f"{path}:{line}: take sqlite3 from appliance.library.connection"
        )


DESK = HEAVY | {"numpy", "PIL", "av", "sqlite_utils", "kernels"}
SCREEN = {"textual", "rich"}


@pytest.mark.parametrize(
    ("code", "never"),
    [
        ("import tui.app", DESK),
        ("import tui.screens.board", DESK),
        ("import appliance.cli.main", HEAVY | SCREEN | {"numpy", "PIL", "av", "sqlite_utils"}),
        ("import appliance.cli.library", HEAVY | SCREEN | {"numpy", "av", "sqlite_utils"}),
        ("import appliance.cli.shoot", HEAVY | SCREEN),
        ("import appliance.cli.machine", HEAVY | SCREEN),
        ("import appliance.daemon", HEAVY | SCREEN | {"numpy", "av", "sqlite_utils"}),
        ("import appliance.planning.plan", HEAVY | {"numpy", "av", "pynvml", "psutil"}),
        ("import appliance.delivery.labels.aigc", HEAVY | {"numpy", "av", "PIL"}),
        ("import appliance.direction.document", HEAVY | SCREEN | {"numpy"}),
        ("from appliance.direction.document import from_toml; from_toml('[set]')", HEAVY | SCREEN),
        ("from appliance.machine.device import probe; probe()", HEAVY | {"numpy"}),
        ("import models.cost.footprint, models.weight_files.safetensors_header", HEAVY | {"numpy"}),
        (
            "from models.controls.films import control_films; from models.controls.rays import camera_rays;"
            "from models.controls.tokens import context_tokens; from models.training.shots import shoot, scenes;"
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
