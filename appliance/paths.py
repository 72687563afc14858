"""Paths of an installation (one folder, `home`), and of the weights that ship with the program."""

from __future__ import annotations

import os
import pwd
import re
from pathlib import Path

from models.errors import RushesError

ROOT = Path(__file__).resolve().parents[1]  # of kernels, models, appliance and tui


def home() -> Path:
    """The installation's folder: $RUSHES_HOME, else $XDG_DATA_HOME/rushes, else ~/.local/share/rushes; not created."""
    if chosen := os.environ.get("RUSHES_HOME"):
        return Path(chosen).expanduser().absolute()
    if data := os.environ.get("XDG_DATA_HOME"):
        return Path(data).expanduser().absolute() / "rushes"
    return _account() / ".local" / "share" / "rushes"


def _account() -> Path:
    """The account's own folder: $HOME where it names one, else what the system's list of accounts says. An empty HOME,
    as services have it, would mean the root folder.
    """
    stated = Path(os.environ.get("HOME", ""))
    if stated.is_absolute() and stated != Path("/"):
        return stated
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:  # a container that runs as a number
        raise RushesError(
            f"account {os.getuid()} has no folder of its own: set RUSHES_HOME to a folder for Rushes"
        ) from None


def library() -> Path:
    """The SQLite file with the queue and the history."""
    return home() / "library.db"


def takes() -> Path:
    """The folder of delivered takes."""
    return home() / "takes"


def kernels() -> Path:
    """What was compiled for this machine's GPUs: kernels, and the module that launches them."""
    return home() / "kernels"


def models() -> Path:
    """Imported model packages, NAME.safetensors each."""
    return home() / "models"


def daemon_log() -> Path:
    """The log of the daemon and its worker; the only place for tracebacks."""
    return home() / "daemon.log"


def daemon_lock() -> Path:
    """The file whose flock the installation's daemon holds; it contains that daemon's process id."""
    return home() / "daemon.lock"


def weights() -> Path:
    """The model package to render with: $RUSHES_WEIGHTS, else the one that ships with the program."""
    if chosen := os.environ.get("RUSHES_WEIGHTS"):
        return Path(chosen).expanduser().absolute()
    return ROOT / "models" / "weights" / "previs.safetensors"


def slug(name: str) -> str:
    """A name as one safe path component: letters, digits, `-` and `_` only, never empty, at most 80 characters."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:80] or "_"


def take_file(slate: str, take_number: int, take_id: int) -> Path:
    """The path of a take's film, relative to `takes()`: ("12C", 4, 31) gives 12C/12C-T4_31.mp4.

    The id makes every name unique, so publishing never has to overwrite.
    """
    return Path(slug(slate)) / f"{slug(slate)}-T{take_number}_{take_id}.mp4"
