"""Weight files of every container give the same tensors; what is incomplete is named."""

from __future__ import annotations

import json
import os
import pickle
import tarfile
from pathlib import Path

import pytest
import safetensors.torch
import torch

from models.errors import BadInput, RushesError
from models.importing.sources import open_source
from models.weight_files.file_kind import kind_of


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    weights = {
        "blocks.0.q.weight": torch.randn(8, 6),
        "blocks.0.q.bias": torch.randn(8).bfloat16(),
        "blocks.1.q.weight": torch.randn(8, 6).to(torch.float8_e4m3fn),
        "blocks.1.k.weight": torch.randn(8, 6).to(torch.float8_e5m2),
        "blocks.1.scale": torch.rand(3).to(torch.float8_e8m0fnu),
        "patch": torch.randn(4, 2, 1, 2, 2).half(),
        "flags": torch.tensor([True, False, True]),
        "count": torch.tensor(7),
        "empty": torch.zeros(0, 3),
    }
    numbers = (torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int16, torch.int32)
    return weights | {f"n.{dtype}".replace("torch.", ""): torch.arange(5).to(dtype) for dtype in numbers}


def shards(folder: Path, count: int = 3) -> Path:
    """The tensors in `count` shards with an index, as they are published."""
    held: list[dict[str, torch.Tensor]] = [{} for _ in range(count)]
    weight_map = {}
    for i, (name, tensor) in enumerate(tensors().items()):
        held[i % count][name] = tensor
        weight_map[name] = f"w-{i % count + 1:05}-of-{count:05}.safetensors"
    for i, part in enumerate(held):
        safetensors.torch.save_file(part, folder / f"w-{i + 1:05}-of-{count:05}.safetensors", {"format": "pt"})
    index = folder / "w.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return index


