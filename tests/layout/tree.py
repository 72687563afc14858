"""The code as a tree of folders, and the imports between its modules, read from source."""

from __future__ import annotations

import ast
import functools
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Who may import whom: each entry only those before it, and itself. A package's root files come first within it.
ORDER = (
    "kernels", "kernels.rowwise", "kernels.vae", "kernels.linear", "kernels.attention", "kernels.ops",
    "kernels.toolchain", "kernels.bench",
    "models", "models.stage", "models.controls", "models.cost", "models.weight_files", "models.dit", "models.vae",
    "models.encoders", "models.loading", "models.importing", "models.rendering", "models.training.shots",
    "models.training", "models.bench",
    "appliance", "appliance.direction", "appliance.blocking", "appliance.capability", "appliance.machine",
    "appliance.measuring", "appliance.library", "appliance.planning", "appliance.delivery.labels",
    "appliance.delivery.media", "appliance.delivery", "appliance.catalog", "appliance.worker", "appliance.daemon",
    "appliance.scoring", "appliance.shooting", "appliance.operations", "appliance.cli",
    "tui", "tui.wording", "tui.live", "tui.widgets", "tui.screens", "tui.app",
)  # fmt: skip
# Entry points: a folder of the root that only starts what lies above it.
ENTRIES = {"appliance.__main__": "appliance.cli", "tui.__main__": "tui.app"}


@dataclass(frozen=True, slots=True)
class Import:
    """One import of one of our modules by another."""

    importer: str
    module: str  # the module imported, never a name inside it
    line: int
    where: str  # "top" of the file, "function", or "types" for type checkers alone
    source: str  # its line of code


@dataclass(frozen=True, slots=True)
class Module:
    """One file of the code."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def room(self) -> str:
        """The entry of ORDER that this module belongs to."""
        if self.name in ENTRIES:
            return ENTRIES[self.name]
        return max((entry for entry in ORDER if self.name == entry or self.name.startswith(f"{entry}.")), key=len)


@functools.cache
def modules() -> dict[str, Module]:
    """Every module of the four packages, by its dotted name. A package is named by its folder."""
    found = {}
    for package in ("kernels", "models", "appliance", "tui"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            text = path.read_text()
            found[name] = Module(name, path.relative_to(ROOT), text, ast.parse(text))
    return found


def imported(module: Module) -> list[tuple[str, int, str]]:
    """What a module imports, whatever it is: (dotted name, line, where: "top", "function" or "types")."""
    found = []

    def visit(node: ast.AST, where: str) -> None:
        if isinstance(node, ast.Import):
            found.extend((alias.name, node.lineno, where) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module.path}:{node.lineno} imports relatively; imports are absolute"
            base = node.module or ""
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.append((inner if inner in modules() else base, node.lineno, where))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            where = "function"
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            where = "types"
        for child in ast.iter_child_nodes(node):
            visit(child, where)

    visit(module.tree, "top")
    return found


@functools.cache
def imports() -> tuple[Import, ...]:
    """Every import of one of our modules by another, also in functions and under TYPE_CHECKING."""
    found = []
    for module in modules().values():
        lines = module.text.splitlines()
        for name, line, where in imported(module):
            while name and name not in modules():
                name = name.rpartition(".")[0]
            if name and name != module.name:
                found.append(Import(module.name, name, line, where, lines[line - 1]))
    return tuple(dict.fromkeys(found))


def cycles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected components of more than one node (Tarjan, without recursion over long chains)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for below in sorted(arrows.get(node, ())):
            if below not in index:
                visit(below)
                low[node] = min(low[node], low[below])
            elif below in stack:
                low[node] = min(low[node], index[below])
        if low[node] == index[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(component) > 1:
                found.append(sorted(component))

    for node in sorted(arrows):
        if node not in index:
            visit(node)
    return found
