"""The Triton kernels compiled without a GPU for every card: they fit, spill nothing, and use the tensor cores.

compiled.toml, beside this file, holds what each takes under each version of Triton. When a kernel or Triton changes,
`python -m kernels.compiled --write tests/kernels/compiled.toml` makes it anew, and its diff is what to look at.
"""

from __future__ import annotations

import tomllib
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)

TABLE = tomllib.loads((Path(__file__).parent / "compiled.toml").read_text())
SHARED_LIMIT_BYTES = {  # of one program, from NVIDIA's tables of compute capabilities
    "sm75": 65_536, "sm80": 166_912, "sm86": 101_376, "sm89": 101_376, "sm90": 232_448, "sm100": 232_448,
    "sm120": 101_376,
}  # fmt: skip
UNIT = {"sm80": "mma", "sm86": "mma", "sm89": "mma", "sm90": "wgmma", "sm100": "tcgen05", "sm120": "mma"}
TRAP = "int8_linear odd strides"
REGISTERS_MAY_MOVE = 8
SPILLED_BYTES = {TRAP: 4096, "int8_linear few columns": 8}  # more than none, and where it is borne
ROUNDED_TWICE = {"quant_rows_kernel", "int8_linear_kernel"}  # the same bits as their twins, GELU apart


def every(table) -> list[tuple[str, str, str, dict]]:
    """(case, kernel, card, facts)"""
    return [
        (case, kernel, card, facts)
        for case, kernels in table.items()
        for kernel, cards in kernels.items()
        for card, facts in cards.items()
    ]


def check_limits(case: str, kernel: str, card: str, facts: dict) -> None:
    """What must hold under any version of Triton."""
    where = f"{case}, {kernel} on {card}: {facts}"
    assert facts["shared_bytes"] <= SHARED_LIMIT_BYTES[card], where
    assert facts["registers"] <= 255, where
    assert facts["stack_bytes"] <= SPILLED_BYTES.get(case, 0), where
    if kernel == "int8_linear_kernel":
        assert "s8 s32" in facts["products"] or facts["products"] == "tcgen05 i8", where
        assert facts["async_copies"] == (case != TRAP), where
    if kernel in ROUNDED_TWICE and "gelu" not in case:
        assert not facts["fused_adds"], where


@pytest.fixture(scope="module")
def compiled(python) -> dict:
    """The main cases compiled now, for every card, by the installed Triton."""
    done = python("-m", "kernels.compiled", "--main", TRITON_INTERPRET="0")
    assert done.returncode == 0, done.stderr[-4000:]
    (table,) = tomllib.loads(done.stdout).values()
    return table


def test_every_kernel_compiles_and_fits(compiled) -> None:
    assert {kernel for _, kernel, _, _ in every(compiled)} >= {"quant_rows_kernel", "int8_linear_kernel"}
    for found in every(compiled):
        check_limits(*found)


def test_nothing_is_other_than_in_the_table(compiled) -> None:
    known = TABLE.get(version("triton"))
    if known is None:
        pytest.skip(f"the table knows Triton {', '.join(TABLE)}, not {version('triton')}")
    for case, kernel, card, facts in every(compiled):
        expected = known.get(case, {}).get(kernel, {}).get(card)
        where = f"{case}, {kernel} on {card}"
        assert expected is not None, f"{where} is not in the table: make it anew"
        assert abs(facts["registers"] - expected["registers"]) <= REGISTERS_MAY_MOVE, where
        same = facts | {"registers": expected["registers"]}
        assert same == expected, where


@pytest.mark.parametrize("triton", TABLE)
def test_all_that_the_table_holds_keeps_the_limits(triton: str) -> None:
    assert every(TABLE[triton])
    for found in every(TABLE[triton]):
        check_limits(*found)


def test_the_table_holds_the_same_under_each_version() -> None:
    first, *others = ({found[:3] for found in every(table)} for table in TABLE.values())
    assert all(first == other for other in others)


@pytest.mark.parametrize("card", UNIT)
def test_int8_products_use_the_newest_unit_of_a_card(card: str) -> None:
    facts = TABLE["3.9.0"]["int8_linear"]["int8_linear_kernel"][card]
    assert facts["products"].startswith(UNIT[card] + " ")


@pytest.mark.parametrize("card", UNIT)
def test_rows_that_begin_anywhere_cost_the_copies_ahead(compiled, card: str) -> None:
    """The trap: strides that are no multiples of 16. Those of real networks are, so it stays a warning."""
    aligned, odd = (compiled[case]["int8_linear_kernel"][card] for case in ("int8_linear", TRAP))
    assert aligned["async_copies"] and not odd["async_copies"]
    assert odd["shared_bytes"] < aligned["shared_bytes"]
