"""A cache of text embeddings in the library: each text is encoded once, and then its encoder need not be loaded.

The key is the text, the encoder and its longest length in tokens. The least recently used are removed when all of them
are larger than MOST_BYTES; one is at most 4 MiB, and a sentence of 60 tokens half a MiB.
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
    """A text encoder, as far as its embeddings depend on it."""

    sha256: str  # of the data of the package that holds it
    tokens: int  # the most that it reads of a text
    dim: int  # numbers in the embedding of a token

    def key(self, text: str) -> str:
        """The key of a text's embedding."""
        return hashlib.sha256(json.dumps([text, self.sha256, self.tokens]).encode()).hexdigest()


def has(library: Ledger, reader: Reader, texts: Iterable[str]) -> bool:
    """Whether every text is cached."""
    keys = {reader.key(text) for text in texts}
    marks = ", ".join("?" * len(keys))
    return library.rows(f"SELECT count(*) FROM embeddings WHERE key IN ({marks})", *keys)[0][0] == len(keys)


def known(library: Ledger, reader: Reader, texts: Iterable[str]) -> tuple[Embedding, ...]:
    """The cached embeddings of these texts, where there are any; they count as used now."""
    found = []
    with library.immediate():
        for text in dict.fromkeys(texts):
            rows = library.rows(
                "UPDATE embeddings SET used_at = ? WHERE key = ? RETURNING tokens, data", time.time(), reader.key(text)
            )
            found += [Embedding(text, tokens, bytes(data)) for tokens, data in rows]
    return tuple(found)


def store(library: Ledger, reader: Reader, embeddings: Sequence[Embedding]) -> None:
    """Caches embeddings and removes the least recently used. Raises RushesError where a size is not the encoder's."""
    for each in embeddings:
        if not 0 < each.tokens <= reader.tokens or len(each.data) != 2 * each.tokens * reader.dim:
            raise RushesError(
                f"an embedding of {each.tokens} tokens has {len(each.data)} bytes: it must be "
                f"{2 * reader.dim} for each of at most {reader.tokens}; it was not cached"
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
