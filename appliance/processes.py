"""Child processes that cannot outlive their purpose: started in their own session, dead with their parent, told apart
by how they ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from appliance import paths

PARENT_PID = "RUSHES_PARENT_PID"  # environment: whom a child belongs to
KERNELS = "RUSHES_KERNELS"  # environment: where kernels/toolchain/driver.py looks for what it compiles, and keeps it
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent() -> None:
    """Called by a child as its first act: from now on it is killed at the moment its parent ends.

    A daemon killed with SIGKILL can clean nothing up, and a worker that lived on would hold the GPU's memory. Where the
    kernel has no such promise (it is Linux's), the end of the child's standard input is the only sign.
    """
    parent = int(os.environ.get(PARENT_PID, "0"))
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) was refused")
    if parent and os.getppid() != parent:  # it ended before the promise was made
        os._exit(0)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a child that runs our modules: the folder that holds the four packages comes first."""
    known = os.environ.get("PYTHONPATH")
    path = f"{paths.ROOT}{os.pathsep}{known}" if known else str(paths.ROOT)
    ours = {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", KERNELS: str(paths.kernels())}
    return {**os.environ, **ours, **(extra or {})}


def module_command(module: str, *arguments: str) -> list[str]:
    """The command that runs one of our modules with this Python. -P: never a module from the folder it starts in."""
    return [sys.executable, "-P", "-m", module, *arguments]


def start_child(command: Sequence[str], log: int) -> subprocess.Popen[bytes]:
    """A child with pipes for orders and reports, its errors in the log, in a session of its own.

    Its own session, so that Ctrl-C in a terminal reaches the parent alone and the whole group can be ended together.
    """
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env=environment({PARENT_PID: str(os.getpid())}),
        start_new_session=True,
    )


def start_detached(command: Sequence[str], log: Path) -> int:
    """A process that lives on when this one ends, with nothing but a log to write to; returns its id."""
    log.parent.mkdir(mode=0o770, parents=True, exist_ok=True)
    with open(log, "ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(),
            cwd=log.parent,
            start_new_session=True,
        )
    # Waited for in the background: a desk outlives many such daemons, and each would stay behind as a zombie.
    threading.Thread(target=process.wait, daemon=True).start()
    return process.pid


def end(process: subprocess.Popen[bytes], grace_s: float) -> int:
    """Ends a child and everything it started: asks, waits, then kills. Returns its exit status as Popen has it.

    The group is killed before the child is reaped: until then nobody else can be given its number.
    """
    if process.returncode is not None:
        return process.returncode
    if grace_s > 0 and not exited(process):
        _signal_group(process, signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        while not exited(process) and time.monotonic() < deadline:
            time.sleep(0.02)
    _signal_group(process, signal.SIGKILL)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):  # orders that were never read
                pipe.close()
    return process.wait()


def exited(process: subprocess.Popen[bytes]) -> bool:
    """Whether a child has ended, without reaping it."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def alive(pid: int) -> bool:
    """Whether a process of that id exists, whoever's it is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True  # somebody else's; or a number that no process can have, which nobody may call dead
    return True


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # gone already: the group is empty
        os.killpg(process.pid, number)


def exit_words(status: int) -> str:
    """How a child ended, for people: Popen's status is negative for a signal."""
    if status >= 0:
        return f"ended with exit code {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    if name == "SIGKILL":
        return "was killed (SIGKILL; the system may have run out of memory)"
    if name in ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT"):
        return f"crashed ({name})"
    return f"was ended by {name}"


def oom_kills() -> int:
    """How many processes the kernel has ended for want of memory since the machine started; 0 where it does not say."""
    try:
        facts = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
        return int(facts.get("oom_kill", 0))
    except (OSError, ValueError):
        return 0


def owner() -> str:
    """Who holds a claim, as the library stores it: "HOST BOOT PID". BOOT changes with every start of the machine, so
    that a power cut is told from a crash.
    """
    return f"{machine_name()} {boot_id()} {os.getpid()}"


def machine_name() -> str:
    """What this machine is called in the library: its host's name, as one word."""
    return "".join(os.uname().nodename.split()) or "-"


def boot_id() -> str:
    """This run of this machine; "-" where the kernel does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    except OSError:
        return "-"
