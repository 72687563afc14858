"""The kernels that round rows, interpreted at odd shapes, against their twins and float64."""

from __future__ import annotations

import pytest
import torch

from kernels import reference

ROWS = {  # name: (M, K, dtype, gelu)
    "one": (1, 1, torch.float32, False),
    "narrow": (7, 5, torch.float32, False),
    "many rows a program": (70, 48, torch.float16, False),
    "gelu": (9, 333, torch.float32, True),
    "wide": (3, 5000, torch.float32, False),
}


def rows_of(m: int, k: int, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(m * 1000 + k)
    x = torch.randn(m, k, generator=generator) * torch.logspace(-3, 3, m)[:, None]
    if m > 2:
        x[1] = 0
    return x.to(dtype)


def interpret_all() -> dict[str, torch.Tensor]:
    from kernels import quant_rows

    results = {}
    for name, (m, k, dtype, gelu) in ROWS.items():
        results[f"{name}.q"], results[f"{name}.scale"] = quant_rows.launch(rows_of(m, k, dtype), gelu)
    results["strided.q"], results["strided.scale"] = quant_rows.launch(strided(), False)
    return results


def strided() -> torch.Tensor:
    """Columns of a wider matrix."""
    return rows_of(6, 40, torch.float32)[:, 3:30]


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
