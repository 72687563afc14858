"""What `rushes doctor` examines: each check finds a fact, says whether it is well, and what to do if it is not."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

from appliance import paths
from appliance.daemon import instance as house
from appliance.machine.device import Device
from appliance.machine.host import disk_free_bytes, version_of
from appliance.machine.probe import probe
from appliance.units import bytes_words
from models.errors import RushesError

DISK_WORRY_BYTES = 2 * 2**30


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    found: str
    remedy: str = ""  # said when it is not well


def examine() -> list[Check]:
    """Every check, in the order that matters to somebody who wants to shoot."""
    checks = (_python, _device, _torch, _kernels, _weights, _encoder, _disk, _database, _library, _daemon)
    return [_safely(check) for check in checks]


def _safely(check: Callable[[], Check]) -> Check:
    """A check that cannot be made is a finding too, not the end of the others."""
    try:
        found = check()
        return replace(found, remedy="") if found.ok else found
    except (RushesError, OSError, ImportError) as error:
        return Check(check.__name__.strip("_"), False, str(error), "put this right first, then run doctor again")


def _python() -> Check:
    found = f"{platform.python_version()} in {sys.prefix}"
    return Check("python", sys.version_info >= (3, 11), found, "install Python 3.11 or newer, then install/try.sh")


def _device() -> Check:
    return Check("device", True, probe().words)


def _torch() -> Check:
    """From package metadata: importing torch takes seconds."""
    torch, triton = version_of("torch"), version_of("triton")
    if torch is None:
        return Check("torch", False, "torch is not installed", "run install/try.sh again")
    beside = f"triton {triton}" if triton else "no triton (the CPU needs none)"
    return Check("torch", True, f"torch {torch}, {beside}")


def _kernels() -> Check:
    return kernels_of(probe())


def kernels_of(device: Device) -> Check:
    """How a GPU's kernels are launched: the one thing for which Triton asks a compiler of the machine's."""
    if not device.gpus:
        return Check("kernels", True, "not needed: without a GPU everything is plain torch")
    if not device.torch_has_cuda:
        return Check("kernels", True, f"not used: torch {device.torch} renders on the CPU")
    from kernels.toolchain.driver import way  # start-up

    found = way(paths.kernels())
    return Check("kernels", found.kind != "none", found.words, found.remedy)


def _weights() -> Check:
    from appliance.catalog.installed import prove, shipped  # start-up

    facts = shipped()
    digest = prove(facts)
    found = f"{facts.card}, {facts.parameters:,} parameters, {bytes_words(facts.file_bytes)}, whole ({digest[:12]})"
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
    return Check("disk", free >= DISK_WORRY_BYTES, found, "free some space, or point RUSHES_HOME at a larger disk")


def _database() -> Check:
    from appliance.library.connection import sqlite3, sqlite_version_ok  # start-up

    return Check(
        "sqlite", sqlite_version_ok(), f"SQLite {sqlite3.sqlite_version}",
        "this SQLite can corrupt a busy library: install pysqlite3 0.6.1 or newer into Rushes' environment",
    )  # fmt: skip


def _library() -> Check:
    from appliance.library.library import Library  # start-up

    with Library.open() as library:
        faults = library.faults()
        newest = library.takes(limit=1)
    found = f"{paths.library()}, whole, " + (f"newest take {newest[0].slate}" if newest else "no takes yet")
    if faults:
        return Check("library", False, "; ".join(faults), f"copy {paths.library()} away and restore a backup")
    return Check("library", True, found)


def _daemon() -> Check:
    pid = house.daemon_pid()
    found = f"serving, process {pid}" if pid else "not running; the next shot starts it"
    return Check("daemon", True, found)


def process_name(pid: int) -> str | None:
    """What a process is called; None for the daemon of this house and what it started."""
    import psutil

    from appliance.daemon.instance import daemon_pid  # start-up

    try:
        process = psutil.Process(pid)
        family = {pid, *(parent.pid for parent in process.parents())}
        return None if daemon_pid() in family else process.name()
    except psutil.Error:  # it has ended, or is another's
        return "?"
