"""Dequantise GGUF's block types to float32, bit for bit as ggml does.

A block is 32 or 256 neighbours of a row that share scales; `d`, `m` are the float16 scale and offset of a block, `s`
the small integer scales of its sub-blocks, `q` the stored numbers. Each product and sum is rounded to float32 by
itself, in ggml's order, so the result is the same on every machine. Layouts: ggml's ggml-common.h.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from models.weight_files.gguf import TYPES

CHUNK_NUMBERS = 2**16  # numbers at once: the intermediates, some 8 bytes a number, stay in a core's cache
# What the 16 values of IQ4 stand for: finer near zero, where weights are.
IQ4 = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


def dequantize(data: Tensor, name: str) -> Tensor:
    """(bytes,) uint8 of whole blocks of the type `name` -> (numbers,) float32."""
    block = SIZES[name]
    blocks = data.view(-1, block.size)
    numbers = torch.empty(len(blocks), block.numbers, dtype=torch.float32)
    step = CHUNK_NUMBERS // block.numbers
    for start in range(0, len(blocks), step):
        part = blocks[start : start + step]
        numbers[start : start + step] = BLOCKS[name](part).reshape(len(part), block.numbers)
    return numbers.view(-1)


def _q4_0(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * (_nibbles(blocks[:, 2:]) - 8)


def _q4_1(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * _nibbles(blocks[:, 4:]) + _half(blocks, 2)


def _q5_0(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * (_nibbles(blocks[:, 6:]) + 16 * _mask(blocks[:, 2:6]) - 16)


def _q5_1(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * (_nibbles(blocks[:, 8:]) + 16 * _mask(blocks[:, 4:8])) + _half(blocks, 2)


def _q8_0(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * _signed(blocks[:, 2:])


def _iq4_nl(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * _iq4(_nibbles(blocks[:, 2:]))


def _q2_k(blocks: Tensor) -> Tensor:
    scales = blocks[:, :16, None].int()  # of 16 numbers each
    q = _two_bits(blocks[:, 16:80]).view(-1, 16, 16)
    d, m = _half(blocks, 80)[:, None], _half(blocks, 82)[:, None]
    return d * (scales & 15) * q - m * (scales >> 4)


def _q3_k(blocks: Tensor) -> Tensor:
    # Bit j of the 32 mask bytes belongs to the j-th 32 numbers; where it is not set, 4 is taken off.
    high = _bits(blocks[:, :32], range(8))
    q = _two_bits(blocks[:, 32:96]) + 4 * high - 4
    packed = blocks[:, 96:108].int()
    low = torch.cat([packed[:, :8] & 15, packed[:, :8] >> 4], 1)
    top = torch.cat([packed[:, 8:] >> shift & 3 for shift in (0, 2, 4, 6)], 1)
    scales = (low | top << 4) - 32
    return _half(blocks, 108)[:, None] * scales[:, :, None] * q.view(-1, 16, 16)


def _q4_k(blocks: Tensor) -> Tensor:
    return _k_scaled(blocks, _nibbles_of_32(blocks[:, 16:]))


def _q5_k(blocks: Tensor) -> Tensor:
    return _k_scaled(blocks, _nibbles_of_32(blocks[:, 48:]) + 16 * _bits(blocks[:, 16:48], range(8)))


def _q6_k(blocks: Tensor) -> Tensor:
    low = _nibbles(blocks[:, :128].reshape(-1, 64)).view(-1, 2, 4, 32)
    high = _bits(blocks[:, 128:192].reshape(-1, 32), (0, 2, 4, 6), 3).view(-1, 2, 4, 32)
    q = (low | high << 4) - 32
    return _half(blocks, 208)[:, None] * _signed(blocks[:, 192:208])[:, :, None] * q.view(-1, 16, 16)


def _iq4_xs(blocks: Tensor) -> Tensor:
    bits = torch.arange(8)
    high = (blocks[:, 2:3].int() | blocks[:, 3:4].int() << 8) >> 2 * bits & 3
    low = blocks[:, 4:8].int().repeat_interleave(2, 1) >> 4 * (bits & 1) & 15
    scales = (low | high << 4) - 32
    q = _nibbles(blocks[:, 8:].reshape(-1, 16)).view(-1, 8, 32)
    return _half(blocks, 0)[:, None] * scales[:, :, None] * _iq4(q)


def _k_scaled(blocks: Tensor, q: Tensor) -> Tensor:
    """d s q - m t with the eight pairs of six bits (s, t) that Q4_K and Q5_K pack into 12 bytes. q (blocks, 8, 32)."""
    first, second, third = blocks[:, 4:16].int().split(4, 1)
    scales = torch.cat([first & 63, third & 15 | first >> 6 << 4], 1)
    offsets = torch.cat([second & 63, third >> 4 | second >> 6 << 4], 1)
    d, m = _half(blocks, 0), _half(blocks, 2)
    return (d * scales)[:, :, None] * q - (m * offsets)[:, :, None]


def _half(blocks: Tensor, at: int) -> Tensor:
    """The float16 at a byte of each block, (blocks, 1) float32."""
    return blocks[:, at : at + 2].contiguous().view(torch.float16).float()


def _signed(data: Tensor) -> Tensor:
    return data.contiguous().view(torch.int8)


def _nibbles(data: Tensor) -> Tensor:
    """(blocks, n) -> (blocks, 2n): the low halves of all bytes, then the high ones."""
    return torch.cat([data & 15, data >> 4], 1).view(torch.int8)


def _nibbles_of_32(data: Tensor) -> Tensor:
    """(blocks, 128) -> (blocks, 8, 32): of every 32 bytes the low halves, then the high ones."""
    return _nibbles(data.reshape(-1, 32)).view(-1, 8, 32)


def _two_bits(data: Tensor) -> Tensor:
    """(blocks, 64) -> (blocks, 8, 32): of every 32 bytes the lowest two bits, then the next, four times."""
    return _bits(data.reshape(-1, 32), (0, 2, 4, 6), 3).view(-1, 8, 32)


def _bits(data: Tensor, shifts: range | tuple[int, ...], mask: int = 1) -> Tensor:
    """(blocks, n) -> (blocks, shifts, n)."""
    return torch.stack([data >> shift & mask for shift in shifts], 1).view(torch.int8)


def _mask(data: Tensor) -> Tensor:
    """(blocks, 4) -> (blocks, 32): bit j of byte i is the number 8 i + j."""
    return (data[:, :, None] >> torch.arange(8, dtype=torch.uint8) & 1).view(torch.int8).reshape(-1, 32)


def _iq4(q: Tensor) -> Tensor:
    return torch.tensor(IQ4, dtype=torch.float32)[q.int()]


SIZES = {block.name: block for block in TYPES.values()}
BLOCKS: dict[str, Callable[[Tensor], Tensor]] = {
    "Q4_0": _q4_0, "Q4_1": _q4_1, "Q5_0": _q5_0, "Q5_1": _q5_1, "Q8_0": _q8_0, "IQ4_NL": _iq4_nl,
    "Q2_K": _q2_k, "Q3_K": _q3_k, "Q4_K": _q4_k, "Q5_K": _q5_k, "Q6_K": _q6_k, "IQ4_XS": _iq4_xs,
}  # fmt: skip
