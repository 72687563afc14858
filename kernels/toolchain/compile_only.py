"""A GPU that is not here: Triton compiles for it, and launches go nowhere.

The launchers run as they are, on tensors of the meta device, which have shapes but no data: what is compiled is then
what the same call would compile on that card, down to the key in Triton's cache. Nothing computes.
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

# What one program may have of an SM's shared memory. Triton checks it when a kernel is loaded, not when it is compiled.
SHARED_LIMIT_BYTES = {
    75: 64 * 1024, 80: 163 * 1024, 86: 99 * 1024, 89: 99 * 1024, 90: 227 * 1024, 100: 227 * 1024, 120: 99 * 1024,
}  # fmt: skip
WARP, MOST_THREADS = 32, 1024
NEEDS_NEIGHBOURS = tuple(map(int, triton.__version__.split(".")[:2])) < (3, 7)  # of the lanes of a reduction
_DEVICES = itertools.count()


@dataclass(frozen=True, slots=True)
class Compiled:
    """One kernel as a card will run it."""

    kernel: str
    cubin: Path
    ptx: Path | None  # None where Triton was told to keep binaries alone
    shared_bytes: int
    cached: bool  # found in Triton's cache, not compiled now


@dataclass(frozen=True, slots=True)
class Resources:
    """What a kernel takes and uses. products: the tensor-core instructions, as unit, operand type and sum type."""

    registers: int
    stack_bytes: int  # spilled registers lie there
    shared_bytes: int
    products: str
    async_copies: bool  # loads run ahead of the loop that uses them
    fused_adds: bool  # a product and a sum somewhere round once, not twice
    lanes_mixed: bool  # a sum or maximum that this Triton takes over the wrong lanes


class CompileOnlyGpu:
    """What Triton asks of a driver and of its utilities, answered for a card of one compute capability (86: 8.6)."""

    def __init__(self, capability: int, launcher: Callable[[Any, Any], Callable[..., None]] | None = None) -> None:
        self.capability = capability
        self.utils = self
        self.launcher_cls = launcher or (lambda source, metadata: lambda *arguments: None)
        self._device = 0

    def compiled_by(self, launch: Callable[[], object]) -> list[Compiled]:
        """Every kernel that a call launches, compiled for this card. Raises what Triton raises, also for too much
        shared memory. Sets Triton's driver for the rest of the process."""
        found: list[Compiled] = []

        def note(
            *, src: Any, metadata: dict[str, Any], metadata_group: dict[str, str], cache_hit: bool, **_: Any
        ) -> None:
            paths = {path.suffix: path for path in map(Path, metadata_group.values())}
            found.append(Compiled(src.name, paths[".cubin"], paths.get(".ptx"), metadata["shared"], cache_hit))

        self._device = next(_DEVICES)  # Triton remembers kernels for each device: a new one makes it tell of each again
        triton.runtime.driver.set_active(self)
        knobs.compilation.listener = note
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
    """What the assembler says of a kernel, and which instructions its PTX has."""
    cuobjdump = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    command = [str(cuobjdump), "--dump-resource-usage", str(compiled.cubin)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    used = {name: int(value) for name, value in re.findall(r"\b(REG|STACK):(\d+)", text)}
    assert compiled.ptx is not None, "the PTX was not kept"
    ptx = compiled.ptx.read_text()
    return Resources(
        registers=used["REG"],
        stack_bytes=used["STACK"],
        shared_bytes=compiled.shared_bytes,
        products=", ".join(sorted(_products(ptx))),
        async_copies=bool(re.search(r"\bcp\.async\.c[ag]\.", ptx)),
        fused_adds=bool(re.search(r"\bfma\.rn\.(f32|f16|bf16)", ptx)),
        lanes_mixed=NEEDS_NEIGHBOURS and lanes_apart(compiled.ptx.with_suffix(".ttgir").read_text()),
    )


def lanes_apart(ttgir: str) -> bool:
    """Whether a reduction in Triton's last representation runs over lanes of a warp that are not neighbours.

    Triton before 3.7 exchanges numbers between as many neighbours as there are lanes along the axis: it then takes
    lanes of other rows for some of a row's own, and no lane writes the results of some rows. Layouts in blocks have
    neighbours along every axis. Linear ones, which a reshape makes, say for each bit of the lane's number how far it
    moves along each axis; a slice leaves out one axis of its parent.
    """
    layouts = dict(re.findall(r"^(#\w+) = (#ttg\.\w+<\{.*\}>)$", ttgir, re.MULTILINE))
    pattern = r'"tt\.reduce"\(.*<\{axis = (\d+)(?:.*\n)+?\s*\}\) : \(tensor<[^#]*(#.*?)>[,)]'
    reductions = re.findall(pattern, ttgir)
    assert len(reductions) == ttgir.count('"tt.reduce"'), "a reduction is spelled otherwise than expected"
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
    """As "mma s8 s32": Ampere's unit (IMMA, HMMA); Hopper's is "wgmma" (IGMMA), Blackwell's "tcgen05" (UTCIMMA)."""
    # mma lists the types of sum, first, second, sum; wgmma those of sum, first, second; tcgen05 names a kind.
    warp = re.findall(r"\bmma\.sync\.aligned\.m\d+n\d+k\d+\.row\.col(?:\.satfinite)?\.(\w+)\.(\w+)\.\w+\.\w+", ptx)
    group = re.findall(r"\bwgmma\.mma_async\.sync\.aligned\.m\d+n\d+k\d+\.(\w+)\.(\w+)\.\w+", ptx)
    return (
        {f"mma {operand} {total}" for total, operand in warp}
        | {f"wgmma {operand} {total}" for total, operand in group}
        | {f"tcgen05 {kind}" for kind in re.findall(r"\btcgen05\.mma\.\S*?kind::(\w+)", ptx)}
    )
