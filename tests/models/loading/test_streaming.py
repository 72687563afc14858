"""Streamed blocks give the same numbers as resident blocks, bit for bit."""

from __future__ import annotations

import gc
import threading
from dataclasses import replace

import pytest
import torch
from torch import nn

from models.card import TINY, Card
from models.dit.wan import Transformer
from models.loading.quantize import load_quantized, quantize
from models.loading.streaming import SMALLEST_PIECE, StreamedBlocks, layout_of, pin_memory, place, tensors_of
from models.placement import Placement
from models.weight_files.package_header import SCHEME_INT4, SCHEME_INT8

DEEP = replace(
    TINY, name="deep", dim=64, ffn=128, layers=9
)  # wide enough for int4; blocks 0, 1, 6, 7, 8 are kept: both kinds pass
CPU = torch.device("cpu")
GPU = pytest.param(
    "cuda:0", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
)


@torch.no_grad()
def stored(card: Card, scheme: str = SCHEME_INT8, seed: int = 0) -> dict[str, torch.Tensor]:
    """The stored form of a network whose head is not zero."""
    network, generator = Transformer(card), torch.Generator().manual_seed(seed)
    for weight in network.parameters():
        weight.copy_(
            torch.randn(weight.shape, generator=generator) / (weight[0].numel() if weight.dim() > 1 else 4) ** 0.5
        )
    return quantize(network.state_dict(), card, scheme=scheme)


def inputs(card: Card, device: str, step: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(1, card.in_channels, 2, 6, 8, generator=generator)
    given = x, torch.tensor([900.0 - step]), torch.randn(1, 5, card.text_dim, generator=generator)
    return tuple(tensor.to(device) for tensor in given)


def network_of(card: Card, weights: dict[str, torch.Tensor], dtype: torch.dtype, placement: Placement, device: str):
    network = load_quantized(card, weights, dtype)
    assert place(network, torch.device(device), placement) is None
    return network


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize(
    ("dtype", "scheme"),
    [(torch.float32, SCHEME_INT8), (torch.bfloat16, SCHEME_INT8), (torch.bfloat16, SCHEME_INT4)],
    ids=["fp32", "bf16", "int4"],
)  # fmt: skip
@torch.inference_mode()
def test_streamed_equals_resident_bit_for_bit(device, dtype, scheme):
    weights = stored(DEEP, scheme)
    resident = network_of(DEEP, weights, dtype, Placement(), device)
    steps = [inputs(DEEP, device, step) for step in range(3)]
    expected = [resident(*step) for step in steps]
    assert not torch.equal(expected[0], expected[1])
    # From none to all resident: an even and an odd number streamed, of both kinds and of one; on a CPU, which pins
    # nothing, the two sources are one path.
    placements = [Placement(stay, "ram") for stay in (0, 1, 2, 4, 7, 8, 9)]
    placements += [Placement(stay, "disk") for stay in (range(10) if device != "cpu" else (0, 3))]
    for placement in placements:
        streamed = network_of(DEEP, weights, dtype, placement, device)
        assert len(streamed.blocks) == DEEP.layers == 9
        for step, film in zip(steps, expected, strict=True):
            torch.testing.assert_close(streamed(*step), film, rtol=0, atol=0)


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_any_list_of_blocks_streams(device):
    """Not only the transformer's: a chain of plain layers of two sizes, one of them with a buffer."""
    torch.manual_seed(0)
    chain = [nn.Linear(24, 24), nn.BatchNorm1d(24), nn.Linear(24, 24), nn.BatchNorm1d(24), nn.Linear(24, 24)]
    chain = [layer.eval().requires_grad_(False) for layer in chain]
    x = torch.randn(7, 24)
    expected = nn.Sequential(*chain)(x).to(device)
    blocks = StreamedBlocks(chain, 0, torch.device(device), pin_memory if device != "cpu" else None)
    for _ in range(2):
        y = x.to(device)
        for block in blocks:
            y = block(y)
        torch.testing.assert_close(y, expected, rtol=0, atol=0 if device == "cpu" else 1e-5)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7])
