"""Makes ahead of time what Triton would compile on the machine that renders: it then needs no compiler, and no time.

    python -m kernels.toolchain.prebuild FOLDER                      the module that launches kernels, for this Python
    and Triton python -m kernels.toolchain.prebuild FOLDER --capability 86 89   the kernels too, for cards of these
    compute capabilities

The modules in kernels/prebuilt were made by it, with the Triton that torch's CUDA build pins, for each Python, by a
compiler that links with the oldest C library torch runs on: CC="zig cc -target x86_64-linux-gnu.2.28".

No GPU is needed, and no driver. The folder is to lie, or be copied to, where Rushes looks: `kernels` in the house's
folder ($RUSHES_HOME, else ~/.local/share/rushes). Kernels are found again by the same Rushes and Triton only.
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
    """Makes everything; what was made, in a line each."""
    source = driver.driver_source()
    if source is None:
        raise SystemExit("Triton is not installed here: run this with the Python that Rushes is installed in")
    include = [str(source.parent / "include")]
    module = driver.kept("cuda_utils", source, folder) or driver.build("cuda_utils", source, folder, include)
    return [str(module), *(compile_kernels(folder, capability, include, only) for capability in capabilities)]


def compile_kernels(folder: Path, capability: int, include: list[str], only: str = "") -> str:
    """Every kernel for one card, into the folder's cache of Triton's; or of the cases with `only` in their names."""
    os.environ["TRITON_CACHE_DIR"] = str(folder / "cache")
    os.environ["TRITON_STORE_BINARY_ONLY"] = "1"
    from kernels.toolchain.compile_only import CompileOnlyGpu  # torch
    from kernels.toolchain.launches import GRIDS, cases  # torch

    gpu = CompileOnlyGpu(capability, _launcher(folder, include))
    every = [case for grid in GRIDS for case in cases(capability, grid) if only in case.name]
    found = {kernel.cubin for case in every for kernel in gpu.compiled_by(case.launch)}
    return f"{len(found)} kernels for compute capability {capability // 10}.{capability % 10}"


def _launcher(folder: Path, include: list[str]) -> Callable[[Any, Any], Callable[..., None]]:
    """What stands for Triton's own: it launches nothing, but where every signature needs a module it makes it."""
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
                driver.provide(folder, "__triton_launcher", str(file), scratch, [], include, [])
        return lambda *arguments: None

    return launcher


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m kernels.toolchain.prebuild", description="Makes what Triton would compile."
    )
    parser.add_argument("folder", type=Path, help="where to put it")
    parser.add_argument(
        "--capability", type=int, nargs="+", default=[], help="86 is 8.6: an RTX 3060 to 3090, an A6000"
    )
    parser.add_argument(
        "--only", default="", help="the cases of kernels/toolchain/launches.py with this in their names"
    )
    options = parser.parse_args()
    try:
        print("\n".join(prebuild(options.folder.absolute(), options.capability, options.only)))
    except RuntimeError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
