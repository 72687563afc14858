"""Resources of every kernel on every GPU generation, compiled here without a GPU.

    python -m kernels.toolchain.resources                     one line per kernel, case and GPU
    python -m kernels.toolchain.resources --main              the main cases only
    python -m kernels.toolchain.resources --only strides      only cases with this in their names
    python -m kernels.toolchain.resources --capability 86     for these GPUs only
    python -m kernels.toolchain.resources --write TABLE.toml  into a table, under the version of Triton; entries that
                                                              were not measured are kept

The numbers depend on Triton's version and on nothing else: no GPU, driver or CUDA toolkit is needed.
"""

from __future__ import annotations

import argparse
import os
import tomllib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, fields
from multiprocessing import get_context
from pathlib import Path

import triton

from kernels.toolchain.compile_only import SHARED_LIMIT_BYTES, CompileOnlyGpu, Resources, resources
from kernels.toolchain.launches import cases

Table = dict[str, dict[str, dict[int, Resources]]]  # case, kernel, compute capability


def measure(only: str, only_main: bool, capabilities: list[int]) -> Table:
    """Compile the table's cases with `only` in their names, or the main ones of them, for each GPU they can run on."""
    wanted = [
        (case.name, capability)
        for capability in capabilities
        for case in cases(capability)
        if only in case.name and case.checked in (("main",) if only_main else ("main", "table"))
    ]
    # Forked, so that each process has torch and Triton loaded. Nothing here has started a thread or CUDA.
    with ProcessPoolExecutor(min(2, os.cpu_count() or 1), mp_context=get_context("fork")) as pool:
        results = pool.map(_measure_one, wanted)
        table: Table = {}
        for (name, capability), found in zip(wanted, results, strict=True):
            assert found, f"{name} launched no kernel for {capability}"
            for kernel, facts in found:
                table.setdefault(name, {}).setdefault(kernel, {})[capability] = facts
    return table


def _measure_one(wanted: tuple[str, int]) -> list[tuple[str, Resources]]:
    name, capability = wanted
    case = next(case for case in cases(capability) if case.name == name)
    return [(kernel.kernel, resources(kernel)) for kernel in CompileOnlyGpu(capability).compiled_by(case.launch)]


def spell(tables: dict[str, Table]) -> str:
    """Tables by Triton version as TOML: a section per kernel of each case, a line per set of GPUs with equal values."""
    names = ", ".join(field.name.replace("_", " ") for field in fields(Resources))
    lines = [f"# By version of Triton, case, kernel and compute capability: {names}.", ""]
    for version in sorted(tables):
        for case, kernels in tables[version].items():
            for kernel, gpus in kernels.items():
                lines += [f'["{version}"."{case}".{kernel}]', *_spell_gpus(gpus), ""]
    return "\n".join(lines)


def _spell_gpus(gpus: dict[int, Resources]) -> Iterator[str]:
    alike: dict[Resources, list[str]] = {}
    for gpu, facts in gpus.items():
        alike.setdefault(facts, []).append(str(gpu))
    for facts, these in alike.items():
        values = (f'"{value}"' if isinstance(value, str) else str(value).lower() for value in astuple(facts))
        yield f'"{" ".join(these)}" = [{", ".join(values)}]'


def read(text: str) -> dict[str, Table]:
    """The inverse of `spell`."""
    return {
        version: {
            case: {
                kernel: {int(gpu): Resources(*facts) for these, facts in gpus.items() for gpu in these.split()}
                for kernel, gpus in kernels.items()
            }
            for case, kernels in table.items()
        }
        for version, table in tomllib.loads(text).items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m kernels.toolchain.resources",
        description="Compile all kernels for all GPU generations and print their resources.",
    )
    parser.add_argument("--main", action="store_true", help="the main cases only")
    parser.add_argument("--only", default="", help="only cases with this in their names")
    parser.add_argument(
        "--capability", type=int, nargs="+", default=list(SHARED_LIMIT_BYTES), help="compute capabilities; 86 is 8.6"
    )
    parser.add_argument("--write", type=Path, help="the table to update with the results")
    options = parser.parse_args()
    if options.write and (options.main or options.capability != list(SHARED_LIMIT_BYTES)):
        parser.error("the table covers all GPUs and more than the main cases: leave out --main and --capability")
    table = measure(options.only, options.main, options.capability)
    version = triton.__version__
    if options.write:
        known = read(options.write.read_text()) if options.write.exists() else {}
        unmeasured = known.get(version, {}) if options.only else {}
        options.write.write_text(spell(known | {version: unmeasured | table}))
    else:
        print(spell({version: table}))


if __name__ == "__main__":
    main()
