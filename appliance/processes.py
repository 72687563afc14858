"""Child processes: started in their own session, killed when their parent ends, and how they ended in words."""

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

PARENT_PID = "RUSHES_PARENT_PID"  # environment: the process id of a child's parent
KERNELS = "RUSHES_KERNELS"  # environment: the folder in which kernels/toolchain/driver.py caches what it compiles
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent() -> None:
    """Called by a child first of all: from now on the kernel kills it when its parent ends.

    A daemon that is killed with SIGKILL cannot end its worker, which would hold the GPU's memory. Only Linux can do
    this; elsewhere the end of its standard input tells the child.
    """
    parent = int(os.environ.get(PARENT_PID, "0"))
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) was refused")
    if parent and os.getppid() != parent:  # the parent ended before prctl
        os._exit(0)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a child that runs our modules: our four packages come first in PYTHONPATH."""
    other = os.environ.get("PYTHONPATH")
    path = f"{paths.ROOT}{os.pathsep}{other}" if other else str(paths.ROOT)
    ours = {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", KERNELS: str(paths.kernels())}
    return {**os.environ, **ours, **(extra or {})}


def module_command(module: str, *arguments: str) -> list[str]:
    """The command that runs one of our modules with this Python. -P: no module from its working folder."""
    return [sys.executable, "-P", "-m", module, *arguments]


def start_child(command: Sequence[str], log: int) -> subprocess.Popen[bytes]:
    """A child with pipes for standard input and output, and its errors in the log.

    In a session of its own, so that Ctrl-C in a terminal reaches only the parent and the group can be ended together.
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
    """Starts a process that outlives this one and writes only to a log; returns its id."""
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
    # Waited for in the background: a desk outlives many such daemons, and each would stay a zombie.
    threading.Thread(target=process.wait, daemon=True).start()
    return process.pid


def end(process: subprocess.Popen[bytes], grace_s: float) -> int:
    """Ends a child and all that it started: SIGTERM, then SIGKILL after `grace_s`. Returns Popen's exit status.

    The group is killed before the child is reaped: until then its process id cannot be reused.
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
            with contextlib.suppress(OSError):  # unread orders
                pipe.close()
    return process.wait()


def exited(process: subprocess.Popen[bytes]) -> bool:
    """Whether a child has ended, without reaping it."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def alive(pid: int) -> bool:
    """Whether a process of that id exists, of any user."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True  # of another user; out-of-range pid: treat as alive
    return True


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # the group has ended already
        os.killpg(process.pid, number)


def exit_words(status: int) -> str:
    """How a child ended, in words; Popen's status is negative for a signal."""
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
    """How many processes the kernel's OOM killer has ended since boot; 0 where that is not known."""
    try:
        facts = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
        return int(facts.get("oom_kill", 0))
    except (OSError, ValueError):
        return 0


def owner() -> str:
    """This process as the library stores the owner of a claim: "HOST BOOT PID". BOOT changes with every start of the
    machine, so that a power cut can be told from a crash.
    """
    return f"{machine_name()} {boot_id()} {os.getpid()}"


def machine_name() -> str:
    """The name of this machine in the library: its host name as one word."""
    return "".join(os.uname().nodename.split()) or "-"


def boot_id() -> str:
    """The start of the kernel's boot id, which changes with every start; "-" where there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    except OSError:
        return "-"
