"""Every kernel launch of the known networks, on tensors without data: compiled ahead of time, and checked by tests.

A launch compiles one kernel for each combination of its block sizes, flags, dtypes, and whether each integer argument
is a multiple of 16. The cases here cover the combinations that the known networks use; each calls the launcher itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from kernels import raycast
from kernels.attention import int8 as int8_attention
from kernels.attention import queries_keys, values
from kernels.attention import reference as reference_attention
from kernels.linear import int4
from kernels.linear import int8 as int8_linear
from kernels.rowwise import hadamard, layer_norm, quantize, residual_norm
from kernels.vae import norm_silu

TURING, AMPERE, ADA = 75, 80, 89
EPS = 1e-6
Checked = Literal["main", "table", "no"]  # main: compiled at each test run; table: in the table of resources only
TEXT = 512  # tokens of a prompt, the keys of cross-attention


@dataclass(frozen=True, slots=True)
class Network:
    """Sizes of one transformer: residual width, feed-forward width, heads."""

    width: int
    hidden: int
    heads: int

    @property
    def checked(self) -> tuple[Checked, Checked]:
        """How its main cases are checked, and its others."""
        return ("main", "table") if self is MAIN else ("table", "table") if self is SECOND else ("no", "no")


MAIN = Network(5120, 13_824, 40)
SECOND = Network(1536, 8960, 12)
NETWORKS = (Network(256, 1024, 4), SECOND, Network(3072, 14_336, 24), MAIN)
CHANNELS: dict[int, Checked] = {  # of the levels of Wan's two autoencoders
    96: "main", 192: "no", 384: "table", 256: "no", 512: "no", 1024: "table",
}  # fmt: skip
GRIDS = ([21, 30, 52], [21, 45, 80])  # 81 frames at 480p and at 720p: 32,760 tokens, and 75,600, a multiple of 16


@dataclass(frozen=True, slots=True)
class Case:
    """A launch. oldest: the least compute capability it needs. checked: whether its resources are in the table
    tests/kernels/toolchain/compiled.toml and compiled again at each test run; a case left out differs little from one
    in it.
    """

    name: str
    launch: Callable[[], object]
    oldest: int
    checked: Checked = "no"


def cases(capability: int, grid: list[int] = GRIDS[0]) -> Iterator[Case]:
    """Every case that a GPU of this capability can run, for films of this grid of tokens."""
    flow = torch.bfloat16 if capability >= AMPERE else torch.float16  # activations; see kernels/dispatch.py
    tokens = grid[0] * grid[1] * grid[2]
    every = [*linear_cases(tokens)]
    for network in NETWORKS:
        every += [*rows_cases(network, tokens, flow), *heads_cases(network, grid, flow)]
    for width in (64, 128):
        every += attention_cases(width, tokens, flow)
    for channels, checked in CHANNELS.items():
        every += vae_cases(channels, flow, checked)
    every.append(film_case())
    yield from (case for case in every if case.oldest <= capability)


def rows_cases(network: Network, M: int, flow: torch.dtype) -> Iterator[Case]:
    """K5, K1 and K3, with and without the block-Hadamard rotation. The residual stream is float32, branches are not."""
    D, K, (main, table) = network.width, network.hidden, network.checked
    stream, branch, row = empty(torch.float32, M, D), empty(flow, M, D), empty(torch.float32, 1, D)
    yield Case(f"quant_rows {K} gelu", partial(quantize.launch, empty(flow, M, K), True), TURING, main)
    yield Case(f"gate_res {D}", partial(residual_norm.launch_residual, branch, stream, row), TURING)
    for rotated in ("", " hadamard"):
        for width, checked in ((D, "no" if rotated else main), (K, table if rotated else "no")):
            block = hadamard_block(width) if rotated else 0
            launch = partial(quantize.launch, empty(flow, M, width), False, block)
            yield Case(f"quant_rows {width}{rotated}", launch, TURING, checked)
        block = hadamard_block(D) if rotated else 0
        launch = partial(layer_norm.launch, stream, row, row, EPS, block)
        yield Case(f"ln_mod_quant {D}{rotated}", launch, TURING, table if rotated else main)
        launch = partial(residual_norm.launch, branch, stream, row, row, row, EPS, block)
        yield Case(f"gate_res_norm_quant {D}{rotated}", launch, TURING, table if rotated else main)
        launch = partial(residual_norm.launch, branch, stream, None, row, row, EPS, block)
        yield Case(f"gate_res_norm_quant {D} no gate{rotated}", launch, TURING)


def hadamard_block(width: int) -> int:
    """The size of the Hadamard blocks that rows of this width are rotated by."""
    return max(block for block in hadamard.BLOCKS if width % block == 0)


def linear_cases(M: int) -> Iterator[Case]:
    """K4 and K7. Tiles depend on the number of rows and columns, not on a network's width."""
    D, K = MAIN.width, MAIN.hidden
    yield linear("int8_linear", M, D, D)
    yield linear("int8_linear gelu", M, K, D, act="gelu_tanh", checked="main")
    yield linear("int8_linear no bias", M, D, D, bias=False)
    yield linear("int8_linear float32", M, D, D, dtype=torch.float32)
    yield linear("int8_linear float16", M, D, D, dtype=torch.float16)
    yield linear("int8_linear few rows", 1, 6 * D, D)
    yield linear("int8_linear few columns", M, 64, D)
    # Rows that do not begin at multiples of 16 bytes: the loop's loads are no longer asynchronous.
    yield linear("int8_linear odd strides", M, D, D, stride=D + 8)
    packed, multiplier = empty(torch.uint8, K, D // 2), empty(torch.int8, K, D // 64)
    yield Case("dequant_int4", partial(int4.launch, packed, multiplier), TURING, "main")


def linear(
    name: str, M: int, N: int, K: int, *, act: str = "none", bias: bool = True, dtype: torch.dtype = torch.bfloat16,
    stride: int = 0, checked: Checked = "table",
) -> Case:  # fmt: skip
    """A matrix product; `stride` is the row stride of both operands, 0 for K."""
    q, weight = (empty(torch.int8, rows, stride or K)[:, :K] for rows in (M, N))
    scale, weight_scale = (empty(torch.float32, rows) for rows in (M, N))
    bias_row = empty(torch.float32, N) if bias else None
    launch = partial(int8_linear.launch, q, scale, weight, weight_scale, bias_row, act, dtype)
    return Case(name, launch, AMPERE, checked)


def heads_cases(network: Network, grid: list[int], flow: torch.dtype) -> Iterator[Case]:
    """K2 for self-attention, with rotary embedding, and for cross-attention, without."""
    D, N, (main, _) = network.width, network.heads, network.checked
    x, text = (empty(flow, 1, tokens, D) for tokens in (grid[0] * grid[1] * grid[2], TEXT))
    weight, angles = empty(torch.float32, D), empty(torch.float32, max(grid), D // N // 2)
    rotated = (weight, EPS, N, angles, angles, grid)
    unrotated: tuple[Tensor, float, int, None, None, list[int]] = (weight, EPS, N, None, None, [])
    for name, launch in (("rmsnorm_rope", queries_keys.launch), ("quant_queries", queries_keys.launch_queries)):
        yield Case(f"{name} {D}", partial(launch, x, *rotated), TURING, main)
        yield Case(f"{name} {D} unrotated", partial(launch, x, *unrotated), TURING)
    yield Case(f"quant_keys {D}", partial(queries_keys.launch_keys, x, *rotated), TURING, main)
    yield Case(f"quant_keys {D} unrotated", partial(queries_keys.launch_keys, text, *unrotated), TURING)
    yield Case(f"scale_values {D}", partial(values.launch, x, N), TURING, main)
    yield Case(f"scale_values {D} fp8", partial(values.launch, x, N, True), ADA, main)


def attention_cases(E: int, tokens: int, flow: torch.dtype) -> Iterator[Case]:
    """K6 for heads of one width: self-attention of a film, and cross-attention to a prompt of whole key blocks."""
    N = MAIN.heads
    for accumulate, oldest in (("f32", AMPERE), ("f16", AMPERE), ("fp8_f16", ADA)):
        for keys, target in ((tokens, ""), (TEXT, " to text")):
            launch = attention(N, E, tokens, keys, accumulate, flow, False)
            checked: Checked = "no" if target else "main" if E == 128 else "table"
            yield Case(f"attn_int8 {E} {accumulate}{target}", launch, oldest, checked)
    yield Case(f"attn_int8 {E} f32 mask", attention(N, E, tokens, tokens, "f32", flow, True), AMPERE, "table")


def attention(N: int, E: int, L: int, S: int, accumulate: str, flow: torch.dtype, masked: bool) -> Callable[[], object]:
    """Attention on inputs as K2 makes them; a mask has a row per block of 128 queries, a column per 64 keys."""
    blocks = -(-S // 64)
    v = reference_attention.empty_values(empty(flow, 1, S, N * E), N, accumulate == "fp8_f16")
    q8, k8 = (empty(torch.int8, 1, count, N, E) for count in (L, S))
    q_scale, k_scale, v_scale = (empty(torch.float32, 1, N, count) for count in (L, blocks, E))
    mask = empty(torch.bool, 1, 1, -(-L // 128), blocks) if masked else None
    return partial(int8_attention.launch, q8, q_scale, k8, k_scale, v, v_scale, accumulate, mask, flow)


def vae_cases(C: int, flow: torch.dtype, checked: Checked) -> Iterator[Case]:
    """K8 at a decoder level with C channels: four frames, after two past frames."""
    x, past = (empty(flow, 1, C, T, 60, 104).to(memory_format=torch.channels_last_3d) for T in (4, 2))
    gamma = empty(flow, C)
    yield Case(f"rms_norm_silu {C}", partial(norm_silu.launch, x, gamma, None, True, past), TURING, checked)
    yield Case(f"rms_norm_silu {C} bias", partial(norm_silu.launch, x, gamma, gamma, True, past), TURING)
    yield Case(f"rms_norm_silu {C} before attention", partial(norm_silu.launch, x, gamma, None, False, None), TURING)
    yield Case(f"bias_residual {C}", partial(norm_silu.launch_residual, x, gamma, x), TURING, checked)
    yield Case(f"nearest2x {C}", partial(norm_silu.launch_nearest, x), TURING, checked)


def film_case() -> Case:
    """The ray caster for a training shot: two people among the trees of a field. One kernel serves all shots."""
    T, boxes, capsules = 33, 2, 64
    frames, scene = empty(torch.float32, T, raycast.FRAME), empty(torch.float32, raycast.ROW)
    rows = [empty(torch.float32, T, count, raycast.ROW) for count in (boxes, capsules, 3)]
    surfaces = empty(torch.float32, 1 + boxes + capsules, raycast.ROW)
    launch = partial(raycast.launch, frames, rows[0], rows[1], rows[2], surfaces, scene, 128, 224, 2)
    return Case("raycast", launch, TURING, "main")


def empty(dtype: torch.dtype, *size: int) -> Tensor:
    return torch.empty(size, dtype=dtype, device="meta")
