"""The Triton kernels compiled without a GPU for every architecture: they fit, spill nothing, use the tensor cores."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

triton = pytest.importorskip("triton")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from kernels import int8_linear, quant_rows  # noqa: E402
from kernels.reference import FLOOR  # noqa: E402

SHARED_LIMIT_BYTES = {80: 163 * 1024, 86: 99 * 1024, 89: 99 * 1024, 90: 227 * 1024, 120: 99 * 1024}
CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"


def compile_for(capability: int, kernel, types: dict[str, str], constants: dict, options: dict):
    """The kernel as a launch with 16-aligned pointers and strides would compile it."""
    names = kernel.arg_names
    aligned = [names.index(name) for name in types if name not in ("M", "N") and types[name] != "fp32"]
    source = ASTSource(
        fn=kernel,
        signature={name: types.get(name, "constexpr") for name in names},
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(index,): [["tt.divisibility", 16]] for index in aligned},
    )
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def resources(compiled, folder: Path) -> dict[str, int]:
    """What a program of the compiled kernel takes: REG registers, STACK bytes (spills), and so on."""
    (folder / "kernel.cubin").write_bytes(compiled.asm["cubin"])
    command = [CUOBJDUMP, "--dump-resource-usage", folder / "kernel.cubin"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", text)}


@pytest.mark.parametrize("capability", SHARED_LIMIT_BYTES)
@pytest.mark.parametrize(("m", "n", "gelu"), [(32760, 8960, True), (16, 256, False)])
def test_int8_linear(capability: int, m: int, n: int, gelu: bool, tmp_path: Path) -> None:
    shape = int8_linear.shape_of(m, n)
    options = {name: shape.pop(name) for name in ("num_warps", "num_stages")} | {"enable_fp_fusion": False}
    types = {
        "q_ptr": "*i8",
        "scale_ptr": "*fp32",
        "weight_ptr": "*i8",
        "weight_scale_ptr": "*fp32",
        "bias_ptr": "*fp32",
    }
    types |= {"y_ptr": "*bf16", "M": "i32", "N": "i32", "K": "i32"}
    types |= {"q_stride": "i32", "weight_stride": "i32", "y_stride": "i32"}
    constants = {"BIAS": True, "GELU": gelu, "EVEN_K": True, "GROUP_M": int8_linear.GROUP_M, **shape}
    compiled = compile_for(capability, int8_linear.int8_linear_kernel, types, constants, options)
    assert compiled.metadata.shared <= SHARED_LIMIT_BYTES[capability]
    assert resources(compiled, tmp_path)["STACK"] == 0
    assert re.search(r"(mma\.sync|wgmma\.mma_async)\S*\.s32\.s8\.s8", compiled.asm["ptx"])  # integer tensor cores
    assert re.search(r"cp\.async", compiled.asm["ptx"])  # loads overlap products


@pytest.mark.parametrize("capability", SHARED_LIMIT_BYTES)
@pytest.mark.parametrize(("k", "gelu"), [(256, False), (1536, False), (13824, True)])
def test_quant_rows(capability: int, k: int, gelu: bool, tmp_path: Path) -> None:
    shape = quant_rows.shape_of(k)
    options = {"num_warps": shape.pop("num_warps"), "enable_fp_fusion": False}
    types = {"x_ptr": "*bf16", "q_ptr": "*i8", "scale_ptr": "*fp32", "M": "i32", "K": "i32", "x_stride": "i32"}
    constants = {"floor": FLOOR, "GELU": gelu, **shape}
    compiled = compile_for(capability, quant_rows.quant_rows_kernel, types, constants, options)
    used = resources(compiled, tmp_path)
    assert compiled.metadata.shared <= SHARED_LIMIT_BYTES[capability]
    assert used["STACK"] == 0
    assert "fma.rn.f32" not in compiled.asm["ptx"]  # rounds as the reference does
