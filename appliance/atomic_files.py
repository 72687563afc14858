"""Atomic writes: a file appears complete or not at all. Write a hidden part, fsync, link or rename, fsync the folder.

A power cut at any moment leaves either nothing under the public name or the complete file. A process that died leaves
a hidden `.name.pid.part`, which `sweep` removes.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from appliance.processes import alive
from models import atomic_write
from models.atomic_write import fsync, part_path
from models.errors import RushesError

_PART = re.compile(r"^\..+\.(\d+)\.part$")
_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)  # exFAT, some network shares

_REASONS = {
    errno.ENOSPC: "the disk is full: free some space, or use a larger disk (RUSHES_HOME, --out)",
    errno.EDQUOT: "the disk quota is used up: free some space, or use another disk (RUSHES_HOME, --out)",
    errno.EFBIG: "the file would exceed the size that this system allows: raise `ulimit -f`, or shoot shorter",
    errno.EACCES: "permission denied: give yourself write access to its folder, or use another (RUSHES_HOME, --out)",
    errno.EPERM: "permission denied: give yourself write access to its folder, or use another (RUSHES_HOME, --out)",
    errno.EROFS: "the disk is mounted read-only: remount it, or use another disk (RUSHES_HOME, --out)",
    errno.ENOENT: "the file or its folder does not exist: check the path",
    errno.ENOTDIR: "a file has the name of its folder: move it away, or use another folder (RUSHES_HOME, --out)",
    errno.EEXIST: "a file has the name of its folder: move it away, or use another folder (RUSHES_HOME, --out)",
    errno.EISDIR: "a folder has that name: move it away, or choose another name",
    errno.ENAMETOOLONG: "the name is too long for this disk: choose a shorter one",
    errno.EIO: "the disk reported an error: check the disk",
}


def disk_error(error: OSError, path: Path, doing: str = "write") -> RushesError:
    """An error of the operating system in one line: what could not be done, to which file, why, the way out."""
    reason = _REASONS.get(error.errno or 0) or error.strerror or str(error)
    return RushesError(f"cannot {doing} {path}: {reason}")


def create_part(final: Path) -> Path:
    """Creates the folder and an empty part file; returns its path. Raises RushesError.

    A part of the same name can only be ours or a dead process's, so it is replaced. Symbolic links are not followed.
    """
    part = part_path(final)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666))
    except OSError as error:
        raise disk_error(error, final) from error
    return part


def write_part(final: Path, data: bytes) -> Path:
    """Writes a complete part file, fsynced; returns its path. Raises RushesError; an error leaves nothing."""
    part = create_part(final)
    try:
        with open(part, "wb") as file:
            file.write(data)
        fsync(part)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise disk_error(error, final) from error
    return part


def publish(part: Path, final: Path) -> None:
    """Gives a finished part its public name, fsynced, and never overwrites another file.

    Raises RushesError when `final` exists and is another file. After an interruption it may be called again.
    """
    try:
        fsync(part)
        try:
            os.link(part, final, follow_symlinks=False)
        except FileExistsError:
            if not os.path.samefile(part, final):  # the same file: an earlier call was cut off after the link
                raise RushesError(
                    f"cannot write {final}: a file of that name exists; move it away and try again"
                ) from None
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            _rename_no_clobber(part, final)
        part.unlink(missing_ok=True)
        fsync(final.parent)
    except OSError as error:
        raise disk_error(error, final) from error


def file_sha256(path: Path) -> str:
    """The hash of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def replace(part: Path, final: Path) -> None:
    """Gives a finished part its public name, fsynced, and replaces an older file. An error leaves the older one."""
    try:
        atomic_write.replace(part, final)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise disk_error(error, final) from error


def json_bytes(document: Any) -> bytes:
    """A document as indented UTF-8 JSON with a newline at the end. Raises ValueError for NaN."""
    return (json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False) + "\n").encode()


def sweep(folder: Path) -> list[Path]:
    """Removes the parts below `folder` whose process is no longer alive; returns what was removed."""
    swept = []
    for part in folder.rglob(".*.part"):
        match = _PART.match(part.name)
        if match and not alive(int(match[1])):
            part.unlink(missing_ok=True)
            swept.append(part)
    return sorted(swept)


def _rename_no_clobber(part: Path, final: Path) -> None:
    """Where there are no hard links: creates the name with O_EXCL and renames over that empty file."""
    os.close(os.open(final, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666))
    try:
        os.rename(part, final)
    except OSError:
        final.unlink(missing_ok=True)
        raise
