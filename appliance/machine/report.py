"""A machine described for people: its facts in rows, then a remark on each that costs time or memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from appliance.machine.datasheets import peak, sheet_of
from appliance.machine.device import Device, Gpu
from appliance.units import bytes_words, count_words

HELD_WORRY_BYTES = 512 * 2**20  # of one process; the windows of a desktop take less
UNSEEN_WORRY_BYTES = 2**30
SLOW_STORE_BYTES_S = 0.5e9  # what a SATA SSD reads; streamed weights wait for anything slower
CAPPED = 0.97  # of the board's default power limit
HOT_C = 3  # below the temperature at which it throttles
WORKING = 2  # performance states up to here run the link at full speed
ECC_TAKES_MEMORY = {(7, 5), (8, 6), (8, 9)}  # GDDR6; HBM and GDDR7 store the codes separately


def machine_rows(device: Device) -> list[tuple[str, str]]:
    """(what, its facts) of the host and each GPU. What is not known is left out."""
    flags = f" ({', '.join(device.cpu_flags)})" if device.cpu_flags else ""
    memory = [f"{bytes_words(device.ram_free_bytes)} of {bytes_words(device.ram_total_bytes)} free"]
    if device.swap_free_bytes is not None:
        memory.append(f"{bytes_words(device.swap_free_bytes)} of swap free" if device.swap_free_bytes else "no swap")
    environment = ["inside WSL"] * device.wsl + [f"in a container ({device.container})"] * (
        device.container is not None
    )
    disk = []
    if device.disk_free_bytes is not None:
        disk.append(f"{bytes_words(device.disk_free_bytes)} free for takes")
    if device.store_read_bytes_s is not None:
        disk.append(f"the model store reads {_rate(device.store_read_bytes_s)}")
    return [
        ("processor", f"{device.cpu}, {count_words(device.cores, 'core')}{flags}"),
        ("memory", ", ".join(memory)),
        ("system", ", ".join(environment)),
        ("disk", ", ".join(disk)),
        ("encoders", ", ".join(device.encoders)),
        *((f"cuda:{index}", "\n".join(_gpu_lines(gpu, device))) for index, gpu in enumerate(device.gpus)),
        ("no GPU", device.no_gpu or ""),
    ]


def remarks(device: Device, who: Callable[[int], str | None]) -> list[tuple[str, str]]:
    """(what, what is wrong with it and what to do): only what makes shots slower, smaller or impossible.

    `who` names the process of an id; None means one of Rushes' own.
    """
    found = [("GPU", words) for words in device.unusable]
    for index, gpu in enumerate(device.gpus):
        found += ((f"cuda:{index}", words) for words in _gpu_remarks(gpu, who))
    if device.gpus and not device.torch_has_cuda:
        found.append(("torch", f"{device.torch} has no CUDA: install its CUDA build, or every shot runs on the CPU"))
    if not device.gpus and device.container and device.driver is None:
        found.append(("GPU", "a container sees a GPU only if it was started with one (docker run --gpus all)"))
    if device.wsl:
        found.append(("memory", "Windows gives WSL half of it unless .wslconfig says more ([wsl2] memory=...)"))
    speed = device.store_read_bytes_s
    if speed is not None and speed < SLOW_STORE_BYTES_S:
        found.append(("disk", f"the model store reads {_rate(speed)}: large models wait for it: use an NVMe drive"))
    return found


def _gpu_lines(gpu: Gpu, device: Device) -> Iterator[str]:
    """Name and versions; memory; peak speed; link, power and temperature."""
    versions = (("capability", gpu.capability and ".".join(map(str, gpu.capability))), ("driver", device.driver))
    named = (f"{name} {value}" for name, value in (*versions, ("CUDA", device.cuda)) if value)
    yield ", ".join((gpu.name, *named))
    memory = []
    if gpu.free_bytes is not None and gpu.total_bytes is not None:
        memory.append(f"{bytes_words(gpu.free_bytes)} of {bytes_words(gpu.total_bytes)} free")
        memory += ["shared with the system"] * gpu.unified
    if gpu.reserved_bytes:
        memory.append(f"{bytes_words(gpu.reserved_bytes)} reserved by the driver")
    if gpu.bandwidth_bytes_s is not None:
        memory.append(_rate(gpu.bandwidth_bytes_s) + (f" over {gpu.bus_width_bits} bits" if gpu.bus_width_bits else ""))
    memory += ["error-correcting"] * bool(gpu.ecc)
    yield ", ".join(memory) or "memory unknown"
    speed = []
    if gpu.sm_count is not None:
        clock = f" at up to {gpu.sm_clock_mhz / 1000:.2f} GHz" if gpu.sm_clock_mhz else ""
        speed.append(f"{count_words(gpu.sm_count, 'multiprocessor')}{clock}")
    if (most := peak(gpu)) is not None:
        speed.append(f"at most {most.flops_int8 / 1e12:.0f} TOPS int8 by its datasheet")
    if speed:
        yield ", ".join(speed)
    state = []
    if gpu.pcie_width is not None and gpu.pcie_gen_max is not None:
        state.append(f"PCIe {gpu.pcie_gen_max}.0 x{gpu.pcie_width}")
    if gpu.power_limit_w is not None:
        draw = "" if gpu.power_draw_w is None else f"{gpu.power_draw_w:.0f} of "
        state.append(f"{draw}{gpu.power_limit_w:.0f} W")
    state += [f"{gpu.temperature_c} °C"] * (gpu.temperature_c is not None)
    if state:
        yield ", ".join(state)


def _gpu_remarks(gpu: Gpu, who: Callable[[int], str | None]) -> Iterator[str]:
    names = {pid: who(pid) for pid, _ in gpu.processes}
    for pid, held in gpu.processes:
        if held is not None and held >= HELD_WORRY_BYTES and names[pid] is not None:
            yield f"process {pid} ({names[pid]}) holds {bytes_words(held)} of its memory: end it before a large shot"
    unseen = _unseen_bytes(gpu)
    if unseen >= UNSEEN_WORRY_BYTES and None not in names.values():
        yield f"{bytes_words(unseen)} of its memory are held by processes that cannot be seen from here"
    yield from _link_remarks(gpu)
    if gpu.ecc and gpu.capability in ECC_TAKES_MEMORY and gpu.total_bytes:
        lost = bytes_words(gpu.total_bytes / 15)
        yield f"error correction takes {lost} of its memory: `nvidia-smi -e 0` and a restart free it"
    limit, board = gpu.power_limit_w, gpu.power_default_w
    if limit is not None and board is not None and limit < CAPPED * board:
        yield f"its power is capped at {limit:.0f} of {board:.0f} W: shots take longer (`nvidia-smi -pl {board:.0f}`)"
    now, slow = gpu.temperature_c, gpu.temperature_slow_c
    if now is not None and slow is not None and now >= slow - HOT_C:
        yield f"it is at {now} °C and slows down at {slow}: check its cooling"


def _link_remarks(gpu: Gpu) -> Iterator[str]:
    """Lanes and generation below what GPU and slot support. An idle link slows down by itself: no remark."""
    sheet = sheet_of(gpu)
    lanes = max(gpu.pcie_width_max or 0, sheet.lanes if sheet else 0)
    if gpu.pcie_width is not None and gpu.pcie_width < lanes:
        slower = lanes / gpu.pcie_width
        yield (
            f"it has {gpu.pcie_width} of {lanes} PCIe lanes: streamed weights take {slower:.0f} times as long;"
            " reseat it, or use the slot next to the processor"
        )
    most = gpu.pcie_gen_max
    if most is not None and sheet is not None and most < sheet.family.pcie_gen:
        yield f"its slot gives PCIe {most}.0, the GPU has {sheet.family.pcie_gen}.0: check the BIOS, or other slots"
    working = gpu.performance_state is not None and gpu.performance_state <= WORKING
    if working and most is not None and gpu.pcie_gen is not None and gpu.pcie_gen < most:
        yield f"its link runs at PCIe {gpu.pcie_gen}.0 of {most}.0 under load: check the riser or cable"


def _unseen_bytes(gpu: Gpu) -> int:
    """Memory that is neither free, nor reserved by the driver, nor of a process that reports it."""
    if gpu.total_bytes is None or gpu.free_bytes is None or gpu.unified:
        return 0
    reported = sum(held or 0 for _, held in gpu.processes)
    return gpu.total_bytes - gpu.free_bytes - (gpu.reserved_bytes or 0) - reported


def _rate(bytes_s: float) -> str:
    """In decimal units, as in datasheets."""
    return f"{bytes_s / 1e9:.0f} GB/s" if bytes_s >= 9.95e9 else f"{bytes_s / 1e9:.1f} GB/s"
