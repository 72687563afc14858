"""K8: the autoencoder's pointwise operations between convolutions, each reading and writing memory once.

    rms_norm_silu   x + bias -> RMSNorm over channels -> gamma -> SiLU, written after the past frames that a causal
                    convolution needs: norm, activation, and padding in time, which is otherwise a copy of everything
    bias_residual   x + bias + residual
    nearest2x       each pixel read once and written four times

cuDNN adds a bias in a separate pass; here it is part of the pass that follows. A pixel's channels are contiguous, so
that a tile of pixels is one range of memory:

             CHUNK       CHUNK       CHUNK         PARTS chunks make up a pixel: 96 channels are 3 x 32, so that no
    pixel 0  16 B 16 B   16 B 16 B   ...           lane is idle, where one power of two would be 128
    pixel 1  ...

Rounded after each step as the reference is, in registers, where that costs no memory traffic.
"""

# mypy: disable-error-code=assignment
# Tuples grow while Triton unrolls a loop, which changes their type.

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.vae import reference as reference_vae

LEAST_PIXELS = 16  # per program: with fewer, most of its time is launch overhead
VALUES = 48  # of a tile in one lane, so that values and results fit in registers
SMALLEST = tl.constexpr(reference_vae.EPS**2)


@triton.jit
def columns(part: tl.constexpr, ROWS: tl.constexpr, CHUNK: tl.constexpr):
    """The channels in part `part` of every pixel of a tile, (ROWS, CHUNK).

    Bias and gamma too are loaded for all rows: one row would have another layout, and go through shared memory.
    """
    return tl.broadcast_to(part * CHUNK + tl.arange(0, CHUNK)[None, :], [ROWS, CHUNK])


@triton.jit
def rounded(x, ptr):
    """x rounded to the dtype that `ptr` points to, as float32."""
    return x.to(ptr.dtype.element_ty).to(tl.float32)


@triton.jit(do_not_specialize=["pixels", "skipped"])
def rms_norm_silu_kernel(
    x_ptr, gamma_ptr, bias_ptr, y_ptr, pixels, skipped, scale, C: tl.constexpr, BIAS: tl.constexpr, SILU: tl.constexpr,
    ROWS: tl.constexpr, CHUNK: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS))[:, None]
    inside = row < pixels
    film = tl.program_id(1).to(tl.int64)  # offsets can exceed 2^31 elements
    x_ptr += (film * pixels + row) * C
    y_ptr += (film * (pixels + skipped) + skipped + row) * C
    squares = tl.zeros([ROWS, CHUNK], tl.float32)
    x = ()
    for part in tl.static_range(PARTS):
        at = columns(part, ROWS, CHUNK)
        value = tl.load(x_ptr + at, mask=inside & (at < C), other=0.0).to(tl.float32)
        if BIAS:
            value = rounded(value + tl.load(bias_ptr + at, mask=at < C, other=0.0).to(tl.float32), x_ptr)
        squares = tl.fma(value, value, squares)
        x += (value,)
    shrink = tl.rsqrt(tl.maximum(tl.sum(squares, axis=1), SMALLEST))[:, None]
    for part in tl.static_range(PARTS):
        at = columns(part, ROWS, CHUNK)
        gamma = tl.load(gamma_ptr + at, mask=at < C, other=0.0).to(tl.float32)
        y = rounded(rounded(rounded(x[part] * shrink, x_ptr) * scale, x_ptr) * gamma, x_ptr)
        if SILU:
            # y / (1 + e^-y), by exp2; 1 / d is rsqrt(d)^2, as a division takes ten instructions.
            root = tl.rsqrt(1.0 + tl.exp2(y * -1.4426950408889634))
            y = y * root * root
        tl.store(y_ptr + at, y.to(x_ptr.dtype.element_ty), mask=inside & (at < C))


