"""GGUF: every block type bit for bit as ggml's package; the header is checked before it is used."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from models.errors import BadInput
from models.importing.sources import open_source
from models.weight_files.gguf import TYPES, read_gguf
from models.weight_files.gguf_blocks import BLOCKS, CHUNK_NUMBERS, SIZES, dequantize

BLOCK_TYPES = sorted(BLOCKS)
U32, TEXT, ARRAY, I32 = 4, 8, 9, 5


def theirs(raw: np.ndarray, name: str) -> np.ndarray:
    with np.errstate(all="ignore"):
        return gguf.quants.dequantize(raw, gguf.GGMLQuantizationType[name]).reshape(-1)


def packed_text(text: str | bytes) -> bytes:
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(data)) + data


def fact(name: str, kind: int, value: bytes) -> bytes:
    return packed_text(name) + struct.pack("<I", kind) + value


def tensor(name: str, sizes: tuple[int, ...], kind: int = 0, place: int = 0) -> bytes:
    return packed_text(name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, kind, place)


def made(
    facts: tuple[bytes, ...] = (), tensors: tuple[bytes, ...] = (), data: bytes = b"", version: int = 3,
    counts: tuple[int, int] | None = None,
) -> bytes:  # fmt: skip
    """A file by hand; `counts` is what it claims of tensors and facts."""
    claimed = (len(tensors), len(facts)) if counts is None else counts
    head = b"GGUF" + struct.pack("<IQQ", version, *claimed) + b"".join((*facts, *tensors))
    return head + b"\0" * (-len(head) % 32) + data


@pytest.mark.parametrize("name", BLOCK_TYPES)
def test_every_block_type_is_ggmls_to_the_bit(name: str) -> None:
    raw = np.random.default_rng(7).integers(0, 256, (4000, SIZES[name].size), dtype=np.uint8)
    got, want = dequantize(torch.from_numpy(raw).view(-1), name).numpy(), theirs(raw, name)
    known = ~np.isnan(want)  # a random scale may be no number; which one it is not says nothing
    assert known.mean() > 0.7 and np.array_equal(np.isnan(got), ~known)
    assert np.array_equal(got.view(np.uint32)[known], want.view(np.uint32)[known])


def test_sizes_are_ggmls() -> None:
    theirs = {name: gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]] for name in BLOCK_TYPES}
    assert {name: (SIZES[name].numbers, SIZES[name].size) for name in BLOCK_TYPES} == theirs


def test_the_numbers_of_the_types_are_ggmls() -> None:
    assert all(gguf.GGMLQuantizationType(kind).name == block.name for kind, block in TYPES.items())


def test_more_than_a_chunk_is_the_same_as_its_parts() -> None:
    blocks = CHUNK_NUMBERS // 256 + 3
    raw = torch.from_numpy(np.random.default_rng(1).integers(0, 60, (blocks, 144), dtype=np.uint8))
    whole = dequantize(raw.view(-1), "Q4_K")
    assert torch.equal(whole[-1024:], dequantize(raw[-4:].reshape(-1), "Q4_K"))
    assert torch.equal(whole[:1024], dequantize(raw[:4].reshape(-1), "Q4_K"))


def test_a_file_of_their_writer_with_mixed_types(tmp_path: Path) -> None:
    """As the tools for Wan write it: own type for each tensor, a flattened and a five-dimensional one, odd sizes."""
    rng = np.random.default_rng(3)
    writer = gguf.GGUFWriter(tmp_path / "w.gguf", "wan")
    writer.add_array("tokenizer.ggml.tokens", ["a", "bc", ""] * 50)
    writer.add_array("tokenizer.ggml.scores", [0.5] * 150)
    writer.add_array("comfy.gguf.orig_shape.patch_embedding.weight", [6, 4, 1, 2, 2])
    want = {}
    for name in BLOCK_TYPES:
        block = SIZES[name]
        raw = rng.integers(0, 256, (3, 2 * block.size), dtype=np.uint8)
        writer.add_tensor(f"blocks.0.{name}.weight", raw, raw_dtype=gguf.GGMLQuantizationType[name])
        want[f"blocks.0.{name}.weight"] = theirs(raw, name).reshape(3, 2 * block.numbers)
    patch = rng.standard_normal((6, 16), dtype=np.float32)
    writer.add_tensor("patch_embedding.weight", patch)
    writer.add_tensor("head.head.bias", rng.standard_normal(7, dtype=np.float32).astype(np.float16))
    five = rng.standard_normal((3, 2, 1, 2, 2), dtype=np.float32)
    writer.add_tensor("five.weight", five)
    brain = torch.randn(3, 5).bfloat16()
    writer.add_tensor("brain", brain.view(torch.uint8).numpy(), raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    source = open_source(tmp_path / "w.gguf")
    assert source.kind == "gguf" and source.metadata["general.architecture"] == "wan"
    assert source.metadata["tokenizer.ggml.tokens"] == "[150]"
    for name, numbers in want.items():
        assert source.tensors[name] == (name.split(".")[2], numbers.shape)
        assert np.array_equal(source.read(name).numpy(), numbers, equal_nan=True)
    assert np.array_equal(source.read("patch_embedding.weight").numpy(), patch.reshape(6, 4, 1, 2, 2))
    assert np.array_equal(source.read("five.weight").numpy(), five)
    assert source.read("head.head.bias").dtype == torch.float16
    assert source.read("brain").dtype == torch.bfloat16 and torch.equal(source.read("brain"), brain)


def test_facts_may_drop_the_prefix_that_names_have(tmp_path: Path) -> None:
    shape = fact("comfy.gguf.orig_shape.p.weight", ARRAY, struct.pack("<IQ3i", I32, 3, 2, 2, 2))
    names = (tensor("model.diffusion_model.p.weight", (8,)),)
    (tmp_path / "m").write_bytes(made((shape,), names, bytes(32)))
    assert read_gguf(tmp_path / "m").entries["model.diffusion_model.p.weight"].shape == (2, 2, 2)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"GGUF", "cut off inside its header"),
        (made(version=1), "its version is 1"),
        (made(version=3 << 24), "big-endian"),
        (made(counts=(2**63, 0)), "claims 9223372036854775808 tensors"),
        (made(counts=(0, 2**40)), "claims 0 tensors and 1099511627776 metadata entries"),
        (made(counts=(0, 3))[:-8], "cut off inside its header"),
        (made((fact("a", U32, b"abcd"), fact("a", U32, b"abcd"))), "has the metadata entry 'a' twice"),
        (made((fact("a", 13, b"abcd"),)), "unknown type 13"),
        (made((fact("a", TEXT, struct.pack("<Q", 2**62)),)), "holds a text of 4611686018427387904 bytes"),
        (made((fact("a", TEXT, struct.pack("<Q", 900)),)), "cut off inside its header"),
        (made((fact("a", ARRAY, struct.pack("<IQ", U32, 2**62)),)), "cut off inside its header"),
        (made((fact("a", ARRAY, struct.pack("<IQ", TEXT, 2**62)),)), "strings in arrays"),
        (made((fact("a", ARRAY, struct.pack("<IQ", ARRAY, 1)),)), "only numbers and strings are supported"),
        (made((fact("general.alignment", U32, struct.pack("<I", 0)),)), "alignment is '0'"),
        (made((fact("general.alignment", U32, struct.pack("<I", 48)),)), "alignment is '48'"),
        (made((), (tensor("../x", (8,)),), bytes(32)), "only letters, digits"),
        (made((), (tensor("x\x1b[2J", (8,)),), bytes(32)), r"x\\x1b\[2J"),
        (made((), (tensor("x", (1,) * 9),), bytes(32)), "9 dimensions"),
        (made((), (tensor("x", (32,), 16),), bytes(32)), "stored as IQ2_XXS, which is not supported"),
        (made((), (tensor("x", (32,), 999),), bytes(32)), "stored as type 999, which is not supported"),
        (made((), (tensor("x", (33,), 2),), bytes(64)), "33 columns, not a multiple of Q4_0's blocks of 32"),
        (made((), (tensor("x", (), 2),), bytes(64)), "no columns"),
        (made((), (tensor("x", (2**40, 2**40)),), bytes(32)), "offset that is too large"),
        (made((), (tensor("x", (8,)), tensor("x", (8,))), bytes(32)), "has the tensor x twice"),
        (made((), (tensor("x", (8,)), tensor("y", (8,))), bytes(32)), "y overlaps another tensor"),
        (made((), (tensor("x", (8,), 0, 8),), bytes(64)), "is at offset 8, which is not a multiple"),
        (made((), (tensor("x", (8,)), tensor("y", (8,), 0, 96)), bytes(128)), "64 bytes before y belong to no tensor"),
        (made((), (tensor("x", (16,)),), bytes(32)), "cut off: it should hold 64 bytes of data and has 32"),
        (made((), (tensor("x", (8,)),), bytes(64)), "32 bytes follow its last tensor"),
        (
            made((fact("comfy.gguf.orig_shape.x", ARRAY, struct.pack("<IQ2i", I32, 2, 2, 3)),), (tensor("x", (8,)),)),
            "x holds 8 numbers, which does not fit its original shape 2,3",
        ),
        (
            made((fact("comfy.gguf.orig_shape.x", ARRAY, struct.pack("<IQ2i", I32, 2, -2, -4)),), (tensor("x", (8,)),)),
            "original shape of x is '-2,-4'",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_invalid_files_are_refused_in_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(BadInput, match=says) as caught:
        open_source(tmp_path / "bad")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 320 + len(str(tmp_path))
