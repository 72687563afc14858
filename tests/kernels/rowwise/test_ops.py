"""Operations on rows against float64, on the CPU and, where there is one, on a GPU, with the same cases and bounds.

Needs only torch and pytest: a rented machine with a GPU may have no more.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kernels import ops
from kernels.rowwise import reference
from kernels.rowwise.hadamard import rotate

needs_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
DEVICES = ["cpu", pytest.param("cuda", marks=needs_gpu)]
F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16
# Rows, columns, Hadamard block, dtype. What interacts: the layout of a row in registers follows from its width, the
# block and the bytes of an element, so every block comes in 2 and 4 bytes; and every dtype comes at an odd shape.
# Widths of feed-forwards: 8960, 13824, 14336.
ROWS = [
    (1, 1, 0, F32), (7, 5, 0, BF16), (129, 257, 0, F32), (129, 257, 0, BF16), (129, 257, 0, F16), (65, 1536, 0, BF16),
    (3, 5120, 0, F32), (5, 8960, 0, BF16), (2, 14336, 0, F16),
    (30, 256, 256, F32), (30, 256, 256, BF16), (4, 3072, 256, F16), (9, 8960, 256, BF16), (9, 8960, 256, F32),
    (6, 512, 512, F32), (6, 512, 512, F16), (33, 1536, 512, F32), (33, 1536, 512, BF16), (5, 5120, 512, F32),
    (5, 5120, 512, BF16), (3, 13824, 512, F16), (3, 13824, 512, F32),
]  # fmt: skip
GELU_ROWS = [
    (7, 5, 0, F32), (21, 1024, 0, F32), (21, 1024, 0, BF16), (21, 1024, 0, F16), (5, 8960, 0, BF16), (2, 14336, 0, F16),
    (30, 256, 256, F32), (9, 8960, 256, BF16), (3, 13824, 512, BF16), (3, 13824, 512, F32),
]  # fmt: skip
NORM_ROWS = [  # rows of a group, columns, Hadamard block, dtype, groups
    (1, 1, 0, F32, 1), (7, 5, 0, F16, 3), (129, 257, 0, F32, 3), (129, 257, 0, BF16, 1), (129, 257, 0, F16, 3),
    (65, 1536, 0, F32, 1), (3, 5120, 0, F32, 3), (3, 5120, 0, BF16, 1),
    (30, 256, 256, F32, 3), (30, 256, 256, BF16, 1), (4, 3072, 256, F16, 1), (4, 3072, 256, F32, 3),
    (6, 512, 512, F32, 1), (6, 512, 512, F16, 3), (33, 1536, 512, F32, 3), (33, 1536, 512, BF16, 1),
    (5, 5120, 512, F32, 1), (5, 5120, 512, BF16, 3),
]  # fmt: skip
# Rows in sixths, columns, Hadamard block; dtypes of branch and stream; numbers of gates (0: none) and of gains. What
# interacts: the dtypes with gate or none (where the sum is rounded) and with the block; gates with gains.
RESIDUALS = [
    *((5, 333, 0, BF16, F32, gates, gains) for gates, gains in [(0, 1), (1, 1), (3, 1), (0, 2), (2, 3)]),
    (5, 333, 0, F32, F32, 0, 2), (5, 333, 0, F16, F16, 0, 2), (5, 333, 0, BF16, BF16, 0, 2),
    (7, 5, 0, F32, F32, 2, 3), (7, 5, 0, F16, F16, 1, 1), (7, 5, 0, BF16, BF16, 3, 1),
    (5, 256, 256, BF16, F32, 3, 1), (5, 256, 256, BF16, BF16, 2, 3),
    (4, 1536, 512, F32, F32, 1, 1), (4, 1536, 512, BF16, F32, 1, 1), (4, 1536, 512, F16, F16, 2, 3),
    (4, 1536, 512, BF16, BF16, 1, 1),
    (2, 5120, 0, BF16, F32, 1, 1), (2, 5120, 0, F16, F16, 2, 3),
]  # fmt: skip


@pytest.fixture(autouse=True)
def poisoned():
    """New tensors are filled with NaN or the largest integer, so that memory a kernel does not write is seen."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def normal(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def stream(m: int, d: int, seed: int = 0) -> Tensor:
    """Rows of many magnitudes and means, one of them constant, with a column of outliers, as in networks."""
    x = normal(m, d, seed=seed) * torch.logspace(-2, 2, m)[:, None] + normal(m, 1, seed=seed + 1)
    x[:, d // 3] *= 30
    if m > 2:
        x[1] = 3.0
    return x


def hadamard(x: Tensor, block: int) -> Tensor:
    """By the definition: H[i, j] = (-1)^(bits that i and j share) / sqrt(block)."""
    if not block:
        return x
    at = torch.arange(block)
    shared = at[:, None] & at
    parity = sum((shared >> bit) & 1 for bit in range(10)) % 2
    return ((x.unflatten(1, (-1, block)) @ (1.0 - 2.0 * parity).double()) * block**-0.5).flatten(1)


def normed(x: Tensor, gain: Tensor, shift: Tensor, eps: float) -> Tensor:
    """LayerNorm(x) * gain + shift in float64, each gain for its share of the rows."""
    y = F.layer_norm(x.double(), x.shape[1:], eps=eps).unflatten(0, (len(gain), -1))
    return (y * gain.double()[:, None] + shift.double()[:, None]).flatten(0, 1)


def check_rounded(rounded: tuple[Tensor, Tensor], exact: Tensor, ulps: float = 2, slack: float = 1e-4) -> None:
    """q * scale is within half a level of `exact` (M, K) float64, and the scale as near as float32 sums allow.

    ulps: of the scale. slack: of half a level, what float32 arithmetic before the rounding may cost.
    """
    q, scale = rounded[0].cpu(), rounded[1].cpu().double()
    assert q.dtype == torch.int8 and q.shape == exact.shape and rounded[1].dtype == torch.float32
    expected = exact.abs().amax(1).clamp_min(reference.FLOOR) / 127
    torch.testing.assert_close(scale, expected, rtol=ulps * 2**-23, atol=0)
    assert (q.int().abs() <= 127).all()
    error = (q.double() * scale[:, None] - exact).abs()
    assert (error <= 0.5 * scale[:, None] * (1 + slack) + 1e-6).all(), (error / scale[:, None]).max()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("m", "k", "block", "dtype"), ROWS)
