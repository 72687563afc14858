"""The autoencoder's operations against torch's own, step by step, on the CPU and, where there is one, on a GPU.

Needs only torch and pytest: a rented machine with a GPU may have no more.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kernels import ops

needs_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
DEVICES = ["cpu", pytest.param("cuda", marks=needs_gpu)]
F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16
STEP = {F32: 2.0**-22, BF16: 2.0**-8, F16: 2.0**-11}  # half a unit in the last place, float32's with slack
# (B, C, T, H, W) and dtype. The tile follows from the channels alone; every dtype comes at two odd sizes.
FILMS = [
    ((1, 3, 1, 1, 1), F32), ((2, 4, 3, 5, 7), F32), ((2, 4, 3, 5, 7), BF16), ((2, 4, 3, 5, 7), F16),
    ((1, 12, 2, 3, 9), F16), ((1, 96, 4, 5, 6), BF16), ((2, 160, 1, 3, 4), F32), ((1, 384, 2, 4, 3), BF16),
    ((1, 1024, 1, 3, 3), F16), ((1, 100, 2, 9, 2), F32), ((1, 100, 2, 9, 2), BF16), ((1, 100, 2, 9, 2), F16),
]  # fmt: skip
# Film, dtype, bias, SiLU, past frames. What interacts: dtype with bias and SiLU (each step is rounded), and past frames
# with several films and several frames.
NORMS = [
    *((size, dtype, True, True, 2) for size, dtype in FILMS),
    *(((2, 4, 3, 5, 7), dtype, *variant) for dtype in (F32, BF16, F16)
      for variant in ((False, False, 0), (False, True, 2), (True, False, 1))),
]  # fmt: skip
SIZES = list(dict.fromkeys(size for size, _ in FILMS))


@pytest.fixture(autouse=True)
def poisoned():
    """New tensors are filled with NaN or the largest integer, so that memory a kernel does not write is seen."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def film(*size: int, seed: int = 0) -> Tensor:
    """Channels last in memory, pixels of many sizes, one of them all zeros."""
    x = torch.randn(*size, generator=torch.Generator().manual_seed(seed))
    x *= torch.logspace(-3, 3, size[4])
    x[:, :, -1, -1, -1] = 0
    return x.contiguous(memory_format=torch.channels_last_3d)


def channels(count: int, seed: int) -> Tensor:
    return 1 + 0.3 * torch.randn(count, generator=torch.Generator().manual_seed(seed))


def stepwise(x: Tensor, gamma: Tensor, bias: Tensor | None, silu: bool) -> Tensor:
    """As the published network computes it: one operation after the other, each rounded."""
    if bias is not None:
        x = x + bias[:, None, None, None]
    y = F.normalize(x.float(), dim=1).to(x.dtype)
    y = y * x.shape[1] ** 0.5
    y = y * gamma[:, None, None, None]
    return F.silu(y) if silu else y


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("size", "dtype", "biased", "silu", "before"), NORMS)
def test_norm_and_activation_after_past_frames(size, dtype, biased, silu, before, device) -> None:
    x, past = film(*size).to(dtype), film(*size[:2], before, *size[3:], seed=1).to(dtype) if before else None
    gamma, bias = channels(size[1], 2).to(dtype), channels(size[1], 3).to(dtype) if biased else None
    here = [part if part is None else part.to(device) for part in (x, gamma, bias, past)]
    y = ops.rms_norm_silu(*here[:3], silu, here[3])
    assert y.dtype == dtype and y.shape == (*size[:2], before + size[2], *size[3:])
    assert y.is_contiguous(memory_format=torch.channels_last_3d)
    y = y.cpu()
    if past is not None:
        assert torch.equal(y[:, :, :before], past)
    expected, normed = (stepwise(x, gamma, bias, active).double() for active in (silu, False))
    # One step of rounding, where the float32 before it falls on the other side of a tie, and what becomes of it later.
    # Relative to the norm: far below zero SiLU is small, and an error of the norm is many times its own size.
    assert ((y[:, :, before:].double() - expected).abs() <= 4 * STEP[dtype] * normed.abs() + 1e-30).all()
    if dtype != F32:
        assert (y[:, :, before:] == expected).double().mean() > 0.99


@pytest.mark.parametrize("device", DEVICES)
def test_the_norm_is_over_the_channels_of_a_pixel(device: str) -> None:
    """By hand: (3, 4) has length 5, and two channels' norm is 1.414; a pixel of zeros stays zeros."""
    x = torch.tensor([[3.0, 0.0], [4.0, 0.0]], device=device)[None, :, None, None]
    y = ops.rms_norm_silu(x, torch.tensor([1.0, 10.0], device=device), None, False, None)
    torch.testing.assert_close(y[0, :, 0, 0].cpu(), torch.tensor([[0.6, 0], [8.0, 0]]) * 2**0.5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("size", "dtype"), FILMS)
def test_bias_and_residual(size, dtype, device) -> None:
    x, residual, bias = film(*size).to(dtype), film(*size, seed=1).to(dtype), channels(size[1], 2).to(dtype)
    before = x.clone()
    y = ops.bias_residual(x.to(device), bias.to(device), residual.to(device)).cpu()
    assert torch.equal(y, (x + bias[:, None, None, None]) + residual) and torch.equal(x, before)
    assert y.dtype == dtype and y.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("size", "dtype"), FILMS)
def test_every_pixel_four_times(size, dtype, device) -> None:
    x = film(*size).to(dtype)
    y = ops.nearest2x(x.to(device)).cpu()
    expected = x.repeat_interleave(2, 3).repeat_interleave(2, 4)
    assert torch.equal(y, expected) and y.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("device", DEVICES)
def test_films_may_have_any_memory_format(device: str) -> None:
    x = film(2, 12, 3, 4, 5).contiguous().to(device)
    gamma, last = channels(12, 1).to(device), torch.channels_last_3d
    for op, rest in ((ops.rms_norm_silu, (gamma, None, True, x[:, :, 1:])), (ops.bias_residual, (gamma, x)),
                     (ops.nearest2x, ())):  # fmt: skip
        expected = op(x.contiguous(memory_format=last), *rest)
        torch.testing.assert_close(op(x, *rest), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_shapes_without_data_are_those_of_the_results(size) -> None:
    """The meta implementation gives the shape, dtype and memory format of the real one."""
    x, gamma = film(*size), channels(size[1], 1)
    for op, rest in ((ops.rms_norm_silu, (gamma, None, True, x)), (ops.bias_residual, (gamma, x)), (ops.nearest2x, ())):
        given = op(x, *rest)
        known = op(x.to("meta"), *(part.to("meta") if isinstance(part, Tensor) else part for part in rest))
        assert (known.shape, known.dtype) == (given.shape, given.dtype)
        assert known.is_contiguous(memory_format=torch.channels_last_3d)
