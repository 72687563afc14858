"""The host: memory, swap, cores and their features, disk, containers, WSL, encoders."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping
from fractions import Fraction
from importlib import metadata
from pathlib import Path

from appliance import paths
from appliance.machine.cgroups import cgroup_memory, cgroup_swap_free, cores, read
from appliance.machine.device import Device
from appliance.machine.disk_speed import known_speed, read_speed

_CPU_FLAGS = (  # decide how fast int8 and bf16 run on a CPU
    "avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimddp", "i8mm", "bf16",
)  # fmt: skip
_H264 = ("libx264", "h264_nvenc", "h264_qsv", "h264_amf", "h264_vaapi", "h264_videotoolbox", "libopenh264")
_CONTAINERS = (  # (a file or folder that it creates, its name): a pod may have docker's too
    ("run/secrets/kubernetes.io", "kubernetes"), ("var/run/secrets/kubernetes.io", "kubernetes"),
    (".dockerenv", "docker"), ("run/.containerenv", "podman"), (".singularity.d", "apptainer"),
)  # fmt: skip
_IN_CGROUP = (("kubepods", "kubernetes"), ("docker", "docker"), ("libpod", "podman"), ("lxc", "lxc"))


def find_host(thorough: bool = False) -> Device:
    """This machine without its GPUs. `thorough` measures the model store and lists the encoders of PyAV."""
    import psutil

    memory = psutil.virtual_memory()
    total, free = memory.total, memory.available
    if (limit := cgroup_memory()) is not None:
        total, free = min(total, limit[0]), min(free, limit[1])
    swap = psutil.swap_memory().free
    if (allowed := cgroup_swap_free()) is not None:
        swap = min(swap, allowed)
    cpu, flags = cpu_facts()
    speed = read_speed(paths.weights()) if thorough else known_speed(paths.weights())
    return Device(
        name=platform.node(),
        cpu=cpu,
        cores=cores(),
        cpu_flags=flags,
        ram_total_bytes=total,
        ram_free_bytes=free,
        disk_free_bytes=disk_free_bytes(paths.takes()),
        torch=version_of("torch"),
        swap_free_bytes=swap,
        store_read_bytes_s=None if speed is None else speed.bytes_s,
        wsl=in_wsl(),
        container=container(),
        encoders=h264_encoders() if thorough else (),
    )


def disk_free_bytes(path: Path) -> int | None:
    """Bytes free on the disk of `path`, which need not exist; None when the system does not report them."""
    try:
        there = next((folder for folder in (path, *path.parents) if folder.exists()), None)
        return None if there is None else shutil.disk_usage(there).free
    except OSError:
        return None


def cpu_facts(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, tuple[str, ...]]:
    """The CPU's name, and those of its flags that matter here."""
    facts: dict[str, str] = {}
    for line in read(cpuinfo).splitlines():
        name, _, value = line.partition(":")
        facts.setdefault(name.strip(), value.strip())
    flags = set((facts.get("flags") or facts.get("Features") or "").split())
    name = facts.get("model name") or platform.processor() or platform.machine()
    return name, tuple(flag for flag in _CPU_FLAGS if flag in flags)


def in_wsl(root: Path = Path("/")) -> bool:
    """Whether this Linux runs inside Windows: the kernel's release names Microsoft."""
    return "microsoft" in read(root / "proc/sys/kernel/osrelease").lower()


def container(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> str | None:
    """The kind of container this process runs in, by the files each creates; None outside a container."""
    if "KUBERNETES_SERVICE_HOST" in environ:
        return "kubernetes"
    for trace, name in _CONTAINERS:
        if (root / trace).exists():
            return name
    if stated := environ.get("container") or read(root / "run/systemd/container"):
        return stated
    groups = read(root / "proc/self/cgroup") + read(root / "proc/1/cgroup")
    return next((name for trace, name in _IN_CGROUP if trace in groups), None)


def h264_encoders() -> tuple[str, ...]:
    """The H.264 encoders that open here, software first; PyAV is built with the hardware ones of other machines too."""
    return tuple(name for name in _H264 if _opens(name))


def _opens(encoder: str) -> bool:
    import av

    try:
        context = av.codec.CodecContext.create(encoder, "w")
        assert isinstance(context, av.VideoCodecContext)
        context.width, context.height = 256, 256  # hardware encoders refuse less than about 145
        context.pix_fmt, context.time_base = "yuv420p", Fraction(1, 25)
        context.open()
    except (av.error.FFmpegError, ValueError):  # no such hardware; not built into this PyAV
        return False
    return True


def version_of(package: str) -> str | None:
    """The installed version of a package, without importing it; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
