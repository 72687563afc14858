"""The kind of a weight file, by its first bytes and never by its name. Torch-free.

A pickle is a program that runs when it is read: it is recognised here so that it can be refused, or handed to
models/weight_files/pickles.py. Files that hold no weights are named too (saved web pages, git-lfs pointers, archives).
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from models.errors import BadInput
from models.weight_files.safetensors_header import MAX_HEADER_BYTES

KINDS = ("safetensors", "gguf", "pickle")
LOOK_BYTES = 4096
ZIP, TAR_AT = b"PK\x03\x04", 257
# Protocols 0 and 1 have no magic number: a global (two lines), or a list or dict that is put in the memo.
OLD_PICKLE = re.compile(rb"\(?c[\w.]+\n[\w.]+\n|\([dl]p\d|[]}]q.", re.DOTALL)
OTHERS = (
    (b"version https://git-lfs", "is a git-lfs pointer, not the file itself: download the file with `git lfs pull`"),
    (b"<!doctype", "is a web page: the download saved its page instead of the file"),
    (b"<html", "is a web page: the download saved its page instead of the file"),
    (b"\x89hdf\r\n", "is an HDF5 file, which is not supported: use the weights as safetensors or GGUF"),
    (b"\x93numpy", "is a NumPy file, which is not supported: use the weights as safetensors or GGUF"),
    (b"ggml", "is a GGML file, the format before GGUF, which is not supported: use the weights as GGUF"),
    (b"ggjt", "is a GGML file, the format before GGUF, which is not supported: use the weights as GGUF"),
    (b"rar!", "is an archive: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "is an archive: unpack it first"),
    (b"\x1f\x8b", "is compressed: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "is compressed: unpack it first"),
)


def kind_of(path: Path) -> str:
    """One of KINDS. Raises BadInput for anything else: a missing or empty file, a web page, an archive."""
    try:
        facts = os.stat(path)
        if not stat.S_ISREG(facts.st_mode):
            raise BadInput(f"{path} is not a file; name a weight file, or a folder of them")
        with open(path, "rb") as file:
            start = file.read(LOOK_BYTES)
    except FileNotFoundError:
        raise BadInput(f"there is no file {path}; check the name, and that the disk is mounted") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read: {str(error).lower()}; check the disk and the permissions") from error
    if not start.strip(b"\0"):
        raise BadInput(f"{path} is empty or starts with zeros only: it was not copied completely; copy it again")
    if start.startswith(b"GGUF"):
        return "gguf"
    # Before pickles: the length of a header of 640 bytes looks like the start of a pickle of protocol 2.
    if len(start) > 8 and int.from_bytes(start[:8], "little") <= MAX_HEADER_BYTES and start[8:].lstrip()[:1] == b"{":
        return "safetensors"
    if _pickle(start):
        return "pickle"
    if start.startswith(ZIP):
        raise BadInput(f"{path} is a zip archive and not a PyTorch checkpoint; unpack it and name the files inside")
    for magic, what in OTHERS:
        if start.lstrip().lower().startswith(magic):
            raise BadInput(f"{path} {what}")
    raise BadInput(f"{path} is not a safetensors, GGUF or PyTorch file; use the same weights as safetensors or GGUF")


def _pickle(start: bytes) -> bool:
    """Whether a file begins like those of torch.save: a zip with data.pkl, a pickle, or an early version's tar."""
    if start.startswith(ZIP):
        return b"data.pkl" in start
    if start[:1] == b"\x80" and start[1:2] in (b"\x01", b"\x02", b"\x03", b"\x04", b"\x05"):
        return True
    if start[TAR_AT : TAR_AT + 5] == b"ustar":
        return True
    return OLD_PICKLE.match(start) is not None
