"""One benchmark case: an operation at a shape of Wan, its reference, its baselines and its goals.

Bytes are the least that must be moved: every input read once, every output written once.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kernels.bench.baselines import compiled as run_compiled
from kernels.bench.report import Goal
from kernels.bench.timing import Run

Arguments = tuple[Any, ...]  # arguments of an operation

COMPILED = "torch.compile"
FEW = 256  # rows whose results are compared with the reference


@dataclass(frozen=True, slots=True)
class Shape:
    """One transformer and one film: D width, N heads, hidden width of the feed-forward; grid F, H, W of tokens."""

    width: int
    heads: int
    hidden: int
    grid: tuple[int, int, int]
    device: torch.device

    @property
    def tokens(self) -> int:
        """L, the number of rows of row-wise operations."""
        return math.prod(self.grid)

    def normal(self, *size: int) -> Tensor:
        """New normal random numbers in bf16."""
        return torch.randn(size, dtype=torch.bfloat16, device=self.device)

    def wide(self, *size: int) -> Tensor:
        """New normal random numbers in float32."""
        return torch.randn(size, device=self.device)

    def int8(self, *size: int) -> Tensor:
        """New random integers, -127 .. 127."""
        return torch.randint(-127, 128, size, dtype=torch.int8, device=self.device)

    def scales(self, rows: int) -> Tensor:
        """New random scales of rows."""
        return torch.rand(rows, device=self.device) / 100 + 1e-3


@dataclass(frozen=True, slots=True)
class Case:
    """One operation at one shape."""

    variant: str
    size: str
    ours: Run
    error: Callable[[], float]  # relative RMS against the reference
    bytes: int
    ops: int = 0  # multiplications and additions; 0 where the case is memory-bound
    baselines: dict[str, Run] = field(default_factory=dict)
    goals: tuple[Goal, ...] = ()


def against_reference(
    op: Callable[..., Any], given: Arguments, few: Arguments, axis: int = 0, writes: int | None = None
) -> float:
    """The largest relative RMS difference between the results of `op` for `given` and of its reference for `few`.

    few: the same arguments, or only their last rows, whose results are the last along `axis`. writes: the position of
    an argument that is written in place, and so is a result too.
    """
    ours, expected = _results(op, given, writes), _results(inspect.unwrap(op), few, writes)
    pairs = zip(ours, expected, strict=True)
    errors = [_rms(a.narrow(axis, a.shape[axis] - b.shape[axis], b.shape[axis]), b) for a, b in pairs]
    return float(torch.tensor(errors).max())  # NaN if any is NaN, which Python's max could miss


def _results(op: Callable[..., Any], given: Arguments, writes: int | None) -> list[Tensor]:
    given = tuple(part.clone() if position == writes else part for position, part in enumerate(given))
    made = op(*given)
    returned = [] if made is None else [made] if isinstance(made, Tensor) else list(made)
    return returned if writes is None else [*returned, given[writes]]


def _rms(ours: Tensor, expected: Tensor) -> float:
    ours, expected = ours.float(), expected.float()
    return float((ours - expected).square_().mean().sqrt() / expected.square().mean().sqrt().clamp_min(1e-30))


def by_memory(
    op: Callable[..., Any], variant: str, given: Arguments, moved: int, least: float, faster: float,
    expression: Callable[..., Any] | None = None, compiled: float = 1.0, writes: int | None = None,
) -> Case:  # fmt: skip
    """A memory-bound case that moves `moved` bytes.

    Goals: `least` of the copy bandwidth, `faster` times as fast as the eager reference, `compiled` times as fast as the
    expression under torch.compile. Arguments with as many rows as the first are cut to their last FEW rows for the
    comparison.
    """
    rows = len(given[0])
    few = tuple(part[-FEW:] if isinstance(part, Tensor) and len(part) == rows else part for part in given)
    baselines: dict[str, Run] = {"eager": partial(inspect.unwrap(op), *given)}
    goals = [Goal("copy", least), Goal("eager", faster)]
    if expression is not None:
        baselines[COMPILED] = partial(run_compiled, expression, *given)
        goals.append(Goal(COMPILED, compiled))
    return Case(
        variant, "x".join(map(str, given[0].shape)), partial(op, *given),
        partial(against_reference, op, given, few, writes=writes), moved, 0, baselines,
        tuple(goals),
    )  # fmt: skip
