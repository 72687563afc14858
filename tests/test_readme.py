"""The README is true: every verb is in it and has help, and the files, functions and folders that it names exist."""

import argparse
import ast
import re
from pathlib import Path

from appliance.cli.main import parser

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
VERBS = next(action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
PATH_OF_A_SHOT = re.findall(r"^\| `([\w/]+\.py)` \| `([\w.]+)` \|", README, re.M)


def test_every_verb_is_in_the_readme_and_has_help():
    wrong = []
    for verb, sub in VERBS.choices.items():
        if f"`rushes {verb}" not in README:
            wrong.append(f"the README does not mention `rushes {verb}`")
        summary = next(choice.help for choice in VERBS._choices_actions if choice.dest == verb)
        if not summary or len(summary) <= 20:
            wrong.append(f"rushes {verb} has no summary")
        wrong += [f"rushes {verb} {action.dest} has no help" for action in _options(sub) if not action.help]
    assert not wrong, "\n".join(wrong)


def test_help_of_every_verb_can_be_printed(python):
    for verb, sub in VERBS.choices.items():
        assert f"usage: rushes {verb}" in sub.format_help()
    run = python("-m", "appliance", "--help")
    assert run.returncode == 0 and all(verb in run.stdout for verb in VERBS.choices)


def test_the_readme_names_no_verb_and_no_option_that_is_not_there():
    assert set(re.findall(r"`rushes ([a-z]+)", README)) <= set(VERBS.choices)
    wrong = []
    for row, verb in re.findall(r"^\| (`rushes ([a-z]+).*) \|$", README, re.M):
        known = {flag for option in _options(VERBS.choices[verb]) for flag in option.option_strings}
        wrong += [f"rushes {verb} has no {flag}" for flag in re.findall(r"--[a-z-]+", row) if flag not in known]
    assert not wrong, "\n".join(wrong)


def test_functions_on_the_path_of_one_shot_exist():
    assert len(PATH_OF_A_SHOT) >= 8
    wrong = []
    for path, name in PATH_OF_A_SHOT:
        scope = ast.parse((ROOT / path).read_text()).body if (ROOT / path).is_file() else []
        for part in name.split("."):
            found = [node for node in scope if part in _names(node)]
            if not found:
                wrong.append(f"{path} has no {name}")
                break
            scope = getattr(found[0], "body", [])
    assert not wrong, "\n".join(wrong)


def test_where_to_find_things_names_every_folder_and_none_else():
    part = README.partition("## Where to find things")[2].partition("\n## ")[0]
    named = set()
    for cell in re.findall(r"^\| (`.*?) \|", part, re.M):
        paths = re.findall(r"`([^`]+)`", cell)
        package = Path(paths[0]).parts[0]  # `models/dit`, `vae`: the second is in the package of the first
        named |= {paths[0], *(path if "/" in path else f"{package}/{path}" for path in paths[1:])}
    assert not (missing := {path for path in named if not (ROOT / path).exists()}), sorted(missing)
    folders = {
        str(path.parent.relative_to(ROOT))
        for package in ("kernels", "models", "appliance", "tui")
        for path in (ROOT / package).glob("*/__init__.py")
    }
    assert folders <= named, f"not in the README: {sorted(folders - named)}"


def test_files_linked_in_the_readme_exist():
    for target in re.findall(r"\]\((?!https?:|#)([^)]+)\)", README):
        assert (ROOT / target).exists(), f"the README links {target}, which is not there"


def _options(sub: argparse.ArgumentParser) -> list[argparse.Action]:
    """The arguments of a verb, those of its own verbs too; an option hidden on purpose is left out."""
    found = []
    for action in sub._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += [option for inner in action.choices.values() for option in _options(inner)]
        if action.help != argparse.SUPPRESS:
            found.append(action)
    return found


def _names(node: ast.stmt) -> set[str]:
    """What a statement defines."""
    if isinstance(node, ast.Assign):
        return {ast.unparse(target) for target in node.targets}
    return {node.name} if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) else set()
