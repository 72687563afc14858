"""Embeddings are found by text, encoder and length; the least recently used go; wrong sizes are refused."""

import pytest

from appliance.library import embeddings
from appliance.library.embeddings import Reader, has, known, store
from appliance.library.library import Library
from models.errors import RushesError
from models.events import Embedding

READER = Reader("a" * 64, tokens=512, dim=4)


@pytest.fixture
def library(tmp_path):
    with Library.open(tmp_path / "library.db") as library:
        yield library


def embedding(text, tokens=2, fill=1):
    return Embedding(text, tokens, bytes([fill]) * (2 * 4 * tokens))


def texts(library):
    return [row[0] for row in library.rows("SELECT tokens FROM embeddings ORDER BY tokens")]


def test_what_was_read_is_known_by_its_text_its_encoder_and_its_length(library):
    store(library, READER, [embedding("rain", fill=3), embedding("", tokens=1)])
    assert known(library, READER, ["rain", "snow", "rain"]) == (embedding("rain", fill=3),)
    assert has(library, READER, ["rain", ""]) and not has(library, READER, ["rain", "snow"])
    assert not has(library, Reader("b" * 64, 512, 4), ["rain"])
    assert not has(library, Reader("a" * 64, 256, 4), ["rain"])


def test_what_is_read_again_takes_its_place(library):
    store(library, READER, [embedding("rain", fill=3)])
    store(library, READER, [embedding("rain", tokens=3, fill=4)])
    assert known(library, READER, ["rain"]) == (embedding("rain", tokens=3, fill=4),)


def test_the_least_recently_used_go_when_there_are_too_many(library, monkeypatch):
    monkeypatch.setattr(embeddings, "MOST_BYTES", 8 * (1 + 2 + 4))
    for tokens, text in ((1, "one"), (2, "two"), (4, "four")):
        store(library, READER, [embedding(text, tokens)])
    assert texts(library) == [1, 2, 4], "they just fit"
    known(library, READER, ["one"])
    store(library, READER, [embedding("three", 3)])
    assert texts(library) == [1, 3], "two went, then four: one had been used since"


def test_one_that_is_larger_than_all_may_be_is_not_kept(library, monkeypatch):
    monkeypatch.setattr(embeddings, "MOST_BYTES", 8)
    store(library, READER, [embedding("two", 2)])
    assert texts(library) == []


@pytest.mark.parametrize(
    "wrong", [Embedding("x", 0, b""), Embedding("x", 513, b"\0" * 8 * 513), Embedding("x", 2, b"")]
)
def test_what_no_encoder_makes_is_refused(library, wrong):
    with pytest.raises(RushesError, match="not cached"):
        store(library, READER, [embedding("good"), wrong])
    assert texts(library) == []