def test_rows_are_rounded(m: int, k: int, block: int, dtype: torch.dtype, device: str) -> None:
    x = stream(m, k).to(dtype)
    rounded = ops.quant_rows(x.to(device), hadamard=block)
    check_rounded(rounded, hadamard(x.double(), block), ulps=32 if block else 1, slack=5e-4 if block else 1e-4)
    if not block:
        for ours, expected in zip(rounded, reference.quant_rows(x), strict=True):
            assert torch.equal(ours.cpu(), expected)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("m", "k", "block", "dtype"), GELU_ROWS)
def test_gelu_comes_before_rounding(m: int, k: int, block: int, dtype: torch.dtype, device: str) -> None:
    x = normal(m, k).mul_(3).to(dtype)
    exact = hadamard(F.gelu(x.double(), approximate="tanh"), block)
    check_rounded(ops.quant_rows(x.to(device), True, block), exact, ulps=16, slack=5e-4)


@pytest.mark.parametrize("device", DEVICES)
def test_rows_by_hand(device: str) -> None:
    rows = torch.tensor([[127.0, 0.5, 1.5, -2.5, 0.49], [0.0, 0, 0, 0, 0], [-254.0, 254, 2, -1, 1]], device=device)
    q, scale = ops.quant_rows(rows)
    assert q.tolist() == [[127, 0, 2, -2, 0], [0, 0, 0, 0, 0], [-127, 127, 1, 0, 0]]  # halves go to the even level
    assert scale[0] == 1 and scale[2] == 2 and 0 < scale[1] < 1e-30


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("block", [0, 256])
def test_a_row_with_nan_or_infinity_has_a_scale_that_is_not_finite(device: str, block: int) -> None:
    """In its own row, and in no other."""
    x = normal(4, 1536)
    x[1, 700], x[2, 3] = float("nan"), float("inf")
    gain, shift = torch.ones(1, 1536, device=device), torch.zeros(1, 1536, device=device)
    x = x.to(device)
    for _, scale in (
        ops.quant_rows(x, hadamard=block), ops.ln_mod_quant(x, gain, shift, 1e-6, block),
        ops.gate_res_norm_quant(torch.zeros_like(x), x.clone(), gain, gain, shift, 1e-6, block),
    ):  # fmt: skip
        assert scale.isfinite().tolist() == [True, False, False, True]