def test_two_slots_serve_any_number_of_blocks_in_order(count):
    blocks = [_holding(number) for number in range(count)]
    streamed = StreamedBlocks(blocks, 0, CPU)
    for _ in range(3):
        assert [int(block.bias[0]) for block in streamed] == list(range(count))
    places = {block.bias.data_ptr() for block in streamed}
    assert len(places) == min(count, 2)


def test_an_interrupted_pass_does_not_affect_the_next_one():
    streamed = StreamedBlocks([_holding(number) for number in range(5)], 1, CPU)
    for stop in range(5):
        for index, _ in enumerate(streamed):
            if index == stop:
                break
        assert [int(block.bias[0]) for block in streamed] == list(range(5))


def test_streamed_blocks_exist_once():
    """Without pinning they stay the given tensors; with it, each is released after it was copied."""
    blocks = [_holding(number) for number in range(4)]
    given = [block.bias.data_ptr() for block in blocks]
    streamed = StreamedBlocks(blocks, 1, CPU)
    assert [waiting.tensors["bias"].data_ptr() for waiting in streamed._waiting] == given[1:]
    pinned = StreamedBlocks(blocks, 1, CPU, lambda size: torch.empty(size, dtype=torch.uint8))
    assert [waiting.tensors for waiting in pinned._waiting] == [{}] * 3


def test_blocks_beyond_the_pinned_memory_stay_in_the_file():
    room = [2 * SMALLEST_PIECE]

    def scarce(size: int) -> torch.Tensor:
        room[0] -= size
        if room[0] < 0:
            raise RuntimeError("CUDA error: out of memory\nmore for programmers")
        return torch.empty(size, dtype=torch.uint8)

    streamed = StreamedBlocks([_holding(number) for number in range(5)], 1, CPU, scarce)
    assert streamed.note is not None and streamed.note.startswith("2 of 4 blocks are in pinned memory")
    assert "\n" not in streamed.note and "CUDA error: out of memory" in streamed.note
    assert [bool(waiting.pieces) for waiting in streamed._waiting] == [True, True, False, False]
    for _ in range(2):
        assert [int(block.bias[0]) for block in streamed] == list(range(5))


def test_pinned_pieces_are_powers_of_two_and_hold_the_block():
    """A block of 11 MiB and a bit: 8 + 4 MiB, not the 16 that one allocation of torch would take."""
    block = nn.Linear(1024, 2817)
    assert layout_of(block).size == 12 * 2**20
    sizes: list[int] = []

    def noting(size: int) -> torch.Tensor:
        sizes.append(size)
        return torch.empty(size, dtype=torch.uint8)

    streamed = StreamedBlocks([block, block], 1, CPU, noting)
    assert sizes == [8 * 2**20, 4 * 2**20]
    for name, tensor in tensors_of(list(streamed)[1]).items():
        assert torch.equal(tensor, tensors_of(block)[name]) and tensor.data_ptr() % 64 == 0


def test_an_error_of_the_copy_is_raised_once():
    blocks = [_holding(number) for number in range(3)]
    streamed = StreamedBlocks(blocks, 0, CPU)
    whole = streamed._waiting[1]
    streamed._waiting[1] = whole._replace(tensors={"bias": whole.tensors["bias"]})  # as if its file were cut off
    with pytest.raises(KeyError, match="weight"):
        list(streamed)
    streamed._waiting[1] = whole
    assert [int(block.bias[0]) for block in streamed] == [0, 1, 2]


def test_the_copying_thread_ends_with_the_blocks():
    streamed = StreamedBlocks([_holding(number) for number in range(3)], 0, CPU)
    list(streamed)
    assert any(thread.name.startswith("blocks") for thread in threading.enumerate())
    del streamed
    gc.collect()
    assert not any(thread.name.startswith("blocks") for thread in threading.enumerate())


def _holding(number: int) -> nn.Module:
    block = nn.Linear(3, 2).requires_grad_(False)
    block.bias.fill_(number)
    return block
