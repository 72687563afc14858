"""How fast a place works: measured rates where there are any, else the datasheet's arithmetic for its class of card.

A GPU's peak is its multiprocessors x what one multiplies a clock x its clock; what is sustained of a peak is a share
that others have published. Nothing here was measured by us on a GPU: `rushes doctor --calibrate` replaces it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from appliance.device import Device, Gpu
from appliance.estimate import Rates
from kernels.dispatch import GEFORCE

# CPU: the shipped model runs at 216 GFLOP/s on one quiet core of a Xeon with AMX, at 90 to 160 with AVX-512 alone, and
# a laptop without either reaches about 30: the slowest is assumed until takes are measured.
CPU_FLOPS_A_CORE = 30e9

# FLOPs a multiprocessor does in a clock, of half-precision numbers and of int8; then a mid-size card of the generation,
# for one that does not tell: multiprocessors, clock in Hz, bytes/s of its memory. Sources are the datasheets: 82 x 2048
# x 1.695 GHz = 285 TOPS on a 3090, 128 x 2048 x 2.52 = 661 on a 4090, 132 x 8192 x 1.83 = 1979 on an H100.
CLASSES = {
    (7, 5): (1024, 2048, 40, 1.59e9, 320e9),
    (8, 0): (2048, 4096, 108, 1.41e9, 1555e9),
    (8, 6): (1024, 2048, 28, 1.78e9, 360e9),
    (8, 9): (1024, 2048, 34, 2.5e9, 288e9),
    (9, 0): (4096, 8192, 132, 1.78e9, 2000e9),
    (10, 0): (8192, 16384, 148, 1.85e9, 7000e9),
    (12, 0): (1024, 2048, 36, 2.5e9, 448e9),
}
# Of the peak: Wan's own code reaches 63 to 66 % of bf16 on an A100 and a 4090 and 36 to 51 % on an H100; int8 attention
# 71 % of its mixed peak on a 3090 and a 4090, kernel alone; int8 products 0.75 of what cuBLAS reaches on Hopper.
SUSTAINED, SUSTAINED_HOPPER = 0.55, 0.42
SUSTAINED_CONV = 0.3  # of bf16, decoding film: convolutions between norms that are bound by memory
SUSTAINED_COPY = 0.85  # of the memory's datasheet
SUSTAINED_LINK = 0.75  # of PCIe: 24 GB/s of 31.5 on 4.0 x16
UPLOAD_BYTES_S = 11.5e9  # PCIe 3.0 x16, of a card that does not tell
DISK_BYTES_S = 1e9  # between a SATA SSD (0.5) and an NVMe drive (2 to 7)


@dataclass(frozen=True, slots=True)
class Speed:
    """What a place sustains: FLOP/s of matrices and of attention, bytes/s of memory, link and disk."""

    int8: float
    bf16: float
    attention: float
    film: float  # FLOP/s of the autoencoder
    copy: float
    upload: float
    disk: float


def cpu_speed(device: Device, rates: Rates | None = None) -> Speed:
    """Of the machine's cores: every number at the same rate, nothing to upload."""
    rates, flops = rates or Rates(), device.cores * CPU_FLOPS_A_CORE
    int8, bf16 = rates.flops_int8 or flops, rates.flops_bf16 or flops
    return Speed(int8, bf16, bf16, bf16, rates.copy_bytes_s or 1e10, math.inf, _disk(device, rates))


def gpu_speed(gpu: Gpu, device: Device, attention: str, rates: Rates | None = None) -> Speed:
    """Of a GPU that attends as `attention` (of kernels/dispatch.py)."""
    rates = rates or Rates()
    capability = gpu.capability or (7, 5)
    known = max((found for found in CLASSES if found <= capability), default=(7, 5))
    half, whole, count, clock, memory = CLASSES[known]
    cycles = (gpu.sm_count or count) * (gpu.sm_clock_mhz * 1e6 if gpu.sm_clock_mhz else clock)
    share = SUSTAINED_HOPPER if known >= (9, 0) and known < (12, 0) else SUSTAINED
    # GeForce sums half-precision products in float32 at half the rate at which it sums them in float16.
    halved = 2.0 if re.search(GEFORCE, gpu.name) else 1.0
    int8 = rates.flops_int8 or cycles * whole * share
    bf16 = rates.flops_bf16 or cycles * half * share / halved
    link = gpu.pcie_bytes_s
    return Speed(
        int8=int8,
        bf16=bf16,
        attention=_attention(attention, int8, bf16, halved),
        film=bf16 * SUSTAINED_CONV / share,
        copy=rates.copy_bytes_s or SUSTAINED_COPY * (gpu.bandwidth_bytes_s or memory),
        upload=rates.upload_bytes_s or (SUSTAINED_LINK * link if link else UPLOAD_BYTES_S),
        disk=_disk(device, rates),
    )


def _attention(kind: str, int8: float, bf16: float, halved: float) -> float:
    """Half of the products are queries with keys, half weights with values: the harmonic mean of the two rates."""
    if kind == "sdpa":
        return bf16
    values = {"int8_f32": bf16, "int8_f16": bf16 * halved, "int8_fp8_f16": int8}[kind]
    return 2 / (1 / int8 + 1 / values)


def _disk(device: Device, rates: Rates) -> float:
    return rates.disk_bytes_s or device.store_read_bytes_s or DISK_BYTES_S
