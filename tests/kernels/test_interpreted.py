"""The Triton kernels without a GPU: interpreted at odd shapes, against exact integer and float64 arithmetic.

Run as a program, with TRITON_INTERPRET=1 and the name of a file, it interprets every case and saves the results: Triton
decides once, when it is imported, whether to interpret, so the tests start such a program.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kernels import reference

pytest.importorskip("triton")

ROWS = {  # name: (M, K, dtype, gelu)
    "one": (1, 1, torch.float32, False),
    "narrow": (7, 5, torch.float32, False),
    "many rows a program": (70, 48, torch.float16, False),
    "gelu": (9, 333, torch.float32, True),
    "wide": (3, 5000, torch.float32, False),
}
PRODUCTS = {  # name: (M, N, K, bias, act, dtype)
    "one": (1, 1, 1, False, "none", torch.float32),
    "odd": (70, 90, 192, True, "none", torch.float32),
    "K not of a block": (33, 17, 333, True, "none", torch.float32),
    "several tiles and groups": (130, 140, 256, True, "none", torch.float32),
    "gelu": (5, 200, 128, True, "gelu_tanh", torch.float32),
    "half": (40, 70, 64, False, "none", torch.float16),
}


def rows_of(m: int, k: int, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(m * 1000 + k)
    x = torch.randn(m, k, generator=generator) * torch.logspace(-3, 3, m)[:, None]
    if m > 2:
        x[1] = 0
    return x.to(dtype)


def product_of(m: int, n: int, k: int, bias: bool) -> tuple[torch.Tensor | None, ...]:
    generator = torch.Generator().manual_seed(m + n + k)
    q = torch.randint(-127, 128, (m, k), dtype=torch.int8, generator=generator)
    w = torch.randint(-127, 128, (n, k), dtype=torch.int8, generator=generator)
    q[0], w[0] = 127, -127  # the largest sum there is
    scales = [torch.rand(size, generator=generator) / 100 + 1e-3 for size in (m, n)]
    return q, scales[0], w, scales[1], torch.randn(n, generator=generator) if bias else None


def interpret_all() -> dict[str, torch.Tensor]:
    """Every case through its kernel's launcher."""
    from kernels import int8_linear, quant_rows

    results = {}
    for name, (m, k, dtype, gelu) in ROWS.items():
        results[f"{name}.q"], results[f"{name}.scale"] = quant_rows.launch(rows_of(m, k, dtype), gelu)
    results["strided.q"], results["strided.scale"] = quant_rows.launch(strided(), False)
    for name, (m, n, k, bias, act, dtype) in PRODUCTS.items():
        results[f"{name}.y"] = int8_linear.launch(*product_of(m, n, k, bias), act, dtype)
    return results


def strided() -> torch.Tensor:
    """Columns of a wider matrix."""
    return rows_of(6, 40, torch.float32)[:, 3:30]


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory) -> dict[str, torch.Tensor]:
    """What the interpreted kernels returned; one process for all: starting one takes seconds."""
    path = tmp_path_factory.mktemp("interpreted") / "results.safetensors"
    root = Path(__file__).parents[2]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, __file__, path], check=True, env=environment, cwd=root)
    return load_file(path)


@pytest.mark.parametrize("name", [name for name in ROWS if name != "gelu"])
def test_rows_round_to_the_same_bits_as_the_reference(interpreted, name: str) -> None:
    m, k, dtype, _ = ROWS[name]
    q, scale = interpreted[f"{name}.q"], interpreted[f"{name}.scale"]
    expected_q, expected_scale = reference.quant_rows(rows_of(m, k, dtype))
    assert q.dtype == torch.int8 and torch.equal(q, expected_q)
    assert torch.equal(scale, expected_scale)


def test_rows_of_a_strided_matrix(interpreted) -> None:
    expected_q, expected_scale = reference.quant_rows(strided())
    assert torch.equal(interpreted["strided.q"], expected_q)
    assert torch.equal(interpreted["strided.scale"], expected_scale)


def test_rows_after_gelu(interpreted) -> None:
    m, k, dtype, _ = ROWS["gelu"]
    q, scale = interpreted["gelu.q"], interpreted["gelu.scale"]
    exact = torch.nn.functional.gelu(rows_of(m, k, dtype).double(), approximate="tanh")
    error = (q.double() * scale.double()[:, None] - exact).abs()
    assert (error <= 0.5 * scale.double()[:, None] * (1 + 1e-4) + 1e-6).all()
    torch.testing.assert_close(scale.double(), exact.abs().amax(1).clamp_min(1e-30) / 127, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", list(PRODUCTS))
def test_products_are_exact(interpreted, name: str) -> None:
    m, n, k, bias, act, dtype = PRODUCTS[name]
    q, scale, w, weight_scale, b = product_of(m, n, k, bias)
    y = interpreted[f"{name}.y"]
    total = q.to(torch.int64) @ w.to(torch.int64).t()
    expected = total.to(torch.float32) * scale[:, None] * weight_scale
    expected = expected if b is None else expected + b
    if act == "gelu_tanh":
        exact = torch.nn.functional.gelu(expected.double(), approximate="tanh")
        torch.testing.assert_close(y.double(), exact, rtol=1e-5, atol=1e-6)
    else:
        assert y.dtype == dtype and torch.equal(y, expected.to(dtype))


if __name__ == "__main__":
    save_file(interpret_all(), sys.argv[1])
