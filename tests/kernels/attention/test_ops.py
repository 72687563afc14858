"""Attention and what prepares its inputs, as models call them, against float64; on a GPU too where there is one."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from kernels import ops
from kernels.attention.rotary import axes_of, rotary_rows

needs_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
DEVICES = ["cpu", pytest.param("cuda", marks=needs_gpu)]
FOLD = math.log2(math.e)
EPS = 1e-6
F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16
MODES = {
    "f32": 0.014,
    "f16": 0.014,
    "fp8_f16": 0.042,
}  # by the dtype in which values are summed: the relative RMS error allowed


def randn(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def relative(a: Tensor, b: Tensor) -> float:
    a, b = a.cpu().double(), b.cpu().double()
    return float((a - b).norm() / b.norm())


def skip_without_float8(mode: str, device: str) -> None:
    if mode == "fp8_f16" and device == "cuda" and torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("this GPU has no float8")


def exact_by_head(x: Tensor, weight: Tensor, heads: int, grid: list[int]) -> Tensor:
    """RMSNorm and rotary embedding in float64, by the definition: (B, L, D) -> (B, L, N, E)."""
    x = x.cpu().double()
    y = x / (x.square().mean(-1, keepdim=True) + EPS).sqrt() * weight.cpu().double()
    y = y.unflatten(2, (heads, -1))
    if not grid:
        return y
    t = torch.arange(x.shape[1])
    positions = (t // (grid[1] * grid[2]), t // grid[2] % grid[1], t % grid[2])
    angles = []
    for position, width in zip(positions, axes_of(y.shape[3]), strict=True):
        angles += [position.double() * 10000.0 ** (-2 * j / width) for j in range(width // 2)]
    phasors = torch.polar(torch.ones(x.shape[1], y.shape[3] // 2, dtype=torch.float64), torch.stack(angles, 1))
    pairs = torch.view_as_complex(y.unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * phasors[:, None]).flatten(-2)


def exact_attention(q: Tensor, k: Tensor, v: Tensor, attends: Tensor | None = None) -> Tensor:
    """(B, L, N, E) x (B, S, N, E) x (B, S, N, E) -> (B, L, D) in float64; attends (..., L, S) bool."""
    q, k, v = (part.cpu().double().transpose(1, 2) for part in (q, k, v))
    scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])
    if attends is not None:
        scores = scores.masked_fill(~attends, -math.inf)
    weights = torch.softmax(scores, dim=3).nan_to_num(0.0)  # who sees nobody gets nothing
    return (weights @ v).transpose(1, 2).flatten(2)


def rotary(grid: list[int], width: int, device: str) -> tuple[Tensor | None, Tensor | None]:
    return rotary_rows(tuple(grid), width, torch.device(device)) if grid else (None, None)


def test_channels_of_a_head_are_shared_by_time_height_and_width() -> None:
    assert [axes_of(width) for width in (128, 64, 24, 12)] == [(44, 42, 42), (24, 20, 20), (8, 8, 8), (4, 4, 4)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("grid", "heads", "width", "batch", "dtype"),
    [
        ([1, 1, 1], 1, 128, 1, F32),
        ([3, 5, 7], 4, 64, 2, BF16),
        ([2, 3, 11], 3, 12, 2, F32),
        ([2, 3, 11], 3, 12, 2, BF16),
        ([2, 3, 11], 3, 12, 2, F16),
        ([7, 3, 3], 12, 128, 1, BF16),
        ([2, 2, 3], 40, 128, 1, F32),
        ([], 12, 128, 2, F16),
    ],
)
def test_norm_and_rotation_equal_float64(
    device: str, grid: list[int], heads: int, width: int, batch: int, dtype: torch.dtype
) -> None:
    tolerance = {F32: 1e-6, BF16: 4e-3, F16: 5e-4}[dtype]
    length, dim = math.prod(grid) or 33, heads * width
    fused = randn(batch, length, 3 * dim).to(dtype).to(device)  # rows of q, k and v, as one product gives them
    x, weight = fused[..., dim : 2 * dim], (1 + 0.3 * randn(dim, seed=1)).to(device)
    y = ops.rmsnorm_rope(x, weight, EPS, heads, *rotary(grid, width, device), grid)
    assert y.dtype == dtype and y.shape == (batch, length, heads, width)
    assert relative(y, exact_by_head(x, weight, heads, grid)) < tolerance


@pytest.mark.parametrize("device", DEVICES)
def test_rotated_products_depend_on_distance_alone(device: str) -> None:
    grid, width = [4, 6, 5], 64
    table = rotary(grid, width, device)
    rows = randn(2, 1, width).expand(2, 120, width).to(device)  # the same query, and the same key, everywhere
    q, k = (ops.rmsnorm_rope(row[None], torch.ones(width, device=device), EPS, 1, *table, grid) for row in rows)
    products = (q[0, :, 0] @ k[0, :, 0].t()).double().cpu().view(4, 6, 5, 4, 6, 5)
    torch.testing.assert_close(
        products[:-1, :-2, :-3, :-1, :-2, :-3], products[1:, 2:, 3:, 1:, 2:, 3:], atol=2e-5, rtol=0
    )
    assert products.std() > 1


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("grid", "heads", "width", "dtype"),
    [([3, 5, 7], 4, 64, F32), ([3, 5, 7], 4, 64, BF16), ([2, 9, 3], 12, 128, BF16), ([], 3, 64, F32)],
)
def test_queries_are_rounded_within_half_a_level(
    device: str, grid: list[int], heads: int, width: int, dtype: torch.dtype
) -> None:
    length, dim = math.prod(grid) if grid else 65, heads * width
    x, weight = randn(2, length, dim).to(dtype).to(device), (1 + 0.3 * randn(dim, seed=1)).to(device)
    q8, scale = ops.quant_queries(x, weight, EPS, heads, *rotary(grid, width, device), grid)
    assert q8.dtype == torch.int8 and q8.shape == (2, length, heads, width)
    assert scale.dtype == torch.float32 and scale.shape == (2, heads, length)
    exact = exact_by_head(x, weight, heads, grid) * (FOLD / math.sqrt(width))
    level = scale.cpu().double().transpose(1, 2)[..., None]
    torch.testing.assert_close(level * 127, exact.abs().amax(3, keepdim=True), rtol=1e-5, atol=0)
    assert ((q8.cpu().double() * level - exact).abs() <= level * 0.501).all()
    assert (q8.abs().amax(3) == 127).all()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("grid", "tokens", "heads", "width", "dtype"),
    [
        ([3, 5, 7], 105, 4, 64, F32),
        ([3, 5, 7], 105, 4, 64, BF16),
        ([], 1, 2, 128, BF16),
        ([], 64, 3, 64, F32),
        ([2, 9, 8], 144, 12, 128, BF16),
    ],
)
def test_keys_are_centred_and_rounded_within_half_a_level(
    device: str, grid: list[int], tokens: int, heads: int, width: int, dtype: torch.dtype
) -> None:
    dim = heads * width
    x = (randn(2, tokens, dim) + 5 * randn(dim, seed=2)).to(dtype).to(device)
    weight = (1 + 0.3 * randn(dim, seed=1)).to(device)
    k8, scale = ops.quant_keys(x, weight, EPS, heads, *rotary(grid, width, device), grid)
    assert k8.dtype == torch.int8 and k8.shape == (2, tokens, heads, width)
    assert scale.dtype == torch.float32 and scale.shape == (2, heads, -(-tokens // 64))
    exact = exact_by_head(x, weight, heads, grid)
    exact -= exact.mean(1, keepdim=True)
    level = scale.cpu().double().repeat_interleave(64, 2)[..., :tokens].transpose(1, 2)[..., None]
    assert ((k8.cpu().double() * level - exact).abs() <= level * 0.51 + 1e-6).all()
    if tokens > 1:  # the scale is that of the block's largest channel, of its own tokens alone
        last = exact[:, tokens - 1 - (tokens - 1) % 64 :].abs().amax((1, 3))
        torch.testing.assert_close(scale[..., -1].cpu().double() * 127, last, rtol=1e-4, atol=0)
    else:
        assert (k8 == 0).all()


@pytest.mark.parametrize("device", DEVICES)
def test_nan_in_a_token_reaches_its_query_and_value(device: str) -> None:
    """Keys are not checked: they are made from the same row."""
    x = randn(1, 70, 128)
    x[0, 69, 5] = math.nan
    arguments = (x.to(device), torch.ones(128, device=device), EPS, 2, None, None, [])
    assert ops.quant_queries(*arguments)[1].isnan().sum((0, 1)).nonzero().tolist() == [[69]]
    v, scale = ops.scale_values(x.to(device), 2)
    assert (v * scale[:, None]).isnan().sum() == 1


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("fp8", "limit"), [(False, 255.0), (True, 4.5)])
@pytest.mark.parametrize(("tokens", "heads", "width"), [(1, 1, 64), (333, 3, 128), (64, 4, 64)])
def test_values_are_divided_by_powers_of_two(
    device: str, fp8: bool, limit: float, tokens: int, heads: int, width: int
) -> None:
    skip_without_float8("fp8_f16" if fp8 else "f16", device)
    v = randn(2, tokens, 3 * heads * width)[..., : heads * width]
    v *= torch.logspace(-12, 30, heads * width)  # each channel of another magnitude, up to near overflow
    v[:, :, 5] = 0
    half, scale = ops.scale_values(v.to(device), heads, fp8)
    assert half.shape == (2, tokens, heads, width) and scale.shape == (2, heads, width)
    assert half.dtype == (torch.float8_e4m3fn if fp8 else torch.float16) and scale.dtype == torch.float32
    half, scale, v = half.cpu().double(), scale.cpu(), v.unflatten(2, (heads, -1)).double()
    assert (torch.frexp(scale).mantissa == 0.5).all()
    peak = (v / scale.double()[:, None]).abs().amax(1)
    assert (peak <= limit).all() and (peak[v.abs().amax(1) > 0] > limit / 2 - 1e-6).all()
    smallest, bits = (2.0**-9, 4) if fp8 else (2.0**-24, 11)
    error = (half * scale.double()[:, None] - v).abs()
    assert (error <= v.abs() * 2.0**-bits + scale.double()[:, None] * smallest / 2).all()


def inputs(
    batch: int, length: int, tokens: int, heads: int, width: int, bias: float = 0.0, magnitude: float = 1.0
) -> tuple[Tensor, ...]:
    """Queries, keys and values for norms that give unit variance; keys with a bias of this many deviations."""
    dim = heads * width
    k = randn(batch, tokens, dim, seed=2) + bias * randn(dim, seed=3)
    weight = k.square().mean().sqrt() * torch.ones(dim)
    return randn(batch, length, dim, seed=1), k, magnitude * randn(batch, tokens, dim, seed=4), torch.ones(dim), weight


def attend(
    q: Tensor, k: Tensor, v: Tensor, q_weight: Tensor, k_weight: Tensor, heads: int, mode: str, device: str,
    mask: Tensor | None = None, dtype: torch.dtype = torch.float32,
) -> Tensor:  # fmt: skip
    """The whole path, as in a network."""
    skip_without_float8(mode, device)
    q, k, v, q_weight, k_weight = (part.to(device) for part in (q, k, v, q_weight, k_weight))
    queries = ops.quant_queries(q, q_weight, EPS, heads, None, None, [])
    keys = ops.quant_keys(k, k_weight, EPS, heads, None, None, [])
    values = ops.scale_values(v, heads, mode == "fp8_f16")
    return ops.attn_int8(*queries, *keys, *values, mode, None if mask is None else mask.to(device), dtype)


def exact(q: Tensor, k: Tensor, v: Tensor, q_weight: Tensor, k_weight: Tensor, heads: int, *mask: Tensor) -> Tensor:
    prepared = exact_by_head(q, q_weight, heads, []), exact_by_head(k, k_weight, heads, [])
    return exact_attention(*prepared, v.unflatten(2, (heads, -1)), *mask)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("width", [64, 128])
def test_attention_with_a_bias_of_keys_and_large_values(device: str, mode: str, width: int) -> None:
    given = inputs(1, 1024, 1024, 2, width, bias=5.0, magnitude=20.0)
    y = attend(*given, 2, mode, device)
    assert relative(y, exact(*given, 2)) <= MODES[mode]
    plain = inputs(1, 1024, 1024, 2, width)
    without = relative(attend(*plain, 2, mode, device), exact(*plain, 2))
    assert relative(y, exact(*given, 2)) < 1.2 * without  # a bias that all keys share costs no accuracy


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("batch", "length", "tokens", "heads", "width", "mode"),
    [
        (*shape, mode)
        for *shape, modes in [
            (1, 1, 1, 1, 64, ["f32"]),
            (2, 63, 65, 3, 64, [*MODES]),
            (2, 64, 64, 2, 128, [*MODES]),
            (1, 65, 63, 1, 128, [*MODES]),
            (2, 333, 129, 2, 64, ["f32"]),
            (1, 128, 333, 2, 128, ["f16"]),
            (1, 5, 512, 2, 32, ["fp8_f16"]),
            (1, 70, 80, 2, 24, ["f32"]),
        ]
        for mode in modes
    ],
)
def test_attention_at_odd_shapes(
    device: str, batch: int, length: int, tokens: int, heads: int, width: int, mode: str
) -> None:
    given = inputs(batch, length, tokens, heads, width, bias=2.0)
    y = attend(*given, heads, mode, device)
    assert y.shape == (batch, length, heads * width)
    assert relative(y, exact(*given, heads)) <= 1.5 * MODES[mode]  # few numbers, so their error varies more


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("mode", MODES)
def test_large_values_do_not_overflow(device: str, mode: str) -> None:
    q, k, v, *weights = inputs(1, 130, 200, 2, 64)
    v = 4000 * v.sign()
    v[:, :, 3] = 4000  # a channel whose sums over all keys are as large as they can be
    y = attend(q, k, v, *weights, 2, mode, device, dtype=torch.bfloat16)
    assert y.dtype == torch.bfloat16 and torch.isfinite(y).all()
    assert relative(y[..., 3], torch.full((1, 130), 4000.0)) < (0.03 if mode == "fp8_f16" else 0.003)
    assert relative(y, exact(q, k, v, *weights, 2)) <= 1.5 * MODES[mode]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("mode", "length", "tokens", "shared"),  # shared: batch and heads of the mask
    [
        ("f32", 300, 200, (2, 3)),
        ("f32", 300, 200, (1, 3)),
        ("f32", 300, 200, (2, 1)),
        ("f32", 300, 200, (1, 1)),
        ("f32", 256, 256, (1, 1)),
        ("f32", 129, 1, (1, 3)),
        ("f16", 300, 200, (1, 3)),
        ("f16", 256, 256, (2, 3)),
        ("f16", 129, 1, (2, 1)),
        ("fp8_f16", 300, 200, (2, 1)),
        ("fp8_f16", 256, 256, (1, 3)),
        ("fp8_f16", 129, 1, (2, 3)),
    ],
)
def test_attention_with_a_block_mask(device: str, mode: str, length: int, tokens: int, shared: tuple[int, int]) -> None:
    given = inputs(2, length, tokens, 3, 64, bias=2.0)
    mask = torch.rand((*shared, -(-length // 128), -(-tokens // 64)), generator=torch.Generator().manual_seed(5)) < 0.5
    mask[0, 0, 0] = False  # 128 queries that attend to no key
    mask[-1, -1, -1] = True
    y = attend(*given, 3, mode, device, mask)
    attends = mask.repeat_interleave(128, 2).repeat_interleave(64, 3)[:, :, :length, :tokens]
    assert (y[0, :128, :64] == 0).all()
    assert relative(y, exact(*given, 3, attends)) <= 1.5 * MODES[mode]


@pytest.mark.parametrize("device", DEVICES)
def test_a_full_mask_changes_nothing(device: str) -> None:
    given = inputs(1, 200, 150, 2, 64)
    mask = torch.ones((1, 1, 2, 3), dtype=torch.bool)
    assert relative(attend(*given, 2, "f16", device, mask), attend(*given, 2, "f16", device)) < 1e-3


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("fp8", [False, True])
def test_torch_accepts_the_registrations(device: str, fp8: bool) -> None:
    mode, grid = "fp8_f16" if fp8 else "f32", [2, 5, 7]
    skip_without_float8(mode, device)
    x, weight = randn(2, 70, 128).to(device), torch.ones(128, device=device)
    arguments = (x, weight, EPS, 2, *rotary(grid, 64, device), grid)
    registered = torch.ops.rushes
    for op in (registered.rmsnorm_rope, registered.quant_queries, registered.quant_keys):
        torch.library.opcheck(op.default, arguments)
    # torch's check of schemas multiplies every tensor it sees, which it cannot do with float8.
    checks = ("test_autograd_registration", "test_faketensor") + (() if fp8 else ("test_schema",))
    torch.library.opcheck(registered.scale_values.default, (x, 2, fp8), test_utils=checks)
    parts = (*ops.quant_queries(*arguments), *ops.quant_keys(*arguments), *ops.scale_values(x, 2, fp8))
    mask = torch.ones((1, 1, 1, 2), dtype=torch.bool, device=device)
    torch.library.opcheck(registered.attn_int8.default, (*parts, mode, mask, torch.bfloat16), test_utils=checks)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(
    ("tokens", "heads", "width", "mode"),
    [
        *((32_760, 12, 128, mode) for mode in MODES),
        (8192, 4, 64, "f16"),
        (4097, 40, 128, "f32"),
        (4097, 40, 128, "fp8_f16"),
    ],
)
def test_attention_over_a_film_on_the_gpu(tokens: int, heads: int, width: int, mode: str) -> None:
    """Against torch's own attention in float32 over the same norms, for the first and last queries of the film."""
    skip_without_float8(mode, "cuda")
    q, k, v, q_weight, k_weight = (part.cuda() for part in inputs(1, tokens, tokens, heads, width, bias=5.0))
    y = attend(q.bfloat16(), k.bfloat16(), v.bfloat16(), q_weight, k_weight, heads, mode, "cuda", dtype=torch.bfloat16)
    some = torch.cat([torch.arange(100), torch.arange(tokens - 100, tokens)]).cuda()
    norms = [
        ops.rmsnorm_rope(part, weight, EPS, heads, None, None, []).transpose(1, 2)
        for part, weight in ((q[:, some].bfloat16().float(), q_weight), (k.bfloat16().float(), k_weight))
    ]
    values = v.bfloat16().float().unflatten(2, (heads, -1)).transpose(1, 2)
    expected = torch.nn.functional.scaled_dot_product_attention(*norms, values).transpose(1, 2).flatten(2)
    assert relative(y[:, some], expected) <= MODES[mode] * 1.1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_keys_beyond_two_billion_numbers_on_the_gpu() -> None:
    """Keys of more than 2^31 elements: attention to the last block equals attention to that block alone."""
    heads, width, tokens = 40, 128, 420_032
    if torch.cuda.mem_get_info()[0] < 12 * 2**30:
        pytest.skip("needs 12 GiB free")
    k8 = torch.randint(-127, 128, (1, tokens, heads, width), dtype=torch.int8, device="cuda")
    v = torch.randn((1, tokens, heads, width), dtype=torch.float16, device="cuda")
    q8 = torch.randint(-127, 128, (1, 128, heads, width), dtype=torch.int8, device="cuda")
    q_scale, k_scale = (torch.full((1, heads, n), 0.01, device="cuda") for n in (128, tokens // 64))
    v_scale = torch.ones((1, heads, width), device="cuda")
    mask = torch.zeros((1, 1, 1, tokens // 64), dtype=torch.bool, device="cuda")
    mask[..., -1] = True
    y = ops.attn_int8(q8, q_scale, k8, k_scale, v, v_scale, "f32", mask, torch.float32)
    alone = ops.attn_int8(
        q8, q_scale, k8[:, -64:], k_scale[..., -1:].contiguous(), v[:, -64:], v_scale, "f32", None, torch.float32
    )
    torch.testing.assert_close(y, alone)
