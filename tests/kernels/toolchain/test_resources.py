"""The Triton kernels compiled without a GPU for every GPU generation: they fit, do not spill, and use tensor cores.

compiled.toml, next to this file, holds the resources of each under each version of Triton: 3.7 is what torch's CUDA
build pins. When a kernel or Triton changes, make it anew and look at its diff:

    python -m kernels.toolchain.resources --write tests/kernels/toolchain/compiled.toml

Here the main case of each kernel is compiled again, for a GPU of each generation.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest

pytest.importorskip("triton")

from kernels.toolchain.compile_only import Resources
from kernels.toolchain.resources import Table, read

TABLES = read((Path(__file__).parent / "compiled.toml").read_text())
SHARED_LIMIT_BYTES = {  # of one program, from NVIDIA's tables of compute capabilities
    75: 65_536, 80: 166_912, 86: 101_376, 89: 101_376, 90: 232_448, 100: 232_448, 120: 101_376,
}  # fmt: skip
COMPILED_HERE = (75, 80, 89, 90, 100, 120)  # 86 is 89 without float8, and is in the table
TRAP = "int8_linear odd strides"
SPILLED_BYTES = {  # allowed spills
    TRAP: 4096,
    "gate_res_norm_quant 5120 hadamard": 8,  # one value, on 9.0 under Triton 3.7 alone
}
REGISTERS_MAY_MOVE = 8
LOOPED = ("int8_linear_kernel", "attn_int8_kernel")  # matrix products over a loop, with tensor cores


def every(table: Table) -> list[tuple[str, str, int, Resources]]:
    """(case, kernel, compute capability, facts)"""
    return [
        (case, kernel, gpu, facts)
        for case, kernels in table.items()
        for kernel, gpus in kernels.items()
        for gpu, facts in gpus.items()
    ]


def check_limits(case: str, kernel: str, gpu: int, facts: Resources) -> None:
    """What must hold under any version of Triton."""
    where = f"{case}, {kernel} on {gpu}: {facts}"
    assert facts.shared_bytes <= SHARED_LIMIT_BYTES[gpu], where
    assert facts.registers <= 255, where
    assert not facts.lanes_mixed, where
    assert facts.stack_bytes <= SPILLED_BYTES.get(case, 0), where
    assert bool(facts.products) == (kernel in LOOPED), where
    if kernel in LOOPED:
        assert facts.async_copies == (case != TRAP), where
        assert "s8 s32" in facts.products or "tcgen05 i8" in facts.products, where
    if kernel == "attn_int8_kernel":
        check_values(case, facts.products, where)
    if kernel in ("int8_linear_kernel", "quant_rows_kernel") and case.split()[-1] not in ("gelu", "hadamard"):
        assert not facts.fused_adds, where  # they round as their references do


def check_values(case: str, products: str, where: str) -> None:
    """The second product of attention: its operands, and on tensor cores before Blackwell's what it sums in."""
    kind = "e4m3" if "fp8" in case else "f16"
    total = "f32" if " f32" in case else "f16"
    assert f"{kind} {total}" in products or f"tcgen05 {'f8f6f4' if kind == 'e4m3' else kind}" in products, where


@pytest.fixture(scope="module")
def compiled(python) -> Table:
    """The main cases compiled now, by the installed Triton."""
    done = python("-m", "kernels.toolchain.resources", "--main", "--capability", *COMPILED_HERE, TRITON_INTERPRET="0")
    assert done.returncode == 0, done.stderr[-4000:]
    return read(done.stdout)[version("triton")]


def test_every_kernel_compiles_and_fits(compiled) -> None:
    assert {gpu for _, _, gpu, _ in every(compiled)} == set(COMPILED_HERE)
    for found in every(compiled):
        check_limits(*found)


def test_resources_equal_the_table(compiled) -> None:
    if version("triton") not in TABLES:
        pytest.skip(f"the table knows Triton {', '.join(TABLES)}, not {version('triton')}")
    known = {found[:3]: found[3] for found in every(TABLES[version("triton")])}
    for *where, facts in every(compiled):
        expected = known.get(tuple(where))
        assert expected is not None, f"{where} is not in the table: make it anew"
        assert abs(facts.registers - expected.registers) <= REGISTERS_MAY_MOVE, where
        assert replace(facts, registers=expected.registers) == expected, where


@pytest.mark.parametrize("triton", TABLES)
def test_every_entry_of_the_table_keeps_the_limits(triton: str) -> None:
    assert {gpu for _, _, gpu, _ in every(TABLES[triton])} == set(SHARED_LIMIT_BYTES)
    for found in every(TABLES[triton]):
        check_limits(*found)


