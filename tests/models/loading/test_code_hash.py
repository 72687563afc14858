"""The hash of our code covers every module of a package, each by its own path."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from models.errors import RushesError
from models.loading import load
from models.loading.load import hash_of_code, source_sha256

ROOT = Path(__file__).parents[3]


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A copy of models/ that may be changed."""
    return Path(
        shutil.copytree(ROOT / "models", tmp_path / "models", ignore=shutil.ignore_patterns("weights", "__pycache__"))
    )


def test_a_changed_byte_in_any_module_changes_the_hash(code: Path) -> None:
    before = hash_of_code(code)
    for path in sorted(code.rglob("*.py")):
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert hash_of_code(code) != before, path
        path.write_bytes(content)
    assert hash_of_code(code) == before


def test_files_that_exchange_contents_or_folders_change_the_hash(code: Path) -> None:
    before = hash_of_code(code)
    one, other = code / "dit" / "wan.py", code / "dit" / "attention.py"
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])
    assert hash_of_code(code) != before
    one.write_bytes(contents[0])
    other.write_bytes(contents[1])
    assert hash_of_code(code) == before
    other.rename(code / "vae" / "attention.py")
    assert hash_of_code(code) != before


def test_a_module_that_is_new_or_gone_changes_the_hash(code: Path) -> None:
    before = hash_of_code(code)
    new = code / "rendering" / "new.py"
    new.write_bytes(b"")
    assert hash_of_code(code) != before
    new.unlink()
    (code / "rendering" / "sampler.py").unlink()
    assert hash_of_code(code) != before


def test_a_folder_without_code_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no code")
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(RushesError, match="holds no code to hash"):
            hash_of_code(folder)


@pytest.mark.parametrize("package", ["models", "kernels"])
def test_every_module_of_the_package_is_hashed(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted as they are read: as many as git lists, or a checkpoint of other code would be resumed."""
    hashed: list[Path] = []
    read_bytes = Path.read_bytes

    def noting(path: Path) -> bytes:
        hashed.append(path)
        return read_bytes(path)

    monkeypatch.setattr(load.Path, "read_bytes", noting)
    digest = source_sha256.__wrapped__(package)
    listed = sorted(path for path in (ROOT / package).glob("**/*.py"))
    assert sorted(hashed) == listed and len(listed) > {"models": 90, "kernels": 30}[package]
    assert digest == source_sha256(package)
