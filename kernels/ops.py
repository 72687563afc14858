"""The operations models call. Each runs where its tensors are, and is one node to torch.compile.

On CUDA a Triton kernel does the work, loaded at the first call; on the CPU its plain twin in `reference` does. They are
registered piece by piece, because `torch.library.custom_op` loads the compiler at the first call: 1.8 seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kernels import reference


def quant_rows(x: Tensor, gelu: bool = False) -> tuple[Tensor, Tensor]:
    """Round each row of x (M, K) to int8 with its own scale; see `reference.quant_rows`."""
    return torch.ops.rushes.quant_rows(x, gelu)


def int8_linear(
    q: Tensor, scale: Tensor, weight: Tensor, weight_scale: Tensor, bias: Tensor | None, act: str, dtype: torch.dtype
) -> Tensor:
    """int8 rows through an int8 matrix to float rows; see `reference.int8_linear`."""
    return torch.ops.rushes.int8_linear(q, scale, weight, weight_scale, bias, act, dtype)


def _quant_rows_cuda(x: Tensor, gelu: bool = False) -> tuple[Tensor, Tensor]:
    from kernels import quant_rows as kernel

    return kernel.launch(x, gelu)


def _quant_rows_shapes(x: Tensor, gelu: bool = False) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape, dtype=torch.int8), x.new_empty(x.shape[:1], dtype=torch.float32)


def _int8_linear_cuda(q: Tensor, *others: Any) -> Tensor:
    from kernels import int8_linear as kernel

    return kernel.launch(q, *others)


def _int8_linear_shapes(
    q: Tensor, scale: Tensor, weight: Tensor, weight_scale: Tensor, bias: Tensor | None, act: str, dtype: torch.dtype
) -> Tensor:
    return q.new_empty((q.shape[0], weight.shape[0]), dtype=dtype)


def _register(twin: Callable, cuda: Callable, shapes: Callable) -> None:
    """Make an operation of a plain function, its CUDA form, and a function that only knows the result's shape."""
    name = f"rushes::{twin.__name__}"
    torch.library.define(name, torch.library.infer_schema(twin, mutates_args=()))
    torch.library.impl(name, "cpu", twin)
    torch.library.impl(name, "cuda", cuda)
    torch.library.register_fake(name, shapes)


_register(reference.quant_rows, _quant_rows_cuda, _quant_rows_shapes)
_register(reference.int8_linear, _int8_linear_cuda, _int8_linear_shapes)