@pytest.mark.parametrize("device", DEVICES)
def test_gelu_far_from_zero(device: str) -> None:
    """Where powers of two overflow: nothing becomes infinite or undefined."""
    q, scale = ops.quant_rows(torch.tensor([[-3e4, 3e4, -40.0, 0.0], [-3e4, -9.0, -1.0, 0.0]], device=device), True)
    assert q.tolist() == [[0, 127, 0, 0], [0, 0, -127, 0]]
    assert scale[0].item() == pytest.approx(3e4 / 127, rel=1e-6)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("m", "d", "block", "dtype", "groups"), NORM_ROWS)
def test_norm_and_modulation(m: int, d: int, block: int, dtype: torch.dtype, groups: int, device: str) -> None:
    x = stream(m * groups, d).to(dtype)
    gain, shift = 1 + normal(groups, d, seed=2), normal(groups, d, seed=3)
    exact = hadamard(normed(x, gain, shift, 1e-6), block)
    rounded = ops.ln_mod_quant(x.to(device), gain.to(device), shift.to(device), 1e-6, block)
    check_rounded(rounded, exact, ulps=16, slack=1e-3)


@pytest.mark.parametrize("device", DEVICES)
def test_a_norm_of_values_far_from_zero_is_precise(device: str) -> None:
    """The variance of values near 1000 is not the difference of two large sums."""
    x = normal(4, 1536) + 1000
    gain, shift = torch.ones(1, 1536), torch.zeros(1, 1536)
    rounded = ops.ln_mod_quant(x.to(device), gain.to(device), shift.to(device), 1e-6)
    check_rounded(rounded, normed(x, gain, shift, 1e-6), ulps=512, slack=0.02)  # float32 has x to 6e-5


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("m", "d", "block", "y_dtype", "dtype", "gates", "gains"), RESIDUALS)
def test_residual_then_norm(
    m: int, d: int, block: int, y_dtype: torch.dtype, dtype: torch.dtype, gates: int, gains: int, device: str
) -> None:
    m *= 6  # divides into every number of groups
    y, before = stream(m, d, seed=5).to(y_dtype), stream(m, d, seed=6).to(dtype)
    gate = normal(gates, d, seed=7) if gates else None
    gain, shift = 1 + normal(gains, d, seed=8), normal(gains, d, seed=9)
    factor = gate.double().repeat_interleave(m // gates, 0) if gate is not None else 1.0
    sum64 = before.double() + factor * y.double()

    on_device = [None if part is None else part.to(device) for part in (y, before.clone(), gate, gain, shift)]
    res, gate_there = on_device[1], on_device[2]
    rounded = ops.gate_res_norm_quant(*on_device, 1e-6, block)
    step = 2.0 ** {torch.float32: -23, torch.float16: -10, torch.bfloat16: -7}[dtype]
    error = (res.cpu().double() - sum64).abs()
    assert res.dtype == dtype
    assert (
        error <= step * torch.maximum(sum64.abs(), (factor * y.double()).abs()) + 1e-7 * (dtype != torch.float32)
    ).all()
    check_rounded(rounded, hadamard(normed(res.cpu(), gain, shift, 1e-6), block), ulps=16, slack=1e-3)

    alone = before.to(device)
    ops.gate_res(on_device[0], alone, gate_there)
    assert torch.equal(alone, res)
    for one, two in zip(rounded, ops.ln_mod_quant(alone, on_device[3], on_device[4], 1e-6, block), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("device", DEVICES)
def test_rows_may_be_strided(device: str) -> None:
    wide, stream_of = stream(9, 700).to(device), stream(9, 700, seed=4).to(device)
    around = stream_of.clone()
    x, res = wide[:, 3:336], stream_of[:, 5:338]
    gain, shift = (part.to(device) for part in (normal(3, 333), normal(3, 333, seed=1)))
    for one, two in (
        (ops.quant_rows(x), ops.quant_rows(x.contiguous())),
        (ops.quant_rows(x.t()), ops.quant_rows(x.t().contiguous())),
        (ops.ln_mod_quant(x, gain, shift, 1e-6), ops.ln_mod_quant(x.contiguous(), gain, shift, 1e-6)),
    ):
        assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])
    packed = res.clone()
    q, scale = ops.gate_res_norm_quant(x, res, gain, gain, shift, 1e-6)
    packed_q, packed_scale = ops.gate_res_norm_quant(x.contiguous(), packed, gain, gain, shift, 1e-6)
    assert torch.equal(res, packed) and torch.equal(q, packed_q) and torch.equal(scale, packed_scale)
    assert torch.equal(stream_of[:, :5], around[:, :5]) and torch.equal(stream_of[:, 338:], around[:, 338:])


