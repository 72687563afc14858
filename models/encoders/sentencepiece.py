"""The vocabulary of a SentencePiece model (spiece.model), read without its library. Torch-free.

The file is one protobuf message; of its fields these matter (sentencepiece_model.proto of google/sentencepiece,
Apache-2.0, for the numbers):

    1 pieces            1 text   2 score (float32)   3 kind: 1 normal, 2 unknown, 3 control, 4 user-defined, 6 byte
    2 trainer           3 model: 1 unigram           35 unknown characters become their bytes
    3 normalizer        2 table of replacements      3 a blank before the first word   4 runs of blanks become one
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

NORMAL, UNKNOWN, CONTROL, BY_USER = 1, 2, 3, 4
UNIGRAM = 1
MAX_PIECES = 1_048_576


@dataclass(frozen=True, slots=True)
class Pieces:
    """A vocabulary, and how text is normalised for it."""

    pieces: tuple[tuple[str, float], ...]  # text and score; the index is the token's id
    unknown: int  # the id of the unknown piece
    marks: tuple[str, ...]  # special tokens, which no text contains; the unknown among them
    by_user: tuple[str, ...]  # pieces that are never split
    replacements: bytes  # a compiled table, b"" for none
    blank_first: bool
    collapse_blanks: bool
    bytes_for_unknown: bool


def read_spiece(data: bytes) -> Pieces:
    """A vocabulary from a file's bytes. Raises ValueError, with a clause for a one-line message, for anything else."""
    pieces: list[tuple[str, float]] = []
    kinds: list[int] = []
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            piece = dict(_fields(value))
            pieces.append((_text(piece.get(1)), _float(piece.get(2, b"\0\0\0\0"))))
            kinds.append(_number(piece.get(3, NORMAL)))
            if len(pieces) > MAX_PIECES:
                raise ValueError(f"it holds more than {MAX_PIECES} pieces")
        elif number == 2 and isinstance(value, bytes):
            trainer = dict(_fields(value))
        elif number == 3 and isinstance(value, bytes):
            normalizer = dict(_fields(value))
    if _number(trainer.get(3, UNIGRAM)) != UNIGRAM:
        raise ValueError("it is not a unigram model")
    if kinds.count(UNKNOWN) != 1 or len(dict(pieces)) != len(pieces):
        raise ValueError(f"of its {len(pieces)} pieces, {kinds.count(UNKNOWN)} stand for the unknown, or two are equal")
    replacements = normalizer.get(2, b"")
    if not isinstance(replacements, bytes):
        raise ValueError("its table of replacements is a number")
    return Pieces(
        tuple(pieces),
        kinds.index(UNKNOWN),
        tuple(text for (text, _), kind in zip(pieces, kinds, strict=True) if kind in (UNKNOWN, CONTROL)),
        tuple(text for (text, _), kind in zip(pieces, kinds, strict=True) if kind == BY_USER),
        replacements,
        _number(normalizer.get(3, 1)) != 0,
        _number(normalizer.get(4, 1)) != 0,
        _number(trainer.get(35, 0)) != 0,
    )


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of one message: their numbers, and an integer or the bytes of anything else."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"byte {at} begins no field")
        if size > len(data) - at:
            raise ValueError("it ends inside a field")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A varint (an integer in groups of seven bits), and the offset after it."""
    value = 0
    for index, byte in enumerate(data[at : at + 10]):
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value, at + index + 1
    raise ValueError("it ends inside a number")


def _text(value: int | bytes | None) -> str:
    if not isinstance(value, bytes) or not value:
        raise ValueError("a piece has no text")
    return value.decode()  # UnicodeDecodeError is a ValueError


def _float(value: int | bytes) -> float:
    if not isinstance(value, bytes) or len(value) != 4:
        raise ValueError("a piece has a score that is no number")
    return struct.unpack("<f", value)[0]


def _number(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise ValueError("a field holds bytes where a number belongs")
    return value
