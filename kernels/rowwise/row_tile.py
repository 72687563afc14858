"""Shared by the row-wise kernels: how a row lies in registers, its norm, its rotation, its quantisation.

A row is read once and written once, so it is held whole, as a tuple of tiles (ROWS, CHUNK), its parts:

             part 0           part 1           part 2
    row 0    warps 0 .. w     warps 0 .. w     ...       a lane holds 16 bytes of a part of the widest tensor;
    row 1    warps w + 1 ..   warps w + 1 ..   ...       SPAN is the number of columns in the 32 lanes of a warp

Parts, because Triton's tiles are powers of two: one tile for a row of 5120 would compute on 8192 columns, of 8960 on
16384, and on the fastest GPUs these kernels are as close to the instruction limit as to the memory limit (H100: 29e12
lane instructions a second over 3.3e12 bytes at 3 bytes per element leave 26 per element). A row of up to 1792 columns
belongs to one warp, so that its sums need no shared memory.
"""

# mypy: disable-error-code=assignment
# Tuples grow while Triton unrolls a loop, which changes their type.

from __future__ import annotations

import math

import triton
import triton.language as tl
from torch import Tensor

from kernels.rowwise import hadamard, reference

VALUES = 56  # of a row in one lane, so that the row and its results fit in 128 registers
WARPS = 4  # per program, at least
FLOOR = tl.constexpr(reference.FLOOR)


