"""The operations that models call. Each runs on its tensors' device and is a single node to torch.compile.

On CUDA a Triton kernel does the work, imported at the first call; on the CPU, and on GPUs that Triton does not support,
the plain-torch implementation in `reference` does. An operation is one line here: its reference, which gives it name,
signature and meaning; its kernel's launcher, by name; and a function that computes the shapes of the results.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from kernels.attention import reference as reference_attention
from kernels.dispatch import choose
from kernels.linear import reference as reference_linear
from kernels.rowwise import reference as reference_rowwise
from kernels.vae import reference as reference_vae

P = ParamSpec("P")
R = TypeVar("R")


def operation(
    reference: Callable[P, R], launcher: str, shapes: Callable[P, R], mutates: tuple[str, ...] = ()
) -> Callable[P, R]:
    """Register `reference` as a torch operation.

    launcher: "module.function" of its CUDA implementation in this package, with the same signature. mutates: the names
    of arguments that are written in place. Registered in steps, because `torch.library.custom_op` loads the compiler at
    the first call, which takes 1.8 s.
    """
    name = f"rushes::{reference.__name__}"

    def on_cuda(*args: P.args, **kwargs: P.kwargs) -> R:
        first: Any = args[0]
        if choose(first.device).norms == "torch":
            return reference(*args, **kwargs)
        module, _, function = launcher.rpartition(".")
        with torch.cuda.device_of(first):  # Triton launches on the current device, wherever the tensors are
            return getattr(import_module(f"kernels.{module}"), function)(*args, **kwargs)

    torch.library.define(name, torch.library.infer_schema(reference, mutates_args=mutates))
    torch.library.impl(name, "cpu", reference)
    torch.library.impl(name, "cuda", on_cuda)
    torch.library.register_fake(name, shapes)
    registered = getattr(torch.ops.rushes, reference.__name__).default

    @functools.wraps(reference)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return registered(*args, **kwargs)

    return call


def _quantized_rows(x: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape, dtype=torch.int8), x.new_empty(x.shape[:1], dtype=torch.float32)


def _product(
    q: Tensor, scale: Tensor, weight: Tensor, weight_scale: Tensor, bias: Tensor | None, act: str, dtype: torch.dtype
) -> Tensor:
    return q.new_empty((q.shape[0], weight.shape[0]), dtype=dtype)


def _unpacked_rows(packed: Tensor, multiplier: Tensor) -> Tensor:
    return packed.new_empty((packed.shape[0], 2 * packed.shape[1]), dtype=torch.int8)


def _nothing(*_: object, **__: object) -> None:
    return None


def _by_head(x: Tensor, weight: Tensor, eps: float, heads: int, *_: object) -> Tensor:
    return x.new_empty((*x.shape[:2], heads, x.shape[2] // heads))


def _queries(x: Tensor, weight: Tensor, eps: float, heads: int, *_: object) -> tuple[Tensor, Tensor]:
    B, L, D = x.shape
    return x.new_empty((B, L, heads, D // heads), dtype=torch.int8), x.new_empty((B, heads, L), dtype=torch.float32)


def _keys(x: Tensor, weight: Tensor, eps: float, heads: int, *_: object) -> tuple[Tensor, Tensor]:
    q8, scale = _queries(x, weight, eps, heads)
    return q8, scale.new_empty((*scale.shape[:2], -(-scale.shape[2] // reference_attention.KEY_BLOCK)))


def _values(v: Tensor, heads: int, fp8: bool = False) -> tuple[Tensor, Tensor]:
    B, _, D = v.shape
    return reference_attention.empty_values(v, heads, fp8), v.new_empty((B, heads, D // heads), dtype=torch.float32)


def _attention_output(
    q8: Tensor, q_scale: Tensor, k8: Tensor, k_scale: Tensor, v: Tensor, v_scale: Tensor, accumulate: str,
    mask: Tensor | None, dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    return q8.new_empty((*q8.shape[:2], q8.shape[2] * q8.shape[3]), dtype=dtype)


def _after_past(x: Tensor, gamma: Tensor, bias: Tensor | None, silu: bool, past: Tensor | None) -> Tensor:
    return _film(x, x.shape[2] + (0 if past is None else past.shape[2]))


def _same_film(x: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    return _film(x, x.shape[2])


def _doubled_film(x: Tensor) -> Tensor:
    return _film(x, x.shape[2], 2)


def _film(x: Tensor, T: int, larger: int = 1) -> Tensor:
    B, C, _, H, W = x.shape
    return x.new_empty((B, T, larger * H, larger * W, C)).permute(0, 4, 1, 2, 3)


quant_rows = operation(reference_rowwise.quant_rows, "rowwise.quantize.launch", _quantized_rows)
ln_mod_quant = operation(reference_rowwise.ln_mod_quant, "rowwise.layer_norm.launch", _quantized_rows)
gate_res_norm_quant = operation(
    reference_rowwise.gate_res_norm_quant, "rowwise.residual_norm.launch", _quantized_rows, mutates=("res",)
)
gate_res = operation(reference_rowwise.gate_res, "rowwise.residual_norm.launch_residual", _nothing, mutates=("res",))
int8_linear = operation(reference_linear.int8_linear, "linear.int8.launch", _product)
dequant_int4 = operation(reference_linear.dequant_int4, "linear.int4.launch", _unpacked_rows)
rmsnorm_rope = operation(reference_attention.rmsnorm_rope, "attention.queries_keys.launch", _by_head)
quant_queries = operation(reference_attention.quant_queries, "attention.queries_keys.launch_queries", _queries)
quant_keys = operation(reference_attention.quant_keys, "attention.queries_keys.launch_keys", _keys)
scale_values = operation(reference_attention.scale_values, "attention.values.launch", _values)
attn_int8 = operation(reference_attention.attn_int8, "attention.int8.launch", _attention_output)
rms_norm_silu = operation(reference_vae.rms_norm_silu, "vae.norm_silu.launch", _after_past)
bias_residual = operation(reference_vae.bias_residual, "vae.norm_silu.launch_residual", _same_film)
nearest2x = operation(reference_vae.nearest2x, "vae.norm_silu.launch_nearest", _doubled_film)
