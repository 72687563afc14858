"""Compile-only Triton driver: Triton compiles for a GPU that is not present, and launches do nothing.

The launchers run unchanged, on tensors of the meta device, which have shapes but no data. So what is compiled is
exactly what the same call would compile on that GPU, down to the key in Triton's cache.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton import knobs
from triton.backends.compiler import GPUTarget

# Shared memory that one program may use, by capability. Triton checks it when a kernel is loaded, not when compiled.
SHARED_LIMIT_BYTES = {
    75: 64 * 1024, 80: 163 * 1024, 86: 99 * 1024, 89: 99 * 1024, 90: 227 * 1024, 100: 227 * 1024, 120: 99 * 1024,
}  # fmt: skip
WARP, MOST_THREADS = 32, 1024
NEEDS_ADJACENT_LANES = tuple(map(int, triton.__version__.split(".")[:2])) < (3, 7)  # in a reduction
_DEVICES = itertools.count()


@dataclass(frozen=True, slots=True)
class Compiled:
    """One kernel as a GPU will run it."""

    kernel: str
    cubin: Path
    ptx: Path | None  # None where Triton stores binaries only
    shared_bytes: int
    cached: bool  # from Triton's cache, not compiled now


@dataclass(frozen=True, slots=True)
class Resources:
    """Resources and instructions of a kernel. products: tensor-core instructions as unit, operand type and sum type."""

    registers: int
    stack_bytes: int  # holds spilled registers
    shared_bytes: int
    products: str
    async_copies: bool  # loads are prefetched asynchronously (cp.async)
    fused_adds: bool  # some product and sum are one FMA, rounded once
    lanes_mixed: bool  # some sum or maximum runs over the wrong lanes under this Triton


class CompileOnlyGpu:
    """Triton's driver and driver utilities in one, for a GPU of one compute capability (86: 8.6)."""

    def __init__(self, capability: int, launcher: Callable[[Any, Any], Callable[..., None]] | None = None) -> None:
        self.capability = capability
        self.utils = self
        self.launcher_cls = launcher or (lambda source, metadata: lambda *arguments: None)
        self._device = 0

    def compiled_by(self, launch: Callable[[], object]) -> list[Compiled]:
        """Every kernel that a call launches, compiled for this GPU. Sets Triton's driver for the rest of the process.

        Raises what Triton raises, OutOfResources for too much shared memory included.
        """
        found: list[Compiled] = []

        def record(
            *, src: Any, metadata: dict[str, Any], metadata_group: dict[str, str], cache_hit: bool, **_: Any
        ) -> None:
            paths = {path.suffix: path for path in map(Path, metadata_group.values())}
            found.append(Compiled(src.name, paths[".cubin"], paths.get(".ptx"), metadata["shared"], cache_hit))

        self._device = next(_DEVICES)  # Triton caches kernels by device: with a new device it reports each again
        triton.runtime.driver.set_active(self)
        knobs.compilation.listener = record
        try:
            launch()
        finally:
            knobs.compilation.listener = None
        return found

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, WARP)

    def get_current_device(self) -> int:
        return self._device

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_device_properties(self, device: int) -> dict[str, int]:
        nearest = max(known for known in SHARED_LIMIT_BYTES if known <= self.capability)
        return {"max_shared_mem": SHARED_LIMIT_BYTES[nearest]}

    def load_binary(self, name: str, binary: bytes, shared: int, device: int) -> tuple[None, None, int, int, int]:
        return None, None, 0, 0, MOST_THREADS  # module, function, registers, spills, threads


def resources(compiled: Compiled) -> Resources:
    """Registers and stack from cuobjdump, instructions from the PTX."""
    cuobjdump = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    command = [str(cuobjdump), "--dump-resource-usage", str(compiled.cubin)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    used = {name: int(value) for name, value in re.findall(r"\b(REG|STACK):(\d+)", text)}
    assert compiled.ptx is not None, "the PTX was not stored"
    ptx = compiled.ptx.read_text()
    return Resources(
        registers=used["REG"],
        stack_bytes=used["STACK"],
        shared_bytes=compiled.shared_bytes,
        products=", ".join(sorted(_products(ptx))),
        async_copies=bool(re.search(r"\bcp\.async\.c[ag]\.", ptx)),
        fused_adds=bool(re.search(r"\bfma\.rn\.(f32|f16|bf16)", ptx)),
        lanes_mixed=NEEDS_ADJACENT_LANES and has_scattered_lanes(compiled.ptx.with_suffix(".ttgir").read_text()),
    )


def has_scattered_lanes(ttgir: str) -> bool:
    """Whether a reduction in Triton GPU IR runs over lanes of a warp that are not adjacent.

    Triton before 3.7 shuffles between as many adjacent lanes as there are lanes along the axis: it then reads lanes
    that belong to other rows, and no lane writes the results of some rows. In blocked layouts lanes along an axis are
    adjacent. Linear layouts, which a reshape makes, give for each bit of the lane number the step along each axis; a
    slice layout drops one axis of its parent.
    """
    layouts = dict(re.findall(r"^(#\w+) = (#ttg\.\w+<\{.*\}>)$", ttgir, re.MULTILINE))
    pattern = r'"tt\.reduce"\(.*<\{axis = (\d+)(?:.*\n)+?\s*\}\) : \(tensor<[^#]*(#.*?)>[,)]'
    reductions = re.findall(pattern, ttgir)
    assert len(reductions) == ttgir.count('"tt.reduce"'), "a reduction is written differently than expected"
    for axis_text, layout in reductions:
        axis, layout = int(axis_text), layouts.get(layout, layout)
        while slice_of := re.fullmatch(r"#ttg\.slice<\{dim = (\d+), parent = (.*)\}>", layout):
            axis, layout = axis + (axis >= int(slice_of[1])), layouts.get(slice_of[2], slice_of[2])
        if linear := re.match(r"#ttg\.linear<\{.*\blane = (\[.*?\]), warp", layout):
            bits = [bit for bit, steps in enumerate(json.loads(linear[1])) if steps[axis]]
            if bits and bits[-1] - bits[0] >= len(bits):
                return True
    return False


def _products(ptx: str) -> set[str]:
    """Tensor-core instructions, as "mma s8 s32"; mma is Ampere's (IMMA, HMMA), wgmma Hopper's, tcgen05 Blackwell's."""
    # mma lists the types of sum, first and second operand, sum; wgmma of sum, first, second; tcgen05 names a kind.
    warp = re.findall(r"\bmma\.sync\.aligned\.m\d+n\d+k\d+\.row\.col(?:\.satfinite)?\.(\w+)\.(\w+)\.\w+\.\w+", ptx)
    group = re.findall(r"\bwgmma\.mma_async\.sync\.aligned\.m\d+n\d+k\d+\.(\w+)\.(\w+)\.\w+", ptx)
    return (
        {f"mma {operand} {total}" for total, operand in warp}
        | {f"wgmma {operand} {total}" for total, operand in group}
        | {f"tcgen05 {kind}" for kind in re.findall(r"\btcgen05\.mma\.\S*?kind::(\w+)", ptx)}
    )
