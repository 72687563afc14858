"""What the installing scripts share."""

import os
import subprocess
from pathlib import Path

COMMON = Path(__file__).resolve().parents[2] / "install" / "common.sh"


def test_a_studios_settings_for_its_own_python_do_not_reach_the_installation(tmp_path):
    """PIP_USER=1 ended it, a numpy in PYTHONPATH came before ours. Where packages come from stays the studio's."""
    leaking = {"PYTHONPATH": "/studio", "PYTHONHOME": "/studio", "PIP_USER": "1", "PIP_TARGET": "/studio"}
    kept = {"PIP_FIND_LINKS": "/wheels", "PIP_CERT": "/certificate", "PYTHONUNBUFFERED": "1"}
    run = subprocess.run(
        ["bash", "-c", f". {COMMON}; env"], capture_output=True, text=True, check=True,
        env={**os.environ, **leaking, **kept},
    )  # fmt: skip
    seen = dict(line.partition("=")[::2] for line in run.stdout.splitlines())
    assert not leaking.keys() & seen.keys()
    assert {name: seen[name] for name in kept} == kept
