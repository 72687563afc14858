"""Pickles: tensors come out of them, and nothing in them runs; a process that reads them can do no harm."""

from __future__ import annotations

import os
import pickle
import socket
from pathlib import Path

import pytest
import torch

from models.errors import BadInput
from models.importing.sources import open_source
from models.weight_files import sandbox
from models.weight_files.pickle_child import load, reason, tensors_of
from models.weight_files.pickles import _report, convert

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a process confines itself on POSIX systems only")


class Runs:
    """When it is unpickled, a command runs."""

    def __init__(self, file: Path) -> None:
        self.command = f"touch {file}"

    def __reduce__(self):
        return os.system, (self.command,)


def test_a_state_dict_is_converted(tmp_path: Path) -> None:
    """As the originals ship their encoders: names to tensors, of which some are transposed, shared, or 16 bits wide."""
    shared = torch.randn(4, 6)
    state = {"a.weight": shared, "a.turned": shared.t(), "b": torch.randn(5).bfloat16(), "n": torch.tensor(3)}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "vae.pth")
    converted = convert(tmp_path / "vae.pth", tmp_path / "vae.safetensors")
    assert converted.left_out == ("epoch",)
    source = open_source(converted.path)
    assert set(source.tensors) == set(state)
    for name, tensor in state.items():
        assert source.read(name).dtype == tensor.dtype and torch.equal(source.read(name), tensor)
    assert sorted(os.listdir(tmp_path)) == ["vae.pth", "vae.safetensors"]
    if sandbox.sys.platform == "linux":
        assert "memory was not limited" not in converted.unguarded


def test_a_program_in_a_pickle_does_not_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    torch.save({"a": torch.ones(2), "b": Runs(ran)}, tmp_path / "evil.pth")
    pickle.loads(pickle.dumps(Runs(ran)))
    assert ran.exists()  # so the trap works where it is sprung
    ran.unlink()
    with pytest.raises(BadInput, match=r"was not converted: it would run posix\.system, which weights never") as told:
        convert(tmp_path / "evil.pth", tmp_path / "out.safetensors")
    assert "\n" not in str(told.value)
    assert os.listdir(tmp_path) == ["evil.pth"]


def test_a_small_file_may_not_become_a_large_one(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1).expand(2**36)}, tmp_path / "w.pth")
    with pytest.raises(BadInput, match="its tensors would take 274877906944 bytes"):
        convert(tmp_path / "w.pth", tmp_path / "out")
    assert os.listdir(tmp_path) == ["w.pth"]


def test_only_pickles_are_converted(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"GGUF")
    with pytest.raises(BadInput, match="is not a pickle"):
        convert(tmp_path / "w", tmp_path / "out")


def test_both_of_torchs_forms_are_read(tmp_path: Path) -> None:
    for zipped in (True, False):
        torch.save({"a": torch.arange(3.0)}, tmp_path / "w", _use_new_zipfile_serialization=zipped)
        tensors, left_out = tensors_of(load(tmp_path / "w"))
        assert torch.equal(tensors["a"], torch.arange(3.0)) and left_out == []


@pytest.mark.parametrize(
    ("loaded", "says"),
    [
        ([torch.ones(1)], "a list, not a dictionary"),
        ({}, "its entries: none"),
        ({"model": {"a": torch.ones(1)}, "ema": {"a": torch.ones(1)}}, "holds 2 dictionaries of tensors"),
        ({"a": torch.eye(2).to_sparse()}, "a is not a plain tensor"),
        ({3: torch.ones(1)}, "a tensor is named '3'"),
        ({"a/b": torch.ones(1)}, "a tensor is named 'a/b'"),
    ],
)
def test_anything_but_a_state_dict_is_refused(loaded: object, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        tensors_of(loaded)


@pytest.mark.parametrize("harm", [(os.system, ("true",)), (eval, ("1",)), (exec, ("pass",)), (open, ("x", "w"))])
def test_the_reason_names_what_would_run_and_never_advises_trust(tmp_path: Path, harm: tuple) -> None:
    made = type("Made", (), {"__reduce__": lambda self: harm})
    torch.save([made()], tmp_path / "w")
    with pytest.raises(pickle.UnpicklingError) as caught:
        load(tmp_path / "w")
    assert harm[0].__name__ in reason(caught.value) and "\n" not in reason(caught.value)
    assert "trust" not in reason(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_pickles_are_refused_in_one_line(tmp_path: Path, zipped: bool) -> None:
    torch.save({"a": torch.ones(300)}, tmp_path / "w", _use_new_zipfile_serialization=zipped)
    content = (tmp_path / "w").read_bytes()
    for kept in (len(content) - 500, len(content) // 3, 40):
        (tmp_path / "w").write_bytes(content[:kept])
        with pytest.raises(Exception) as caught:
            tensors_of(load(tmp_path / "w"))
        told = reason(caught.value)
        assert told.startswith("torch's weights-only loader") and "\n" not in told and len(told) < 160


def test_a_child_that_dies_without_a_word_is_a_refusal(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"the process that reads pickles failed \(it was killed by signal 11\)"):
        _report(tmp_path / "w.pth", tmp_path / "report.json", "it was killed by signal 11")
    os.mkfifo(tmp_path / "pipe")  # nor may what it leaves make us wait
    os.symlink("/etc/passwd", tmp_path / "link")
    for name in ("pipe", "link"):
        with pytest.raises(BadInput, match="could not be read"):
            _report(tmp_path / "w.pth", tmp_path / name, "it ended with exit code 0")


TRIES = """
import os, socket, sys
from pathlib import Path
from models.weight_files import sandbox
folder, outside = map(Path, sys.argv[1:])
network = sandbox.leave_network()
assert sandbox.limit(2**28, 1000, 10) == sys.platform.startswith("linux")
locked = sandbox.write_only_in(folder)
def fails(kind, action):
    try:
        action()
    except kind:
        return True
    return False
(folder / "mine").write_text("written")
assert fails(OSError, lambda: (folder / "large").write_bytes(bytes(2000))), "file size"
assert not sys.platform.startswith("linux") or fails(MemoryError, lambda: bytearray(2**29)), "memory"
if network:
    assert fails(OSError, lambda: socket.create_connection(("127.0.0.1", int(os.environ["DOOR"])), 5)), "network"
if locked:
    assert fails(OSError, lambda: (outside / "theirs").write_text("written")), "outside"
    assert fails(OSError, lambda: (outside / "kept").unlink()), "removed"
    assert fails(OSError, lambda: os.truncate(outside / "kept", 0)), "truncated"
    assert fails(OSError, lambda: os.link(outside / "kept", folder / "kept")), "linked"
    assert fails(OSError, lambda: os.execv("/bin/true", ["true"])), "started a program"
print(network, locked)
"""


def test_a_confined_process_can_do_no_harm(tmp_path: Path, python) -> None:
    """From inside: what it was left to do it can, all else fails. A guard that the system lacks must say so."""
    folder, outside = tmp_path / "in", tmp_path / "out"
    folder.mkdir(), outside.mkdir()
    (outside / "kept").write_text("kept")
    with socket.create_server(("127.0.0.1", 0)) as door:
        ended = python("-c", TRIES, folder, outside, DOOR=str(door.getsockname()[1]))
    assert ended.returncode == 0, ended.stderr
    _, locked = ended.stdout.split()
    assert (folder / "mine").read_text() == "written" and (outside / "kept").read_text() == "kept"
    assert locked == "False" or sorted(os.listdir(outside)) == ["kept"]
