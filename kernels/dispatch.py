"""Which way each operation goes on which device: one table, read from the top.

A row says from which compute capability and for which names it holds, and why. A device takes the row of the greatest
capability not above its own whose name pattern it matches: a card newer than the table is treated as the newest it
knows, or as the nearest of its family (12.1 as 12.0, 10.3 as 10.0). The processor is a row like the others.

The name matters where a capability is two products: GeForce cards multiply float16 into a float16 sum twice as fast as
into a float32 one, workstation and datacenter cards of the same generation multiply at the full rate into either, and
then float32 sums cost nothing. Notes say what a choice rests on: `published` figures of others, on that hardware, or
`measured` ones of ours. Nothing here is tried out when it is imported, and nothing is loaded, torch neither: a plan for
another machine reads the same rows.
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
    """How one device computes.

    attention, fast_attention: "sdpa" is torch's own: cuDNN's on 9.0 and 10.0 from torch 2.11 on, by torch's own order
    (pytorch pull request 162073), else flash. The others are attn_int8, named by what the products with the values are
    summed in. fast_attention is for drafts: values in fp8 make its rounding error three times as large.
    linear: int8 products by our kernel, by torch's integer product and an epilogue, or by the twin in plain torch.
    norms: our kernels for everything else, or their twins, and then for products too. dtype_name: of matrices that are
    not quantized, and of what flows between layers, as torch calls it.
    """

    attention: Attention
    fast_attention: Attention
    linear: Linear
    norms: Norms
    dtype_name: DType
    note: str

    @property
    def dtype(self) -> torch.dtype:
        """`dtype_name`, as torch's own."""
        import torch  # torch

        return getattr(torch, self.dtype_name)


class Row(NamedTuple):
    """A choice, and for whom: from this capability on (None: a processor), where `named` is found in the name."""

    capability: tuple[int, int] | None
    named: str
    choice: Choice


F16: DType = "float16"
BF16: DType = "bfloat16"
F32: DType = "float32"

TABLE = (  # of rows of one capability, the first whose name is found
    Row(None, BF16_INSTRUCTIONS, Choice("sdpa", "sdpa", "torch", "torch", BF16,
        "processor: the twins; bf16 matrices run at 4.5 times the float32 rate (measured, Zen 5)")),
    Row(None, "", Choice("sdpa", "sdpa", "torch", "torch", F32,
        "processor without bf16 instructions: the twins; float32 is faster there as well as exact")),
    Row((0, 0), "", Choice("sdpa", "sdpa", "torch", "torch", F32,
        "older than Turing: no integer tensor cores, so the twins in plain torch")),
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
        "H100, H200: torch's attention; of 75,600 tokens on an H100 549 to 569 TFLOPS, ours 489 to 533 (measured)")),
    Row((10, 0), "", Choice("sdpa", "sdpa", "triton", "triton", BF16,
        "B200: torch's attention; its integer product can fall on slow kernels (published, pytorch issue 187094)")),
    Row((12, 0), GEFORCE, Choice("int8_f16", "int8_fp8_f16", "triton", "triton", BF16,
        "RTX 50: int8 attention 479 TOPS against flash 214 on a 5090, 643 with fp8 values in CUDA (published)")),
    Row((12, 0), "", Choice("int8_f32", "int8_fp8_f16", "triton", "triton", BF16,
        "RTX PRO Blackwell: as RTX 50, with float32 sums as on other workstation cards (not measured)")),
)  # fmt: skip


def choose(device: torch.device) -> Choice:
    """The row of a device. Whatever is not CUDA computes as the processor does, in plain torch."""
    if device.type != "cuda":
        return _of_processor()
    import torch  # torch

    return _of_gpu(torch.cuda.current_device() if device.index is None else device.index)


def choice_for(capability: tuple[int, int] | None, name: str) -> Choice:
    """The row of a card of this compute capability and product name; for a processor, of None and its instructions."""
    own = capability or (0, 0)
    fit = [
        (row.capability or (0, 0), row.choice)
        for row in TABLE
        if (row.capability is None) == (capability is None) and (row.capability or own) <= own
        if re.search(row.named, name)
    ]
    return max(fit, key=lambda pair: pair[0])[1]  # the first of equals


@lru_cache
def _of_gpu(index: int) -> Choice:
    import torch  # torch

    return choice_for(torch.cuda.get_device_capability(index), torch.cuda.get_device_name(index))


@lru_cache
def _of_processor() -> Choice:
    import torch  # torch

    return choice_for(None, BF16_INSTRUCTIONS if torch.cpu._is_avx512_bf16_supported() else "")
