"""The integer product as models call it, against float64 on any device and at real sizes where there is a GPU."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kernels import ops
from kernels.linear import reference

needs_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
DEVICES = ["cpu", pytest.param("cuda", marks=needs_gpu)]
F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16
SIZES = [  # M, N, K, dtype of the result, which only the last store depends on
    (1008, 256, 256, BF16), (16, 256, 256, F32), (1008, 1024, 256, F16), (4097, 1536, 1536, BF16),
    (2050, 8960, 1536, BF16), (999, 5120, 13824, F32), (77, 65, 333, F32), (77, 65, 333, F16), (77, 65, 333, BF16),
    (1, 1, 1, F32),
]  # fmt: skip


def product_of(m: int, n: int, k: int, bias: bool = True) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """Every int8 but -128, and one row with the largest possible sum."""
    generator = torch.Generator().manual_seed(m + n + k)
    q, w = (torch.randint(-127, 128, (rows, k), dtype=torch.int8, generator=generator) for rows in (m, n))
    q[0], w[0] = 127, -127
    scale, weight_scale = (torch.rand(rows, generator=generator) / 100 + 1e-3 for rows in (m, n))
    return q, scale, w, weight_scale, torch.randn(n, generator=generator) if bias else None


def moved(parts: tuple[Tensor | None, ...], device: str) -> list[Tensor | None]:
    """On the device, whose free memory is then filled with NaN, so that memory a kernel does not write is seen."""
    there = [None if part is None else part.to(device) for part in parts]
    torch.full((2**22,), float("nan"), device=device)
    return there


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("act", "bias", "dtype", "tolerance"),
    [
        ("none", True, F32, 1e-6),
        ("none", False, F32, 1e-6),
        ("gelu_tanh", True, F32, 1e-6),
        ("gelu_tanh", False, F32, 1e-6),
        ("none", True, F16, 2**-10),
        ("gelu_tanh", True, BF16, 2**-8),
    ],
)
def test_linear_equals_float64(device: str, act: str, bias: bool, dtype: torch.dtype, tolerance: float) -> None:
    q, scale, w, weight_scale, b = product_of(37, 53, 300, bias)
    exact = (q.double() * scale.double()[:, None]) @ (w.double() * weight_scale.double()[:, None]).t()
    exact = exact + b.double() if b is not None else exact
    exact = F.gelu(exact, approximate="tanh") if act != "none" else exact
    y = ops.int8_linear(*moved((q, scale, w, weight_scale, b), device), act, dtype)
    assert y.dtype == dtype
    torch.testing.assert_close(y.cpu().double(), exact, rtol=tolerance, atol=1e-6 if act == "none" else 2e-6)


@pytest.mark.parametrize("device", DEVICES)
def test_strided_rows(device: str) -> None:
    q, scale, w, weight_scale, b = moved(product_of(70, 90, 100), device)
    whole = ops.int8_linear(
        q[:, 3:67].contiguous(), scale, w[:, 3:67].contiguous(), weight_scale, b, "none", torch.float32
    )
    assert torch.equal(ops.int8_linear(q[:, 3:67], scale, w[:, 3:67], weight_scale, b, "none", torch.float32), whole)


@pytest.mark.parametrize("device", DEVICES)
def test_torch_accepts_the_registration(device: str) -> None:
    *parts, bias = moved(product_of(32, 48, 64), device)
    registered = torch.ops.rushes.int8_linear.default
    torch.library.opcheck(registered, (*parts, bias, "gelu_tanh", torch.float32))
    torch.library.opcheck(registered, (*parts, None, "none", torch.bfloat16))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("m", "n", "k", "dtype"), SIZES)
@pytest.mark.parametrize("product", ["dispatched", "torch"])
def test_the_gpu_gives_the_bits_of_the_reference(m: int, n: int, k: int, dtype: torch.dtype, product: str) -> None:
    from kernels.linear import int8 as int8_linear

    multiply = ops.int8_linear if product == "dispatched" else int8_linear.multiply_torch
    parts = product_of(m, n, k)
    y = multiply(*moved(parts, "cuda"), "none", dtype)
    assert torch.equal(y.cpu(), reference.int8_linear(*parts, "none", dtype))
    y = multiply(*moved(parts, "cuda"), "gelu_tanh", torch.float32)
    expected = reference.int8_linear(*parts, "gelu_tanh", torch.float32)
    torch.testing.assert_close(y.cpu(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("n", "k"), [(13_824, 64), (64, 13_824)])
def test_more_than_two_billion_numbers_on_the_gpu(n: int, k: int) -> None:
    """Two films of 14B at 720p in one batch pass 2^31 results, or inputs: the last rows are those of a film alone."""
    m = 155_400
    if torch.cuda.mem_get_info()[0] < 8 * 2**30:
        pytest.skip("needs 8 GiB free")
    q, w = (torch.randint(-127, 128, (rows, k), dtype=torch.int8, device="cuda") for rows in (m, n))
    scale, weight_scale = (torch.rand(rows, device="cuda") / 100 for rows in (m, n))
    y = ops.int8_linear(q, scale, w, weight_scale, None, "none", torch.bfloat16)
    last = ops.int8_linear(q[-300:], scale[-300:], w, weight_scale, None, "none", torch.bfloat16)
    assert torch.equal(y[-300:], last)
