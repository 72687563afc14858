"""What this machine is and what of it is free now: frozen facts, in bytes. Nothing here needs a GPU, a driver or torch.

A query that the hardware does not answer is None, never a guess. GPUs come in the order in which CUDA numbers them when
CUDA_DEVICE_ORDER is PCI_BUS_ID (the worker sets it): that is NVML's own order, less what CUDA_VISIBLE_DEVICES hides, so
`gpus[0]` is cuda:0 though its NVML index may be another.
"""

from __future__ import annotations

import math
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from appliance import paths
from appliance.units import bytes_words

_CPU_FLAGS = (  # what decides how fast int8 and bf16 run on a CPU
    "avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimddp", "i8mm", "bf16",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Gpu:
    """One NVIDIA GPU. Memory is in bytes; None is what it does not tell."""

    index: int  # NVML's, not CUDA's
    uuid: str
    name: str
    capability: tuple[int, int] | None  # (9, 0) is Hopper
    total_bytes: int | None
    free_bytes: int | None


@dataclass(frozen=True, slots=True)
class Device:
    """A machine at one moment."""

    name: str  # of the host
    cpu: str
    cores: int  # that this process may use
    cpu_flags: tuple[str, ...]
    ram_total_bytes: int  # of the machine, or what its container may have
    ram_free_bytes: int  # without swapping
    disk_free_bytes: int | None  # where takes are kept
    gpus: tuple[Gpu, ...] = ()  # in CUDA's order
    driver: str | None = None  # "570.86.15"
    cuda: str | None = None  # the newest that the driver serves: "12.8"
    no_gpu: str | None = None  # why `gpus` is empty
    torch: str | None = None  # the installed build: "2.13.0+cpu"; None when there is none

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
        for place, gpu in enumerate(self.gpus):
            memory = "memory unknown"
            if gpu.free_bytes is not None and gpu.total_bytes is not None:
                memory = f"{bytes_words(gpu.free_bytes)} of {bytes_words(gpu.total_bytes)} free"
            parts.append(f"cuda:{place} {gpu.name}, {memory}")
        if not self.gpus:
            parts.append(f"no GPU ({self.no_gpu})" if self.no_gpu else "no GPU")
        elif not self.torch_has_cuda:
            parts.append(f"torch {self.torch} cannot use it")
        return "; ".join(parts)


def probe() -> Device:
    """This machine, now. Takes some milliseconds; the first call with a GPU some tens."""
    import psutil

    memory = psutil.virtual_memory()
    total, free = memory.total, memory.available
    if (limit := cgroup_memory()) is not None:
        total, free = min(total, limit[0]), min(free, limit[1])
    cpu, flags = _cpu()
    gpus, facts = _gpus(total, free)
    return Device(
        name=platform.node(),
        cpu=cpu,
        cores=cores(),
        cpu_flags=flags,
        ram_total_bytes=total,
        ram_free_bytes=free,
        disk_free_bytes=disk_free_bytes(paths.takes()),
        gpus=gpus,
        torch=version_of("torch"),
        **facts,
    )


def disk_free_bytes(path: Path) -> int | None:
    """Bytes free where `path` lies or would lie; None when the system does not tell."""
    try:
        there = next((folder for folder in (path, *path.parents) if folder.exists()), None)
        return None if there is None else shutil.disk_usage(there).free
    except OSError:
        return None


def cores(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int:
    """CPU cores this process may use: its affinity, and its container's quota rounded up."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder in _cgroup_folders(root, membership):
        quota = (_read(folder / "cpu.max") or "").split()
        if len(quota) == 2 and quota[0].isdigit() and quota[1].isdigit():
            allowed = min(allowed, math.ceil(int(quota[0]) / int(quota[1])))
    return max(1, allowed)


def cgroup_memory(
    root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> tuple[int, int] | None:
    """(limit, free) in bytes of the tightest container around this process; None where nothing limits it.

    Page cache that can be dropped at once (inactive_file) counts as free.
    """
    found = []
    for folder in _cgroup_folders(root, membership):
        for limit_name, used_name, cache_name in (
            ("memory.max", "memory.current", "inactive_file"),  # version 2
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),  # version 1
        ):
            limit, used = (_read(folder / name) or "" for name in (limit_name, used_name))
            if (
                limit.isdigit() and used.isdigit() and int(limit) < 1 << 60
            ):  # version 1 says "no limit" by a huge number
                stat = dict(
                    line.split(" ", 1) for line in (_read(folder / "memory.stat") or "").splitlines() if " " in line
                )
                cache = int(stat.get(cache_name, 0))
                found.append((int(limit), max(0, int(limit) - max(0, int(used) - cache))))
    return (min(limit for limit, _ in found), min(free for _, free in found)) if found else None


def _cgroup_folders(root: Path, membership: Path) -> list[Path]:
    """The folders of this process's control group and of all around it."""
    folders = []
    for line in (_read(membership) or "").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "memory" not in controllers.split(","):
            continue
        base = root / "memory" if controllers else root
        group = base / path.lstrip("/")
        folders += [group, *(parent for parent in group.parents if parent == base or base in parent.parents)]
    return folders


def _cpu() -> tuple[str, tuple[str, ...]]:
    """Its name and those of its flags that matter here."""
    facts: dict[str, str] = {}
    for line in (_read(Path("/proc/cpuinfo")) or "").splitlines():
        name, _, value = line.partition(":")
        facts.setdefault(name.strip(), value.strip())
    flags = set((facts.get("flags") or facts.get("Features") or "").split())
    return facts.get("model name") or platform.processor() or platform.machine(), tuple(
        f for f in _CPU_FLAGS if f in flags
    )


def _gpus(ram_total: int, ram_free: int) -> tuple[tuple[Gpu, ...], dict[str, str | None]]:
    """The GPUs CUDA would show, and what the driver says of itself. No driver is an answer, not an error."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return (), {"no_gpu": _nvml_words(error)}
    try:
        count = _ask(pynvml.nvmlDeviceGetCount) or 0
        every = [gpu for i in range(count) if (gpu := _gpu(pynvml, i, ram_total, ram_free)) is not None]
        cuda = _ask(pynvml.nvmlSystemGetCudaDriverVersion_v2)
        facts = {
            "driver": _ask(pynvml.nvmlSystemGetDriverVersion),
            "cuda": None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
        }
        seen = visible(every, os.environ.get("CUDA_VISIBLE_DEVICES"))
        if not seen:
            facts["no_gpu"] = "CUDA_VISIBLE_DEVICES hides it" if every else "the driver finds none"
        return seen, facts
    finally:
        _ask(pynvml.nvmlShutdown)


def visible(gpus: list[Gpu], wanted: str | None) -> tuple[Gpu, ...]:
    """The GPUs that CUDA_VISIBLE_DEVICES (`wanted`) leaves, in its order. Like CUDA, stops at the first wrong one."""
    if wanted is None:
        return tuple(gpus)
    seen: list[Gpu] = []
    for word in wanted.split(","):
        word = word.strip()
        match = [g for g in gpus if (word.isdigit() and g.index == int(word)) or (word and g.uuid.startswith(word))]
        if len(match) != 1 or match[0] in seen:
            break
        seen += match
    return tuple(seen)


def _gpu(pynvml: Any, index: int, ram_total: int, ram_free: int) -> Gpu | None:
    handle = _ask(pynvml.nvmlDeviceGetHandleByIndex, index)
    if handle is None:  # fallen off the bus, or not ours to see
        return None
    memory = _ask(pynvml.nvmlDeviceGetMemoryInfo, handle)
    name = _ask(pynvml.nvmlDeviceGetName, handle) or "NVIDIA GPU"
    capability = _ask(pynvml.nvmlDeviceGetCudaComputeCapability, handle)
    # A GPU that shares the host's memory answers "not supported": its memory is the host's.
    total, free = (memory.total, memory.free) if memory is not None else (ram_total, ram_free)
    uuid = _ask(pynvml.nvmlDeviceGetUUID, handle) or ""
    return Gpu(index, uuid, name, None if capability is None else tuple(capability), total, free)


def _ask(query: Callable[..., Any], *args: Any) -> Any:
    """One NVML query; None when this hardware or driver does not answer it."""
    import pynvml

    try:
        answer = query(*args)
    except pynvml.NVMLError:
        return None
    return answer.decode() if isinstance(answer, bytes) else answer


def _nvml_words(error: Exception) -> str:
    text = str(error).lower()
    if "not found" in text or "could not be located" in text:
        return "no NVIDIA driver is installed"
    return f"the NVIDIA driver says: {error}"


def version_of(package: str) -> str | None:
    """The installed version of a package, without importing it; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None
