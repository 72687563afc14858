"""Measure how fast this machine's devices and disk are: `rushes doctor --calibrate`.

Devices are measured by a child process that loads torch (models/bench/device_rates.py); the disk is measured here. The
caller stores the documents in the library, and every later quote uses them.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import psutil

from appliance import paths
from appliance import processes as process
from appliance.machine.device import Device
from appliance.machine.disk_speed import read_speed
from appliance.machine.probe import probe
from appliance.machine.rates import Document, rates_of
from appliance.safe_text import one_line
from appliance.units import count_words
from models.errors import RushesError

BUSY = 0.5  # share of the cores in use by other programs above which figures are not of this machine alone
LONGEST_S = 300  # for measuring one device; the first use of a GPU compiles kernels


def calibrate() -> dict[str, Document]:
    """Measures every device that can render: "cpu" or "cuda:0" -> its document. Raises RushesError."""
    device, others = probe(), psutil.getloadavg()[0]
    disk = read_speed(paths.weights())
    documents = {name: measured(name, device.cores) for name in devices(device)}
    documents["cpu"]["troubles"] += busy_words(others, device.cores)
    for document in documents.values():
        document["rates"]["disk_bytes_s"] = disk.bytes_s if disk else None
    return documents


def devices(machine: Device) -> Iterator[str]:
    """The CPU, and each GPU that torch can use, as CUDA numbers them."""
    yield "cpu"
    if machine.torch_has_cuda:
        yield from (f"cuda:{index}" for index in range(len(machine.gpus)))


def measured(device: str, cores: int) -> Document:
    """The document of one device. Raises RushesError with the last line that the child printed, or how it ended."""
    command = process.module_command("models.bench.device_rates", "--device", device, "--threads", str(cores))
    # as appliance/machine/device.py numbers them
    environment = process.environment({"CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
    try:
        child = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LONGEST_S
        )
    except subprocess.TimeoutExpired:
        raise RushesError(
            f"{device} could not be measured in {LONGEST_S} s: end other programs that use it, and try again"
        ) from None
    if child.returncode:
        reason = child.stderr.strip().split("\n")[-1] or process.exit_words(child.returncode)
        raise RushesError(f"{device} could not be measured: {one_line(reason, limit=500)}")
    return json.loads(child.stdout.strip().split("\n")[-1])


def busy_words(others: float, cores: int) -> list[str]:
    """A warning where `others` programs, averaged over the last minute, used the cores that were measured."""
    if others <= BUSY * cores:
        return []
    return [
        f"{count_words(round(others), 'other program')} worked on {count_words(cores, 'core')}: measure again at rest"
    ]


def rows(documents: dict[str, Document]) -> list[tuple[str, str]]:
    """The documents as rows (device, text)."""
    found = []
    for device, document in documents.items():
        rates, wide = rates_of(document), "float32" if device == "cpu" else "16 bits"
        figures = [
            (rates.flops_int8, 1e9, "GFLOP/s in int8"), (rates.flops_bf16, 1e9, f"GFLOP/s in {wide}"),
            (rates.copy_bytes_s, 1e9, "GB/s copied"), (rates.upload_bytes_s, 1e9, "GB/s uploaded"),
            (rates.disk_bytes_s, 1e9, "GB/s from the disk"),
        ]  # fmt: skip
        words = [f"{rate / unit:,.{0 if rate > 100 * unit else 1}f} {name}" for rate, unit, name in figures if rate]
        if (seconds := document["block"]["seconds"]) is not None:
            words.append(f"one block of {document['block']['card']} in {1000 * seconds:.1f} ms")
        found.append((device, "\n".join([", ".join(words), *document["troubles"]])))
    return found
