"""Restrict a process before it reads an untrusted file. Torch-free; complete on Linux only.

A process gives up rights for itself and cannot regain them: memory, time, file sizes, the network, writing outside one
folder, starting programs. Each function returns whether the system supports the restriction.
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
# System calls of Landlock, by which a process restricts its own file access: the same numbers on every architecture.
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
LANDLOCK_ABI, LANDLOCK_BENEATH = 1, 1
EXECUTE, READ_FILE, READ_DIR, REFER = 1 << 0, 1 << 2, 1 << 3, 1 << 13
RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1}  # file rights by Landlock version


def leave_network() -> bool:
    """Move this process, which must be single-threaded, to an empty network namespace. Returns whether that worked."""
    if sys.platform != "linux":
        return False
    libc = _libc()
    return not libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) or not libc.unshare(CLONE_NEWNET)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends."""
    if sys.platform == "linux":
        _libc().prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def limit(memory_bytes: int, file_bytes: int, cpu_seconds: int) -> bool:
    """Limit the address space to `memory_bytes` more than is in use, files to `file_bytes`, and CPU seconds.

    Returns whether memory could be limited.
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
    """From now on this process can write, create and remove files in `folder` only, and start no program.

    Returns whether the kernel supports that. Reading stays allowed: Python loads modules late.
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
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        beneath = struct.pack(
            "=Qi", rights & ~(EXECUTE | REFER), descriptor
        )  # REFER: no file from elsewhere can be linked
        return (
            libc.syscall(LANDLOCK_ADD, rules, LANDLOCK_BENEATH, beneath, 0) == 0
            and libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            and libc.syscall(LANDLOCK_RESTRICT, rules, 0) == 0
        )
    finally:
        os.close(descriptor)
        os.close(rules)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
