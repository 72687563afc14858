"""Rules of the house that a reader should not have to check: short files, nothing hidden, nothing unfinished."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("appliance", "install", "kernels", "models", "tests", "tui")
SOURCES = sorted(
    path.relative_to(ROOT)
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".sh", ".tcss"} and "__pycache__" not in path.parts
)
PYTHON = [path for path in SOURCES if path.suffix == ".py"]
SHIPPED = [path for path in PYTHON if path.parts[0] != "tests"]
TOP_LEVEL = {
    "pyproject.toml", "README.md", "LICENSE", "appliance", "install", "kernels", "models", "tests", "tui",
}  # fmt: skip


def test_the_top_level_holds_exactly_what_it_should():
    made = {"build", "dist", "runs"}  # git ignores these: a build or a training run may have left them
    seen = {path.name for path in ROOT.iterdir() if not path.name.startswith(".") and path.suffix != ".egg-info"}
    assert seen - made - {"snapshot_report.html"} == TOP_LEVEL


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_no_file_is_long(path):
    assert len((ROOT / path).read_text().splitlines()) <= 450


@pytest.mark.parametrize("path", PYTHON, ids=str)
def test_every_module_says_what_it_is(path):
    assert ast.get_docstring(ast.parse((ROOT / path).read_text())), f"{path} has no docstring"


@pytest.mark.parametrize("path", [path for path in SHIPPED if path.name == "__init__.py"], ids=str)
def test_the_map_of_a_package_names_every_module_and_nothing_else(path):
    chart, folder = ast.get_docstring(ast.parse((ROOT / path).read_text())), (ROOT / path).parent
    for module in folder.glob("*.py"):
        assert module.stem.startswith("__") or re.search(rf"\b{module.stem}\b", chart), f"{path} forgets {module.stem}"
    for name in re.findall(r"^    ([\w.]+)", chart, re.M):
        assert any((folder / f"{name}{suffix}").exists() for suffix in ("", ".py")), f"{path}: there is no {name}"


@pytest.mark.parametrize("path", PYTHON, ids=str)
def test_nothing_that_we_refuse(path):
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        where = f"{path}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.ExceptHandler):
            assert not (_catches_all(node) and _hides(node)), f"{where} hides every error"
        if isinstance(node, ast.ImportFrom):
            assert "*" not in [alias.name for alias in node.names], f"{where} imports everything"
            assert node.module != "unittest.mock", f"{where} mocks"
        if isinstance(node, ast.Import):
            assert not {alias.name for alias in node.names} & {"unittest.mock", "mock"}, where
            assert path.parts[0] == "tests" or "pickle" not in [alias.name for alias in node.names], where
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            called = ast.unparse(node.func)
            confined = path == Path("models/weight_files/pickle_child.py") and "weights_only=True" in ast.unparse(node)
            assert called not in {"torch.load", "np.load", "numpy.load"} or confined, f"{where} may read a pickle"
        if isinstance(node, ast.Raise) and node.exc is not None:
            assert "NotImplementedError" not in ast.unparse(node.exc), f"{where} is a stub"


@pytest.mark.parametrize("path", SHIPPED, ids=str)
def test_nothing_unfinished_ships(path):
    mark = re.search(r"\b(TODO|FIXME|XXX|HACK)\b", (ROOT / path).read_text())
    assert mark is None, f"{path} is unfinished: {mark and mark[0]}"


@pytest.mark.parametrize("path", [path for path in PYTHON if path.parts[0] == "tests"], ids=str)
def test_tests_are_never_run_again_until_they_pass(path):
    text = (ROOT / path).read_text()
    if path != Path(__file__).resolve().relative_to(ROOT):
        assert "mark.flaky" not in text and "reruns" not in text
    assert path.name != "__init__.py", "a package under tests would shadow ours"


def _catches_all(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or ast.unparse(handler.type) in {"Exception", "BaseException"}


def _hides(handler: ast.ExceptHandler) -> bool:
    """Whether the body neither raises, reports nor computes anything."""
    return all(
        isinstance(node, (ast.Pass, ast.Continue, ast.Break))
        or (isinstance(node, ast.Return) and (node.value is None or ast.unparse(node.value) in {"None", "False", "''"}))
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for node in handler.body
    )


def test_every_op_has_a_kernel_of_the_signature_of_its_twin():
    """Read without loading torch or Triton. Defaults too: torch passes no argument on that equals its default."""
    kernels = ROOT / "kernels"
    made = [node for node in ast.parse((kernels / "ops.py").read_text()).body if isinstance(node, ast.Assign)]
    operations = {ast.unparse(node.targets[0]): node.value for node in made if ast.unparse(node).count("operation(")}
    assert operations
    for name, call in operations.items():
        assert isinstance(call, ast.Call)
        module, _, twin = ast.unparse(call.args[0]).partition(".")
        assert twin == name and module.startswith("reference"), f"{name} is made of {module}.{twin}"
        twins = _functions(kernels / f"{module}.py")
        module, _, function = ast.literal_eval(call.args[1]).partition(".")
        launchers = _functions(kernels / f"{module}.py")
        assert function in launchers, f"kernels/{module}.py has no {function}"
        for part in ("args", "returns"):
            ours, theirs = (ast.unparse(getattr(node, part)) for node in (launchers[function], twins[name]))
            assert ours == theirs, f"{name} and its launcher {module}.{function} differ"


def _functions(path: Path) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
