"""Registration of the operations, and exactness of integer products of any shape."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import ops
from kernels.linear import reference

OPS = {name: op for name, op in vars(ops).items() if hasattr(op, "__wrapped__")}


def int_rows(m: int, k: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(-127, 128, (m, k), dtype=torch.int8, generator=torch.Generator().manual_seed(seed))


def test_every_registered_op_can_be_called() -> None:
    names = torch._C._dispatch_get_all_op_names()
    registered = {name.removeprefix("rushes::") for name in names if name.startswith("rushes::")}
    assert registered == set(OPS) >= {"quant_rows", "int8_linear"}


@settings(max_examples=50, deadline=None)
@given(m=st.integers(1, 70), n=st.integers(1, 70), k=st.integers(1, 2100), seed=st.integers(0, 99))
def test_integer_products_are_exact(m: int, n: int, k: int, seed: int) -> None:
    q, w = int_rows(m, k, seed), int_rows(n, k, seed + 1)
    q[0], w[0], w[-1] = 127, 127, -127
    assert torch.equal(reference.int_matmul(q, w), (q.long() @ w.long().t()).int())


def test_integer_products_are_exact_where_the_cpu_saturates(python) -> None:
    """CPUs without VNNI sum pairs in 16 bits. oneDNN is restricted to their instructions here; ours must detect it."""
    code = """
import torch
from kernels.linear import reference
q, w = torch.full((65, 2100), 127, dtype=torch.int8), torch.full((33, 2100), -127, dtype=torch.int8)
print(bool((reference.int_matmul(q, w) == -127 * 127 * 2100).all()))
"""
    ran = python("-c", code, ONEDNN_MAX_CPU_ISA="AVX2", OMP_NUM_THREADS="1")
    assert ran.stdout == "True\n", ran.stderr
