"""Limits of this process's control groups: cores, memory, swap. cgroup v1 and v2, read as files.

A container often sees its own group as the root of the hierarchy, though /proc/self/cgroup names a longer path: every
folder from that path up to the root is read, and the tightest limit counts.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

ROOT, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
UNLIMITED = 1 << 60  # v1 states "no limit" by a number this large


def cores(root: Path = ROOT, membership: Path = MEMBERSHIP) -> int:
    """CPU cores this process may use: its affinity, and its container's quota rounded up."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder in _folders("cpu", root, membership):
        quota, _, period = read(folder / "cpu.max").partition(" ")
        if not quota:  # version 1
            quota, period = read(folder / "cpu.cfs_quota_us"), read(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period):
            allowed = min(allowed, math.ceil(int(quota) / int(period)))
    return max(1, allowed)


def cgroup_memory(root: Path = ROOT, membership: Path = MEMBERSHIP) -> tuple[int, int] | None:
    """(limit, free) in bytes of the tightest group around this process; None where nothing limits it.

    Page cache that can be dropped at once (inactive_file) counts as free. memory.high counts as a limit: above it the
    kernel throttles the group.
    """
    found = []
    for folder in _folders("memory", root, membership):
        for limits, used, cache in (
            (("memory.max", "memory.high"), "memory.current", "inactive_file"),  # version 2
            (("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file"),  # version 1
        ):
            limit = min((bound for name in limits if (bound := _bytes(folder / name)) is not None), default=None)
            taken = _bytes(folder / used)
            if limit is not None and taken is not None:
                stat = (line.partition(" ") for line in read(folder / "memory.stat").splitlines())
                droppable = next((int(size) for name, _, size in stat if name == cache and size.isdigit()), 0)
                found.append((limit, max(0, limit - max(0, taken - droppable))))
    return (min(limit for limit, _ in found), min(free for _, free in found)) if found else None


def cgroup_swap_free(root: Path = ROOT, membership: Path = MEMBERSHIP) -> int | None:
    """Bytes that the tightest group still lets this process swap out; None where nothing limits it."""
    found = []
    for folder in _folders("memory", root, membership):
        limit, used = _bytes(folder / "memory.swap.max"), _bytes(folder / "memory.swap.current")
        if limit is None:  # version 1 counts memory and swap together
            limit, used = _bytes(folder / "memory.memsw.limit_in_bytes"), _bytes(folder / "memory.memsw.usage_in_bytes")
            memory = _bytes(folder / "memory.limit_in_bytes")
            if limit is not None and memory is not None:
                found.append(max(0, min(limit - memory, limit - (used or 0))))
        else:
            found.append(max(0, limit - (used or 0)))
    return min(found, default=None)


def read(path: Path) -> str:
    """The text of a system file, stripped; "" where it is missing or may not be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _bytes(path: Path) -> int | None:
    """The number in a file; None for "max", for its equivalent in v1, and where there is no such file."""
    text = read(path)
    return int(text) if text.isdigit() and int(text) < UNLIMITED else None


def _folders(controller: str, root: Path, membership: Path) -> Iterator[Path]:
    """The folders of this process's group and of its parents, in every hierarchy that has the controller."""
    for line in read(membership).splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and controller not in controllers.split(","):
            continue
        bases = {root / controllers, root / controller} if controllers else {root, root / "unified"}
        for base in bases:
            group = base / path.lstrip("/")
            yield group
            yield from (parent for parent in group.parents if parent == base or base in parent.parents)
