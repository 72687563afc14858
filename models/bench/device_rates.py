"""Rates of a device: memory bandwidth, the matrix products of our blocks, upload, and one block.

    python -m models.bench.device_rates --device cuda:0 --threads 8

prints one JSON document and ends. A separate process, because it loads torch and fills memory; its caller
(`rushes doctor --calibrate`) stores the result. A figure that cannot be measured is null, and `troubles` says why.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels import ops
from kernels.bench.timing import wall_seconds
from kernels.dispatch import choose
from models.card import PREVIS, Card
from models.dit.wan import Transformer
from models.errors import RushesError
from models.geometry import Geometry
from models.loading.load import device_named
from models.loading.quantize import load_quantized, quantize
from models.loading.streaming import pin_memory, place
from models.placement import Placement

SHOT = Geometry(33, 128, 224)  # what the shipped model was trained on


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured: enough to keep the device busy, and little enough for the smallest GPU."""

    copy_bytes: int
    rows: int  # M, K and N of the matrix products
    inputs: int
    outputs: int
    seconds: float  # spent on each figure


CPU = Sizes(64 * 2**20, 1024, 1024, 4096, 0.4)  # beyond any cache; tokens and widths of the shipped model's kind
CUDA = Sizes(512 * 2**20, 8192, 5120, 5120, 0.4)  # widths of Wan 14B


def measure(device: torch.device, sizes: Sizes | None = None) -> dict[str, object]:
    """All figures of a device, as the document that is printed."""
    sizes = sizes or (CUDA if device.type == "cuda" else CPU)
    measures: dict[str, Callable[[torch.device, Sizes], float]] = {
        "copy_bytes_s": copy_rate, "flops_int8": int8_rate, "flops_bf16": float_rate, "upload_bytes_s": upload_rate,
        "block_seconds": block_seconds,
    }  # fmt: skip
    figures: dict[str, float | None] = {}
    troubles: list[str] = []
    for name, figure in measures.items():
        try:
            figures[name] = None if name == "upload_bytes_s" and device.type == "cpu" else figure(device, sizes)
        except (RuntimeError, MemoryError) as error:  # a GPU too full, a kernel that this driver refuses
            figures[name] = None
            troubles.append(f"{name}: {str(error).strip().partition(chr(10))[0]}")
    block = figures.pop("block_seconds")
    return {
        "device": str(device),
        "name": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "rates": figures,
        "block": {"card": PREVIS.name, "tokens": SHOT.tokens, "seconds": block},
        "troubles": troubles,
    }


@torch.inference_mode()
def copy_rate(device: torch.device, sizes: Sizes) -> float:
    """Bytes a second of copying inside the device's memory: each byte counts as one read and one write."""
    source = torch.ones(sizes.copy_bytes, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    return 2 * sizes.copy_bytes / wall_seconds(lambda: target.copy_(source), device, sizes.seconds)


@torch.inference_mode()
def int8_rate(device: torch.device, sizes: Sizes) -> float:
    """FLOPs a second of an int8 product with its epilogue, the rows quantised beforehand."""
    q, scale = ops.quant_rows(_random(sizes.rows, sizes.inputs, device))
    weight, weight_scale = ops.quant_rows(_random(sizes.outputs, sizes.inputs, device))
    bias, dtype = torch.zeros(sizes.outputs, device=device), choose(device).dtype
    took = wall_seconds(
        lambda: ops.int8_linear(q, scale, weight, weight_scale, bias, "none", dtype), device, sizes.seconds
    )
    return 2 * sizes.rows * sizes.inputs * sizes.outputs / took


@torch.inference_mode()
def float_rate(device: torch.device, sizes: Sizes) -> float:
    """FLOPs a second of a product in the 16-bit (or wider) numbers that this device computes in."""
    dtype = choose(device).dtype
    x, weight = (_random(rows, sizes.inputs, device).to(dtype) for rows in (sizes.rows, sizes.outputs))
    return (
        2 * sizes.rows * sizes.inputs * sizes.outputs / wall_seconds(lambda: F.linear(x, weight), device, sizes.seconds)
    )


@torch.inference_mode()
def upload_rate(device: torch.device, sizes: Sizes) -> float:
    """Bytes a second from pinned host memory to the device."""
    size = 1 << int(math.log2(sizes.copy_bytes))
    source, target = pin_memory(size), torch.empty(size, dtype=torch.uint8, device=device)
    return size / wall_seconds(lambda: target.copy_(source, non_blocking=True), device, sizes.seconds)


@torch.inference_mode()
def block_seconds(device: torch.device, sizes: Sizes) -> float:
    """Seconds of the shipped model's network with one block, at the size it was trained on."""
    card = replace(PREVIS, layers=1)
    network = random_network(card, device)
    x = torch.randn(1, card.in_channels, *SHOT.latent, device=device)
    t, context = torch.full((1,), 500.0, device=device), torch.randn(1, 8, card.text_dim, device=device)
    return wall_seconds(lambda: network(x, t, context), device, sizes.seconds)


def random_network(card: Card, device: torch.device) -> Transformer:
    """A network of a card's size on a device, its random weights quantised to int8 as in a package."""
    network = Transformer(card)
    network.init_weights()
    made = load_quantized(card, quantize(network.state_dict(), card), choose(device).dtype)
    place(made, device, Placement())
    return made


def _random(rows: int, columns: int, device: torch.device) -> Tensor:
    return torch.randn(rows, columns, device=device)


def main(arguments: list[str]) -> int:
    """Print the document."""
    parser = argparse.ArgumentParser(
        prog="python -m models.bench.device_rates", description="measure the rates of a device"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda:N")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: all")
    asked = parser.parse_args(arguments)
    if asked.threads:
        torch.set_num_threads(asked.threads)
    try:
        print(json.dumps(measure(device_named(asked.device))), flush=True)
    except RushesError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
