"""Every launch that matters, without data: what is compiled ahead of time, and what the tests hold to a table.

A launch compiles one kernel for each combination of its block sizes, flags, dtypes, and whether each whole number is a
multiple of 16. Cases name the combinations that the known networks meet; each calls the launcher itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from kernels import raycast
from kernels.attention import int8 as attn_int8
from kernels.attention import queries_keys as qk_rmsnorm_rope_quant
from kernels.attention import values as scale_values
from kernels.linear import int4 as dequant_int4
from kernels.linear import int8 as int8_linear
from kernels.rowwise import hadamard
from kernels.rowwise import layer_norm as ln_mod_quant
from kernels.rowwise import quantize as quant_rows
from kernels.rowwise import residual_norm as gate_res_norm_quant
from kernels.vae import norm_silu as vae_rmsnorm_silu

TURING, AMPERE, ADA = 75, 80, 89
EPS = 1e-6
Held = Literal["main", "table", "no"]
TEXT = 512  # tokens of a prompt, which queries of cross-attention meet


@dataclass(frozen=True, slots=True)
class Network:
    """Widths of one transformer: of its stream, of its feed-forward, and how many heads it has."""

    width: int
    hidden: int
    heads: int

    @property
    def held(self) -> tuple[Held, Held]:
        """How its main cases are held to the table, and its others."""
        return ("main", "table") if self is MAIN else ("table", "table") if self is SECOND else ("no", "no")


MAIN = Network(5120, 13_824, 40)
SECOND = Network(1536, 8960, 12)
NETWORKS = (Network(256, 1024, 4), SECOND, Network(3072, 14_336, 24), MAIN)
CHANNELS: dict[int, Held] = {  # of the levels of Wan's two autoencoders
    96: "main", 192: "no", 384: "table", 256: "no", 512: "no", 1024: "table",
}  # fmt: skip
GRIDS = ([21, 30, 52], [21, 45, 80])  # 81 frames at 480p and at 720p: 32,760 tokens, and 75,600, a multiple of 16


@dataclass(frozen=True, slots=True)
class Case:
    """A launch. oldest: the compute capability it needs. held: to the table of what kernels take, by the tests that
    compile the main cases again at each run; the others differ little from one that is.
    """

    name: str
    launch: Callable[[], object]
    oldest: int
    held: Held = "no"


def cases(capability: int, grid: list[int] = GRIDS[0]) -> Iterator[Case]:
    """Every case that a card of this capability can run, for films of this grid of tokens."""
    flow = (
        torch.bfloat16 if capability >= AMPERE else torch.float16
    )  # what runs between layers; see kernels/dispatch.py
    tokens = grid[0] * grid[1] * grid[2]
    every = [*linear_cases(tokens)]
    for network in NETWORKS:
        every += [*rows_cases(network, tokens, flow), *heads_cases(network, grid, flow)]
    for width in (64, 128):
        every += attention_cases(width, tokens, flow)
    for channels, held in CHANNELS.items():
        every += vae_cases(channels, flow, held)
    every.append(film_case())
    yield from (case for case in every if case.oldest <= capability)


def rows_cases(network: Network, M: int, flow: torch.dtype) -> Iterator[Case]:
    """K5, K1 and K3, with the block-Hadamard rotation and without. The stream is float32, its branches are not."""
    D, K, (main, table) = network.width, network.hidden, network.held
    stream, branch, row = empty(torch.float32, M, D), empty(flow, M, D), empty(torch.float32, 1, D)
    yield Case(f"quant_rows {K} gelu", partial(quant_rows.launch, empty(flow, M, K), True), TURING, main)
    yield Case(f"gate_res {D}", partial(gate_res_norm_quant.launch_residual, branch, stream, row), TURING)
    for turned in ("", " hadamard"):
        for width, held in ((D, "no" if turned else main), (K, table if turned else "no")):
            block = turning(width) if turned else 0
            launch = partial(quant_rows.launch, empty(flow, M, width), False, block)
            yield Case(f"quant_rows {width}{turned}", launch, TURING, held)
        block = turning(D) if turned else 0
        launch = partial(ln_mod_quant.launch, stream, row, row, EPS, block)
        yield Case(f"ln_mod_quant {D}{turned}", launch, TURING, table if turned else main)
        launch = partial(gate_res_norm_quant.launch, branch, stream, row, row, row, EPS, block)
        yield Case(f"gate_res_norm_quant {D}{turned}", launch, TURING, table if turned else main)
        launch = partial(gate_res_norm_quant.launch, branch, stream, None, row, row, EPS, block)
        yield Case(f"gate_res_norm_quant {D} no gate{turned}", launch, TURING)


def turning(width: int) -> int:
    """The Hadamard blocks that rows of this width are turned by."""
    return max(block for block in hadamard.BLOCKS if width % block == 0)


def linear_cases(M: int) -> Iterator[Case]:
    """K4 and K7. Tiles depend on the number of rows and columns, not on a network's width."""
    D, K = MAIN.width, MAIN.hidden
    yield linear("int8_linear", M, D, D)
    yield linear("int8_linear gelu", M, K, D, act="gelu_tanh", held="main")
    yield linear("int8_linear no bias", M, D, D, bias=False)
    yield linear("int8_linear float32", M, D, D, dtype=torch.float32)
    yield linear("int8_linear float16", M, D, D, dtype=torch.float16)
    yield linear("int8_linear few rows", 1, 6 * D, D)
    yield linear("int8_linear few columns", M, 64, D)
    # Rows that do not begin at multiples of 16 bytes: the loop's loads are no longer copied ahead.
    yield linear("int8_linear odd strides", M, D, D, stride=D + 8)
    packed, multiplier = empty(torch.uint8, K, D // 2), empty(torch.int8, K, D // 64)
    yield Case("dequant_int4", partial(dequant_int4.launch, packed, multiplier), TURING, "main")


def linear(
    name: str, M: int, N: int, K: int, *, act: str = "none", bias: bool = True, dtype: torch.dtype = torch.bfloat16,
    stride: int = 0, held: Held = "table",
) -> Case:  # fmt: skip
    """A product; `stride` is between rows of both operands, where it is not K."""
    q, weight = (empty(torch.int8, rows, stride or K)[:, :K] for rows in (M, N))
    scale, weight_scale = (empty(torch.float32, rows) for rows in (M, N))
    bias_row = empty(torch.float32, N) if bias else None
    launch = partial(int8_linear.launch, q, scale, weight, weight_scale, bias_row, act, dtype)
    return Case(name, launch, AMPERE, held)


def heads_cases(network: Network, grid: list[int], flow: torch.dtype) -> Iterator[Case]:
    """K2: of self-attention, where queries and keys turn with their places, and of cross-attention, where none does."""
    D, N, (main, _) = network.width, network.heads, network.held
    x, text = (empty(flow, 1, tokens, D) for tokens in (grid[0] * grid[1] * grid[2], TEXT))
    weight, angles = empty(torch.float32, D), empty(torch.float32, max(grid), D // N // 2)
    turned = (weight, EPS, N, angles, angles, grid)
    still: tuple[Tensor, float, int, None, None, list[int]] = (weight, EPS, N, None, None, [])
    kernel = qk_rmsnorm_rope_quant
    for name, launch in (("rmsnorm_rope", kernel.launch), ("quant_queries", kernel.launch_queries)):
        yield Case(f"{name} {D}", partial(launch, x, *turned), TURING, main)
        yield Case(f"{name} {D} unturned", partial(launch, x, *still), TURING)
    yield Case(f"quant_keys {D}", partial(kernel.launch_keys, x, *turned), TURING, main)
    yield Case(f"quant_keys {D} unturned", partial(kernel.launch_keys, text, *still), TURING)
    yield Case(f"scale_values {D}", partial(scale_values.launch, x, N), TURING, main)
    yield Case(f"scale_values {D} fp8", partial(scale_values.launch, x, N, True), ADA, main)


def attention_cases(E: int, tokens: int, flow: torch.dtype) -> Iterator[Case]:
    """K6 with heads of one width: of a film to itself, and to a prompt, which fills its blocks of keys."""
    N = MAIN.heads
    for accumulate, oldest in (("f32", AMPERE), ("f16", AMPERE), ("fp8_f16", ADA)):
        for keys, met in ((tokens, ""), (TEXT, " to text")):
            launch = attention(N, E, tokens, keys, accumulate, flow, False)
            held: Held = "no" if met else "main" if E == 128 else "table"
            yield Case(f"attn_int8 {E} {accumulate}{met}", launch, oldest, held)
    yield Case(f"attn_int8 {E} f32 mask", attention(N, E, tokens, tokens, "f32", flow, True), AMPERE, "table")


def attention(N: int, E: int, L: int, S: int, accumulate: str, flow: torch.dtype, masked: bool) -> Callable[[], object]:
    """Its inputs as K2 makes them; a mask has a row for each block of 128 queries, a column for each of 64 keys."""
    blocks = -(-S // 64)
    v = scale_values.reference_attention.empty_values(empty(flow, 1, S, N * E), N, accumulate == "fp8_f16")
    q8, k8 = (empty(torch.int8, 1, count, N, E) for count in (L, S))
    q_scale, k_scale, v_scale = (empty(torch.float32, 1, N, count) for count in (L, blocks, E))
    mask = empty(torch.bool, 1, 1, -(-L // 128), blocks) if masked else None
    return partial(attn_int8.launch, q8, q_scale, k8, k_scale, v, v_scale, accumulate, mask, flow)


def vae_cases(C: int, flow: torch.dtype, held: Held) -> Iterator[Case]:
    """K8: a level of a decoder with so many channels, four frames behind the two before them."""
    x, past = (empty(flow, 1, C, T, 60, 104).to(memory_format=torch.channels_last_3d) for T in (4, 2))
    gamma, kernel = empty(flow, C), vae_rmsnorm_silu
    yield Case(f"rms_norm_silu {C}", partial(kernel.launch, x, gamma, None, True, past), TURING, held)
    yield Case(f"rms_norm_silu {C} bias", partial(kernel.launch, x, gamma, gamma, True, past), TURING)
    yield Case(f"rms_norm_silu {C} before attention", partial(kernel.launch, x, gamma, None, False, None), TURING)
    yield Case(f"bias_residual {C}", partial(kernel.launch_residual, x, gamma, x), TURING, held)
    yield Case(f"nearest2x {C}", partial(kernel.launch_nearest, x), TURING, held)


def film_case() -> Case:
    """A shot of training: two people among the trees of a field. One compiled kernel is for all."""
    T, boxes, capsules = 33, 2, 64
    frames, scene = empty(torch.float32, T, raycast.FRAME), empty(torch.float32, raycast.ROW)
    rows = [empty(torch.float32, T, count, raycast.ROW) for count in (boxes, capsules, 3)]
    surfaces = empty(torch.float32, 1 + boxes + capsules, raycast.ROW)
    launch = partial(raycast.launch, frames, rows[0], rows[1], rows[2], surfaces, scene, 128, 224, 2)
    return Case("raycast", launch, TURING, "main")


def empty(dtype: torch.dtype, *size: int) -> Tensor:
    return torch.empty(size, dtype=dtype, device="meta")
