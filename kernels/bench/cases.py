"""The benchmark cases of each operation at the shapes of a Wan block.

Each function yields the cases of one operation; its tensors are freed when it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend

from kernels import ops
from kernels.attention.rotary import rotary_rows
from kernels.bench import baselines
from kernels.bench.harness import FEW, Arguments, Case, Shape, against_reference, by_memory
from kernels.bench.report import Goal
from kernels.linear.packing import quantize_int4
from kernels.rowwise import hadamard
from kernels.vae import reference as reference_vae

EPS = 1e-6
BACKENDS = {
    "SDPA flash": SDPBackend.FLASH_ATTENTION,
    "SDPA cuDNN": SDPBackend.CUDNN_ATTENTION,
    "SDPA efficient": SDPBackend.EFFICIENT_ATTENTION,
}


def quant_rows(s: Shape) -> Iterator[Case]:
    """K5, before the matrix products after attention and after GELU."""
    M, K = s.tokens, s.hidden
    x, moved = s.normal(M, K), 3 * M * K + 4 * M
    block = max(size for size in hadamard.BLOCKS if K % size == 0)
    for variant, *options in (("", False, 0), ("gelu", True, 0), (f"hadamard {block}", False, block)):
        yield by_memory(ops.quant_rows, variant, (x, *options), moved, 0.85, 3)


def ln_mod_quant(s: Shape) -> Iterator[Case]:
    """K1, before the products for queries, keys and values."""
    M, D = s.tokens, s.width
    arguments, moved = (s.wide(M, D), s.wide(1, D), s.wide(1, D), EPS), 5 * M * D + 4 * M
    yield by_memory(ops.ln_mod_quant, "", arguments, moved, 0.8, 5, baselines.ln_mod_quant)
    yield by_memory(ops.ln_mod_quant, "hadamard 256", (*arguments, 256), moved, 0.8, 5)


def gate_res_norm_quant(s: Shape) -> Iterator[Case]:
    """K3, between the branches of a block."""
    M, D = s.tokens, s.width
    arguments = (s.normal(M, D), s.wide(M, D), *(s.wide(1, D) for _ in range(3)), EPS)
    moved = 11 * M * D + 4 * M
    yield by_memory(ops.gate_res_norm_quant, "", arguments, moved, 0.8, 4, baselines.gate_res_norm_quant, writes=1)


def gate_res(s: Shape) -> Iterator[Case]:
    """K3 without a norm, at the end of a block."""
    M, D = s.tokens, s.width
    yield by_memory(ops.gate_res, "", (s.normal(M, D), s.wide(M, D), s.wide(1, D)), 10 * M * D, 0.8, 1, writes=1)


def int8_linear(s: Shape) -> Iterator[Case]:
    """K4 at the three shapes of a block."""
    yield product(s, s.width, s.width, "none")
    yield product(s, s.width, s.hidden, "gelu_tanh")
    yield product(s, s.hidden, s.width, "none")


def product(s: Shape, K: int, N: int, act: str) -> Case:
    """One product of K4, in int8, in bf16 and in float8."""
    M, dtype = s.tokens, torch.bfloat16
    q, scale, w, weight_scale, bias = s.int8(M, K), s.scales(M), s.int8(N, K), s.scales(N), s.wide(N)
    x, wide, short = s.normal(M, K), s.normal(N, K), bias.to(dtype)
    x8, wide8 = (part.to(torch.float8_e4m3fn) for part in (x, wide))
    rest = (w, weight_scale, bias, act, dtype)
    return Case(
        act, f"{M}x{K}x{N}", partial(ops.int8_linear, q, scale, *rest),
        partial(against_reference, ops.int8_linear, (q, scale, *rest), (q[-FEW:], scale[-FEW:], *rest)),
        M * K + N * K + 2 * M * N, 2 * M * N * K,
        {
            "_int_mm + epilogue": partial(baselines.int_mm_linear, q, scale, *rest),
            "_int_mm alone": partial(torch._int_mm, q, w.t()),
            "bf16 linear": partial(baselines.float_linear, x, wide, short, act),
            "fp8 linear": partial(baselines.fp8_linear, x8, scale, wide8, weight_scale, short, act, dtype),
        },
        (Goal("_int_mm + epilogue", 1.0), Goal("_int_mm alone", 0.75), Goal("bf16 linear", 1.25)),
    )  # fmt: skip


def dequant_int4(s: Shape) -> Iterator[Case]:
    """K7 for the largest matrix of a block."""
    packed, multiplier, _ = quantize_int4(s.wide(s.hidden, s.width))
    moved = packed.nbytes + multiplier.nbytes + s.hidden * s.width
    yield by_memory(ops.dequant_int4, "", (packed, multiplier), moved, 0.8, 1)


def rmsnorm_rope(s: Shape) -> Iterator[Case]:
    """K2 in 16 bits, before torch's attention."""
    x = s.normal(1, s.tokens, s.width)
    yield by_memory(ops.rmsnorm_rope, "", (x, *norm_of(s)), 4 * x.numel(), 0.75, 8, baselines.rmsnorm_rope, 1.5)


def quant_queries(s: Shape) -> Iterator[Case]:
    """K2 to int8."""
    x = s.normal(1, s.tokens, s.width)
    yield by_memory(ops.quant_queries, "", (x, *norm_of(s)), 3 * x.numel(), 0.75, 8, baselines.quant_queries, 1.5)


