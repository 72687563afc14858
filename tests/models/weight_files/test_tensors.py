"""Packages are read back as written; untrusted files are checked before they are used."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.card import CARDS, PREVIS, TINY
from models.errors import BadInput, RushesError
from models.weight_files.package_header import FORMAT, card_from_json, card_to_json
from models.weight_files.safetensors_header import MAX_TENSORS, read_header
from models.weight_files.tensors import open_package, save

METADATA = {"scheme": "none", "card": card_to_json(TINY), "licence": "Apache-2.0", "training": "{}"}


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "vae.b": torch.randint(-128, 128, (3, 5), dtype=torch.int8),
        "transformer.a.weight": torch.randn(4, 3),
        "transformer.c": torch.randn(7).bfloat16(),
        "vae.scalar": torch.tensor(2.5, dtype=torch.float64),
        "vae.empty": torch.zeros(0, 4),
        "conditions.flags": torch.tensor([True, False]),
        "conditions.turned": torch.randn(4, 6).t(),
    }


def packed(folder: Path) -> Path:
    path = folder / "p.safetensors"
    save(path, tensors(), METADATA)
    return path


def raw(header: bytes | dict, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(begin: int, end: int, **facts) -> dict:
    return {"dtype": "I8", "shape": [end - begin], "data_offsets": [begin, end], **facts}


def test_round_trip(tmp_path: Path) -> None:
    package = open_package(packed(tmp_path))
    assert package.metadata["format"] == FORMAT and package.card == TINY
    assert set(package.tensors) == set(tensors())
    for name, tensor in tensors().items():
        assert package.tensors[name].dtype == tensor.dtype and torch.equal(package.tensors[name], tensor)
    assert set(package.part("vae.")) == {"b", "scalar", "empty"}
    assert package.sha256 == hashlib.sha256((tmp_path / "p.safetensors").read_bytes()).hexdigest()
    assert os.listdir(tmp_path) == ["p.safetensors"]


def test_the_format_is_everybodys(tmp_path: Path) -> None:
    theirs = safetensors.torch.load_file(packed(tmp_path))
    assert all(torch.equal(theirs[name], tensor) for name, tensor in tensors().items())
    safetensors.torch.save_file({k: v.contiguous() for k, v in tensors().items()}, tmp_path / "q.safetensors")
    assert set(read_header(tmp_path / "q.safetensors").entries) == set(tensors())


def test_the_same_tensors_give_the_same_bytes(tmp_path: Path) -> None:
    first = packed(tmp_path).read_bytes()
    save(tmp_path / "again", dict(reversed(tensors().items())), dict(reversed(METADATA.items())))
    assert (tmp_path / "again").read_bytes() == first


def test_a_package_may_be_changed_in_memory_only(tmp_path: Path) -> None:
    path = packed(tmp_path)
    before = path.read_bytes()
    open_package(path).tensors["transformer.a.weight"].zero_()
    assert path.read_bytes() == before


def test_data_off_its_alignment_is_read(tmp_path: Path) -> None:
    whole = packed(tmp_path).read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    for extra in range(8):
        (tmp_path / "q").write_bytes(raw(whole[8:start].rstrip() + b" " * extra, whole[start:]))
        package = open_package(tmp_path / "q")
        assert all(torch.equal(package.tensors[name], tensor) for name, tensor in tensors().items())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a safetensors file"),
        (b"PK\x03\x04 this is a zip, as pickled weights are", "not a safetensors file"),
        (raw(b"", length=2**24 + 1) + b" " * 20, "not a safetensors file"),
        (raw(b"{}", length=50), "cut off inside its header"),
        (raw(b"[1, 2]"), "not a JSON object"),
        (raw(b"{nonsense}"), "not JSON"),
        (raw(b'{"\xff": 1}'), "not JSON"),
        (raw(b'{"x":' * 100_000), "nested too deeply"),
        (raw(b'{"x":[' + b"[]," * (4 * MAX_TENSORS) + b"[]]}"), "more than 65536 tensors"),
        (raw({f"t{i}": entry(0, 0) for i in range(MAX_TENSORS + 1)}), "more than 65536"),
        (raw(b'{"a":{"dtype":"I8","shape":[0],"data_offsets":[0,0]},"a":{}}'), "has the same key twice"),
        (raw({"../../etc/x": entry(0, 0)}), "only letters, digits"),
        (raw({"x\x1b[2J": entry(0, 0)}), r"x\\x1b\[2J"),
        (raw({"x": entry(0, 1, dtype="Q4")}, b"1"), "unknown dtype 'Q4'"),
        (raw({"x": entry(0, 4, shape=[3])}, b"1234"), "does not match its number of bytes"),
        (raw({"x": entry(0, 4, shape=[-4])}, b"1234"), "not whole numbers"),
        (raw({"x": entry(0, 4, shape=[True, 4])}, b"1234"), "not whole numbers"),
        (raw({"x": entry(0, 4, shape=[1] * 9 + [4])}, b"1234"), "10 dimensions"),
        (raw({"x": entry(0, 4), "y": entry(2, 6)}, b"123456"), "overlaps another tensor or leaves a gap"),
        (raw({"x": entry(0, 4), "y": entry(5, 6)}, b"123456"), "overlaps another tensor or leaves a gap"),
        (raw({"x": entry(1, 4)}, b"1234"), "leaves a gap"),
        (raw({"x": entry(0, 4)}, b"12"), "cut off: it should hold 4 bytes of data and has 2"),
        (raw({"x": entry(0, 4)}, b"12345"), "1 bytes follow its last tensor"),
        (raw({"__metadata__": {"format": 1}}), "metadata is not text"),
        (raw({"__metadata__": {"format": "\x1b]0;owned\x07"}}), "control characters"),
        (raw({"x": entry(0, 4)}, b"1234"), "not a Rushes package: its format is 'none'"),
        (raw({"__metadata__": {"format": "pt"}, "x": entry(0, 4)}, b"1234"), "its format is 'pt'"),
        (raw({"__metadata__": {"format": FORMAT}, "x": entry(0, 4)}, b"1234"), "its header has no card"),
        (
            raw({"__metadata__": {**METADATA, "format": FORMAT, "data_sha256": "0", "scheme": "w1a1"}}),
            "stores its weights as 'w1a1'; supported are w8a8/1, w4a8/1, none",
        ),
        (
            raw({"__metadata__": {**METADATA, "format": FORMAT, "data_sha256": "0" * 64}, "x": entry(0, 4)}, b"1234"),
            "damaged: its data does not match the hash",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_invalid_files_are_refused_in_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(BadInput, match=says) as caught:
        open_package(tmp_path / "bad")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300 + len(str(tmp_path))


def test_missing_files_folders_and_pipes_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, says in (
        (tmp_path / "no", "there is no file"),
        (tmp_path, "is not a file"),
        (tmp_path / "pipe", "not a file"),
    ):
        with pytest.raises(BadInput, match=says):
            open_package(path)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.999])
def test_a_truncated_package_is_refused(tmp_path: Path, kept: float) -> None:
    path = packed(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(BadInput, match=r"cut off|is incomplete"):
        open_package(path)


def test_a_flipped_bit_of_data_is_found(tmp_path: Path) -> None:
    path = packed(tmp_path)
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(whole)
    with pytest.raises(BadInput, match="damaged"):
        open_package(path)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_mutation_does_worse_than_a_refusal(tmp_path_factory, data) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzz"
    if not folder.exists():
        folder.mkdir()
        packed(folder)
    whole = bytearray((folder / "p.safetensors").read_bytes())
    limit = 8 + int.from_bytes(whole[:8], "little") + 16  # the header and a little of the data: where the traps are
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(limit, len(whole)) - 1))
        match data.draw(st.sampled_from(["set", "digit", "cut", "drop", "insert"])):
            case "set":
                whole[at] = data.draw(st.integers(0, 255))
            case "digit":  # keeps the JSON sound more often than not
                digits = [i for i in range(8, min(limit, len(whole))) if chr(whole[i]).isdigit()]
                if digits:
                    whole[digits[at % len(digits)]] = ord("0") + data.draw(st.integers(0, 9))
            case "cut":
                del whole[max(at, 1) :]
            case "drop":
                del whole[at : at + data.draw(st.integers(1, 20))]
            case "insert":
                whole[at:at] = data.draw(st.binary(max_size=20))
        if not whole:
            break
    path = folder / "m"
    path.write_bytes(whole)
    try:
        package = open_package(path)
    except BadInput as refusal:
        assert "\n" not in str(refusal)
    else:
        theirs = safetensors.torch.load_file(path)  # what we accept, the format's own library accepts
        assert set(theirs) == set(package.tensors)


def test_writing_fails_cleanly(python, tmp_path: Path) -> None:
    with pytest.raises(RushesError, match=r"cannot write .*No such file or directory"):
        save(tmp_path / "no" / "p", tensors(), METADATA)
    path = packed(tmp_path)
    before = path.read_bytes()
    code = f"""