@triton.jit(do_not_specialize=["pixels"])
def bias_residual_kernel(
    x_ptr, bias_ptr, residual_ptr, y_ptr, pixels, C: tl.constexpr,
    ROWS: tl.constexpr, CHUNK: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
    for part in tl.static_range(PARTS):
        at = columns(part, ROWS, CHUNK)
        inside = (row < pixels) & (at < C)
        bias = tl.load(bias_ptr + at, mask=at < C, other=0.0).to(tl.float32)
        x = rounded(tl.load(x_ptr + row * C + at, mask=inside, other=0.0).to(tl.float32) + bias, x_ptr)
        residual = tl.load(residual_ptr + row * C + at, mask=inside, other=0.0).to(tl.float32)
        tl.store(y_ptr + row * C + at, (x + residual).to(x_ptr.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["pixels", "width"])
def nearest2x_kernel(
    x_ptr, y_ptr, pixels, width, C: tl.constexpr, ROWS: tl.constexpr, CHUNK: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS))[:, None]
    inside = row < pixels
    # The lines of all frames are contiguous; line n becomes lines 2n and 2n + 1, each twice as long.
    first = (row // width).to(tl.int64) * 4 * width + row % width * 2
    row = row.to(tl.int64)
    for part in tl.static_range(PARTS):
        at = columns(part, ROWS, CHUNK)
        x = tl.load(x_ptr + row * C + at, mask=inside & (at < C), other=0.0)
        for below in tl.static_range(2):
            for right in tl.static_range(2):
                target = (first + below * 2 * width + right) * C + at
                tl.store(y_ptr + target, x, mask=inside & (at < C))


def launch(x: Tensor, gamma: Tensor, bias: Tensor | None, silu: bool, past: Tensor | None) -> Tensor:
    """`reference.rms_norm_silu` on the GPU."""
    x = _channels_last(x)
    B, C, T, H, W = x.shape
    before = 0 if past is None else past.shape[2]
    y = _empty(x, before + T, H, W)
    if past is not None:
        y[:, :, :before] = past
    tile = tile_of(C)
    rms_norm_silu_kernel[(triton.cdiv(T * H * W, tile["ROWS"]), B)](
        x, gamma, bias, y, T * H * W, before * H * W, C**0.5, C, bias is not None, silu, **tile, enable_fp_fusion=False
    )
    return y


def launch_residual(x: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    """`reference.bias_residual` on the GPU."""
    x, residual = _channels_last(x), _channels_last(residual)
    B, C, T, H, W = x.shape
    y, pixels, tile = _empty(x, T, H, W), B * T * H * W, tile_of(C)
    bias_residual_kernel[(triton.cdiv(pixels, tile["ROWS"]),)](
        x, bias, residual, y, pixels, C, **tile, enable_fp_fusion=False
    )
    return y


def launch_nearest(x: Tensor) -> Tensor:
    """`reference.nearest2x` on the GPU."""
    x = _channels_last(x)
    B, C, T, H, W = x.shape
    y, pixels, tile = _empty(x, T, 2 * H, 2 * W), B * T * H * W, tile_of(C)
    nearest2x_kernel[(triton.cdiv(pixels, tile["ROWS"]),)](x, y, pixels, W, C, **tile, enable_fp_fusion=False)
    return y


def tile_of(channels: int) -> dict[str, int]:
    """Tile sizes for pixels with this many channels."""
    pixels = 2 * LEAST_PIXELS if 2 * LEAST_PIXELS * channels <= 4 * 32 * VALUES else LEAST_PIXELS
    warps = max(4, min(16, triton.next_power_of_2(triton.cdiv(pixels * channels, 32 * VALUES))))
    power = channels & -channels  # the largest power of two that divides them
    chunk = max(16, min(power, 8 * 32 * warps // pixels))  # 8 values a lane: 16 bytes of bf16
    return {"ROWS": pixels, "CHUNK": chunk, "PARTS": triton.cdiv(channels, chunk), "num_warps": warps}


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last_3d)


def _empty(x: Tensor, T: int, H: int, W: int) -> Tensor:
    """An empty film (B, C, T, H, W) with the batch, channels, dtype and device of x, channels last in memory."""
    size = (*x.shape[:2], T, H, W)
    return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last_3d)
