"""Every launch that matters, without data: what is compiled ahead of time, and what the tests hold to a table.

A launch compiles one kernel for each combination of its block sizes, flags, dtypes, and whether each whole number is a
multiple of 16. Cases name the combinations that the known networks meet; each calls the launcher itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from kernels import int8_linear, quant_rows

TURING, AMPERE = 75, 80
TOKENS = (32_760, 75_600)  # of 81 frames at 480p and at 720p: one no multiple of 16, one a multiple
WIDTHS = {256: 1024, 1536: 8960, 3072: 14_336, 5120: 13_824}  # of a network, and of its feed-forward
MAIN = 5120


@dataclass(frozen=True, slots=True)
class Case:
    """A launch. oldest: the compute capability it needs. main: tried at every run of the tests."""

    name: str
    launch: Callable[[], object]
    oldest: int
    main: bool = False


def cases(tokens: int = TOKENS[0]) -> Iterator[Case]:
    """Every case for films of so many tokens."""
    yield from rows_cases(tokens)
    yield from linear_cases(tokens)


def rows_cases(M: int) -> Iterator[Case]:
    """K5. Rows of a network's width come as they flow between its layers, rows of the feed-forward before GELU."""
    for D, K in WIDTHS.items():
        yield Case(f"quant_rows {D}", partial(quant_rows.launch, bf16(M, D), False), TURING, D == MAIN)
        yield Case(f"quant_rows {K} gelu", partial(quant_rows.launch, bf16(M, K), True), TURING, D == MAIN)


def linear_cases(M: int) -> Iterator[Case]:
    """K4. Tiles depend on the number of rows and columns, not on a network's width."""
    D, K = MAIN, WIDTHS[MAIN]
    yield linear("int8_linear", M, D, D, main=True)
    yield linear("int8_linear gelu", M, K, D, act="gelu_tanh", main=True)
    yield linear("int8_linear no bias", M, D, D, bias=False)
    yield linear("int8_linear float32", M, D, D, dtype=torch.float32)
    yield linear("int8_linear float16", M, D, D, dtype=torch.float16)
    yield linear("int8_linear few rows", 1, 6 * D, D)
    yield linear("int8_linear few columns", M, 64, D)
    # Rows that do not begin at multiples of 16 bytes: the loop's loads are no longer copied ahead.
    yield linear("int8_linear odd strides", M, D, D, stride=D + 8, main=True)


def linear(
    name: str, M: int, N: int, K: int, *, act: str = "none", bias: bool = True, dtype: torch.dtype = torch.bfloat16,
    stride: int = 0, main: bool = False,
) -> Case:  # fmt: skip
    """A product; `stride` is between rows of both operands, where it is not K."""
    q, weight = (int8(rows, stride or K)[:, :K] for rows in (M, N))
    bias_row = f32(N) if bias else None
    launch = partial(int8_linear.launch, q, f32(M), weight, f32(N), bias_row, act, dtype)
    return Case(name, launch, AMPERE, main)


def int8(*size: int) -> Tensor:
    return torch.empty(size, dtype=torch.int8, device="meta")


def f32(*size: int) -> Tensor:
    return torch.empty(size, dtype=torch.float32, device="meta")


def bf16(*size: int) -> Tensor:
    return torch.empty(size, dtype=torch.bfloat16, device="meta")