def bytes_of(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("way", ["file", "files", "index", "folder", "folder without index"])
def test_files_shards_and_folders_give_the_same_tensors(tmp_path: Path, way: str) -> None:
    if way == "file":
        safetensors.torch.save_file(tensors(), tmp_path / "one", {"format": "pt"})
        paths = [tmp_path / "one"]
    else:
        index = shards(tmp_path)
        paths = {"index": [index], "files": sorted(tmp_path.glob("*.safetensors"))}.get(way, [tmp_path])
        if "without" in way:
            index.unlink()
        (tmp_path / "config.json").write_text("{}")
    source = open_source(*paths)
    assert source.kind == "safetensors" and source.metadata == {"format": "pt"}
    assert set(source.tensors) == set(tensors())
    for name, tensor in tensors().items():
        read = source.read(name)
        assert source.tensors[name].shape == tuple(tensor.shape) == tuple(read.shape)
        assert read.dtype == tensor.dtype and bytes_of(read) == bytes_of(tensor)
    source.read("count").add_(1)  # the memory is the reader's own
    assert source.read("count") == 7


def test_a_name_that_is_not_there(tmp_path: Path) -> None:
    safetensors.torch.save_file(tensors(), tmp_path / "one")
    with pytest.raises(BadInput, match=r"one has no tensor 'head\.weight'"):
        open_source(tmp_path / "one").read("head.weight")


def test_untrusted_metadata_is_safe_to_show(tmp_path: Path) -> None:
    safetensors.torch.save_file({"a": torch.ones(2)}, tmp_path / "one", {"title": "a\x1b[2J", "x\x07": "ü\n"})
    assert open_source(tmp_path / "one").metadata == {"title": "a\ufffd[2J", "x\ufffd": "ü\n"}


def test_what_is_missing_or_double_is_named(tmp_path: Path) -> None:
    index = shards(tmp_path)
    last = tmp_path / "w-00003-of-00003.safetensors"
    with pytest.raises(BadInput, match=r"is one of 3 shards and w-00002-of-00003\.safetensors was not given"):
        open_source(tmp_path / "w-00001-of-00003.safetensors", last)
    safetensors.torch.save_file({"count": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(BadInput, match="both hold the tensor count"):
        open_source(index, tmp_path / "other.safetensors")
    (tmp_path / "again.safetensors.index.json").write_text(index.read_text())
    with pytest.raises(BadInput, match="holds 2 shard indexes"):
        open_source(tmp_path)
    last.rename(tmp_path / "away")
    with pytest.raises(BadInput, match=r"w-00003-of-00003\.safetensors is missing"):
        open_source(index)
    safetensors.torch.save_file({"more": torch.ones(2)}, last)
    with pytest.raises(BadInput, match=r"w-00003-of-00003\.safetensors does not hold"):
        open_source(index)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "not a JSON object"),
        ("{", "not JSON"),
        ('{"metadata": {}}', "has no weight_map"),
        ('{"weight_map": {}}', "has no weight_map"),
        ('{"weight_map": {"a": "../up.safetensors"}}', "in the same folder is allowed"),
        ('{"weight_map": {"a": "/etc/passwd"}}', "in the same folder is allowed"),
        ('{"weight_map": {"a": "..\\\\up.safetensors"}}', "in the same folder is allowed"),
        ('{"weight_map": {"a": "..safetensors"}}', "is missing"),
        ('{"weight_map": {"a": ["x"]}}', "in the same folder is allowed"),
        ('{"weight_map": {"a b": "x.safetensors"}}', "lists a tensor 'a b'"),
        ('{"weight_map": {"a": "w.bin"}}', "in the same folder is allowed"),
        ('{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}', "has the same key twice"),
    ],
)
def test_an_index_may_not_lead_out_of_its_folder(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "w.safetensors.index.json").write_text(text)
    with pytest.raises(BadInput, match=says) as caught:
        open_source(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_of_other_things(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no file that ends in .* give a folder that does"):
        open_source(tmp_path)
    for name in ("transformer", "vae"):
        (tmp_path / name).mkdir()
    with pytest.raises(BadInput, match="it contains the folders transformer, vae: give one"):
        open_source(tmp_path)
    torch.save({"a": torch.ones(1)}, tmp_path / "weights.pth")
    with pytest.raises(BadInput, match=r"weights\.pth is a pickle"):
        open_source(tmp_path)
    with pytest.raises(BadInput, match="there is no file"):
        open_source(tmp_path / "nothing")
    with pytest.raises(BadInput, match="no weight file was given"):
        open_source()


def test_a_file_that_changes_under_the_reader_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "one"
    safetensors.torch.save_file(tensors(), path)
    source = open_source(path)
    os.utime(path, ns=(1, 1))
    with pytest.raises(RushesError, match="changed since it was opened"):
        source.read("count")
    path.unlink()
    with pytest.raises(RushesError, match="can no longer be read: no such file"):
        source.read("count")


class Old:
    def __reduce__(self):
        return print, ("this ran",)


def test_pickles_are_known_by_their_content(tmp_path: Path) -> None:
    """Of every protocol, whatever is pickled: a mark depends on both."""
    path = tmp_path / "model.safetensors"  # the name does not matter
    for protocol in range(6):
        for thing in (Old(), {"a": 1}, [Old()], (Old(), 2)):
            path.write_bytes(pickle.dumps(thing, protocol))
            if protocol or not isinstance(
                thing, tuple
            ):  # a tuple has no mark in protocol 0; it is refused all the same
                assert kind_of(path) == "pickle", (protocol, thing)
            with pytest.raises(BadInput):
                open_source(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_torchs_own_files_are_refused_with_the_way_out(tmp_path: Path, zipped: bool) -> None:
    torch.save({"a": torch.ones(3)}, tmp_path / "w", _use_new_zipfile_serialization=zipped)
    with pytest.raises(BadInput, match=r"can run any program when it is opened.*use the same weights as safetensors"):
        open_source(tmp_path / "w")
    with tarfile.open(tmp_path / "t", "w", format=tarfile.USTAR_FORMAT) as tar:  # how its first versions saved
        tar.add(tmp_path / "w", "pickle")
    assert kind_of(tmp_path / "t") == "pickle"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (bytes(100), "zeros only"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git-lfs pointer"),
        (b"\n<!DOCTYPE html><html>", "web page"),
        (b"PK\x03\x04" + bytes(26) + b"readme.txt", "zip archive"),
        (b"\x1f\x8b\x08\x00", "compressed"),
        (b"hello", "not a safetensors, GGUF or PyTorch file"),
    ],
)
def test_files_without_weights_are_named(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(BadInput, match=says):
        kind_of(tmp_path / "x")


def test_a_header_that_begins_like_a_pickle_is_safetensors(tmp_path: Path) -> None:
    """640 bytes of header are 80 02 in the file, which is how protocol 2 begins."""
    text = json.dumps({"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}}).ljust(640).encode()
    (tmp_path / "x").write_bytes(len(text).to_bytes(8, "little") + text + b"ab")
    assert (tmp_path / "x").read_bytes()[:2] == b"\x80\x02"
    assert bytes_of(open_source(tmp_path / "x").read("a")) == b"ab"
