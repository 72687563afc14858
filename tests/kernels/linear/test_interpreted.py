"""The integer product, interpreted at odd shapes, against exact integer and float64 arithmetic."""

from __future__ import annotations

import pytest
import torch

PRODUCTS = {  # name: (M, N, K, bias, act, dtype)
    "one": (1, 1, 1, False, "none", torch.float32),
    "odd": (70, 90, 192, True, "none", torch.float32),
    "K not of a block": (33, 17, 333, True, "none", torch.float32),
    "several tiles and groups": (130, 140, 256, True, "none", torch.float32),
    "gelu": (5, 200, 128, True, "gelu_tanh", torch.float32),
    "half": (40, 70, 64, False, "none", torch.float16),
    "enough for large tiles": (130, 4200, 16, False, "none", torch.float32),
}
TORCH_PRODUCTS = {  # name: (M, N, K, bias, act, dtype), as Turing multiplies: 64 rows at a time here
    "one": (1, 1, 1, False, "none", torch.float32),
    "nothing padded": (64, 40, 64, True, "none", torch.float32),
    "a last row alone": (129, 300, 72, True, "none", torch.float16),
    "everything padded": (70, 90, 333, True, "none", torch.float32),
    "gelu": (5, 200, 128, True, "gelu_tanh", torch.float32),
}


def product_of(m: int, n: int, k: int, bias: bool) -> tuple[torch.Tensor | None, ...]:
    generator = torch.Generator().manual_seed(m + n + k)
    q = torch.randint(-127, 128, (m, k), dtype=torch.int8, generator=generator)
    w = torch.randint(-127, 128, (n, k), dtype=torch.int8, generator=generator)
    q[0], w[0] = 127, -127  # the largest possible sum
    scales = [torch.rand(size, generator=generator) / 100 + 1e-3 for size in (m, n)]
    return q, scales[0], w, scales[1], torch.randn(n, generator=generator) if bias else None


def without_saturation(q: torch.Tensor) -> torch.Tensor:
    """Numbers small enough that no CPU's integer product saturates."""
    return q.clamp(-63, 63)


def interpret_all() -> dict[str, torch.Tensor]:
    from kernels.linear import int8 as int8_linear

    results = {
        name: int8_linear.launch(*product_of(m, n, k, bias), act, dtype)
        for name, (m, n, k, bias, act, dtype) in PRODUCTS.items()
    }
    int8_linear.PRODUCT_ROWS = 64
    for name, (m, n, k, bias, act, dtype) in TORCH_PRODUCTS.items():
        q, scale, w, weight_scale, b = product_of(m, n, k, bias)
        y = int8_linear.multiply_torch(without_saturation(q), scale, without_saturation(w), weight_scale, b, act, dtype)
        results[f"torch {name}"] = y
    return results


@pytest.mark.parametrize("name", list(PRODUCTS))
def test_products_are_exact(interpreted, name: str) -> None:
    m, n, k, bias, act, dtype = PRODUCTS[name]
    check(interpreted[name], *product_of(m, n, k, bias), act, dtype)


@pytest.mark.parametrize("name", list(TORCH_PRODUCTS))
def test_products_of_torch_with_the_epilogue(interpreted, name: str) -> None:
    m, n, k, bias, act, dtype = TORCH_PRODUCTS[name]
    q, scale, w, weight_scale, b = product_of(m, n, k, bias)
    check(
        interpreted[f"torch {name}"], without_saturation(q), scale, without_saturation(w), weight_scale, b, act, dtype
    )


def check(y, q, scale, w, weight_scale, b, act: str, dtype: torch.dtype) -> None:
    total = q.to(torch.int64) @ w.to(torch.int64).t()
    expected = total.to(torch.float32) * scale[:, None] * weight_scale
    expected = expected if b is None else expected + b
    if act == "gelu_tanh":
        exact = torch.nn.functional.gelu(expected.double(), approximate="tanh")
        torch.testing.assert_close(y.double(), exact, rtol=1e-5, atol=1e-6)
    else:
        assert y.dtype == dtype and torch.equal(y, expected.to(dtype))


def test_operands_are_padded_to_what_torch_needs_on_cuda() -> None:
    """More than 16 rows, widths in eights; and no copy where no padding is needed."""
    from kernels.linear.int8 import padded

    q = torch.ones(3, 13, dtype=torch.int8)
    wide = padded(q, 14, 3)
    assert wide.shape == (17, 16) and wide[:3, :13].eq(1).all() and wide.sum() == 39
    whole = torch.ones(32, 64, dtype=torch.int8)
    assert padded(whole, 0, 0).data_ptr() == whole.data_ptr()
