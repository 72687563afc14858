"""What every kernel takes on every card, compiled here without one.

    python -m kernels.compiled                     a line for each kernel, case and card
    python -m kernels.compiled --main              the main cases alone, as the tests do
    python -m kernels.compiled --capability 86     for these cards alone
    python -m kernels.compiled --write TABLE.toml  into a table, under the version of Triton; other versions stay

The numbers depend on Triton's version and on nothing else: no GPU, driver or CUDA toolkit is asked.
"""

from __future__ import annotations

import argparse
import os
import tomllib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

import triton

from kernels.absent import SHARED_LIMIT_BYTES, AbsentGpu, Resources, resources
from kernels.cases import Case, cases

Table = dict[str, dict[str, dict[str, dict[str, object]]]]  # case, kernel, card as "sm86", facts


def measure(only_main: bool, capabilities: list[int]) -> Table:
    """Every case on every card that it is for."""
    wanted = [
        (case.name, capability)
        for case in cases()
        for capability in capabilities
        if capability >= case.oldest and (case.main or not only_main)
    ]
    # Forked: each process then has torch and Triton at once. Nothing here has started a thread or CUDA.
    with ProcessPoolExecutor(min(2, os.cpu_count() or 1), mp_context=get_context("fork")) as pool:
        results = pool.map(_measure_one, wanted)
        table: Table = {}
        for (name, capability), found in zip(wanted, results, strict=True):
            assert found, f"{name} launched no kernel for {capability}"
            for kernel, facts in found:
                table.setdefault(name, {}).setdefault(kernel, {})[f"sm{capability}"] = asdict(facts)
    return table


def _measure_one(wanted: tuple[str, int]) -> list[tuple[str, Resources]]:
    name, capability = wanted
    case: Case = next(case for case in cases() if case.name == name)
    return [(kernel.kernel, resources(kernel)) for kernel in AbsentGpu(capability).compiled_by(case.launch)]


def toml(version: str, table: Table) -> Iterator[str]:
    """The lines of one version of Triton: a section for each kernel of each case, a line for each card."""
    for case, kernels in table.items():
        for kernel, cards in kernels.items():
            yield f'["{version}"."{case}".{kernel}]'
            for card, facts in cards.items():
                yield f"{card} = {{ {', '.join(f'{name} = {_spelled(value)}' for name, value in facts.items())} }}"
            yield ""


def _spelled(value: object) -> str:
    return str(value).lower() if isinstance(value, (bool, int)) else f'"{value}"'


def write(path: Path, table: Table) -> None:
    """Puts the table of this Triton in the file, in place of the one it had."""
    versions: dict[str, Table] = tomllib.loads(path.read_text()) if path.exists() else {}
    versions[triton.__version__] = table
    head = "# What each kernel takes on each card, by version of Triton: `python -m kernels.compiled --write` makes it."
    lines = [line for version in sorted(versions) for line in toml(version, versions[version])]
    path.write_text("\n".join([head, "", *lines]))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m kernels.compiled", description="Compile every kernel for every card."
    )
    parser.add_argument("--main", action="store_true", help="the main cases alone")
    parser.add_argument("--capability", type=int, nargs="+", default=list(SHARED_LIMIT_BYTES), help="86 is 8.6")
    parser.add_argument("--write", type=Path, help="the table to put the results in")
    options = parser.parse_args()
    if options.write and (options.main or options.capability != list(SHARED_LIMIT_BYTES)):
        parser.error("a table holds every case on every card: leave out --main and --capability")
    table = measure(options.main, options.capability)
    if options.write:
        write(options.write, table)
    else:
        print("\n".join(toml(triton.__version__, table)))


if __name__ == "__main__":
    main()
