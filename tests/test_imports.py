"""The arrows of the map, enforced: tui -> appliance -> models -> kernels, never back; torch only where it belongs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("kernels", "models", "appliance", "tui")  # each may import those before it, and itself
FILES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TORCH_FREE_MODELS = {
    "card", "geometry", "footprint", "blocking", "optics", "cast", "sets", "stage", "solids", "mannequin", "defocus",
    "events", "errors",
}  # fmt: skip
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
    if path == Path("appliance/worker.py"):
        return
    for module, line in imports(path):
        parts = module.split(".")
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
        allowed = path == Path("appliance/opening.py")  # chooses the driver that sqlite-utils would
        assert allowed or module.split(".")[0] not in {"sqlite3", "pysqlite3"}, (
            f"{path}:{line}: take sqlite3 from appliance.opening"
        )


@pytest.mark.parametrize(
    ("module", "never"),
    [
        ("tui.app", HEAVY | {"numpy", "PIL", "av", "sqlite_utils", "kernels"}),
        ("tui.board", HEAVY | {"numpy", "PIL", "av", "sqlite_utils", "kernels"}),
        ("appliance.cli", HEAVY | {"numpy", "PIL", "av", "sqlite_utils", "textual", "rich"}),
        ("appliance.verbs_library", HEAVY | {"textual", "rich", "av"}),
        ("appliance.verbs_shoot", HEAVY | {"textual", "rich"}),
        ("appliance.verbs_machine", HEAVY | {"textual", "rich"}),
        ("appliance.daemon", HEAVY | {"textual", "rich"}),
        ("models.stage", HEAVY),
    ],
)
def test_cold_import_is_light(module, never):
    code = f"import sys, {module}; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert module in done.stdout.split()
    assert not never & {name.split(".")[0] for name in done.stdout.split()}
