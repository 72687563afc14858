"""The layout of the code: which folder imports which, how large folders and modules are, how modules are named.

Each test lists every offender. `ORDER` in tree.py is the one list of who may import whom.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from tree import ENTRIES, ORDER, ROOT, cycles, imports, modules

MOST_MODULES, MOST_LINES = 12, 450
REASONS = ("# start-up", "# torch")  # a verb imports what it needs when it runs; a torch-free caller reaches torch
# Names that were exchanged for plainer ones: they do not come back as names of modules.
OLD_NAMES = {
    "absent", "compiled", "rivals", "rows_of", "quant_rows", "ln_mod_quant", "gate_res_norm_quant", "kinds", "confine",
    "unpickling", "companions", "spiece", "gathering", "converting", "words", "branches", "cast", "easycache", "stock",
    "ahead", "calls", "check", "wants", "reading", "dressing", "obedience", "gpus", "store", "inventory", "kept",
    "measured", "ledger", "opening", "outlook", "placing", "reasons", "experience", "estimate", "bringing", "color",
    "boxes", "house", "renderer", "films_of", "doing", "directing",
}  # fmt: skip


def test_imports_point_one_way():
    rank = {entry: place for place, entry in enumerate(ORDER)}
    known = modules()
    wrong = [
        f"{known[each.importer].path}:{each.line} imports {each.module}, which lies above it"
        for each in imports()
        if rank[known[each.module].room] > rank[known[each.importer].room]
    ]
    assert not wrong, "\n".join(wrong)


def test_a_folder_imports_only_what_it_says():
    """`May import:` in its docstring: folders, each for its own files; the files of the same folder always."""
    wrong = []
    known = modules()
    for each in imports():
        importer, target = known[each.importer], known[each.module]
        folder, room = importer.path.parent, ".".join(target.path.parent.parts)
        if target.path.parent != folder and room not in _may_import(folder):
            wrong.append(
                f"{importer.path}:{each.line} imports {each.module}; {folder}/__init__.py does not allow {room}"
            )
    assert not wrong, "\n".join(wrong)


def _may_import(folder: Path) -> set[str]:
    chart = ast.get_docstring(modules()[".".join(folder.parts)].tree) or ""
    line = re.search(r"^May import: (.*?)\.$", chart, re.M | re.S)
    return set(re.split(r",\s+", line[1])) if line else set()


def test_every_folder_has_its_place_in_the_order():
    folders = {name for name, module in modules().items() if module.path.name == "__init__.py"}
    assert folders <= set(ORDER), sorted(folders - set(ORDER))
    assert set(ORDER) <= set(modules()), sorted(set(ORDER) - set(modules()))


def test_no_modules_import_each_other_in_a_circle():
    arrows: dict[str, set[str]] = defaultdict(set)
    for each in imports():
        arrows[each.importer].add(each.module)
    found = cycles(arrows)
    assert not found, "\n".join(" <-> ".join(component) for component in found)


def test_folders_and_modules_stay_small():
    held: dict[Path, list[str]] = defaultdict(list)
    for module in modules().values():
        if not module.path.name.startswith("__"):
            held[module.path.parent].append(module.path.stem)
    wrong = [f"{folder} holds {len(names)} modules" for folder, names in held.items() if len(names) > MOST_MODULES]
    long = {
        path: len(path.read_text().splitlines())
        for folder in ("appliance", "install", "kernels", "models", "tests", "tui")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".sh", ".tcss"} and "__pycache__" not in path.parts
    }
    wrong += [f"{path.relative_to(ROOT)} has {lines} lines" for path, lines in long.items() if lines > MOST_LINES]
    assert not wrong, "\n".join(wrong)


def test_a_folder_names_exactly_its_modules():
    """Its docstring is the folder's table of contents: `    name  what it holds`, a line a module and folder."""
    wrong = []
    for module in modules().values():
        if module.path.name != "__init__.py":
            continue
        folder = ROOT / module.path.parent
        chart = ast.get_docstring(module.tree, clean=False) or ""
        listed = re.findall(r"^    (\w+) ", chart, re.M)
        here = {path.stem for path in folder.glob("*.py")} - {"__init__"}
        here |= {path.name for path in folder.iterdir() if (path / "__init__.py").is_file()}
        optional = {"__main__"}
        wrong += [f"{module.path} forgets {each}" for each in sorted(here - set(listed) - optional)]
        wrong += [f"{module.path} names {each}, which is not there" for each in sorted(set(listed) - here)]
        wrong += [f"{module.path} names {each} twice" for each in sorted(set(listed)) if listed.count(each) > 1]
        if len(module.tree.body) > 1:
            wrong.append(f"{module.path} holds more than a docstring")
    assert not wrong, "\n".join(wrong)


def test_an_import_inside_a_function_gives_its_reason():
    """Start-up: a verb imports what it needs when it runs. torch: a torch-free caller reaches torch in its child."""
    known = modules()
    wrong = [
        f"{known[each.importer].path}:{each.line}: {each.source.strip()}"
        for each in imports()
        if each.where == "function" and not any(reason in each.source for reason in REASONS)
    ]
    assert not wrong, "\n".join(wrong)


def test_one_constant_has_one_owner():
    """A constant of three words or more that two modules of a package bind is one fact with two owners."""
    owners: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for name, module in modules().items():
        for node in module.tree.body:
            targets = (
                node.targets
                if isinstance(node, ast.Assign)
                else [node.target]
                if isinstance(node, ast.AnnAssign)
                else []
            )
            for target in targets:
                if isinstance(target, ast.Name) and re.fullmatch(r"_?[A-Z0-9]+(_[A-Z0-9]+){2,}", target.id):
                    owners[name.split(".")[0], target.id].append(module.path)
    wrong = [f"{constant}: {', '.join(map(str, paths))}" for (_, constant), paths in owners.items() if len(paths) > 1]
    assert not wrong, "\n".join(wrong)


def test_old_names_do_not_come_back():
    wrong = [str(module.path) for module in modules().values() if module.path.stem in OLD_NAMES]
    assert not wrong, "\n".join(wrong)


def test_entries_only_start_what_lies_above():
    for name in ENTRIES:
        assert len(modules()[name].text.splitlines()) <= 12, name


def test_a_circle_is_found():
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert cycles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
