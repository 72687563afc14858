"""Rules of the code that a reader should not have to check: nothing hidden, nothing unfinished.

Each test lists every offender.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("appliance", "install", "kernels", "models", "tests", "tui")
PYTHON = {
    path.relative_to(ROOT): path.read_text()
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "__pycache__" not in path.parts
}
SHIPPED = {path: text for path, text in PYTHON.items() if path.parts[0] != "tests"}
TOP_LEVEL = {
    "pyproject.toml", "README.md", "LICENSE", "appliance", "install", "kernels", "models", "tests", "tui",
}  # fmt: skip


def test_the_top_level_holds_exactly_what_it_should():
    made = {"build", "dist", "runs"}  # git ignores these: a build or a training run may have left them
    seen = {path.name for path in ROOT.iterdir() if not path.name.startswith(".") and path.suffix != ".egg-info"}
    assert seen - made - {"snapshot_report.html"} == TOP_LEVEL


def test_every_module_says_what_it_is():
    assert len(PYTHON) > 300
    silent = [str(path) for path, text in PYTHON.items() if not ast.get_docstring(ast.parse(text))]
    assert not silent, "\n".join(silent)


def test_nothing_that_we_refuse():
    wrong = [offence for path, text in PYTHON.items() for offence in refused(path, ast.parse(text))]
    assert not wrong, "\n".join(wrong)


def test_what_we_refuse_is_found():
    """Each of these is one offence, and the rule must see it."""
    for code in (
        "try:\n    f()\nexcept Exception:\n    pass",
        "try:\n    f()\nexcept:\n    pass",
        "from unittest.mock import Mock",
        "import pickle",
        "import torch\ntorch.load('x')",
        "raise NotImplementedError('later')",
        "from os import *",
    ):
        assert len(list(refused(Path("appliance/x.py"), ast.parse(code)))) == 1, code
    fine = "try:\n    f()\nexcept Exception as error:\n    report(error)"
    assert not list(refused(Path("appliance/x.py"), ast.parse(fine)))


def refused(path: Path, tree: ast.Module):
    """Every offence of a file against what we refuse, one line each."""
    for node in ast.walk(tree):
        where = f"{path}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.ExceptHandler) and _catches_all(node) and _hides(node):
            yield f"{where} hides every error"
        if isinstance(node, ast.ImportFrom):
            if "*" in [alias.name for alias in node.names]:
                yield f"{where} imports everything"
            if node.module == "unittest.mock":
                yield f"{where} mocks"
        if isinstance(node, ast.Import):
            names = {alias.name for alias in node.names}
            if names & {"unittest.mock", "mock"}:
                yield f"{where} mocks"
            if "pickle" in names and path.parts[0] != "tests":
                yield f"{where} reads pickles"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            in_child = path == Path("models/weight_files/pickle_child.py") and "weights_only=True" in ast.unparse(node)
            if ast.unparse(node.func) in {"torch.load", "np.load", "numpy.load"} and not in_child:
                yield f"{where} may read a pickle"
        if isinstance(node, ast.Raise) and node.exc is not None and "NotImplementedError" in ast.unparse(node.exc):
            yield f"{where} is a stub"


def test_nothing_unfinished_ships():
    marks = {path: re.search(r"\b(TODO|FIXME|XXX|HACK)\b", text) for path, text in SHIPPED.items()}
    wrong = [f"{path}: {mark[0]}" for path, mark in marks.items() if mark]
    assert not wrong, "\n".join(wrong)


def test_tests_are_never_run_again_until_they_pass():
    here = Path(__file__).resolve().relative_to(ROOT)
    tests = {path: text for path, text in PYTHON.items() if path.parts[0] == "tests" and path != here}
    wrong = [f"{path} is run again" for path, text in tests.items() if "mark.flaky" in text or "reruns" in text]
    wrong += [f"{path} would shadow a package of ours" for path in tests if path.name == "__init__.py"]
    assert not wrong, "\n".join(wrong)


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


def test_every_op_has_a_kernel_of_the_signature_of_its_reference():
    """Read without loading torch or Triton. Defaults too: torch passes no argument on that equals its default."""
    kernels = ROOT / "kernels"
    tree = ast.parse((kernels / "ops.py").read_text())
    aliases = {
        alias.asname: f"{node.module}.{alias.name}"
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    made = [node for node in tree.body if isinstance(node, ast.Assign)]
    operations = {ast.unparse(node.targets[0]): node.value for node in made if ast.unparse(node).count("operation(")}
    assert operations
    for name, call in operations.items():
        assert isinstance(call, ast.Call)
        alias, _, reference = ast.unparse(call.args[0]).partition(".")
        module = aliases[alias]
        assert reference == name and module.endswith(".reference"), f"{name} is made of {module}.{reference}"
        references = _functions(ROOT / f"{module.replace('.', '/')}.py")
        module, _, function = ast.literal_eval(call.args[1]).rpartition(".")
        launchers = _functions(kernels / f"{module.replace('.', '/')}.py")
        assert function in launchers, f"kernels/{module} has no {function}"
        for part in ("args", "returns"):
            ours, theirs = (ast.unparse(getattr(node, part)) for node in (launchers[function], references[name]))
            assert ours == theirs, f"{name} and its launcher {module}.{function} differ"


def _functions(path: Path) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
