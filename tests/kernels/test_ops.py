"""The operations as models call them, against exact integer and float64 arithmetic; on a GPU too where there is one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import ops, reference

OPS = {name: op for name, op in vars(ops).items() if hasattr(op, "__wrapped__")}
needs_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
DEVICES = ["cpu", pytest.param("cuda", marks=needs_gpu)]


def int_rows(m: int, k: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(-127, 128, (m, k), dtype=torch.int8, generator=torch.Generator().manual_seed(seed))


def scales(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(seed)) / 100 + 1e-3


def test_every_registered_op_can_be_called() -> None:
    names = torch._C._dispatch_get_all_op_names()
    registered = {name.removeprefix("rushes::") for name in names if name.startswith("rushes::")}
    assert registered == set(OPS) >= {"quant_rows", "int8_linear"}


@settings(max_examples=50, deadline=None)
@given(m=st.integers(1, 40), k=st.integers(1, 300), seed=st.integers(0, 99), exponent=st.integers(-6, 6))
def test_a_row_is_rounded_within_half_a_level(m: int, k: int, seed: int, exponent: int) -> None:
    x = torch.randn(m, k, generator=torch.Generator().manual_seed(seed)) * 10.0**exponent
    q, scale = ops.quant_rows(x)
    assert q.dtype == torch.int8 and scale.shape == (m,) and scale.dtype == torch.float32
    torch.testing.assert_close(scale.double(), x.double().abs().amax(1) / 127, rtol=2e-7, atol=0)
    error = (q.double() * scale.double()[:, None] - x.double()).abs()
    assert (error <= scale.double()[:, None] * (0.5 + 1e-4)).all()
    assert (q.abs().amax(1) == 127).all()


def test_rows_by_hand() -> None:
    q, scale = ops.quant_rows(torch.tensor([[127.0, 0.5, 1.5, -2.5, 0.49], [0.0, 0, 0, 0, 0], [-254.0, 254, 2, -1, 1]]))
    assert q.tolist() == [[127, 0, 2, -2, 0], [0, 0, 0, 0, 0], [-127, 127, 1, 0, 0]]  # halves go to the even level
    assert scale[0] == 1 and scale[2] == 2 and 0 < scale[1] < 1e-30


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_gelu_comes_before_rounding(dtype: torch.dtype) -> None:
    x = torch.randn(20, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    q, scale = ops.quant_rows(x, True)
    exact = torch.nn.functional.gelu(x.double(), approximate="tanh")
    assert ((q.double() * scale.double()[:, None] - exact).abs() <= scale.double()[:, None] * 0.501 + 1e-6).all()


@settings(max_examples=50, deadline=None)
@given(m=st.integers(1, 70), n=st.integers(1, 70), k=st.integers(1, 2100), seed=st.integers(0, 99))
def test_integer_products_are_exact(m: int, n: int, k: int, seed: int) -> None:
    q, w = int_rows(m, k, seed), int_rows(n, k, seed + 1)
    q[0], w[0], w[-1] = 127, 127, -127
    assert torch.equal(reference.int_matmul(q, w), (q.long() @ w.long().t()).int())


def test_integer_products_are_exact_where_the_processor_saturates(python) -> None:
    """Processors without VNNI sum pairs in 16 bits; oneDNN can be held to their instructions. Ours must notice."""
    code = """
import torch
from kernels import reference
q, w = torch.full((65, 2100), 127, dtype=torch.int8), torch.full((33, 2100), -127, dtype=torch.int8)
print(bool((reference.int_matmul(q, w) == -127 * 127 * 2100).all()))
"""
    ran = python("-c", code, ONEDNN_MAX_CPU_ISA="AVX2", OMP_NUM_THREADS="1")
    assert ran.stdout == "True\n", ran.stderr


@pytest.mark.parametrize("act", ["none", "gelu_tanh"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2**-8)])
def test_linear_equals_float64(act: str, bias: bool, dtype: torch.dtype, tolerance: float) -> None:
    q, w = int_rows(37, 300, 1), int_rows(53, 300, 2)
    s, ws, b = (
        scales(37, 1),
        scales(53, 2),
        torch.randn(53, generator=torch.Generator().manual_seed(3)) if bias else None,
    )
    exact = (q.double() * s.double()[:, None]) @ (w.double() * ws.double()[:, None]).t()
    exact = exact + b.double() if b is not None else exact
    exact = torch.nn.functional.gelu(exact, approximate="tanh") if act != "none" else exact
    y = ops.int8_linear(q, s, w, ws, b, act, dtype)
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), exact, rtol=tolerance, atol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
def test_torch_accepts_the_registrations(device: str) -> None:
    q, w = int_rows(32, 64).to(device), int_rows(48, 64, 1).to(device)
    s, ws = scales(32).to(device), scales(48).to(device)
    bias = torch.zeros(48, device=device)
    registered = torch.ops.rushes
    torch.library.opcheck(registered.quant_rows.default, (torch.randn(8, 32, device=device), True))
    torch.library.opcheck(registered.int8_linear.default, (q, s, w, ws, bias, "gelu_tanh", torch.float32))
    torch.library.opcheck(registered.int8_linear.default, (q, s, w, ws, None, "none", torch.bfloat16))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("m", "k"), [(1008, 256), (1008, 1024), (32760, 1536), (4097, 8960), (1000, 13824)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_on_the_gpu(m: int, k: int, dtype: torch.dtype) -> None:
    x = torch.randn(m, k, device="cuda", generator=torch.Generator("cuda").manual_seed(0)).to(dtype)
    q, scale = ops.quant_rows(x)
    expected_q, expected_scale = reference.quant_rows(x.cpu())
    assert torch.equal(q.cpu(), expected_q) and torch.equal(scale.cpu(), expected_scale)
    q, scale = ops.quant_rows(x, True)
    expected_q, expected_scale = reference.quant_rows(x.cpu(), True)
    assert (q.cpu().int() - expected_q.int()).abs().max() <= 1
    torch.testing.assert_close(scale.cpu(), expected_scale, rtol=1e-5, atol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(
    ("m", "n", "k"),
    [
        (1008, 256, 256),
        (16, 256, 256),
        (1008, 1024, 256),
        (4097, 1536, 1536),
        (2050, 8960, 1536),
        (999, 5120, 13824),
        (77, 65, 333),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_linear_on_the_gpu(m: int, n: int, k: int, dtype: torch.dtype) -> None:
    q, w, s, ws = int_rows(m, k, 1), int_rows(n, k, 2), scales(m, 1), scales(n, 2)
    b = torch.randn(n, generator=torch.Generator().manual_seed(3))
    on_gpu = [part.cuda() for part in (q, s, w, ws, b)]
    y = ops.int8_linear(*on_gpu, "none", dtype)
    assert torch.equal(y.cpu(), reference.int8_linear(q, s, w, ws, b, "none", dtype))
    y = ops.int8_linear(*on_gpu, "gelu_tanh", torch.float32)
    torch.testing.assert_close(
        y.cpu(), reference.int8_linear(q, s, w, ws, b, "gelu_tanh", torch.float32), rtol=1e-4, atol=1e-5
    )
