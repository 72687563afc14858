"""The attention kernels, interpreted at odd shapes, against their references and float64."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from kernels.attention import reference as reference_attention
from kernels.attention.rotary import rotary_rows

EPS = 1e-6


class Rows(NamedTuple):
    grid: list[int]  # [] for no rotation
    tokens: int
    heads: int
    width: int
    batch: int = 1
    dtype: torch.dtype = torch.float32


ROWS = {
    "one": Rows([1, 1, 1], 1, 1, 64),
    "several tokens a program": Rows([2, 5, 7], 70, 3, 64, 2),
    "narrow heads": Rows([3, 3, 3], 27, 3, 12, 2),
    "wide": Rows([1, 2, 3], 6, 40, 128),
    "half": Rows([2, 3, 11], 66, 2, 128, 1, torch.float16),
    "no rotation": Rows([], 65, 2, 128, 2),
}
VALUES = {"one": (1, 1, 1, 64), "odd": (2, 70, 3, 24), "tiles": (1, 130, 2, 64)}  # batch, tokens, heads, width


class Attention(NamedTuple):
    batch: int
    length: int
    tokens: int
    heads: int
    width: int
    mode: str
    masked: tuple[int, int] | None = None  # batch and heads of the mask


ATTENTIONS = {
    "one": Attention(1, 1, 1, 1, 64, "f32"),
    "a tail alone": Attention(2, 63, 63, 2, 64, "f32"),
    "blocks alone": Attention(1, 128, 128, 2, 128, "f32"),
    "blocks and a tail": Attention(1, 130, 65, 1, 64, "f32"),
    "many blocks": Attention(1, 5, 333, 1, 128, "f32"),
    "half": Attention(2, 65, 129, 1, 64, "f16"),
    "float8": Attention(1, 65, 129, 2, 64, "fp8_f16"),
    "float8 blocks alone": Attention(2, 3, 128, 1, 128, "fp8_f16"),
    "a mask for all": Attention(2, 200, 200, 2, 64, "f32", (1, 1)),
    "a mask for each": Attention(2, 129, 128, 2, 64, "f16", (2, 2)),
    "a mask over a tail alone": Attention(1, 257, 7, 2, 64, "f32", (1, 2)),
}


def randn(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def rows_of(case: Rows) -> tuple:
    """Middle columns of a wider matrix, and the rest of what prepares queries and keys."""
    dim = case.heads * case.width
    x = (randn(case.batch, case.tokens, 3 * dim) + 3 * randn(3 * dim, seed=1)).to(case.dtype)[..., dim : 2 * dim]
    table = rotary_rows(tuple(case.grid), case.width, torch.device("cpu")) if case.grid else (None, None)
    return x, 1 + 0.3 * randn(dim, seed=2), EPS, case.heads, *table, case.grid


def values_of(batch: int, tokens: int, heads: int, width: int, fp8: bool) -> Tensor:
    """Values; for float8 only such as it represents exactly, because the interpreter rounds to it wrongly."""
    v = randn(batch, tokens, 2 * heads * width)[..., : heads * width]
    if fp8:
        v = v.to(torch.float8_e4m3fn).float().where(v.abs() > 2**-5, 0)
    v[:, -1, 0] = 0
    return v * 2.0 ** torch.linspace(-30, 60, heads * width).round()


def inputs_of(case: Attention) -> tuple:
    """Arguments of attention. For float8, scores are integers, so that weights are 224 / 2^n, which it represents."""
    B, L, S, N, E = case[:5]
    fp8 = case.mode == "fp8_f16"
    generator = torch.Generator().manual_seed(L + S)
    most = 2 if fp8 else 127
    q8, k8 = (torch.randint(-most, most + 1, (B, n, N, E), generator=generator).to(torch.int8) for n in (L, S))
    q_scale, k_scale = torch.ones(B, N, L), torch.ones(B, N, -(-S // 64))
    if not fp8:
        q_scale = 1e-3 * (0.5 + torch.rand(B, N, L, generator=generator))
        k_scale = 1e-2 * (0.5 + torch.rand(k_scale.shape, generator=generator))
    v = randn(B, S, N * E, seed=3) * 4000
    if fp8:
        v = (v / 4000).to(torch.float8_e4m3fn).float() * 1024
    # The last query's scores are all far below zero.
    k8[..., 0], q8[:, -1] = 127, 0
    q8[:, -1, :, 0], q_scale[..., -1] = -127, 1
    # The first query is zero and weighs all keys equally: in one channel its sums are the largest possible.
    q8[:, 0], q_scale[..., 0], v[..., 3] = 0, 1e-30, 1024
    v, v_scale = reference_attention.scale_values(v, N, fp8)
    mask = None
    if case.masked:
        mask = torch.rand((*case.masked, -(-L // 128), -(-S // 64)), generator=generator) < 0.5
        mask[0, 0, 0], mask[-1, -1, -1] = False, True  # the first queries attend to no key
    return q8, q_scale, k8, k_scale, v, v_scale, case.mode, mask, torch.float32


def interpret_all() -> dict[str, Tensor]:
    from kernels.attention import int8, queries_keys, values

    results = {}
    for name, case in ROWS.items():
        rows = rows_of(case)
        results[f"{name}.y"] = queries_keys.launch(*rows)
        results[f"{name}.q8"], results[f"{name}.q_scale"] = queries_keys.launch_queries(*rows)
        results[f"{name}.k8"], results[f"{name}.k_scale"] = queries_keys.launch_keys(*rows)
    for name, size in VALUES.items():
        for fp8 in (False, True):
            v, scale = values.launch(values_of(*size, fp8), size[2], fp8)
            results[f"{name}.{fp8}.v"], results[f"{name}.{fp8}.v_scale"] = v, scale
    for name, attention in ATTENTIONS.items():
        results[f"{name}.attention"] = int8.launch(*inputs_of(attention))
    return results


@pytest.mark.parametrize("name", ROWS)
def test_rows_are_normalised_and_rotated_as_by_the_reference(interpreted, name: str) -> None:
    y, expected = interpreted[f"{name}.y"], reference_attention.rmsnorm_rope(*rows_of(ROWS[name]))
    assert y.dtype == expected.dtype == ROWS[name].dtype
    last_bit = 2.0**-10 if y.dtype == torch.float16 else 2.0**-22
    torch.testing.assert_close(y.float(), expected.float(), rtol=last_bit, atol=4 * last_bit)
    assert (y == expected).float().mean() > 0.5


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("kind", ["q", "k"])
def test_rows_are_quantised_as_by_the_reference(interpreted, name: str, kind: str) -> None:
    quantise = reference_attention.quant_queries if kind == "q" else reference_attention.quant_keys
    expected, expected_scale = quantise(*rows_of(ROWS[name]))
    levels, scale = interpreted[f"{name}.{kind}8"], interpreted[f"{name}.{kind}_scale"]
    torch.testing.assert_close(scale, expected_scale, rtol=1e-5, atol=1e-30)
    away = (
        levels.int() - expected.int()
    ).abs()  # sums in another order: a number half-way between two levels may differ
    assert levels.dtype == torch.int8 and away.max() <= 1 and (away > 0).float().mean() < 1e-3


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("fp8", [False, True])
def test_values_equal_the_reference(interpreted, name: str, fp8: bool) -> None:
    size = VALUES[name]
    v, scale = reference_attention.scale_values(values_of(*size, fp8), size[2], fp8)
    assert torch.equal(interpreted[f"{name}.{fp8}.v_scale"], scale)
    got = interpreted[f"{name}.{fp8}.v"]
    assert got.dtype == v.dtype and torch.equal(got.float(), v.float())


@pytest.mark.parametrize("name", ATTENTIONS)
def test_attention_equals_float64_over_the_same_integers(interpreted, name: str) -> None:
    q8, q_scale, k8, k_scale, v, v_scale, mode, mask, _ = inputs_of(ATTENTIONS[name])
    L, S = q8.shape[1], k8.shape[1]
    q, k, values = (part.double().transpose(1, 2) for part in (q8, k8, v))
    scores = q @ k.transpose(2, 3) * q_scale[..., None] * k_scale.repeat_interleave(64, 2)[:, :, None, :S]
    if mask is not None:
        attends = mask.repeat_interleave(128, 2).repeat_interleave(64, 3)[:, :, :L, :S]
        scores = scores.masked_fill(~attends, -math.inf)
    weights = torch.softmax(scores * math.log(2), dim=3).nan_to_num(0.0)
    exact = (weights @ values * v_scale[:, :, None]).transpose(1, 2).flatten(2)
    y = interpreted[f"{name}.attention"].double()
    assert torch.isfinite(y).all()
    assert (y - exact).norm() / exact.norm() < {"f32": 3e-4, "f16": 2e-3, "fp8_f16": 2e-3}[mode]
    if mask is not None:
        assert (y[0, :128, : q8.shape[3]] == 0).all()
