"""What a process may still do when it reads what cannot be trusted. Torch-free; Linux, and what other systems have.

A process gives these things up for itself and can not take them back: memory, time, the size of files, the network,
writing anywhere but in one folder, and starting programs. Where the system does not know how, that is said, not hidden.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import sys
from pathlib import Path

CLONE_NEWUSER, CLONE_NEWNET = 0x1000_0000, 0x4000_0000
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
# Landlock, the kernel's way for a process to confine itself: the same numbers on every architecture.
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
LANDLOCK_ABI, LANDLOCK_BENEATH = 1, 1
EXECUTE, READ_FILE, READ_DIR, REFER = 1 << 0, 1 << 2, 1 << 3, 1 << 13
RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1}  # of files, by the version of Landlock


def leave_network() -> bool:
    """Moves this process, which must have no second thread, to a network without a way out. Whether it could."""
    if sys.platform != "linux":
        return False
    libc = _libc()
    return not libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) or not libc.unshare(CLONE_NEWNET)


def die_with_parent() -> None:
    """Has the kernel end this process when its parent ends."""
    if sys.platform == "linux":
        _libc().prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def limit(memory_bytes: int, file_bytes: int, cpu_seconds: int) -> bool:
    """At most `memory_bytes` of addresses beyond those in use, files of `file_bytes`, and seconds of the processor.

    Whether memory could be bounded.
    """
    for which, most in (
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(which)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(which, (most, most))
    if sys.platform != "linux":
        return False
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + memory_bytes, used + memory_bytes))
    return True


def write_only_in(folder: Path) -> bool:
    """From now on this process writes, makes and removes files in `folder` only, and starts no program.

    Whether the kernel knows how. What it may read stays as it was: Python loads modules late.
    """
    if sys.platform != "linux":
        return False
    libc = _libc()
    version = libc.syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), LANDLOCK_ABI)
    if version < 1:
        return False
    rights = RIGHTS[min(version, max(RIGHTS))] & ~(READ_FILE | READ_DIR)
    handled = struct.pack("=Q", rights)
    rules = libc.syscall(LANDLOCK_CREATE, handled, ctypes.c_size_t(len(handled)), 0)
    if rules < 0:
        return False
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        beneath = struct.pack("=Qi", rights & ~(EXECUTE | REFER), place)  # nor may a file from elsewhere be linked in
        return (
            libc.syscall(LANDLOCK_ADD, rules, LANDLOCK_BENEATH, beneath, 0) == 0
            and libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            and libc.syscall(LANDLOCK_RESTRICT, rules, 0) == 0
        )
    finally:
        os.close(place)
        os.close(rules)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