def tile_of(width: int, block: int, *tensors: Tensor) -> dict[str, int]:
    """Tile sizes for rows of `width` columns of these tensors, rotated by Hadamard blocks of `block` columns or 0.

    Raises ValueError where the width is not a multiple of the block.
    """
    hadamard.check(width, block)
    span = 32 * 16 // max(tensor.element_size() for tensor in tensors)
    row_warps = min(16, triton.next_power_of_2(triton.cdiv(width, 32 * VALUES)))
    chunk = min(row_warps * span, max(16, triton.next_power_of_2(width)))
    warps = max(row_warps, WARPS)
    stack = max(1, block // span)  # parts that hold one Hadamard block
    parts = triton.cdiv(width, row_warps * span * stack) * stack
    return {
        "ROWS": warps * span // chunk, "CHUNK": chunk, "PARTS": parts, "SPAN": span, "HADAMARD": block,
        "num_warps": warps,
    }  # fmt: skip


def group_sizes(rows: int, *gains: Tensor | None) -> tuple[int, list[int]]:
    """How many groups of rows have constant gains, and, per gain tensor, how many of them share one of its rows.

    All groups have the same size. Raises ValueError where `rows` does not divide into them.
    """
    counts = [1 if gain is None else len(gain) for gain in gains]
    groups = math.lcm(*counts)
    if not groups or rows % groups:
        raise ValueError(f"{rows} rows do not divide into {' and '.join(map(str, counts))} groups of equal size")
    return groups, [groups // count for count in counts]


@triton.jit
def columns(part: tl.constexpr, CHUNK: tl.constexpr, SPAN: tl.constexpr, HADAMARD: tl.constexpr):
    """The columns of a row in part `part`, (1, CHUNK): a warp's parts make up whole Hadamard blocks."""
    at = tl.arange(0, CHUNK)
    if HADAMARD > SPAN:
        STACK: tl.constexpr = HADAMARD // SPAN
        first = (part // STACK) * (CHUNK // SPAN) * HADAMARD + (part % STACK) * SPAN
        at = at // SPAN * HADAMARD + at % SPAN + first
    else:
        at += part * CHUNK
    return at[None, :]


@triton.jit
def load(
    ptr, inside, D: tl.constexpr, CHUNK: tl.constexpr, PARTS: tl.constexpr, SPAN: tl.constexpr, HADAMARD: tl.constexpr
):
    """The rows at `ptr` (ROWS, 1) as float32 parts: 0 past column D, and where `inside` (ROWS, 1) is false."""
    x = ()
    for part in tl.static_range(PARTS):
        at = columns(part, CHUNK, SPAN, HADAMARD)
        x += (tl.load(ptr + at, mask=inside & (at < D), other=0.0).to(tl.float32),)
    return x


@triton.jit
def load_gain(ptr, part: tl.constexpr, like, D: tl.constexpr, SPAN: tl.constexpr, HADAMARD: tl.constexpr):
    """Part `part` of the one row at `ptr`, which all rows of a tile shaped as `like` share."""
    # Loaded for all rows: one row would have another layout, and go through shared memory.
    at = tl.broadcast_to(columns(part, like.shape[1], SPAN, HADAMARD), like.shape)
    return tl.load(ptr + at, mask=at < D, other=0.0).to(tl.float32)


@triton.jit
def layer_norm(x, gain_ptr, shift_ptr, eps, D: tl.constexpr, SPAN: tl.constexpr, HADAMARD: tl.constexpr):
    """(x - mean) / sqrt(variance + eps) * gain + shift; 0 past column D.

    The variance is the mean of squared differences: E[x^2] - mean^2 would lose its digits where the mean is large.
    """
    total = x[0]
    for part in tl.static_range(1, len(x)):
        total += x[part]
    mean = (tl.sum(total, axis=1) * (1.0 / D))[:, None]
    squares = tl.zeros_like(total)
    centred = ()
    for part in tl.static_range(len(x)):
        at = columns(part, x[0].shape[1], SPAN, HADAMARD)
        difference = tl.where(at < D, x[part] - mean, 0.0)
        squares = tl.fma(difference, difference, squares)
        centred += (difference,)
    scale = tl.rsqrt(tl.sum(squares, axis=1) * (1.0 / D) + eps)[:, None]
    y = ()
    for part in tl.static_range(len(x)):
        gain = load_gain(gain_ptr, part, total, D, SPAN, HADAMARD)
        shift = load_gain(shift_ptr, part, total, D, SPAN, HADAMARD)
        y += (tl.fma(centred[part] * scale, gain, shift),)
    return y


@triton.jit
def gelu(x):
    """tanh-GELU: x * sigmoid(u) with u = 2 sqrt(2 / pi) (x + 0.044715 x^3)."""
    y = ()
    for part in tl.static_range(len(x)):
        value = x[part]
        # -u / ln 2, as the hardware has exp2 only; and 1 / d is rsqrt(d)^2, as a division takes ten instructions.
        power = value * tl.fma(value * value, -0.10294323, -2.3022082)
        root = tl.rsqrt(1.0 + tl.exp2(power))
        y += (value * root * root,)
    return y


@triton.jit
def rotate(x, SPAN: tl.constexpr, HADAMARD: tl.constexpr):
    """Blocks of HADAMARD columns times the matrix of +1 and -1: sums and differences at every power of two.

    Column bits above a warp's SPAN are bits of the part number, so those pairs lie in one lane. The others lie in one
    warp: in one lane, or a shuffle apart. No shared memory, no matrix.
    """
    if HADAMARD:
        # Joined to compile faster: from single parts the compiler makes the same code, but takes three times as long.
        PARTS: tl.constexpr = len(x)
        JOINS: tl.constexpr = 3 if PARTS % 8 == 0 else 2 if PARTS % 4 == 0 else 1 if PARTS % 2 == 0 else 0
        for _ in tl.static_range(JOINS):
            joined = ()
            for pair in tl.static_range(len(x) // 2):
                joined += (tl.join(x[2 * pair], x[2 * pair + 1]),)
            x = joined
        rotated = ()
        for tile in tl.static_range(len(x)):
            rotated += (butterflies(x[tile], JOINS, SPAN, HADAMARD),)
        x = rotated
        for _ in tl.static_range(JOINS):
            parts = ()
            for tile in tl.static_range(len(x)):
                parts += tl.split(x[tile])
            x = parts
    return x


@triton.jit
def butterflies(x, JOINS: tl.constexpr, SPAN: tl.constexpr, HADAMARD: tl.constexpr):
    """x (ROWS, CHUNK, 2, ...): the last JOINS axes are bits of the part number, the lowest first."""
    WITHIN: tl.constexpr = 7 if SPAN == 128 else 8  # bits of a column's index within a warp
    ABOVE: tl.constexpr = (
        HADAMARD // SPAN
    ) // 2  # 0, 1 or 2: bits of the part number that are bits of the column's index
    cube = tl.reshape(x, [x.numel // SPAN // 2**JOINS] + [2] * (WITHIN + JOINS))
    for axis in tl.static_range(1, 1 + WITHIN + ABOVE):
        # The other element of a pair is their sum minus this one: exact in integers, and compiled to a shuffle.
        bits = cube.to(tl.int32, bitcast=True)
        other = (tl.sum(bits, axis=axis, keep_dims=True) - bits).to(tl.float32, bitcast=True)
        sign = tl.reshape(1 - 2 * tl.arange(0, 2), [1] * axis + [2] + [1] * (WITHIN + JOINS - axis)).to(tl.float32)
        cube = tl.fma(cube, sign, other)
    return tl.reshape(cube, x.shape)


@triton.jit
def magnitude_bits(x):
    """|x| as integers, in which NaN is the largest. A float maximum ignores NaN: a row with one would be quantised to
    almost nothing without any sign of it.
    """
    return tl.abs(x).to(tl.int32, bitcast=True)


@triton.jit
def store_quantised(x, q_ptr, scale_ptr, inside, D: tl.constexpr, SPAN: tl.constexpr, HADAMARD: tl.constexpr):
    """Quantise x / sqrt(HADAMARD) to 255 levels of its row's peak, half to even; to `q_ptr` and `scale_ptr` (ROWS, 1).

    The scale of a row with a NaN is NaN.
    """
    NORM: tl.constexpr = HADAMARD**-0.5 if HADAMARD else 1.0
    largest = magnitude_bits(x[0])
    for part in tl.static_range(1, len(x)):
        largest = tl.maximum(largest, magnitude_bits(x[part]))
    peak = tl.max(largest, axis=1)[:, None].to(tl.float32, bitcast=True) * NORM
    peak = tl.where(peak < FLOOR, FLOOR, peak)
    factor = tl.div_rn(127.0, peak) * NORM
    for part in tl.static_range(len(x)):
        at = columns(part, largest.shape[1], SPAN, HADAMARD)
        # Triton has no rint. Adding 1.5 * 2^23 drops the fraction bits: it rounds half to even and leaves the integer
        # in the low bits. A conversion instruction, which runs at a quarter of the rate, is not needed.
        levels = (x[part] * factor + 12582912.0).to(tl.int32, bitcast=True).to(tl.int8)
        tl.store(q_ptr + at, levels, mask=inside & (at < D))
    tl.store(scale_ptr, tl.div_rn(peak, 127.0), mask=inside)
