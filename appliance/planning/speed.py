"""How fast a device is: measured rates where there are any, else the datasheet times the share that is sustained.

A GPU's peak is that of its datasheet (appliance/machine/datasheets.py). The sustained share of it was measured for
Hopper on one H100 (kernels/measured/), and is as published for all others. `rushes doctor --calibrate` replaces it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from appliance.machine.datasheets import named, peak
from appliance.machine.device import Device, Gpu
from appliance.machine.rates import Rates

# CPU: the shipped model runs at 216 GFLOP/s on one quiet core of a Xeon with AMX, at 90 to 160 with AVX-512 alone, and
# a laptop without either reaches about 30: the slowest is assumed until takes are measured.
CPU_FLOPS_A_CORE = 30e9

# The GPU that stands for a generation where name and size are not known: a small one of it.
STANDS_FOR = {
    (7, 5): "T4", (8, 0): "A30", (8, 6): "RTX 3060 12GB", (8, 9): "RTX 4060", (9, 0): "H100 PCIe", (10, 0): "B200",
    (12, 0): "RTX 5060",
}  # fmt: skip


class Sustained(NamedTuple):
    """Shares of the peak that matrix products reach; and of those, the share that attention reaches."""

    int8: float
    bf16: float
    attention: float = 1.0


# By the lowest capability. Published: Wan's own code, whole forwards, reaches 63 to 66 % of bf16 on an A100 and a 4090
# and 36 to 51 % on an H100, assumed for Blackwell's datacenter GPUs too; int8 attention 71 % of its mixed peak
# on a 3090 and a 4090, kernel alone.
#
# Hopper, measured on an H100 SXM (peaks 1979 and 989.5 T): the products of one block of Wan 14B at 720p, six of 5120 x
# 5120 and the feed-forward's two, 45.2 T: int8 in 6 * 3.669 + 10.479 + 10.076 = 42.6 ms, 1061 T/s or 0.54; bf16 in
# 6 * 5.201 + 15.270 + 14.406 = 60.9 ms, 742 T/s or 0.75. cuDNN's attention, the median of six: 117.1 T in 208.6 ms,
# 561 T/s, 0.76 of that. So a forward of Wan 14B at 480p is estimated at 2.47 s and one of the 1.3B at 0.47 s: 2.53 s
# and 0.50 s were measured; a block of the 14B at 720p at 258 ms, as measured.
SUSTAINED = {
    (0, 0): Sustained(0.55, 0.55),
    (9, 0): Sustained(0.54, 0.75, 0.76),
    (10, 0): Sustained(0.42, 0.42),
    (12, 0): Sustained(0.55, 0.55),
}
SUSTAINED_CONV = 0.3  # of bf16, decoding film: convolutions, between norms that are memory-bound
SUSTAINED_COPY = 0.85  # of the memory's datasheet
SUSTAINED_LINK = 0.75  # of PCIe: 24 GB/s of 31.5 on 4.0 x16
UPLOAD_BYTES_S = 11.5e9  # PCIe 3.0 x16, where the link is not known
DISK_BYTES_S = 1e9  # between a SATA SSD (0.5) and an NVMe drive (2 to 7)


@dataclass(frozen=True, slots=True)
class Speed:
    """Sustained rates of a device: FLOP/s of matrices and of attention, bytes/s of memory, link and disk."""

    int8: float
    bf16: float
    attention: float
    film: float  # FLOP/s of the autoencoder
    copy: float
    upload: float
    disk: float


def cpu_speed(device: Device, rates: Rates | None = None) -> Speed:
    """The CPU's rates: all precisions alike, nothing to upload."""
    rates, flops = rates or Rates(), device.cores * CPU_FLOPS_A_CORE
    int8, bf16 = rates.flops_int8 or flops, rates.flops_bf16 or flops
    return Speed(int8, bf16, bf16, bf16, rates.copy_bytes_s or 1e10, math.inf, _disk(device, rates))


def gpu_speed(gpu: Gpu, device: Device, attention: str, rates: Rates | None = None) -> Speed:
    """A GPU's rates with an implementation of attention (of kernels/dispatch.py)."""
    rates, capability = rates or Rates(), gpu.capability or (7, 5)
    alike = named(STANDS_FOR[max((found for found in STANDS_FOR if found <= capability), default=(7, 5))])
    most = peak(gpu) or peak(alike)
    assert most is not None  # every GPU of the table has one
    share = SUSTAINED[max(found for found in SUSTAINED if found <= capability)]
    int8 = rates.flops_int8 or share.int8 * most.flops_int8
    bf16 = rates.flops_bf16 or share.bf16 * most.flops_bf16
    link = gpu.pcie_bytes_s
    return Speed(
        int8=int8,
        bf16=bf16,
        attention=share.attention * _attention(attention, int8, bf16, most.flops_f16 / most.flops_bf16),
        film=bf16 * SUSTAINED_CONV / share.bf16,
        copy=rates.copy_bytes_s or SUSTAINED_COPY * (gpu.bandwidth_bytes_s or alike.bandwidth_bytes_s or 1e11),
        upload=rates.upload_bytes_s or (SUSTAINED_LINK * link if link else UPLOAD_BYTES_S),
        disk=_disk(device, rates),
    )


def _attention(kind: str, int8: float, bf16: float, in_f16: float) -> float:
    """Half of the products are queries with keys, half weights with values: the harmonic mean of the two rates.
    `in_f16`: how much faster float16 accumulation is than float32.
    """
    if kind == "sdpa":
        return bf16
    values = {"int8_f32": bf16, "int8_f16": bf16 * in_f16, "int8_fp8_f16": int8}[kind]
    return 2 / (1 / int8 + 1 / values)


def _disk(device: Device, rates: Rates) -> float:
    return rates.disk_bytes_s or device.store_read_bytes_s or DISK_BYTES_S
