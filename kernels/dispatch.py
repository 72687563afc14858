"""The dispatch table: which implementation of each operation runs on which device.

A row applies from a compute capability on, to products whose name matches a pattern, and says why. A device takes the
row of the highest capability not above its own whose pattern matches: a GPU newer than the table is treated as the
newest it knows, or as the nearest of its family (12.1 as 12.0, 10.3 as 10.0). The CPU has rows like any GPU.

The name matters where one capability covers two kinds of product: GeForce GPUs multiply float16 into a float16 sum
twice as fast as into a float32 sum; workstation and datacenter GPUs of the same generation multiply at the full rate
into either, so float32 sums cost nothing there. Notes say what a choice rests on: `published` figures of others on that
hardware, or our own `measured` ones. Importing this probes nothing and loads no torch: a plan for another machine
reads the same rows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import torch

Attention = Literal["sdpa", "int8_f32", "int8_f16", "int8_fp8_f16"]
Linear = Literal["triton", "int_mm", "torch"]
Norms = Literal["triton", "torch"]
DType = Literal["float16", "bfloat16", "float32"]

GEFORCE = r"GeForce"
BF16_INSTRUCTIONS = "avx512_bf16"


@dataclass(frozen=True, slots=True)
class Choice:
    """The implementations that one device uses.

    attention, fast_attention: "sdpa" is torch's scaled_dot_product_attention: cuDNN on 9.0 and 10.0 from torch 2.11 on,
    in torch's order of preference (pytorch pull request 162073), else flash. The others are attn_int8, named by the
    dtype in which products with the values are summed. fast_attention is for drafts: fp8 values make its rounding
    error three times as large.
    linear: int8 products by our Triton kernel, by torch._int_mm and an epilogue, or by the plain-torch reference.
    norms: all other operations by Triton kernels, or by their references ("torch", which then holds for products too).
    dtype_name: torch's name for the dtype of matrices that are not quantized and of activations between layers.
    """

    attention: Attention
    fast_attention: Attention
    linear: Linear
    norms: Norms
    dtype_name: DType
    note: str

    @property
    def dtype(self) -> torch.dtype:
        """`dtype_name` as a torch.dtype."""
        import torch  # torch

        return getattr(torch, self.dtype_name)


class Row(NamedTuple):
    """A choice and its condition: from this capability on (None: a CPU), for names in which the pattern is found."""

    capability: tuple[int, int] | None
    pattern: str
    choice: Choice


F16: DType = "float16"
BF16: DType = "bfloat16"
F32: DType = "float32"

TABLE = (  # among rows of one capability, the first whose pattern matches
    Row(None, BF16_INSTRUCTIONS, Choice("sdpa", "sdpa", "torch", "torch", BF16,
        "CPU: the references; bf16 matrices run at 4.5 times the float32 rate (measured, Zen 5)")),
    Row(None, "", Choice("sdpa", "sdpa", "torch", "torch", F32,
        "CPU without bf16 instructions: the references; float32 is faster there as well as exact")),
    Row((0, 0), "", Choice("sdpa", "sdpa", "torch", "torch", F32,
        "older than Turing: no integer tensor cores, so the references in plain torch")),
    Row((7, 5), "", Choice("sdpa", "sdpa", "int_mm", "triton", F16,
        "Turing: Triton gives it no tensor cores, torch does; no bf16 (published, triton issues 5066 and 10918)")),
    Row((8, 0), "", Choice("sdpa", "int8_f32", "triton", "triton", BF16,
        "A100: int8 attention 278 TOPS against flash 204 in CUDA; less is expected of Triton (published)")),
    Row((8, 6), GEFORCE, Choice("int8_f16", "int8_f16", "triton", "triton", BF16,
        "RTX 30: int8 attention 134 TOPS against flash 68 on a 3090, int8 matrices 4 times bf16 (published)")),
    Row((8, 6), "", Choice("int8_f32", "int8_f32", "triton", "triton", BF16,
        "A6000, A40, A10: int8 attention 170 TOPS against flash 110; float32 sums at the full rate (published)")),
    Row((8, 9), GEFORCE, Choice("int8_f16", "int8_fp8_f16", "triton", "triton", BF16,
        "RTX 40: int8 attention 322 TOPS against flash 164 on a 4090, 493 with fp8 values in CUDA (published)")),
    Row((8, 9), "", Choice("int8_f32", "int8_fp8_f16", "triton", "triton", BF16,
        "L40S, RTX Ada: float32 sums at the full rate; int8 and fp8 matrices at twice bf16 (published)")),
    Row((9, 0), "", Choice("sdpa", "sdpa", "triton", "triton", BF16,
        "H100, H200: torch's attention: 549 to 569 TFLOPS at 75,600 tokens on an H100, ours 489 to 533 (measured)")),
    Row((10, 0), "", Choice("sdpa", "sdpa", "triton", "triton", BF16,
        "B200: torch's attention; its integer product can fall on slow kernels (published, pytorch issue 187094)")),
    Row((12, 0), GEFORCE, Choice("int8_f16", "int8_fp8_f16", "triton", "triton", BF16,
        "RTX 50: int8 attention 479 TOPS against flash 214 on a 5090, 643 with fp8 values in CUDA (published)")),
    Row((12, 0), "", Choice("int8_f32", "int8_fp8_f16", "triton", "triton", BF16,
        "RTX PRO Blackwell: as RTX 50, with float32 sums as on other workstation GPUs (not measured)")),
)  # fmt: skip


def choose(device: torch.device) -> Choice:
    """The choice for a device. Anything but CUDA computes as the CPU does, in plain torch."""
    if device.type != "cuda":
        return _of_processor()
    import torch  # torch

    return _of_gpu(torch.cuda.current_device() if device.index is None else device.index)


def choice_for(capability: tuple[int, int] | None, name: str) -> Choice:
    """The choice for a GPU of this compute capability and product name; for a CPU: None and BF16_INSTRUCTIONS or ""."""
    limit = capability or (0, 0)
    fit = [
        (row.capability or (0, 0), row.choice)
        for row in TABLE
        if (row.capability is None) == (capability is None) and (row.capability or limit) <= limit
        if re.search(row.pattern, name)
    ]
    return max(fit, key=lambda pair: pair[0])[1]  # max returns the first of equals


@lru_cache
def _of_gpu(index: int) -> Choice:
    import torch  # torch

    return choice_for(torch.cuda.get_device_capability(index), torch.cuda.get_device_name(index))


@lru_cache
def _of_processor() -> Choice:
    import torch  # torch

    return choice_for(None, BF16_INSTRUCTIONS if torch.cpu._is_avx512_bf16_supported() else "")