def quant_keys(s: Shape) -> Iterator[Case]:
    """K2 to int8 for keys, which are read twice: their mean over all tokens comes first."""
    x = s.normal(1, s.tokens, s.width)
    yield by_memory(ops.quant_keys, "", (x, *norm_of(s)), 5 * x.numel(), 0.75, 8)


def scale_values(s: Shape) -> Iterator[Case]:
    """K2 for values, which are read twice: first for the largest of each channel."""
    v = s.normal(1, s.tokens, s.width)
    yield by_memory(ops.scale_values, "", (v, s.heads, False), 6 * v.numel(), 0.75, 1)
    if has_fp8(s.device):
        yield by_memory(ops.scale_values, "fp8", (v, s.heads, True), 5 * v.numel(), 0.75, 1)


def attn_int8(s: Shape) -> Iterator[Case]:
    """K6 alone; and with the preparation of its inputs, against torch's attention with the preparation of its own."""
    L, D, N = s.tokens, s.width, s.heads
    (q, k, v), norm = (s.normal(1, L, D) for _ in range(3)), norm_of(s)
    heads = [part.unflatten(2, (N, -1)) for part in (q, k, v)]
    work, size = 4 * L * L * D, f"{N}x{L}x{D // N}"
    for accumulate in ("f32", "f16", "fp8_f16") if has_fp8(s.device) else ("f32", "f16"):
        inputs = attention_inputs(q, k, v, norm, accumulate)
        arguments: Arguments = (*inputs, accumulate, None, torch.bfloat16)
        few = (arguments[0][:, -FEW:], arguments[1][:, :, -FEW:], *arguments[2:])
        error = partial(against_reference, ops.attn_int8, arguments, few, axis=1)
        least_bytes = sum(part.nbytes for part in inputs) + 2 * L * D
        yield Case(
            accumulate, size, partial(ops.attn_int8, *arguments), error, least_bytes, work,
            {name: partial(baselines.sdpa, heads, backend) for name, backend in BACKENDS.items()},
            (Goal("mixed", 0.33),),
        )  # fmt: skip
        whole = partial(prepare_and_attend, q, k, v, norm, accumulate)
        yield Case(
            f"{accumulate} with inputs", size, whole, error, 8 * L * D, work,
            {name: partial(baselines.normed_sdpa, q, k, v, norm, backend) for name, backend in BACKENDS.items()},
            (Goal("SDPA flash", 1.3), Goal("SDPA cuDNN", 0.6)),
        )  # fmt: skip


def attention_inputs(q: Tensor, k: Tensor, v: Tensor, norm: Arguments, accumulate: str) -> Arguments:
    """q, k, v (B, L, D) prepared for `attn_int8`."""
    values = ops.scale_values(v, norm[2], accumulate == "fp8_f16")
    return (*ops.quant_queries(q, *norm), *ops.quant_keys(k, *norm), *values)


def prepare_and_attend(q: Tensor, k: Tensor, v: Tensor, norm: Arguments, accumulate: str) -> Tensor:
    """q, k, v (B, L, D) -> (B, L, D): everything between the products before attention and the product after it."""
    arguments: Arguments = (*attention_inputs(q, k, v, norm, accumulate), accumulate, None, torch.bfloat16)
    return ops.attn_int8(*arguments)


def film_of(s: Shape, frames: int = 4) -> Tensor:
    """The activations of Wan 2.1's last decoder level for one latent frame: 96 channels, last in memory."""
    _, H, W = s.grid
    return s.normal(1, frames, 16 * H, 16 * W, 96).permute(0, 4, 1, 2, 3)


def rms_norm_silu(s: Shape) -> Iterator[Case]:
    """K8 before a causal convolution with two past frames; and inside a residual block, with the first one's bias."""
    x, past, gamma = film_of(s), film_of(s, 2), s.normal(96)
    for variant, bias in (("", None), ("bias", s.normal(96))):
        moved = 4 * x.numel() + 4 * past.numel()
        yield by_memory(
            ops.rms_norm_silu, variant, (x, gamma, bias, True, past), moved, 0.85, 4, reference_vae.rms_norm_silu
        )


def bias_residual(s: Shape) -> Iterator[Case]:
    """K8, at the end of a residual block."""
    x = film_of(s)
    yield by_memory(ops.bias_residual, "", (x, s.normal(96), film_of(s)), 6 * x.numel(), 0.85, 1.5)


def nearest2x(s: Shape) -> Iterator[Case]:
    """K8, before a decoder level of twice the size."""
    x = film_of(s)
    yield by_memory(ops.nearest2x, "", (x,), 10 * x.numel(), 0.85, 1)


def norm_of(s: Shape) -> Arguments:
    """The arguments of K2 after queries or keys."""
    weight = 1 + s.wide(s.width) / 10
    return (weight, EPS, s.heads, *rotary_rows(s.grid, s.width // s.heads, s.device), list(s.grid))


def has_fp8(device: torch.device) -> bool:
    """Whether tensor cores multiply float8 here; the CPU's reference always can."""
    return device.type == "cpu" or torch.cuda.get_device_capability(device) >= (8, 9)


CASES: dict[str, Callable[[Shape], Iterator[Case]]] = {
    make.__name__: make
    for make in (
        quant_rows, ln_mod_quant, gate_res_norm_quant, gate_res, int8_linear, dequant_int4, rmsnorm_rope, quant_queries,
        quant_keys, scale_values, attn_int8, rms_norm_silu, bias_residual, nearest2x,
    )
}  # fmt: skip
