"""The checks of `rushes doctor`: each gives what it found, whether that is in order, and the remedy if it is not."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

from appliance import paths
from appliance.daemon import instance
from appliance.machine.device import Device
from appliance.machine.host import disk_free_bytes, version_of
from appliance.machine.probe import probe
from appliance.units import bytes_words
from models.errors import RushesError

DISK_WORRY_BYTES = 2 * 2**30


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check."""

    name: str
    ok: bool
    found: str
    remedy: str = ""  # shown where `ok` is False


def examine() -> list[Check]:
    """The results of every check, in the order of the doctor's page."""
    checks = (_python, _device, _torch, _kernels, _weights, _encoder, _disk, _database, _library, _daemon)
    return [_safely(check) for check in checks]


def _safely(check: Callable[[], Check]) -> Check:
    """Run a check. An error in it, also one of an import, is a failed check, so that the others still run."""
    try:
        found = check()
        return replace(found, remedy="") if found.ok else found
    except (RushesError, OSError, ImportError) as error:
        return Check(check.__name__.strip("_"), False, str(error), "correct this, then run `rushes doctor` again")


def _python() -> Check:
    found = f"{platform.python_version()} in {sys.prefix}"
    return Check("python", sys.version_info >= (3, 11), found, "install Python 3.11 or newer, then install/try.sh")


def _device() -> Check:
    return Check("device", True, probe().words)


def _torch() -> Check:
    """Read from package metadata, because importing torch takes seconds."""
    torch, triton = version_of("torch"), version_of("triton")
    if torch is None:
        return Check("torch", False, "torch is not installed", "run install/try.sh again")
    compiler = f"triton {triton}" if triton else "no triton (not needed on the CPU)"
    return Check("torch", True, f"torch {torch}, {compiler}")


def _kernels() -> Check:
    return kernels_of(probe())


def kernels_of(device: Device) -> Check:
    """How Triton launches kernels on the GPU: for this it needs a prebuilt module or a C compiler on the machine."""
    if not device.gpus:
        return Check("kernels", True, "not needed: without a GPU, PyTorch renders on the CPU")
    if not device.torch_has_cuda:
        return Check("kernels", True, f"not used: torch {device.torch} renders on the CPU")
    from kernels.toolchain.driver import launcher_source  # start-up

    found = launcher_source(paths.kernels())
    return Check("kernels", found.kind != "none", found.text, found.remedy)


def _weights() -> Check:
    from appliance.catalog.installed import shipped, verify_data  # start-up

    facts = shipped()
    digest = verify_data(facts)
    found = f"{facts.card}, {facts.parameters:,} parameters, {bytes_words(facts.file_bytes)}, undamaged ({digest[:12]})"
    return Check("weights", True, found)


def _encoder() -> Check:
    import av

    try:
        av.codec.Codec("libx264", "w")
    except av.error.FFmpegError:
        return Check("encoder", False, f"PyAV {av.__version__} has no libx264", "install the av package from its wheel")
    return Check("encoder", True, f"H.264 by PyAV {av.__version__}")


def _disk() -> Check:
    free = disk_free_bytes(paths.home()) or 0
    found = f"{bytes_words(free)} free at {paths.home()}"
    return Check(
        "disk", free >= DISK_WORRY_BYTES, found, "free some space, or set RUSHES_HOME to a folder on a larger disk"
    )


def _database() -> Check:
    from appliance.library.connection import sqlite3, sqlite_version_ok  # start-up

    return Check(
        "sqlite", sqlite_version_ok(), f"SQLite {sqlite3.sqlite_version}",
        "this SQLite version can corrupt a library in use: install pysqlite3 0.6.1 or newer into Rushes' environment",
    )  # fmt: skip


def _library() -> Check:
    from appliance.library.library import Library  # start-up

    with Library.open() as library:
        faults = library.faults()
        newest = library.takes(limit=1)
    found = f"{paths.library()}, undamaged, " + (f"newest take {newest[0].slate}" if newest else "no takes yet")
    if faults:
        return Check(
            "library", False, "; ".join(faults), f"copy {paths.library()} to a safe place, then restore a backup"
        )
    return Check("library", True, found)


def _daemon() -> Check:
    pid = instance.daemon_pid()
    found = f"running, process {pid}" if pid else "not running; `rushes shoot` starts it"
    return Check("daemon", True, found)


def process_name(pid: int) -> str | None:
    """Name of a process; None for the daemon of this installation and its child processes."""
    import psutil

    try:
        process = psutil.Process(pid)
        family = {pid, *(parent.pid for parent in process.parents())}
        return None if instance.daemon_pid() in family else process.name()
    except psutil.Error:  # it has ended, or belongs to another user
        return "?"
