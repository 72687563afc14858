"""The int4 layout, byte by byte, and how well float weights fit into it."""

from __future__ import annotations

import pytest
import torch

from kernels import ops
from kernels.linear import reference
from kernels.linear.packing import pack_int4, quantize_int4, unpack_int4

GPU = pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")])


def normal(n: int, k: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed))


def levels(n: int, k: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(-8, 8, (n, k), dtype=torch.int8, generator=torch.Generator().manual_seed(seed))


def multipliers(n: int, groups: int, seed: int = 0) -> torch.Tensor:
    size = torch.randint(1, 16, (n, groups), dtype=torch.int8, generator=torch.Generator().manual_seed(seed))
    return size * (1 - 2 * (levels(n, groups, seed) < 0).to(torch.int8))


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


def restored(w: torch.Tensor, group: int = 64) -> torch.Tensor:
    packed, multiplier, scale = quantize_int4(w, group)
    return ops.dequant_int4(packed, multiplier) * scale[:, None]


def test_a_byte_holds_the_same_column_of_both_halves() -> None:
    level = torch.zeros(1, 128, dtype=torch.int8)
    level[0, 64], level[0, 96], level[0, 127] = -8, 7, 5  # columns 0, 32 and 63 of the second group
    packed = pack_int4(level)
    assert packed.shape == (1, 64) and packed.dtype == torch.uint8
    assert packed[0, :32].eq(0x88).all()
    assert packed[0, 32] == 0xF0 and packed[0, 63] == 0xD8 and packed[0, 33:63].eq(0x88).all()


@pytest.mark.parametrize(("n", "k", "group"), [(1, 64, 64), (3, 192, 64), (7, 96, 32), (5, 16, 16), (2, 256, 256)])
def test_packing_loses_nothing(n: int, k: int, group: int) -> None:
    level = levels(n, k)
    packed = pack_int4(level, group)
    assert packed.shape == (n, k // 2)
    assert torch.equal(unpack_int4(packed, group), level)


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize(
    ("n", "k", "group"), [(1, 64, 64), (33, 320, 64), (7, 96, 32), (5, 48, 16), (3, 512, 256), (1537, 1536, 64)]
)
def test_unpacked_rows_are_level_times_multiplier(device: str, n: int, k: int, group: int) -> None:
    level, multiplier = levels(n, k), multipliers(n, k // group)
    level[0, 0], multiplier[0, 0] = -8, 15  # the largest possible
    weight = ops.dequant_int4(pack_int4(level, group).to(device), multiplier.to(device))
    expected = level.long() * multiplier.long().repeat_interleave(group, dim=1)
    assert weight.dtype == torch.int8 and torch.equal(weight.cpu().long(), expected)
    assert weight[0, 0] == -120


def test_torch_accepts_the_registration() -> None:
    torch.library.opcheck(torch.ops.rushes.dequant_int4.default, (pack_int4(levels(3, 128)), multipliers(3, 2)))


@pytest.mark.parametrize(
    ("spread", "error", "of_the_group_alone"),
    [
        (lambda w: w, 0.0925, 0.107),  # normal, as trained matrices nearly are
        (lambda w: w * (1 + 9 * (torch.arange(w.shape[1]) % 97 == 0)), 0.205, 0.23),  # a few columns ten times larger
        (lambda w: w * torch.exp(normal(1, w.shape[1], 1) / 2), 0.132, 0.15),  # columns of many sizes
        (lambda w: w * torch.logspace(-6, 6, len(w))[:, None], 0.0925, 0.107),  # rows of many sizes
    ],
    ids=["normal", "large columns", "columns of many sizes", "rows of many sizes"],
)
def test_the_error_is_less_than_by_rounding_to_the_largest_value(
    spread, error: float, of_the_group_alone: float
) -> None:
    w = spread(normal(64, 1536))
    groups = w.unflatten(1, (-1, 64))
    step = groups.abs().amax(2, keepdim=True) / 7
    plain = relative(((groups / step).round() * step).flatten(1), w)
    assert plain == pytest.approx(of_the_group_alone, rel=0.03)
    assert relative(restored(w), w) < error < 0.9 * plain


def test_no_multiplier_of_all_thirty_would_be_better() -> None:
    """The search tries four multipliers; trying every one leaves no less error in any group."""
    w = normal(8, 256)
    packed, multiplier, scale = quantize_int4(w)
    found = (reference.dequant_int4(packed, multiplier) * scale[:, None] - w).double().square()
    step = torch.tensor([m for m in range(-15, 16) if m])[:, None, None, None] * scale[:, None, None]
    groups = w.unflatten(1, (-1, 64))
    error = ((groups / step).round().clamp(-8, 7) * step - groups).double().square().sum(3)
    best, mine = error.amin(0), found.unflatten(1, (-1, 64)).sum(2)
    assert (mine.sum() / best.sum()).sqrt() < 1.005
    assert (mine >= best * (1 - 1e-5)).all()


def test_weights_that_the_layout_represents_are_restored_exactly() -> None:
    level, multiplier = levels(5, 192), torch.full((5, 3), -15, dtype=torch.int8)
    level[:, ::64] = -8  # so that each group, and the row, has its largest value
    w = (level * multiplier.repeat_interleave(64, dim=1)) * torch.tensor([1e-4, 1e-3, 1.0, 3.0, 1e4])[:, None]
    torch.testing.assert_close(restored(w), w, rtol=1e-6, atol=0)


def test_zeros_and_lone_values() -> None:
    w = torch.zeros(3, 128)
    w[1, 5], w[2, 70] = -2.5, 1e-3
    torch.testing.assert_close(restored(w), w, rtol=1e-6, atol=0)


def test_the_same_weights_give_the_same_bytes() -> None:
    w = normal(1030, 64)  # more rows than are searched at once
    first, again = quantize_int4(w), quantize_int4(w.clone())
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(torch.equal(a[1024:], b) for a, b in zip(first, quantize_int4(w[1024:]), strict=True))
    assert (first.packed.dtype, first.multiplier.dtype, first.scale.dtype) == (torch.uint8, torch.int8, torch.float32)
    assert first.multiplier.ne(0).all() and first.multiplier.abs().max() == 15


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_any_float(dtype: torch.dtype) -> None:
    w = normal(4, 128).to(dtype)
    assert torch.equal(restored(w), restored(w.float()))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: quantize_int4(normal(2, 100)), "100 columns do not divide into groups of 64"),
        (lambda: quantize_int4(normal(2, 96), 48), "a group of 48"),
        (lambda: pack_int4(levels(2, 8), 8), "a group of 8"),
        (lambda: ops.dequant_int4(pack_int4(levels(3, 128)), multipliers(2, 2)), "fit no group"),
        (lambda: ops.dequant_int4(pack_int4(levels(3, 128)), multipliers(3, 3)), "fit no group"),
    ],
)
def test_what_fits_no_layout_is_refused(call, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()