import resource, signal, sys, torch, pathlib
from models.weight_files.tensors import save
from models.errors import RushesError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # stands for a full disk
try:
    save(pathlib.Path({str(path)!r}), {{"a": torch.zeros(100000)}}, {METADATA!r})
except RushesError as error:
    print(error)
"""
    ran = python("-c", code)
    assert "cannot write" in ran.stdout and "File too large" in ran.stdout, ran.stderr
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["p.safetensors"]


def test_every_card_survives_its_header() -> None:
    cards = [*CARDS.values(), TINY]
    assert [card_from_json(card_to_json(card)) for card in cards] == cards


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"dim": 0}, "dim as 0"),
        ({"layers": 10**9}, "layers as 1000000000"),
        ({"heads": True}, "heads as True"),
        ({"ffn": "64"}, "ffn as '64'"),
        ({"heads": 5}, "384 channels in 5 heads"),
        ({"eps": -1.0}, "eps, shift and fps"),
        ({"patch": [1, 4, 4]}, r"patches of \(1, 4, 4\); only \(1, 2, 2\)"),
        ({"experts": 0}, "experts as 0"),
        ({"space_stride": 8.0}, "space_stride as 8.0"),
        ({"boundary": 1.0}, "boundary as 1.0"),
        ({"colour": 1}, "cannot be read"),
        ({"frames": 0}, "frames as 0"),
        ({"image_dim": -1}, "image_dim as -1"),
        ({"guidance": []}, r"guidance as \(\)"),
        ({"guidance": [5.0, 4.0]}, r"guidance as \(5.0, 4.0\); it must be one number for each expert"),
        ({"guidance": ["5"]}, "guidance as"),
        ({"guidance": 5.0}, "cannot be read"),
        ({"solver": "magic"}, "solver as 'magic'"),
        ({"vace_layers": [0, 8], "vace_channels": 96}, "numbers of its blocks"),
        ({"vace_layers": [2, 0], "vace_channels": 96}, "in order"),
        ({"vace_layers": [0]}, "gives 1 vace_layers and 0 vace_channels"),
        ({"vace_layers": [1], "vace_channels": 96}, "gives 1 vace_layers"),
        ({"levels": [0.5, 0.9]}, "must fall from 1"),
        ({"levels": [1.0, 0.5]}, "2 levels for"),
    ],
)
def test_a_card_out_of_bounds_is_refused(change: dict, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        card_from_json(json.dumps({**json.loads(card_to_json(PREVIS)), **change}))


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", '{"dim": ', "[" * 100_000])
def test_a_card_that_is_no_card_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        card_from_json(text)
