"""What encoders made of words, kept in the library: the same words are read once, and the encoder then stays away.

An embedding is found by the text, the encoder and the most tokens that it reads. The least recently used go when all
together are larger than MOST_BYTES; one is at most 4 MiB, and a sentence of 60 tokens half of one.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from appliance.library.transitions import Ledger
from models.errors import RushesError
from models.events import Embedding

MOST_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads the words: an encoder, and how much of a text."""

    sha256: str  # of the data of the package that holds it
    tokens: int  # at most
    dim: int  # numbers a token becomes

    def key(self, text: str) -> str:
        """By what a text's embedding is found."""
        return hashlib.sha256(json.dumps([text, self.sha256, self.tokens]).encode()).hexdigest()


def has(library: Ledger, reader: Reader, texts: Iterable[str]) -> bool:
    """Whether every text was read before."""
    keys = {reader.key(text) for text in texts}
    marks = ", ".join("?" * len(keys))
    return library.rows(f"SELECT count(*) FROM embeddings WHERE key IN ({marks})", *keys)[0][0] == len(keys)


def known(library: Ledger, reader: Reader, texts: Iterable[str]) -> tuple[Embedding, ...]:
    """The embeddings of those texts that were read before; they count as used now."""
    found = []
    with library.immediate():
        for text in dict.fromkeys(texts):
            rows = library.rows(
                "UPDATE embeddings SET used_at = ? WHERE key = ? RETURNING tokens, data", time.time(), reader.key(text)
            )
            found += [Embedding(text, tokens, bytes(data)) for tokens, data in rows]
    return tuple(found)


def keep(library: Ledger, reader: Reader, embeddings: Sequence[Embedding]) -> None:
    """Keeps what was read, and lets the least recently used go. Raises RushesError for what no encoder makes."""
    for each in embeddings:
        if not 0 < each.tokens <= reader.tokens or len(each.data) != 2 * each.tokens * reader.dim:
            raise RushesError(
                f"an embedding of {each.tokens} tokens has {len(each.data)} bytes: it must be "
                f"{2 * reader.dim} for each of at most {reader.tokens}; it was not kept"
            )
    with library.immediate():
        for each in embeddings:
            library.rows(
                "INSERT OR REPLACE INTO embeddings (key, tokens, data, used_at) VALUES (?, ?, ?, ?) RETURNING key",
                reader.key(each.text), each.tokens, each.data, time.time(),
            )  # fmt: skip
        library.rows(
            "DELETE FROM embeddings WHERE key IN (SELECT key FROM (SELECT key, sum(length(data)) OVER "
            "(ORDER BY used_at DESC, key) AS held FROM embeddings) WHERE held > ?) RETURNING key",
            MOST_BYTES,
        )
