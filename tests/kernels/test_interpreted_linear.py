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
}


def product_of(m: int, n: int, k: int, bias: bool) -> tuple[torch.Tensor | None, ...]:
    generator = torch.Generator().manual_seed(m + n + k)
    q = torch.randint(-127, 128, (m, k), dtype=torch.int8, generator=generator)
    w = torch.randint(-127, 128, (n, k), dtype=torch.int8, generator=generator)
    q[0], w[0] = 127, -127  # the largest sum there is
    scales = [torch.rand(size, generator=generator) / 100 + 1e-3 for size in (m, n)]
    return q, scales[0], w, scales[1], torch.randn(n, generator=generator) if bias else None


def interpret_all() -> dict[str, torch.Tensor]:
    from kernels import int8_linear

    return {
        name: int8_linear.launch(*product_of(m, n, k, bias), act, dtype)
        for name, (m, n, k, bias, act, dtype) in PRODUCTS.items()
    }


@pytest.mark.parametrize("name", list(PRODUCTS))
def test_products_are_exact(interpreted, name: str) -> None:
    m, n, k, bias, act, dtype = PRODUCTS[name]
    q, scale, w, weight_scale, b = product_of(m, n, k, bias)
    y = interpreted[name]
    total = q.to(torch.int64) @ w.to(torch.int64).t()
    expected = total.to(torch.float32) * scale[:, None] * weight_scale
    expected = expected if b is None else expected + b
    if act == "gelu_tanh":
        exact = torch.nn.functional.gelu(expected.double(), approximate="tanh")
        torch.testing.assert_close(y.double(), exact, rtol=1e-5, atol=1e-6)
    else:
        assert y.dtype == dtype and torch.equal(y, expected.to(dtype))
