"""The README is true: every verb is in it and has help, and the functions on the path of one shot exist."""

import argparse
import ast
import re
from pathlib import Path

import pytest

from appliance.cli.main import parser

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
VERBS = next(action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
PATH_OF_A_SHOT = re.findall(r"^\| `([\w/]+\.py)` \| `([\w.]+)` \|", README, re.M)


@pytest.mark.parametrize("verb", sorted(VERBS.choices))
def test_every_verb_is_in_the_readme_and_has_help(verb):
    assert f"`rushes {verb}" in README, f"the README does not tell of `rushes {verb}`"
    summary = next(choice.help for choice in VERBS._choices_actions if choice.dest == verb)
    assert summary and len(summary) > 20
    for action in VERBS.choices[verb]._actions:
        assert action.help or action.choices, f"rushes {verb} {action.dest} has no help"


def test_help_of_every_verb_can_be_printed(python):
    for verb, sub in VERBS.choices.items():
        assert f"usage: rushes {verb}" in sub.format_help()
    run = python("-m", "appliance", "--help")
    assert run.returncode == 0 and all(verb in run.stdout for verb in VERBS.choices)


def test_the_readme_names_no_verb_that_is_not_there():
    assert set(re.findall(r"`rushes ([a-z]+)", README)) <= set(VERBS.choices)


def test_the_path_of_one_shot_is_a_path():
    assert len(PATH_OF_A_SHOT) >= 8


@pytest.mark.parametrize(("path", "name"), PATH_OF_A_SHOT)
def test_functions_named_in_the_readme_exist(path, name):
    scope = ast.parse((ROOT / path).read_text()).body
    for part in name.split("."):
        found = [node for node in scope if part in _names(node)]
        assert found, f"{path} has no {name}"
        scope = getattr(found[0], "body", [])


def _names(node: ast.stmt) -> set[str]:
    """What a statement defines."""
    if isinstance(node, ast.Assign):
        return {ast.unparse(target) for target in node.targets}
    return {node.name} if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) else set()


def test_files_linked_in_the_readme_exist():
    for target in re.findall(r"\]\((?!https?:|#)([^)]+)\)", README):
        assert (ROOT / target).exists(), f"the README links {target}, which is not there"
