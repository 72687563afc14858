"""The autoencoder's operations against torch's own, step by step, on the CPU and, where there is one, on a GPU.

Needs no more than torch and pytest, as a machine with a GPU may have no more.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kernels import ops

needs_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
DEVICES = ["cpu", pytest.param("cuda", marks=needs_gpu)]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
STEP = {torch.float32: 2.0**-22, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}  # half a unit, float32's with slack
SIZES = [(1, 3, 1, 1, 1), (2, 4, 3, 5, 7), (1, 12, 2, 3, 9), (1, 96, 4, 5, 6), (2, 160, 1, 3, 4), (1, 384, 2, 4, 3),
         (1, 1024, 1, 3, 3), (1, 100, 2, 9, 2)]  # fmt: skip


@pytest.fixture(autouse=True)
def poisoned():
    """What a kernel forgets to write is not a number, or the largest one."""
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
    """As the published network computes it: an operation after the other, each rounded."""
    if bias is not None:
        x = x + bias[:, None, None, None]
    y = F.normalize(x.float(), dim=1).to(x.dtype)
    y = y * x.shape[1] ** 0.5
    y = y * gamma[:, None, None, None]
    return F.silu(y) if silu else y


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("biased", "silu", "before"), [(False, False, 0), (False, True, 2), (True, True, 2), (True, False, 1)]
)
def test_norm_and_activation_behind_past_frames(size, dtype, biased, silu, before, device) -> None:
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
    # One step of rounding: where the float32 before it falls on the other side of a tie, and what that becomes. Of the
    # norm: far below zero SiLU is small, and its share of an error of the norm is many times its own size.
    assert ((y[:, :, before:].double() - expected).abs() <= 4 * STEP[dtype] * normed.abs() + 1e-30).all()
    if dtype != torch.float32:
        assert (y[:, :, before:] == expected).double().mean() > 0.99


@pytest.mark.parametrize("device", DEVICES)
def test_a_pixel_is_normed_by_its_own_channels(device: str) -> None:
    """By hand: (3, 4) has length 5, and two channels' norm is 1.414; a pixel of zeros stays zeros."""
    x = torch.tensor([[3.0, 0.0], [4.0, 0.0]], device=device)[None, :, None, None]
    y = ops.rms_norm_silu(x, torch.tensor([1.0, 10.0], device=device), None, False, None)
    torch.testing.assert_close(y[0, :, 0, 0].cpu(), torch.tensor([[0.6, 0], [8.0, 0]]) * 2**0.5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_bias_and_residual(size, dtype, device) -> None:
    x, residual, bias = film(*size).to(dtype), film(*size, seed=1).to(dtype), channels(size[1], 2).to(dtype)
    kept = x.clone()
    y = ops.bias_residual(x.to(device), bias.to(device), residual.to(device)).cpu()
    assert torch.equal(y, (x + bias[:, None, None, None]) + residual) and torch.equal(x, kept)
    assert y.dtype == dtype and y.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_every_pixel_four_times(size, dtype, device) -> None:
    x = film(*size).to(dtype)
    y = ops.nearest2x(x.to(device)).cpu()
    expected = x.repeat_interleave(2, 3).repeat_interleave(2, 4)
    assert torch.equal(y, expected) and y.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("device", DEVICES)
def test_films_may_lie_in_any_order(device: str) -> None:
    x = film(2, 12, 3, 4, 5).contiguous().to(device)
    gamma, last = channels(12, 1).to(device), torch.channels_last_3d
    for op, rest in ((ops.rms_norm_silu, (gamma, None, True, x[:, :, 1:])), (ops.bias_residual, (gamma, x)),
                     (ops.nearest2x, ())):  # fmt: skip
        expected = op(x.contiguous(memory_format=last), *rest)
        torch.testing.assert_close(op(x, *rest), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_shapes_are_known_without_numbers(size) -> None:
    """What a trace sees is what the operation gives."""
    x, gamma = film(*size), channels(size[1], 1)
    for op, rest in ((ops.rms_norm_silu, (gamma, None, True, x)), (ops.bias_residual, (gamma, x)), (ops.nearest2x, ())):
        given = op(x, *rest)
        known = op(x.to("meta"), *(part.to("meta") if isinstance(part, Tensor) else part for part in rest))
        assert (known.shape, known.dtype) == (given.shape, given.dtype)
        assert known.is_contiguous(memory_format=torch.channels_last_3d)
