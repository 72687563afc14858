"""Whatever is done to a file of weights: one line that refuses it, or the right tensors; never a crash, hang or flood.

The suite tries a few hundred mutations; thousands come with `pytest --hypothesis-profile explore`.
"""

from __future__ import annotations

import functools
import json
import math
import struct
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import BadInput
from models.importing.lora import read_lora
from models.importing.sources import Source, open_source
from models.weight_files.file_kind import kind_of
from models.weight_files.gguf import TYPES
from models.weight_files.gguf_blocks import BLOCKS, SIZES
from models.weight_files.safetensors_header import ITEM_BYTES

EXPLORE = settings.get_current_profile_name() == "explore"
fuzz = settings(
    max_examples=3000 if EXPLORE else 150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
SECONDS, FLOOD_BYTES = 1.0, 4 * 2**20  # of one reading, however busy the machine; the files are below 20 KB
NASTY = (
    0, 1, 7, 8, 31, 32, 127, 128, 255, 256, 2**15, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**60,
    2**62, 2**63 - 1, 2**63, 2**64 - 32, 2**64 - 1,
)  # fmt: skip
LORA_SHAPES = {"blocks.0.self_attn.q.weight": (12, 12), "blocks.0.self_attn.q.bias": (12,)}


def safetensors_file(path: Path) -> None:
    torch.manual_seed(0)
    types = (torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.int8, torch.bool)
    tensors = {f"blocks.{i}.weight": torch.ones(3, 4 + i).to(dtype) for i, dtype in enumerate(types)}
    safetensors.torch.save_file({**tensors, "empty": torch.zeros(0, 2), "one": torch.ones(())}, path, {"format": "pt"})


def lora_file(path: Path) -> None:
    layer = "diffusion_model.blocks.0.self_attn.q"
    pair = {f"{layer}.lora_down.weight": torch.ones(3, 12), f"{layer}.lora_up.weight": torch.ones(12, 3)}
    facts = {"lora_adapter_metadata": json.dumps({"t.lora_alpha": 4})}
    safetensors.torch.save_file({**pair, f"{layer}.diff_b": torch.ones(12)}, path, facts)


def gguf_file(path: Path) -> None:
    writer = gguf.GGUFWriter(path, "wan")
    writer.add_array("words", ["a", "bc", ""])
    writer.add_array("comfy.gguf.orig_shape.patch.weight", [2, 2, 1, 2, 2])
    for i, name in enumerate(sorted(BLOCKS)):
        raw = np.full((2, SIZES[name].size), 7 + i, dtype=np.uint8)
        writer.add_tensor(f"b.{i}.weight", raw, raw_dtype=gguf.GGMLQuantizationType[name])
    writer.add_tensor("patch.weight", np.ones((2, 8), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


MAKERS: dict[str, Callable[[Path], None]] = {
    "safetensors": safetensors_file,
    "lora": lora_file,
    "gguf": gguf_file,
    "pickle": lambda path: torch.save({"a": torch.ones(3)}, path),
    "old pickle": lambda path: torch.save({"a": torch.ones(3)}, path, _use_new_zipfile_serialization=False),
}


@functools.cache
def whole(kind: str) -> bytes:
    """A sound file. No fixture: hypothesis would print every byte of all of them when a test fails."""
    with tempfile.TemporaryDirectory() as folder:
        MAKERS[kind](Path(folder) / kind)
        return (Path(folder) / kind).read_bytes()


def mutated(draw: Callable, content: bytes, other: bytes) -> bytes:
    """One to four things done to a file, most of them in its header, where the traps are."""
    data, header = bytearray(content), int.from_bytes(content[:8], "little")
    for _ in range(draw(st.integers(1, 4))):
        end = max(len(data), 1)
        at = draw(st.integers(0, end - 1) if draw(st.integers(0, 3)) == 0 else st.integers(0, min(end, 1500) - 1))
        match draw(st.sampled_from(["flip", "set", "cut", "drop", "lengthen", "splice", "repeat", "nasty", "digits"])):
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "set" if data:
                data[at] = draw(st.integers(0, 255))
            case "cut":
                del data[at:]
            case "drop":
                del data[at : at + draw(st.integers(1, 40))]
            case "lengthen":
                data += draw(st.sampled_from([b"\0", b"\0" * 64, b"x" * 4096]))
            case "splice":
                start = draw(st.integers(0, len(other)))
                data[at:at] = other[start : start + draw(st.integers(1, 300))]
            case "repeat":
                data[at:at] = data[at : at + draw(st.integers(1, 200))]
            case "nasty":  # a count, length, size or place of GGUF, or the length of a header
                size = draw(st.sampled_from([1, 2, 4, 8]))
                number = draw(st.sampled_from((*NASTY, len(data), len(data) + 1)))
                data[at : at + size] = (number % 2 ** (8 * size)).to_bytes(size, "little")
            case "digits":  # keeps the JSON sound more often than not
                digits = [i for i in range(min(len(data), 1500)) if chr(data[i]).isdigit()]
                if digits:
                    place = digits[at % len(digits)]
                    data[place : place + 1] = str(draw(st.sampled_from([*NASTY, -1, "1e9", "null"]))).encode()
    if data[8:9] == b"{" and draw(st.booleans()):  # safetensors: the header's length made right again
        data[:8] = (header + len(data) - len(content)).to_bytes(8, "little", signed=True)
    return bytes(data)


def tried(read: Callable[[], None]) -> bool:
    """Whether `read` came through. It may refuse, in one line; nothing else, nor take long or much."""
    tracemalloc.start()
    begun = time.process_time()
    try:
        read()
        return True
    except BadInput as refusal:
        assert "\n" not in str(refusal) and str(refusal).isprintable() and len(str(refusal)) < 700
        return False
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert time.process_time() - begun < SECONDS
        assert peak < FLOOD_BYTES


def read_all(path: Path) -> Source:
    """Every tensor, each of the shape that was promised, and no larger than the file can justify."""
    source, size = open_source(path), path.stat().st_size
    for name, (dtype, shape) in source.tensors.items():
        tensor = source.read(name)
        assert tuple(tensor.shape) == shape and (dtype in BLOCKS or dtype in ITEM_BYTES)
        assert tensor.numel() * tensor.element_size() <= 16 * size  # Q2_K: 84 bytes are 1024
    return source


def merge(path: Path) -> None:
    """A LoRA of whatever numbers, added to a model."""
    lora = read_lora(open_source(path), LORA_SHAPES)
    for name, shape in LORA_SHAPES.items():
        assert lora.merged(name, torch.zeros(shape)).isfinite().all()


def agrees(path: Path) -> None:
    """What we read, others read too, and the same."""
    source = open_source(path)
    if source.kind == "safetensors":
        with safetensors.safe_open(path, "pt") as theirs:
            names = list(theirs.keys())
            assert set(names) == set(source.tensors)
            for name in names:
                if source.tensors[name].dtype != "BOOL":  # theirs believes bytes that are neither
                    one, other = source.read(name), theirs.get_tensor(name)
                    assert one.dtype == other.dtype and one.shape == other.shape
                    assert bytes_of(one) == bytes_of(other)
    else:
        raw = path.read_bytes()
        for found in gguf.GGUFReader(path).tensors:
            ours = source.read(found.name)
            assert source.tensors[found.name].dtype == found.tensor_type.name
            data = np.frombuffer(raw[found.data_offset :][: found.n_bytes], np.uint8)
            if found.tensor_type.name in BLOCKS:
                with np.errstate(all="ignore"):
                    want = gguf.quants.dequantize(data, found.tensor_type)
                assert np.array_equal(ours.numpy().ravel(), want.ravel(), equal_nan=True)
            else:
                assert bytes_of(ours) == data.tobytes()


def bytes_of(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("kind", MAKERS)
def test_the_files_that_are_mutated_are_sound(tmp_path: Path, kind: str) -> None:
    (tmp_path / "w").write_bytes(whole(kind))
    assert "pickle" in kind or len(read_all(tmp_path / "w").tensors) > 2
    if kind in ("safetensors", "gguf"):
        agrees(tmp_path / "w")


@pytest.mark.parametrize("kind", MAKERS)
@fuzz
@given(data=st.data())
def test_mutated_files(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    other = whole(data.draw(st.sampled_from(sorted(MAKERS))))
    path = tmp_path / "m"
    path.write_bytes(mutated(data.draw, whole(kind), other))
    if tried(lambda: read_all(path) and None):
        agrees(path)
        tried(lambda: merge(path))


def gguf_fields() -> list[bytes]:
    """A sound GGUF file, cut into its numbers and texts, the data last."""

    def text(of: str) -> list[bytes]:
        return [struct.pack("<Q", len(of)), of.encode()]

    def number(code: str, *values: int) -> list[bytes]:
        return [struct.pack("<" + code, value) for value in values]

    shapes = {"a.weight": (12, 256, 3), "b.weight": (2, 32, 2), "c": (0, 8), "d.bias": (30, 3), "e": (14, 256)}
    facts = [
        *text("general.architecture"), *number("I", 8), *text("wan"),
        *text("general.alignment"), *number("I", 4, 64),
        *text("words"), *number("I", 9, 8), *number("Q", 2), *text("one"), *text("two"),
        *text("scores"), *number("I", 9, 6), *number("Q", 9), *number("I", *range(9)),
        *text("comfy.gguf.orig_shape.c"), *number("I", 9, 5), *number("Q", 3), *number("i", 2, 2, 2),
    ]  # fmt: skip
    tensors, place = [], 0
    for name, (kind, *sizes) in shapes.items():
        tensors += [*text(name), *number("I", len(sizes)), *number("Q", *sizes)]
        tensors += [*number("I", kind), *number("Q", place)]
        place += -(-math.prod(sizes) // TYPES[kind].numbers * TYPES[kind].size // 64) * 64
    head = [b"GGUF", *number("I", 3), *number("Q", len(shapes), 5), *facts, *tensors]
    return [*head, bytes(-len(b"".join(head)) % 64), bytes(range(256)) * (place // 256) + bytes(place % 256)]


@fuzz
@given(data=st.data())
def test_gguf_with_wrong_numbers(tmp_path: Path, data: st.DataObject) -> None:
    """Sound but for one to three numbers, of any field: what random bytes seldom reach."""
    fields = gguf_fields()
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(fields) - 1))
        size = len(fields[at])
        match data.draw(st.sampled_from(["nasty", "near", "near", "drop", "twice", "other"])):
            case "nasty" if size in (4, 8):
                fields[at] = (data.draw(st.sampled_from(NASTY)) % 2 ** (8 * size)).to_bytes(size, "little")
            case "near" if size in (4, 8):
                number = int.from_bytes(fields[at], "little") + data.draw(st.integers(-70, 70))
                fields[at] = (number % 2 ** (8 * size)).to_bytes(size, "little")
            case "drop":
                fields[at] = b""
            case "twice":
                fields[at] *= 2
            case "other":
                fields[at] = fields[data.draw(st.integers(0, len(fields) - 1))]
    path = tmp_path / "g"
    path.write_bytes(b"".join(fields))
    if tried(lambda: read_all(path) and None):
        agrees(path)


ODD = (
    *NASTY, -1, 0.5, 1e300, 10**400, None, True, "", "1", "F32", "U8", "F4", "x" * 999, [], [1], {}, "../up", "\x1b[2J",
)  # fmt: skip


def changed(draw: Callable, tree: dict) -> bytes:
    """JSON with one to three of its values, keys or numbers changed: sound text, whose claims are not."""
    for _ in range(draw(st.integers(1, 3))):
        spot, key = tree, draw(st.sampled_from(sorted(tree))) if tree else "a"
        while isinstance(spot.get(key) if isinstance(spot, dict) else spot[key], (dict, list)) and spot[key]:
            if draw(st.integers(0, 4)) == 0:
                break
            spot = spot[key]
            key = draw(st.sampled_from(sorted(spot)) if isinstance(spot, dict) else st.integers(0, len(spot) - 1))
        match draw(st.sampled_from(["odd", "near", "near", "drop", "rename"])):
            case "near" if isinstance(spot, list) and type(spot[key]) is int:
                spot[key] += draw(st.integers(-9, 9))
            case "drop":
                spot.pop(key, None) if isinstance(spot, dict) else spot.pop(key)
            case "rename" if isinstance(spot, dict):
                spot[draw(st.sampled_from(["a", "a b", "../x", "", "__metadata__", "x" * 300, "one"]))] = spot.get(key)
            case _:
                spot[key] = draw(st.sampled_from(ODD))
    return json.dumps(tree).encode()


@pytest.mark.parametrize("kind", ["safetensors", "lora"])
@fuzz
@given(data=st.data())
def test_safetensors_with_wrong_headers(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    content = whole(kind)
    start = 8 + int.from_bytes(content[:8], "little")
    text = changed(data.draw, json.loads(content[8:start]))
    path = tmp_path / "s"
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[start:])
    if tried(lambda: read_all(path) and None):
        agrees(path)
        tried(lambda: merge(path))


@fuzz
@given(data=st.data())
def test_wrong_indexes(tmp_path: Path, data: st.DataObject) -> None:
    for number, kind in ((1, "safetensors"), (2, "lora")):
        (tmp_path / f"w-0000{number}-of-00002.safetensors").write_bytes(whole(kind))
    names = {"blocks.0.weight": 1, "one": 1, "diffusion_model.blocks.0.self_attn.q.diff_b": 2}
    index = {"weight_map": {name: f"w-0000{number}-of-00002.safetensors" for name, number in names.items()}}
    path = tmp_path / "w.safetensors.index.json"
    if data.draw(st.booleans()):
        path.write_bytes(changed(data.draw, index))
    else:
        path.write_bytes(mutated(data.draw, json.dumps(index).encode(), whole("safetensors")))
    tried(lambda: read_all(path) and None)


@fuzz
@given(content=st.binary(max_size=600), start=st.sampled_from([b"", b"GGUF", b"PK\x03\x04", b"\x80\x02", b"(c", b"{"]))
def test_any_bytes(tmp_path: Path, content: bytes, start: bytes) -> None:
    path = tmp_path / "b"
    path.write_bytes(start + content)
    if tried(lambda: kind_of(path) and None):
        tried(lambda: open_source(path) and None)