def test_the_table_has_the_same_entries_for_each_version() -> None:
    first, *others = ({found[:3] for found in every(table)} for table in TABLES.values())
    assert first
    for other in others:
        assert other == first


@pytest.mark.parametrize(("gpu", "unit"), [(80, "mma"), (86, "mma"), (89, "mma"), (90, "wgmma"), (120, "mma")])
def test_int8_products_use_the_tensor_cores_of_their_generation(gpu: int, unit: str) -> None:
    """On 10.0 that is tcgen05 from Triton 3.9 on, and the older mma before."""
    used = {triton: table["int8_linear"]["int8_linear_kernel"][gpu].products for triton, table in TABLES.items()}
    assert used == dict.fromkeys(TABLES, f"{unit} s8 s32")


def test_rows_that_are_not_aligned_lose_the_async_copies() -> None:
    """The trap: strides that are no multiples of 16. Those of real networks are, so it stays a warning."""
    for triton, table in TABLES.items():
        for gpu, aligned in table["int8_linear"]["int8_linear_kernel"].items():
            odd = table[TRAP]["int8_linear_kernel"][gpu]
            assert aligned.async_copies and not odd.async_copies, (triton, gpu)
            assert odd.shared_bytes < aligned.shared_bytes, (triton, gpu)


def reduction(axis: int, lanes: list[list[int]], slice_of: int | None = None) -> str:
    """A reduction as Triton spells it, of a tensor in this linear layout, or in what is left of it without an axis."""
    layout = "#linear" if slice_of is None else f"#ttg.slice<{{dim = {slice_of}, parent = #linear}}>"
    return f"""
#blocked = #ttg.blocked<{{sizePerThread = [1, 1], threadsPerWarp = [2, 16], warpsPerCTA = [1, 4], order = [0, 1]}}>
#linear = #ttg.linear<{{register = [[0, 1], [0, 2]], lane = {lanes}, warp = [[0, 256]], block = []}}>
    %a = "tt.reduce"(%b) <{{axis = {axis} : i32}}> ({{
    ^bb0(%c: f32 loc(unknown), %d: f32 loc(unknown)):
      tt.reduce.return %e : f32 loc(#loc2)
    }}) : (tensor<2x2048xf32, {layout}>) -> tensor<2xf32, #ttg.slice<{{dim = {axis}, parent = {layout}}}>> loc(#loc)
"""


def test_reductions_over_scattered_lanes_are_detected() -> None:
    """The first layout is that of the norm of 12 heads' queries on an H100, where Triton 3.6 lost every other row."""
    from kernels.toolchain.compile_only import has_scattered_lanes

    queries = [[0, 16], [0, 32], [0, 64], [1, 0], [0, 128]]
    assert has_scattered_lanes(reduction(1, queries)) and not has_scattered_lanes(reduction(0, queries))
    assert not has_scattered_lanes(reduction(1, [[0, 8], [0, 16], [0, 32], [0, 64], [1, 0]]))
    assert not has_scattered_lanes(reduction(1, [[1, 0], [0, 16], [0, 32], [0, 64], [0, 128]]))
    assert not has_scattered_lanes(reduction(1, [[0, 0], [0, 0], [0, 0], [0, 0], [0, 0]]))
    deep = [[0, 0, 8], [0, 1, 0], [0, 0, 16], [1, 0, 0], [0, 2, 0]]
    assert has_scattered_lanes(reduction(1, deep)) and has_scattered_lanes(reduction(1, deep, slice_of=2))
    assert not has_scattered_lanes(reduction(0, deep, slice_of=1)) and has_scattered_lanes(
        reduction(1, deep, slice_of=0)
    )


def test_spell_and_read_are_inverse() -> None:
    from kernels.toolchain.resources import spell

    table = {
        "3.9.0": {
            "int8 b": {
                "one_kernel": {gpu: Resources(gpu % 4, 0, 16, "mma s8 s32", True, False, False) for gpu in (80, 86, 90)}
            }
        }
    }
    assert read(spell(table)) == table


def test_a_compile_only_gpu_refuses_what_the_real_one_would(python) -> None:
    code = """
from triton.runtime.errors import OutOfResources
from kernels.linear import tiles
from kernels.toolchain.compile_only import CompileOnlyGpu
from kernels.toolchain.launches import linear
tiles.TILES["int8_linear"]["large"] = {(8, 0): tiles.Tile(128, 256, 128, 8, 4)}
try:
    CompileOnlyGpu(86).compiled_by(linear("four stages", 4096, 4096, 4096).launch)
except OutOfResources as error:
    print(error.required, error.limit, error.name)
"""
    done = python("-c", code, TRITON_INTERPRET="0")
    assert done.stdout == f"{3 * (128 + 256) * 128} {SHARED_LIMIT_BYTES[86]} shared memory\n", done.stderr
