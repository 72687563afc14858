"""Build ahead of time what Triton would compile on the machine that renders: it then needs no compiler, and no waiting.

    python -m kernels.toolchain.prebuild FOLDER                      the module that launches kernels, for this Python
                                                                     and this Triton
    python -m kernels.toolchain.prebuild FOLDER --capability 86 89   the kernels too, for GPUs of these compute
                                                                     capabilities

It built the modules in kernels/prebuilt: with the Triton that torch's CUDA build pins, for each Python, by a compiler
that links against the oldest C library torch runs on: CC="zig cc -target x86_64-linux-gnu.2.28".

Needs no GPU and no driver. Use the folder, or copy it, where Rushes looks: `kernels` in the installation's folder
($RUSHES_HOME, else ~/.local/share/rushes). Kernels are only found by the same version of Rushes and Triton.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kernels.toolchain import driver


def prebuild(folder: Path, capabilities: list[int], only: str = "") -> list[str]:
    """Build everything; returns one line for each thing built."""
    source = driver.driver_source()
    if source is None:
        raise SystemExit("Triton is not installed in this Python: run this with the Python that Rushes is installed in")
    include = [str(source.parent / "include")]
    module = driver.find_module("cuda_utils", source, folder) or driver.build_module(
        "cuda_utils", source, folder, include
    )
    return [str(module), *(compile_kernels(folder, capability, include, only) for capability in capabilities)]


def compile_kernels(folder: Path, capability: int, include: list[str], only: str = "") -> str:
    """Compile the kernels of the cases with `only` in their names for one GPU, into the folder's Triton cache."""
    os.environ["TRITON_CACHE_DIR"] = str(folder / "cache")
    os.environ["TRITON_STORE_BINARY_ONLY"] = "1"
    from kernels.toolchain.compile_only import CompileOnlyGpu  # torch
    from kernels.toolchain.launches import GRIDS, cases  # torch

    gpu = CompileOnlyGpu(capability, _launcher(folder, include))
    every = [case for grid in GRIDS for case in cases(capability, grid) if only in case.name]
    found = {kernel.cubin for case in every for kernel in gpu.compiled_by(case.launch)}
    return f"{len(found)} kernels for compute capability {capability // 10}.{capability % 10}"


def _launcher(folder: Path, include: list[str]) -> Callable[[Any, Any], Callable[..., None]]:
    """A stand-in for Triton's launcher: launches nothing, but builds a module where each signature needs its own."""
    from triton.backends.nvidia import driver as nvidia

    def launcher(source: Any, metadata: Any) -> Callable[..., None]:
        if make := getattr(nvidia, "make_launcher", None):  # up to Triton 3.6
            constants = {
                (source.fn.arg_names.index(at),) if isinstance(at, str) else at: value
                for at, value in source.constants.items()
            }
            text = make(constants, dict(source.signature), getattr(metadata, "tensordesc_meta", None))
            with tempfile.TemporaryDirectory() as scratch:
                file = Path(scratch) / "main.c"
                file.write_text(text)
                driver.provide_module(folder, "__triton_launcher", str(file), scratch, [], include, [])
        return lambda *arguments: None

    return launcher


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m kernels.toolchain.prebuild",
        description="Build ahead of time what Triton would compile on the machine that renders.",
    )
    parser.add_argument("folder", type=Path, help="where to put the built files")
    parser.add_argument(
        "--capability",
        type=int,
        nargs="+",
        default=[],
        help="compute capabilities to compile for; 86 is 8.6: an RTX 3060 to 3090, an A6000",
    )
    parser.add_argument(
        "--only", default="", help="only cases of kernels/toolchain/launches.py with this in their names"
    )
    options = parser.parse_args()
    try:
        print("\n".join(prebuild(options.folder.absolute(), options.capability, options.only)))
    except RuntimeError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
