"""What a case of the benchmark is: an operation at a shape of Wan, its twin, its baselines and its goals.

Bytes are those that have to be moved at least: every input read once, every output written once.
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

from kernels.bench import baselines as rivals
from kernels.bench.report import Goal
from kernels.bench.timing import Run

Arguments = tuple[Any, ...]  # arguments of an operation

COMPILED = "torch.compile"
FEW = 256  # rows whose results are compared with the twin's


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
        """L, the rows that row-wise operations see."""
        return math.prod(self.grid)

    def normal(self, *size: int) -> Tensor:
        """Fresh normal numbers in bf16."""
        return torch.randn(size, dtype=torch.bfloat16, device=self.device)

    def wide(self, *size: int) -> Tensor:
        """Fresh normal numbers in float32."""
        return torch.randn(size, device=self.device)

    def int8(self, *size: int) -> Tensor:
        """Fresh whole numbers of -127 .. 127."""
        return torch.randint(-127, 128, size, dtype=torch.int8, device=self.device)

    def scales(self, rows: int) -> Tensor:
        """Fresh scales of rows."""
        return torch.rand(rows, device=self.device) / 100 + 1e-3


@dataclass(frozen=True, slots=True)
class Case:
    """One operation at one shape."""

    variant: str
    size: str
    ours: Run
    error: Callable[[], float]  # against the twin
    bytes: int
    ops: int = 0  # multiplications and additions; 0 where memory is what limits
    baselines: dict[str, Run] = field(default_factory=dict)
    goals: tuple[Goal, ...] = ()


def against_twin(
    op: Callable[..., Any], given: Arguments, few: Arguments, axis: int = 0, writes: int | None = None
) -> float:
    """The largest relative RMS difference between what `op` makes of `given` and what its twin makes of `few`: the same
    arguments, or fewer of their last rows, which along `axis` are the last of each result. `writes` is the place of an
    argument that is written to, a result as well.
    """
    ours, twins = _results(op, given, writes), _results(inspect.unwrap(op), few, writes)
    pairs = zip(ours, twins, strict=True)
    errors = [_rms(a.narrow(axis, a.shape[axis] - b.shape[axis], b.shape[axis]), b) for a, b in pairs]
    return float(torch.tensor(errors).max())  # NaN where one is: Python's max passes over it


def _results(op: Callable[..., Any], given: Arguments, writes: int | None) -> list[Tensor]:
    given = tuple(part.clone() if place == writes else part for place, part in enumerate(given))
    made = op(*given)
    returned = [] if made is None else [made] if isinstance(made, Tensor) else list(made)
    return returned if writes is None else [*returned, given[writes]]


def _rms(ours: Tensor, twin: Tensor) -> float:
    ours, twin = ours.float(), twin.float()
    return float((ours - twin).square_().mean().sqrt() / twin.square().mean().sqrt().clamp_min(1e-30))


def by_memory(
    op: Callable[..., Any], variant: str, given: Arguments, moved: int, least: float, faster: float,
    expression: Callable[..., Any] | None = None, compiled: float = 1.0, writes: int | None = None,
) -> Case:  # fmt: skip
    """A case limited by memory. The goals: `least` of the copy bandwidth, `faster` times as fast as the eager twin, and
    `compiled` times as fast as what torch.compile makes of the expression. What has as many rows as the first argument
    is cut to its last few for the comparison.
    """
    rows = len(given[0])
    few = tuple(part[-FEW:] if isinstance(part, Tensor) and len(part) == rows else part for part in given)
    baselines: dict[str, Run] = {"eager": partial(inspect.unwrap(op), *given)}
    goals = [Goal("copy", least), Goal("eager", faster)]
    if expression is not None:
        baselines[COMPILED] = partial(rivals.compiled, expression, *given)
        goals.append(Goal(COMPILED, compiled))
    return Case(
        variant, "x".join(map(str, given[0].shape)), partial(op, *given),
        partial(against_twin, op, given, few, writes=writes), moved, 0, baselines,
        tuple(goals),
    )  # fmt: skip
