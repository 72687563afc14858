"""Whatever a scene is called, its film stays inside the folder of takes."""

import os
import pwd
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance import paths
from models.errors import RushesError


def test_home_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "installation"))
    monkeypatch.setenv("XDG_DATA_HOME", "/elsewhere")
    assert paths.home() == tmp_path / "installation"
    assert paths.library() == tmp_path / "installation" / "library.db"
    monkeypatch.delenv("RUSHES_HOME")
    assert paths.home() == Path("/elsewhere/rushes")
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.home() == tmp_path / ".local" / "share" / "rushes"


def test_an_empty_home_variable_never_writes_to_the_root_folder(monkeypatch):
    """As in a service without a login; the account's own folder is what the system's list of accounts says."""
    monkeypatch.delenv("RUSHES_HOME", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    for empty in ("", "."):
        monkeypatch.setenv("HOME", empty)
        assert paths.home() == Path(pwd.getpwuid(os.getuid()).pw_dir) / ".local" / "share" / "rushes"


def test_an_account_that_is_only_a_number_is_told_what_to_set(monkeypatch):
    for name in ("RUSHES_HOME", "XDG_DATA_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)  # no account of this system
    with pytest.raises(RushesError, match="set RUSHES_HOME"):
        paths.home()


def test_weights_can_be_replaced(monkeypatch, tmp_path):
    monkeypatch.setenv("RUSHES_WEIGHTS", str(tmp_path / "other.safetensors"))
    assert paths.weights() == tmp_path / "other.safetensors"
    monkeypatch.delenv("RUSHES_WEIGHTS")
    assert paths.weights() == paths.ROOT / "models" / "weights" / "previs.safetensors"


def test_a_film_is_named_by_its_slate_and_number():
    assert paths.take_file("12C", 4, 31) == Path("12C/12C-T4_31.mp4")


@given(st.text(max_size=200))
@settings(max_examples=50, deadline=None)
def test_no_slate_leads_out_of_the_folder(slate):
    file = paths.take_file(slate, 1, 1)
    assert not file.is_absolute() and ".." not in file.parts and len(file.parts) == 2
    assert all(0 < len(part.encode()) <= 255 and "/" not in part and "\0" not in part for part in file.parts)