@pytest.mark.parametrize("device", DEVICES)
def test_what_does_not_divide_is_refused(device: str) -> None:
    x, gain = torch.zeros(7, 300, device=device), torch.ones(2, 300, device=device)
    with pytest.raises(ValueError, match=r"300 columns .* blocks of 256"):
        ops.quant_rows(x, hadamard=256)
    with pytest.raises(ValueError, match=r"256 or 512 columns.*got 128"):
        ops.quant_rows(x, hadamard=128)
    with pytest.raises((ValueError, RuntimeError)):
        ops.ln_mod_quant(x, gain, gain, 1e-6)


@pytest.mark.parametrize("device", DEVICES)
def test_torch_accepts_the_registrations(device: str) -> None:
    x, gain = torch.randn(8, 256, device=device), torch.ones(2, 256, device=device)
    registered = torch.ops.rushes
    torch.library.opcheck(registered.quant_rows.default, (x, True, 256))
    torch.library.opcheck(registered.ln_mod_quant.default, (x, gain, gain, 1e-6))
    torch.library.opcheck(registered.gate_res_norm_quant.default, (x, x.clone(), gain, gain[:1], gain[:1], 1e-6, 256))
    torch.library.opcheck(registered.gate_res.default, (x, x.clone(), None))


@pytest.mark.parametrize("block", [256, 512])
def test_rotating_both_factors_changes_no_product(block: int) -> None:
    x, w = stream(5, 1024).double(), normal(7, 1024).double()
    torch.testing.assert_close(rotate(x, block) @ rotate(w, block).t(), x @ w.t(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(rotate(x, block), hadamard(x, block), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(rotate(rotate(x, block), block), x, rtol=1e-12, atol=1e-12)


def test_rotation_reduces_the_error_of_rows_with_outliers() -> None:
    """One channel 100 times the others uses up the int8 levels of a row; the rotation spreads it."""
    x = normal(64, 1536)
    x[:, 17] *= 100
    q, scale = ops.quant_rows(x)
    plain = (q * scale[:, None] - x).norm()
    q, scale = ops.quant_rows(x, hadamard=512)
    rotated = (q * scale[:, None] - rotate(x, 512)).norm()
    assert rotated < plain / 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("m", "d"), [(1008, 256), (32760, 1536), (4097, 5120)])
def test_many_rows_equal_the_reference_on_the_gpu(m: int, d: int) -> None:
    """At the size of a whole film: equal bits where rows are only quantised, else within one level."""
    x, y = (torch.randn(m, d, device="cuda", generator=torch.Generator("cuda").manual_seed(seed)) for seed in (0, 1))
    gain, shift, gate = (normal(1, d, seed=seed) for seed in (2, 3, 4))
    q, scale = ops.quant_rows(x.bfloat16())
    expected_q, expected_scale = reference.quant_rows(x.bfloat16().cpu())
    assert torch.equal(q.cpu(), expected_q) and torch.equal(scale.cpu(), expected_scale)
    expected_res = x.cpu()
    expected_q, expected_scale = reference.gate_res_norm_quant(
        y.bfloat16().cpu(), expected_res, gate, gain, shift, 1e-6
    )
    q, scale = ops.gate_res_norm_quant(y.bfloat16(), x, gate.cuda(), gain.cuda(), shift.cuda(), 1e-6)
    # A product of up to 32 is rounded, where the processor has no FMA; against a stream of its size little is left.
    torch.testing.assert_close(x.cpu(), expected_res, rtol=2**-22, atol=2**-20)
    torch.testing.assert_close(scale.cpu(), expected_scale, rtol=2e-6, atol=0)
    assert (q.cpu().int() - expected_q.int()).abs().max() <= 1
