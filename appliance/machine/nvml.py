"""GPUs as NVML reports them, in the order in which CUDA numbers them. What NVML does not answer is None.

The pynvml module is passed in and called through `Nvml` only. A missing or broken driver is reported, not raised.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from appliance.machine.device import Device, Gpu

# CUDA cores in a multiprocessor, by capability; 128 for those not listed (8.6, 8.9, 9.0, 10.0, 12.0).
_CORES_A_SM = {(6, 0): 64, (7, 0): 64, (7, 2): 64, (7, 5): 64, (8, 0): 64}
_UNKNOWN_STATE = 32  # of nvmlPstates_t
_EIGHTHS = 8  # MIG divides memory, and with it bandwidth, into eight slices


@dataclass(frozen=True, slots=True)
class Found:
    """A GPU or slice that CUDA could show, with the other names that CUDA_VISIBLE_DEVICES accepts for it."""

    gpu: Gpu
    parent: str = ""  # of a slice: its GPU's uuid
    old_name: str = ""  # of a slice: "MIG-GPU-uuid/instance/compute instance"


class Nvml:
    """The `pynvml` module, one query at a time."""

    def __init__(self, pynvml: Any) -> None:
        self._pynvml = pynvml
        self.error: type[Exception] = pynvml.NVMLError

    def ask(self, query: str, *args: Any) -> Any:
        """The answer to a query; None when this driver or hardware has none, or one that is not valid text."""
        try:
            answer = self.must(query, *args)
        except (self.error, UnicodeDecodeError, AttributeError):  # AttributeError: an older pynvml
            return None
        return answer.decode(errors="replace") if isinstance(answer, bytes) else answer

    def must(self, query: str, *args: Any) -> Any:
        """The answer to a query. Raises `error`."""
        return getattr(self._pynvml, query)(*args)

    def is_one_of(self, error: Exception, *names: str) -> bool:
        """Whether an NVML error is one of `names`, by the end of its constant: "GPU_IS_LOST"."""
        return getattr(error, "value", None) in [getattr(self._pynvml, f"NVML_ERROR_{name}") for name in names]

    def constant(self, name: str) -> Any:
        """A constant of the library; None in an older pynvml."""
        return getattr(self._pynvml, name, None)


def find_gpus(host: Device, pynvml: Any, wanted: str | None) -> Device:
    """`host` with the GPUs that CUDA would show there, in its order. `wanted` is CUDA_VISIBLE_DEVICES."""
    nvml = Nvml(pynvml)
    try:
        nvml.must("nvmlInit")
    except nvml.error as error:
        return replace(host, no_gpu=_no_driver(nvml, error))
    try:
        found: list[Found] = []
        unusable: list[str] = []
        for index in range(nvml.ask("nvmlDeviceGetCount") or 0):
            for outcome in _gpus_at(nvml, index, host):
                (unusable if isinstance(outcome, str) else found).append(outcome)  # type: ignore[arg-type]
        seen, hidden = visible(found, wanted)
        cuda = nvml.ask("nvmlSystemGetCudaDriverVersion_v2")
        return replace(
            host,
            gpus=seen,
            driver=nvml.ask("nvmlSystemGetDriverVersion"),
            cuda=None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
            no_gpu=None if seen else _none_seen(found, unusable),
            unusable=(*unusable, *hidden),
        )
    finally:
        nvml.ask("nvmlShutdown")


def visible(found: list[Found], wanted: str | None) -> tuple[tuple[Gpu, ...], tuple[str, ...]]:
    """(what CUDA shows, in its order; a line on each GPU that MIG alone hides). `wanted` is CUDA_VISIBLE_DEVICES.

    Like CUDA, stops at the first invalid name. Of MIG slices CUDA shows one, the first, and then no whole GPU
    (NVIDIA's MIG user guide, "CUDA device enumeration").
    """
    seen: list[Found] = []
    for word in [None] if wanted is None else wanted.split(","):
        match = found if word is None else _selected(found, word.strip())
        if not match or match[0] in seen:
            break
        seen += match
    slices = [each for each in seen if each.gpu.mig]
    if not slices:
        return tuple(each.gpu for each in seen), ()
    hidden = [each.gpu for each in seen if each is not slices[0]]
    words = [f"{gpu.name} ({gpu.uuid}): CUDA shows one MIG slice and no other GPU" for gpu in hidden]
    return (slices[0].gpu,), tuple(words)


def _selected(found: list[Found], word: str) -> list[Found]:
    """The one that an entry of CUDA_VISIBLE_DEVICES selects: an NVML index, a uuid or an unambiguous prefix of one, a
    slice's old name. A GPU divided by MIG stands for its first slice. Empty where it selects none, or several.
    """
    if word.isdigit():
        return [each for each in found if each.gpu.index == int(word)][:1]
    if not word:
        return []
    match = [each for each in found if each.gpu.uuid.startswith(word) or each.old_name == word]
    if not match:
        match = [each for each in found if each.parent.startswith(word)]
        return match[:1] if len({each.parent for each in match}) == 1 else []
    return match if len(match) == 1 else []


def _gpus_at(nvml: Nvml, index: int, host: Device) -> Iterator[Found | str]:
    """GPU number `index` of NVML, or its slices, or why it cannot be used."""
    try:
        handle = nvml.must("nvmlDeviceGetHandleByIndex", index)
    except nvml.error as error:
        yield _lost(nvml, index, error)
        return
    try:
        gpu = _whole(nvml, handle, index, host)
    except nvml.error as error:
        yield _lost(nvml, index, error)
        return
    if (nvml.ask("nvmlDeviceGetMigMode", handle) or [0])[0] == 0:
        yield Found(gpu)
        return
    slices = 0
    for position in range(nvml.ask("nvmlDeviceGetMaxMigDeviceCount", handle) or 0):
        part = nvml.ask("nvmlDeviceGetMigDeviceHandleByIndex", handle, position)
        if part is not None:
            slices += 1
            yield _slice(nvml, part, gpu)
    if not slices:
        yield f"GPU {index}, {gpu.name}: MIG is on and has no slice; make one (nvidia-smi mig -cgi), or turn MIG off"


def _whole(nvml: Nvml, handle: Any, index: int, host: Device) -> Gpu:
    """A whole GPU. Raises nvml.error where it is lost; one that only does not report its memory is not."""
    capability = nvml.ask("nvmlDeviceGetCudaComputeCapability", handle)
    capability = None if capability is None else (capability[0], capability[1])
    cores = nvml.ask("nvmlDeviceGetNumGpuCores", handle)
    clock = nvml.ask("nvmlDeviceGetMaxClockInfo", handle, nvml.constant("NVML_CLOCK_MEM")) or None
    bus = nvml.ask("nvmlDeviceGetMemoryBusWidth", handle) or None
    limit = nvml.ask("nvmlDeviceGetEnforcedPowerLimit", handle) or nvml.ask("nvmlDeviceGetPowerManagementLimit", handle)
    slow = nvml.constant("NVML_TEMPERATURE_THRESHOLD_SLOWDOWN")
    state = nvml.ask("nvmlDeviceGetPerformanceState", handle)
    ecc = nvml.ask("nvmlDeviceGetEccMode", handle)
    total, free, reserved, unified = _memory(nvml, handle, host)
    return Gpu(
        index=index,
        uuid=nvml.ask("nvmlDeviceGetUUID", handle) or "",
        name=nvml.ask("nvmlDeviceGetName", handle) or "NVIDIA GPU",
        capability=capability,
        total_bytes=total,
        free_bytes=free,
        reserved_bytes=reserved,
        sm_count=cores // _CORES_A_SM.get(capability, 128) if cores and capability else None,
        sm_clock_mhz=nvml.ask("nvmlDeviceGetMaxClockInfo", handle, nvml.constant("NVML_CLOCK_SM")) or None,
        mem_clock_mhz=clock,
        bus_width_bits=bus,
        # Two bits a pin and clock on every memory that NVML counts: GDDR5 to 7 by its half rate, HBM by its own.
        bandwidth_bytes_s=2 * clock * 1e6 * bus / 8 if clock and bus else None,
        pcie_gen=nvml.ask("nvmlDeviceGetCurrPcieLinkGeneration", handle) or None,
        pcie_width=nvml.ask("nvmlDeviceGetCurrPcieLinkWidth", handle) or None,
        pcie_gen_max=nvml.ask("nvmlDeviceGetMaxPcieLinkGeneration", handle) or None,
        pcie_width_max=nvml.ask("nvmlDeviceGetMaxPcieLinkWidth", handle) or None,
        power_limit_w=_watts(limit),
        power_default_w=_watts(nvml.ask("nvmlDeviceGetPowerManagementDefaultLimit", handle)),
        power_draw_w=_watts(nvml.ask("nvmlDeviceGetPowerUsage", handle)),
        temperature_c=nvml.ask("nvmlDeviceGetTemperature", handle, nvml.constant("NVML_TEMPERATURE_GPU")),
        temperature_slow_c=nvml.ask("nvmlDeviceGetTemperatureThreshold", handle, slow) or None,
        performance_state=None if state == _UNKNOWN_STATE else state,
        ecc=None if ecc is None else bool(ecc[0]),
        unified=unified,
        processes=_processes(nvml, handle),
    )


def _slice(nvml: Nvml, part: Any, whole: Gpu) -> Found:
    """A MIG slice: its own memory, multiprocessors and processes; everything else as its parent GPU."""
    cut = nvml.ask("nvmlDeviceGetAttributes_v2", part)
    memory = nvml.ask("nvmlDeviceGetMemoryInfo", part)
    total = None if memory is None else int(memory.total)
    share = None
    if whole.bandwidth_bytes_s and whole.total_bytes and total:
        eighths = min(_EIGHTHS, max(1, round(_EIGHTHS * total / whole.total_bytes)))
        share = whole.bandwidth_bytes_s * eighths / _EIGHTHS
    name = nvml.ask("nvmlDeviceGetName", part) or whole.name
    profile = name.partition(" MIG ")[2]  # as newer drivers name it: "NVIDIA A100-SXM4-40GB MIG 1g.5gb"
    if not profile:
        profile = _profile(cut) or "slice"
        name = f"{name} MIG {profile}"
    gpu = replace(
        whole,
        uuid=nvml.ask("nvmlDeviceGetUUID", part) or "",
        name=name,
        total_bytes=total,
        free_bytes=None if memory is None else int(memory.free),
        reserved_bytes=None,
        sm_count=None if cut is None else int(cut.multiprocessorCount),
        bandwidth_bytes_s=share,
        mig=profile,
        processes=_processes(nvml, part),
    )
    ids = (nvml.ask(f"nvmlDeviceGet{kind}InstanceId", part) for kind in ("Gpu", "Compute"))
    return Found(gpu, whole.uuid, "/".join((f"MIG-{whole.uuid}", *map(str, ids))))


def _profile(cut: Any) -> str | None:
    """ "1g.5gb", or "1c.3g.20gb" of a part of a slice. Gigabytes are of the slice, rounded up as NVIDIA does."""
    if cut is None:
        return None
    compute, instance = int(cut.computeInstanceSliceCount), int(cut.gpuInstanceSliceCount)
    part = f"{compute}c." if compute != instance else ""
    return f"{part}{instance}g.{-(-int(cut.memorySizeMB) // 1024)}gb"


def _memory(nvml: Nvml, handle: Any, host: Device) -> tuple[int | None, int | None, int | None, bool]:
    """(total, free, reserved, unified). Raises nvml.error where the GPU is lost."""
    newer = nvml.ask("nvmlDeviceGetMemoryInfo", handle, nvml.constant("nvmlMemory_v2"))
    if newer is not None:
        return int(newer.total), int(newer.free), getattr(newer, "reserved", None), False
    try:
        memory = nvml.must("nvmlDeviceGetMemoryInfo", handle)
    except nvml.error as error:
        if nvml.is_one_of(error, "NOT_SUPPORTED"):  # the answer of a GPU that shares the system's memory
            return host.ram_total_bytes, host.ram_free_bytes, None, True
        if nvml.is_one_of(error, "GPU_IS_LOST", "RESET_REQUIRED"):
            raise
        return None, None, None, False
    return int(memory.total), int(memory.free), None, False


def _processes(nvml: Nvml, handle: Any) -> tuple[tuple[int, int | None], ...]:
    """(pid, bytes) of each process with memory there. One that computes and draws is listed twice with the same sum."""
    held: dict[int, int | None] = {}
    for kind in ("Compute", "Graphics", "MPSCompute"):
        for process in nvml.ask(f"nvmlDeviceGet{kind}RunningProcesses", handle) or ():
            known = held.get(process.pid)
            used = process.usedGpuMemory  # None under WSL and in some containers
            held[process.pid] = used if known is None else known if used is None else max(known, used)
    return tuple(sorted(held.items(), key=lambda pair: (-(pair[1] or 0), pair[0])))


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000


def _lost(nvml: Nvml, index: int, error: Exception) -> str:
    if nvml.is_one_of(error, "NO_PERMISSION"):
        return f"GPU {index}: this user may not open it; allow /dev/nvidia{index} to its group"
    return f"GPU {index} does not answer ({error}): restart the machine"


def _no_driver(nvml: Nvml, error: Exception) -> str:
    """Why NVML cannot be used."""
    if nvml.is_one_of(error, "LIBRARY_NOT_FOUND"):
        return "no NVIDIA driver is installed"
    if nvml.is_one_of(error, "DRIVER_NOT_LOADED"):
        return "the NVIDIA driver is installed but not running: load it (modprobe nvidia) or restart the machine"
    if nvml.is_one_of(error, "LIB_RM_VERSION_MISMATCH"):
        return "the NVIDIA driver was updated while the old one is loaded: restart the machine"
    return f"the NVIDIA driver reports: {error}"


def _none_seen(found: list[Found], unusable: list[str]) -> str:
    if found:
        return "CUDA_VISIBLE_DEVICES hides it"
    return unusable[0] if unusable else "the driver finds none"
