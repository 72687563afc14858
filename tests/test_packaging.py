"""The wheel contains what the tree contains."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = PROJECT["tool"]["setuptools"]["package-dir"]


def shipped_folders() -> dict[str, Path]:
    """Every package of the wheel and the folder it comes from."""
    found = {}
    for package in PROJECT["tool"]["setuptools"]["packages"]:
        root = max((name for name in FOLDERS if package == name or package.startswith(f"{name}.")), key=len)
        found[package] = ROOT / FOLDERS[root] / package[len(root) :].lstrip(".").replace(".", "/")
    return found


def test_every_package_ships_in_the_wheel():
    """A subpackage that is not listed works in an editable install and is silently missing from the wheel."""
    in_tree = {
        path.parent
        for folder in ("appliance", "kernels", "models", "tui", "install")
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert in_tree == set(shipped_folders().values())


def test_every_python_folder_is_a_package():
    for folder in ("appliance", "kernels", "models", "tui"):
        for path in (ROOT / folder).rglob("*.py"):
            assert (path.parent / "__init__.py").is_file(), f"{path.parent} ships nothing: it has no __init__.py"


def test_data_files_ship():
    data = PROJECT["tool"]["setuptools"]["package-data"]
    folders = shipped_folders()
    listed = {path for package, globs in data.items() for glob in globs for path in folders[package].glob(glob)}
    for package, folder in folders.items():
        if package.startswith("rushes."):
            for path in folder.rglob("*"):
                # Benchmark results stay in the repository; an installation does not need them.
                left = {"__pycache__", "measured"} & set(path.parts)
                if path.suffix in {".toml", ".tcss", ".json", ".safetensors", ".so"} and not left:
                    assert path in listed, f"{path.relative_to(ROOT)} is in no package-data"


def test_the_installed_entry_runs_the_cli_from_another_folder(tmp_path):
    """Laid out as in the wheel: one folder `rushes` that holds the four packages, and nothing of ours next to it."""
    home = tmp_path / "site" / "rushes"
    home.mkdir(parents=True)
    for package, folder in shipped_folders().items():
        if package == "rushes":
            for path in folder.glob("*.py"):
                (home / path.name).symlink_to(path)
        elif package.count(".") == 1:
            (home / package.split(".")[1]).symlink_to(folder)
    run = subprocess.run(
        [sys.executable, "-m", "rushes", "--version"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path / "site")}, capture_output=True, text=True,
    )  # fmt: skip
    assert (run.returncode, run.stdout.strip()) == (0, f"rushes {PROJECT['project']['version']}")


def test_it_cannot_be_uploaded_by_accident():
    assert "Private :: Do Not Upload" in PROJECT["project"]["classifiers"]
