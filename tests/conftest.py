"""What many tests need: our code in a process of its own, as it runs for people."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# The suite tries the same examples each time, so that a change is judged by what it changed. To look for new ones:
# `pytest --hypothesis-profile explore`.
if importlib.util.find_spec("hypothesis"):  # the tests that need a GPU run without it too
    from hypothesis import settings

    settings.register_profile("same", derandomize=True)
    settings.register_profile("explore", derandomize=False)
    settings.load_profile("same")


@pytest.fixture(scope="session")
def python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python on `-c CODE` or `-m MODULE`, our code first on its path; further names are its environment."""

    def run(*arguments: object, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", *map(str, arguments)], env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    return run
