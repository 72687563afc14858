"""Packages are described and proved without torch, and anything that is not one is refused in one line."""

import hashlib
import json
import os
import stat

import pytest

from appliance.catalog.installed import read_package, verify_data
from models.card import TINY
from models.errors import BadInput
from models.weight_files.package_header import FORMAT, card_to_json

DATA = bytes(range(256)) * 3


def write(path, header=None, data=DATA, **metadata):
    """A safetensors file by hand: 8 bytes of length, a JSON header, the data."""
    facts = {"format": FORMAT, "scheme": "none", "card": card_to_json(TINY), "licence": "none"}
    facts |= {"data_sha256": hashlib.sha256(DATA).hexdigest(), **metadata}
    header = header or {
        "__metadata__": facts,
        "a": {"dtype": "I8", "shape": [2, 256], "data_offsets": [0, 512]},
        "b": {"dtype": "F32", "shape": [64], "data_offsets": [512, 768]},
    }
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_facts_and_proof(tmp_path):
    facts = read_package(write(tmp_path / "model.safetensors", licence="Apache-2.0"))
    assert (facts.card, facts.parameters) == ("tiny", 512 + 64)
    assert facts.bytes_by_type == {"I8": 512, "F32": 256}
    assert facts.metadata["licence"] == "Apache-2.0"
    assert verify_data(facts) == hashlib.sha256(DATA).hexdigest()


def test_one_changed_byte_is_found(tmp_path):
    path = write(tmp_path / "model.safetensors")
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(whole)
    with pytest.raises(BadInput, match="damaged"):
        verify_data(read_package(path))


@pytest.mark.parametrize("cut", [1, 100, 700])
def test_a_file_that_is_cut_short(tmp_path, cut):
    path = write(tmp_path / "model.safetensors")
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(BadInput, match="cut off"):
        read_package(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00" * 7, b"PK\x03\x04 a zip, not weights", b"\xff" * 64, (2).to_bytes(8, "little") + b"[]",
     (4).to_bytes(8, "little") + b"nope", (10).to_bytes(8, "little") + b'{"a":null}',
     (9).to_bytes(8, "little") + b'{"a":{}} '],
)  # fmt: skip
def test_a_file_that_is_something_else(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(BadInput) as refused:
        read_package(path)
    assert "\n" not in str(refused.value) and str(path) in str(refused.value)


def test_a_header_that_claims_the_world_is_not_read(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes((2**60).to_bytes(8, "little") + b"{}")
    with pytest.raises(BadInput, match="is incomplete"):
        read_package(path)


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(BadInput, match="RUSHES_WEIGHTS"):
        read_package(tmp_path / "nothing.safetensors")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    path = write(tmp_path / "model.safetensors")
    path.chmod(stat.S_IWUSR)
    with pytest.raises(BadInput, match="cannot be read"):
        read_package(path)
