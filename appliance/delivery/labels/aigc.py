"""The AIGC label in a generated film's metadata (GB 45438-2025 Annex E): written, and read back to verify it.

The carrier in MP4 and MOV is the key `AIGC` in moov/udta/meta/keys with a JSON string in ilst (TC260-PG-20257A), and a
file carries exactly one. Muxers drop unknown keys silently, so every film is read back with `read_label`, which parses
the boxes itself.

A studio that is a registered service provider puts its 27-character code in $RUSHES_PRODUCER (TC260-PG-20252A: 00 1 1,
the 18 characters of its unified social credit code, 1, and four of its choice). Without one the film says UNREGISTERED.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from appliance.delivery.labels.mp4_boxes import Box, boxes, find_all, read_moov
from models.errors import BadInput, RushesError

KEY = "AIGC"
UNREGISTERED = "RUSHES-UNREGISTERED-HOUSE"  # the producer, where no code is configured
PENDING = "0" * 16  # in place of the content hash until the film is complete

_ALLOWED = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]*")  # Annex E j): printable ASCII without space, quote and backslash
_FIELDS = (
    "Label", "ContentProducer", "ProduceID", "ReservedCode1", "ContentPropagator", "PropagateID", "ReservedCode2",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Label:
    """One implicit label. `label` "1" means generated content."""

    label: str
    content_producer: str
    produce_id: str
    reserved_code1: str
    content_propagator: str
    propagate_id: str
    reserved_code2: str

    def to_json(self) -> str:
        """The value of the key in the form of Annex E: one JSON object of strings, without spaces."""
        values = (getattr(self, name) for name in self.__slots__)
        return json.dumps(dict(zip(_FIELDS, values, strict=True)), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Label:
        """Reads a value strictly: exactly the seven fields, strings of allowed characters. Raises ValueError."""
        value = json.loads(text)
        if not isinstance(value, dict) or set(value) != set(_FIELDS):
            raise ValueError(f"its fields are not {', '.join(_FIELDS)}")
        for name in _FIELDS:
            if not isinstance(value[name], str) or not _ALLOWED.fullmatch(value[name]):
                raise ValueError(f"{name} has characters that the standard does not allow")
        if value["Label"] not in ("1", "2", "3"):
            raise ValueError(f"Label is {value['Label']!r}, not 1, 2 or 3")
        return cls(*(value[name] for name in _FIELDS))


def producer() -> str:
    """The producer of films made here: $RUSHES_PRODUCER, checked, else UNREGISTERED. Raises BadInput."""
    code = os.environ.get("RUSHES_PRODUCER", "")
    if not code:
        return UNREGISTERED
    if not _ALLOWED.fullmatch(code) or len(code) > 64:
        raise BadInput(
            f"RUSHES_PRODUCER is {code!r}: it must be 1 to 64 printable ASCII characters without spaces, quotes and "
            "backslashes; set your studio's 27-character provider code, or unset it"
        )
    return code


def make(take: str, content_sha256: str = PENDING, by: str | None = None) -> Label:
    """The label of a film made here: ProduceID is the take and the first 16 digits of its frames' hash.

    In a new film the propagator's fields repeat the producer's (Annex E note 1).
    """
    by = producer() if by is None else by
    produce_id = f"{_allowed(take)}.{content_sha256[:16]}"
    return Label("1", by, produce_id, "", by, produce_id, "")


def read_label(path: Path) -> Label:
    """The label of an MP4 or MOV file, by parsing its boxes. Raises RushesError when there is not exactly one."""
    values = _values(path)
    if len(values) != 1:
        count = "no AIGC label" if not values else f"{len(values)} AIGC labels"
        raise RushesError(f"{path} carries {count}: the law asks for exactly one; deliver the take again")
    try:
        return Label.from_json(values[0][1].decode())
    except ValueError as error:
        raise RushesError(f"{path} carries an AIGC label that is not valid: {error}; deliver the take again") from error


def settle(path: Path, label: Label) -> None:
    """Overwrites the pending label with the final one of equal length, in a file that is not yet published."""
    values = _values(path)
    data = label.to_json().encode()
    if len(values) != 1 or len(values[0][1]) != len(data):
        raise RushesError(f"{path} does not carry the pending AIGC label that was written into it; render it again")
    with open(path, "r+b") as file:
        file.seek(values[0][0])
        file.write(data)


def xmp(label: Label) -> str:
    """The same label as an XMP packet, the carrier for pictures (TC260-PG-20259A), with IPTC's digital source type."""
    value = label.to_json().replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:TC260="http://www.tc260.org.cn/ns/AIGC/1.0/" '
        'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
        f"<TC260:AIGC>{value}</TC260:AIGC>"
        "<Iptc4xmpExt:DigitalSourceType>http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
        "</Iptc4xmpExt:DigitalSourceType></rdf:Description></rdf:RDF></x:xmpmeta>"
        '<?xpacket end="w"?>'
    )


def _allowed(text: str) -> str:
    return re.sub(r"[^\x21\x23-\x5B\x5D-\x7E]", "-", text)


def _values(path: Path) -> list[tuple[int, bytes]]:
    """(offset in the file, bytes) of every value whose key contains AIGC, in any metadata box of the movie."""
    base, moov = read_moov(path)
    found = []
    for meta in find_all(moov, b"meta"):
        inside = boxes(moov, meta.start, meta.end)  # as QuickTime writes it
        if inside is None:
            inside = boxes(moov, meta.start + 4, meta.end) or []  # as MP4 writes it, after a version word
        keys = next((box for box in inside if box.kind == b"keys"), None)
        values = next((box for box in inside if box.kind == b"ilst"), None)
        if keys is None or values is None:
            continue
        names = _key_names(moov, keys)
        for item in boxes(moov, values.start, values.end) or []:
            index = int.from_bytes(item.kind, "big")
            if 1 <= index <= len(names) and KEY in names[index - 1].upper():
                for data in boxes(moov, item.start, item.end) or []:
                    if data.kind == b"data":  # type word, locale word, then the value
                        found.append((base + data.start + 8, moov[data.start + 8 : data.end]))
    return found


def _key_names(moov: bytes, keys: Box) -> list[str]:
    """keys: version word, count, then entries of (size, namespace `mdta`, name): the shape of boxes."""
    return [moov[box.start : box.end].decode("utf-8", "replace") for box in boxes(moov, keys.start + 8, keys.end) or []]
