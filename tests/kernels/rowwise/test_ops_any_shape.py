"""Operations on rows at any shape and size of numbers, against float64 (chosen cases: test_ops.py)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels import ops

some_rows = {"m": st.integers(1, 12), "d": st.integers(1, 300), "seed": st.integers(0, 99)}


def normal(*size: int, seed: int) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=50, deadline=None)
@given(**some_rows, exponent=st.integers(-6, 6))
def test_a_row_is_rounded_within_half_a_level(m: int, d: int, seed: int, exponent: int) -> None:
    x = normal(m, d, seed=seed) * 10.0**exponent
    q, scale = ops.quant_rows(x)
    assert q.dtype == torch.int8 and scale.shape == (m,) and scale.dtype == torch.float32
    torch.testing.assert_close(scale.double(), x.double().abs().amax(1) / 127, rtol=2e-7, atol=0)
    error = (q.double() * scale.double()[:, None] - x.double()).abs()
    assert (error <= scale.double()[:, None] * (0.5 + 1e-4)).all()
    assert (q.abs().amax(1) == 127).all()


@settings(max_examples=50, deadline=None)
@given(**some_rows, gates=st.integers(0, 4), gains=st.integers(1, 4))
def test_residual_norm_and_rounding_in_groups_of_any_number(m: int, d: int, seed: int, gates: int, gains: int) -> None:
    """Each group of rows has its own gate and its own gain, whatever the number of each."""
    m *= 12  # divides by all of them
    y, res = normal(m, d, seed=seed), normal(m, d, seed=seed + 1)
    gate = normal(gates, d, seed=seed + 2) if gates else None
    gain, shift = normal(gains, d, seed=seed + 3), normal(gains, d, seed=seed + 4)
    factor = 1.0 if gate is None else gate.double().repeat_interleave(m // gates, 0)
    expected = res.double() + factor * y.double()

    q, scale = ops.gate_res_norm_quant(y, res, gate, gain, shift, 1e-6)
    torch.testing.assert_close(res.double(), expected, rtol=1e-6, atol=1e-6)
    exact = F.layer_norm(res.double(), (d,), eps=1e-6) * gain.double().repeat_interleave(m // gains, 0)
    exact = exact + shift.double().repeat_interleave(m // gains, 0)
    error = (q.double() * scale.double()[:, None] - exact).abs()
    assert (error <= scale.double()[:, None] * (0.5 + 1e-3) + 1e-5).all()
