"""Files that appear whole or not at all: written under a hidden name, synced, renamed, and the folder synced.

A power cut at any moment leaves the older file (or none) or the complete new one.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def part_path(final: Path) -> Path:
    """The hidden name a file has while this process writes it, in the same folder: `.12C-T4.mp4.4711.part`."""
    return final.with_name(f".{final.name}.{os.getpid()}.part")


@contextmanager
def atomic_write(final: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of `final` when the block ends. An error leaves the older file, and
    nothing else. Raises OSError.
    """
    part = part_path(final)
    try:
        with open(part, "wb") as file:
            yield file
        replace(part, final)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def replace(part: Path, final: Path) -> None:
    """Rename a finished file to its final name, in the place of an older one, durably. Raises OSError."""
    fsync(part)
    os.replace(part, final)
    fsync(final.parent)


def fsync(path: Path) -> None:
    """Have the disk itself hold a file, or what a folder lists. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)):  # shares that cannot sync a folder
            raise
    finally:
        os.close(descriptor)
