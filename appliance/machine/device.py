"""A machine and what is free on it: frozen facts in bytes, hertz, watts. `probe` fills them in for this machine.

What the hardware does not report is None, never a guess. GPUs come in the order in which CUDA numbers them when
CUDA_DEVICE_ORDER is PCI_BUS_ID (the worker sets it), less what CUDA_VISIBLE_DEVICES and MIG hide: `gpus[0]` is cuda:0
even if its NVML index is another. Nothing here needs a GPU, a driver or torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.units import bytes_words

# Bytes a second and lane, one way, after line coding: GT/s x 8b/10b up to generation 2, x 128b/130b up to 5, / 8.
PCIE_LANE_BYTES_S = {1: 0.25e9, 2: 0.5e9, 3: 0.985e9, 4: 1.969e9, 5: 3.938e9, 6: 7.563e9}


@dataclass(frozen=True, slots=True)
class Gpu:
    """One NVIDIA GPU as CUDA shows it: a whole one, or a MIG slice of one. Memory is in bytes; None is not
    reported.
    """

    index: int  # NVML's, not CUDA's; a slice has its parent's
    uuid: str  # "GPU-...", "MIG-..."
    name: str
    capability: tuple[int, int] | None  # (9, 0) is Hopper
    total_bytes: int | None  # a slice's own
    free_bytes: int | None
    reserved_bytes: int | None = None  # by the driver and the firmware: neither free nor held by a process
    sm_count: int | None = None
    sm_clock_mhz: int | None = None  # the highest it may run at
    mem_clock_mhz: int | None = None  # likewise, as NVML counts it: half of the data rate of a pin
    bus_width_bits: int | None = None
    bandwidth_bytes_s: float | None = None  # of its memory, by the two above; a slice has its share
    pcie_gen: int | None = None  # now: an idle GPU lowers it
    pcie_width: int | None = None
    pcie_gen_max: int | None = None  # of GPU and slot together
    pcie_width_max: int | None = None
    power_limit_w: float | None = None  # in force
    power_default_w: float | None = None  # the board's default limit
    power_draw_w: float | None = None
    temperature_c: int | None = None
    temperature_slow_c: int | None = None  # above it, the GPU throttles
    performance_state: int | None = None  # 0 is full speed, 8 and above is idle
    ecc: bool | None = None
    mig: str | None = None  # "1g.10gb" of a slice
    unified: bool = False  # its memory is shared with the system, counted once
    processes: tuple[tuple[int, int | None], ...] = ()  # (process id, bytes held), largest first

    @property
    def pcie_bytes_s(self) -> float | None:
        """What its PCIe link can carry one way: lanes of now, generation at work; None where it is not reported."""
        width, lane = self.pcie_width or self.pcie_width_max, self.pcie_gen_max or self.pcie_gen
        return None if width is None or lane not in PCIE_LANE_BYTES_S else width * PCIE_LANE_BYTES_S[lane]


@dataclass(frozen=True, slots=True)
class Device:
    """A machine at one moment."""

    name: str  # of the host
    cpu: str
    cores: int  # that this process may use
    cpu_flags: tuple[str, ...]
    ram_total_bytes: int  # of the machine, or what its container may have
    ram_free_bytes: int  # without swapping
    disk_free_bytes: int | None  # where takes are stored
    gpus: tuple[Gpu, ...] = ()  # in CUDA's order
    driver: str | None = None  # "570.86.15"
    cuda: str | None = None  # the newest that the driver supports: "12.8"
    no_gpu: str | None = None  # why `gpus` is empty
    torch: str | None = None  # the installed build: "2.13.0+cpu"; None when there is none
    swap_free_bytes: int | None = None
    store_read_bytes_s: float | None = None  # of the model store, without the page cache; None until it was measured
    wsl: bool = False  # Linux inside Windows
    container: str | None = None  # "docker", "podman", "kubernetes", ...
    encoders: tuple[str, ...] = ()  # of H.264 that open here; asked for only by a thorough probe
    unusable: tuple[str, ...] = ()  # GPUs of the machine that cannot be used, and why

    @property
    def torch_has_cuda(self) -> bool:
        """Whether the installed torch can use a GPU at all."""
        return self.torch is not None and "+cpu" not in self.torch

    @property
    def words(self) -> str:
        """One line for people."""
        flags = [flag for flag in self.cpu_flags if flag not in ("avx2", "avx512f")] or list(self.cpu_flags[:1])
        parts = [
            f"{self.cores} CPU cores" + (f" ({', '.join(flags)})" if flags else ""),
            f"{bytes_words(self.ram_free_bytes)} of {bytes_words(self.ram_total_bytes)} memory free",
        ]
        for index, gpu in enumerate(self.gpus):
            memory = "memory unknown"
            if gpu.free_bytes is not None and gpu.total_bytes is not None:
                memory = f"{bytes_words(gpu.free_bytes)} of {bytes_words(gpu.total_bytes)} free"
            parts.append(f"cuda:{index} {gpu.name}, {memory}")
        if not self.gpus:
            parts.append(f"no GPU ({self.no_gpu})" if self.no_gpu else "no GPU")
        elif not self.torch_has_cuda:
            parts.append(f"torch {self.torch} cannot use it")
        return "; ".join(parts)
