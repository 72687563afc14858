"""The box structure of MP4 and MOV (ISO/IEC 14496-12), parsed here: a check that does not depend on the muxer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from models.errors import BadInput

_PARENTS = (b"moov", b"trak", b"udta", b"mdia")
_LONGEST_MOOV = 64 << 20  # bytes; a take's index has some kilobytes, a damaged or hostile file may claim more


@dataclass(frozen=True, slots=True)
class Box:
    """One box: its type, and the range of its contents in the bytes it was read from."""

    kind: bytes
    start: int  # of the contents
    end: int


def top_level(path: Path) -> list[Box]:
    """The boxes of a file in order, with file offsets. Raises BadInput when they do not fill it exactly."""
    found, position = [], 0
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        while position < size:
            file.seek(position)
            head = file.read(16)
            length, kind, header = int.from_bytes(head[:4], "big"), head[4:8], 8
            if length == 1:
                length, header = int.from_bytes(head[8:16], "big"), 16
            elif length == 0:
                length = size - position
            if len(head) < header or length < header or position + length > size or not kind.isalnum():
                raise BadInput(f"{path} is not a whole MP4 file: its parts exceed its {size} bytes; render it again")
            found.append(Box(kind, position + header, position + length))
            position += length
    return found


def read_moov(path: Path) -> tuple[int, bytes]:
    """(file offset, contents) of the one movie box. Raises BadInput when there is none."""
    movies = [box for box in top_level(path) if box.kind == b"moov"]
    if len(movies) != 1 or movies[0].end - movies[0].start > _LONGEST_MOOV:
        raise BadInput(f"{path} is not a whole MP4 file: it has no single movie box (moov); render it again")
    with open(path, "rb") as file:
        file.seek(movies[0].start)
        return movies[0].start, file.read(movies[0].end - movies[0].start)


def boxes(data: bytes, start: int, end: int) -> list[Box] | None:
    """The boxes that fill data[start:end] exactly; None when those bytes are not boxes."""
    found = []
    while start < end:
        length = int.from_bytes(data[start : start + 4], "big")
        if length < 8 or start + length > end:
            return None
        found.append(Box(data[start + 4 : start + 8], start + 8, start + length))
        start += length
    return found


def find_all(data: bytes, kind: bytes, start: int = 0, end: int | None = None) -> Iterator[Box]:
    """Every box of a kind inside a movie box, at any depth below moov, trak, udta and mdia."""
    for box in boxes(data, start, len(data) if end is None else end) or []:
        if box.kind == kind:
            yield box
        elif box.kind in _PARENTS:
            yield from find_all(data, kind, box.start, box.end)
