"""Read speed of the model store without the page cache: the speed of weights streamed from disk."""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from dataclasses import dataclass
from pathlib import Path

MOST_BYTES = 64 << 20
MOST_S = 0.5
PIECE_BYTES = 4 << 20  # a multiple of every block size that O_DIRECT may ask for


@dataclass(frozen=True, slots=True)
class ReadSpeed:
    """One measurement of reading a file from its start."""

    bytes_s: float
    read_bytes: int
    direct: bool  # by O_DIRECT, from the device; else the page cache was asked to drop the file, which it may not


_known: dict[tuple[Path, int, int], ReadSpeed] = {}


def read_speed(path: Path) -> ReadSpeed | None:
    """Measures how fast `path` reads, at most 64 MiB and half a second of it; the same file only once in a process.

    None where there is no such file, or an empty one.
    """
    key = _key(path)
    if key is None:
        return None
    if key not in _known:
        measured = _measure(path, direct=True) or _measure(path, direct=False)
        if measured is None:
            return None
        _known[key] = measured
    return _known[key]


def known_speed(path: Path) -> ReadSpeed | None:
    """What this process has measured of `path` in its present state; None before."""
    key = _key(path)
    return None if key is None else _known.get(key)


def _key(path: Path) -> tuple[Path, int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return path, facts.st_mtime_ns, facts.st_size


def _measure(path: Path, direct: bool) -> ReadSpeed | None:
    """None where the file system does not support it (O_DIRECT on tmpfs, some network and overlay file systems)."""
    flag = getattr(os, "O_DIRECT", None) if direct else 0
    if flag is None:  # not Linux
        return None
    try:
        file = os.open(path, os.O_RDONLY | flag)
    except OSError:
        return None
    try:
        if not direct and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        # An anonymous map is page-aligned, as O_DIRECT requires. Its pages are touched first: no page fault is timed.
        with contextlib.closing(mmap.mmap(-1, PIECE_BYTES)) as piece:
            piece.write(bytes(PIECE_BYTES))
            return _clock(file, piece, direct)
    except OSError:
        return None
    finally:
        os.close(file)


def _clock(file: int, piece: mmap.mmap, direct: bool) -> ReadSpeed | None:
    done, start = 0, time.perf_counter()
    while done < MOST_BYTES:
        got = os.preadv(file, [piece], done)
        done += got
        took = time.perf_counter() - start
        if got < PIECE_BYTES or took > MOST_S:  # end of the file, or long enough
            break
    return ReadSpeed(done / max(took, 1e-9), done, direct) if done else None
