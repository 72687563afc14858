"""The row-wise kernels, interpreted at odd shapes: equal bits where rows are only quantised, else near float64.

No bfloat16: interpreted casts to it truncate. It is tested on GPUs (test_ops.py).
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.rowwise import reference
from kernels.rowwise.hadamard import rotate

F32, F16 = torch.float32, torch.float16
ROWS = {  # name: (M, K, dtype, gelu, Hadamard block)
    "one": (1, 1, F32, False, 0),
    "narrow": (7, 5, F32, False, 0),
    "many rows a program": (70, 48, F16, False, 0),
    "several parts": (3, 1500, F32, False, 0),
    "wide": (3, 5000, F32, False, 0),
    "gelu": (9, 333, F32, True, 0),
    "gelu, wide": (2, 8960, F16, True, 0),
    "block over a warp": (5, 256, F16, False, 256),
    "block over two parts": (5, 768, F32, False, 256),
    "block over four parts": (3, 1536, F32, True, 512),
    "block over parts of several warps": (2, 5120, F32, False, 512),
    "blocks that leave warps idle": (2, 4608, F16, True, 512),
}
NORMS = {  # name: (M, D, dtype of y, dtype of the stream, gates, gains, Hadamard block); no gates is none
    "one": (1, 1, F32, F32, 1, 1, 0),
    "narrow": (12, 5, F32, F32, 2, 3, 0),
    "a group of one row": (6, 70, F16, F32, 6, 1, 0),
    "affine": (7, 333, F16, F16, 0, 1, 0),
    "several parts": (9, 1500, F16, F32, 1, 3, 0),
    "several warps": (4, 5120, F32, F32, 2, 1, 0),
    "rotated": (6, 1536, F16, F32, 2, 2, 512),
}


ALONE = ("narrow", "affine", "several parts")  # with gates, without, and with the two dtypes different


def normal(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def rows_of(m: int, k: int, dtype: torch.dtype) -> Tensor:
    x = normal(m, k, seed=m * 1000 + k) * torch.logspace(-3, 3, m)[:, None]
    if m > 2:
        x[1] = 0
    return x.to(dtype)


def strided() -> Tensor:
    """Columns of a wider matrix."""
    return rows_of(6, 40, F32)[:, 3:30]


def norm_of(name: str) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor]:
    """y, the stream, gate, gain and shift of a case; the stream's rows are strided."""
    m, d, y_dtype, dtype, gates, gains, _ = NORMS[name]
    res = torch.full((m, d + 9), 77.0, dtype=dtype)
    res[:, 3 : d + 3] = normal(m, d, seed=1) * 3 + 1
    gate = normal(gates, d, seed=2) if gates else None
    return normal(m, d, seed=3).to(y_dtype), res[:, 3 : d + 3], gate, 1 + normal(gains, d, seed=4), normal(gains, d)


def interpret_all() -> dict[str, Tensor]:
    from kernels.rowwise import layer_norm, quantize, residual_norm

    results = {}
    for name, (m, k, dtype, gelu, block) in ROWS.items():
        results[f"{name}.q"], results[f"{name}.scale"] = quantize.launch(rows_of(m, k, dtype), gelu, block)
    results["strided.q"], results["strided.scale"] = quantize.launch(strided())
    for name, (*_, block) in NORMS.items():
        y, res, gate, gain, shift = norm_of(name)
        results[f"norm {name}.q"], results[f"norm {name}.scale"] = layer_norm.launch(res, gain, shift, 1e-6, block)
        q, scale = residual_norm.launch(y, res, gate, gain, shift, 1e-6, block)
        results[f"residual {name}.q"], results[f"residual {name}.scale"] = q, scale
        results[f"residual {name}.around"] = res._base
    for name in ALONE:
        y, alone, gate, _, _ = norm_of(name)
        residual_norm.launch_residual(y, alone, gate)
        results[f"residual {name}.alone"] = alone
    return results


def check_rounded(interpreted: dict[str, Tensor], name: str, exact: Tensor) -> None:
    q, scale = interpreted[f"{name}.q"], interpreted[f"{name}.scale"].double()
    assert q.dtype == torch.int8 and q.shape == exact.shape
    torch.testing.assert_close(scale, exact.abs().amax(1).clamp_min(reference.FLOOR) / 127, rtol=2e-6, atol=0)
    error = (q.double() * scale[:, None] - exact).abs()
    assert (error <= 0.5 * scale[:, None] * (1 + 5e-4) + 1e-6).all(), (error / scale[:, None]).max()


@pytest.mark.parametrize("name", [name for name, (*_, gelu, block) in ROWS.items() if not gelu and not block])
def test_rows_are_quantised_to_the_bits_of_the_reference(interpreted, name: str) -> None:
    m, k, dtype, _, _ = ROWS[name]
    q, scale = interpreted[f"{name}.q"], interpreted[f"{name}.scale"]
    expected_q, expected_scale = reference.quant_rows(rows_of(m, k, dtype))
    assert q.dtype == torch.int8 and torch.equal(q, expected_q)
    assert torch.equal(scale, expected_scale)


def test_rows_of_a_strided_matrix(interpreted) -> None:
    expected_q, expected_scale = reference.quant_rows(strided())
    assert torch.equal(interpreted["strided.q"], expected_q)
    assert torch.equal(interpreted["strided.scale"], expected_scale)


@pytest.mark.parametrize("name", [name for name, (*_, gelu, block) in ROWS.items() if gelu or block])
def test_rows_after_gelu_and_rotation(interpreted, name: str) -> None:
    m, k, dtype, gelu, block = ROWS[name]
    x = rows_of(m, k, dtype).double()
    check_rounded(interpreted, name, rotate(F.gelu(x, approximate="tanh") if gelu else x, block))


def normed(x: Tensor, gain: Tensor, shift: Tensor, block: int) -> Tensor:
    each = len(x) // len(gain)
    y = F.layer_norm(x.double(), x.shape[1:], eps=1e-6) * gain.double().repeat_interleave(each, 0)
    return rotate(y + shift.double().repeat_interleave(each, 0), block)


@pytest.mark.parametrize("name", NORMS)
def test_norm_and_modulation(interpreted, name: str) -> None:
    _, res, _, gain, shift = norm_of(name)
    check_rounded(interpreted, f"norm {name}", normed(res, gain, shift, NORMS[name][-1]))


@pytest.mark.parametrize("name", NORMS)
def test_residual_then_norm(interpreted, name: str) -> None:
    m, d, _, dtype, gates, _, block = NORMS[name]
    y, before, gate, gain, shift = norm_of(name)
    around = interpreted[f"residual {name}.around"]
    after = around[:, 3 : d + 3]
    added = y.double() if gate is None else gate.double().repeat_interleave(m // gates, 0) * y.double()
    step = 2.0**-23 if dtype == F32 else 2.0**-10
    exact = before.double() + added
    assert ((after.double() - exact).abs() <= step * torch.maximum(exact.abs(), added.abs())).all()
    assert (around[:, :3] == 77).all() and (around[:, d + 3 :] == 77).all()
    check_rounded(interpreted, f"residual {name}", normed(after, gain, shift, block))


@pytest.mark.parametrize("name", ALONE)
def test_residual_without_a_norm(interpreted, name: str) -> None:
    after = interpreted[f"residual {name}.around"][:, 3 : NORMS[name][1] + 3]
    assert torch.equal(interpreted[f"residual {name}.alone"], after)
