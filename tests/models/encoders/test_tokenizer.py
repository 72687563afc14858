"""Prompts become the token ids of SentencePiece and transformers, and a broken vocabulary is refused in one line."""

from __future__ import annotations

import json
import random
import re
import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.encoders.sentencepiece import read_spiece
from models.encoders.tokenizer import END, PAD, Tokenizer, tidy
from models.errors import BadInput

WORDS = 800  # 480 pieces, 300 marks and a few that are nothing's


def as_json(data: bytes) -> bytes:
    """The same vocabulary as a tokenizer.json, with other settings for length."""
    engine = Tokenizer(data, WORDS)._engine
    engine.enable_padding(length=512)
    engine.enable_truncation(64)
    return engine.to_str(pretty=True).encode()


@pytest.mark.parametrize("byte_fallback", [True, False])
def test_a_spiece_model_gives_what_its_own_library_gives(spiece, byte_fallback):
    import sentencepiece

    data = spiece(byte_fallback=byte_fallback)
    ours, theirs = Tokenizer(data, WORDS), sentencepiece.SentencePieceProcessor(model_proto=data)

    @settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.one_of(st.text(max_size=40), st.lists(st.sampled_from(PIECES), max_size=12).map("".join)))
    def agree(text: str) -> None:
        if "<" not in text:  # what looks like a mark is one to the house's tokenizer, and letters to the library
            assert ours.ids(text) == [*theirs.encode(tidy(text)), END]

    agree()


PIECES = [
    "a woman",
    " walks",
    " ",
    "  ",
    "▁",
    "½",
    "ﬁ",
    "中文",
    "🎬",
    "é",
    "e\u0301",
    "[cut]",
    "Licensed",
    " under",
    "\u200b",
    "Å",
]


def test_the_same_vocabulary_as_json(spiece):
    one, other = Tokenizer(spiece(), WORDS), Tokenizer(as_json(spiece()), WORDS)
    for text in ("", "A woman walks, slowly.", "中文 <extra_id_0> </s>", "x " * 900):
        assert one.ids(text) == other.ids(text)


def test_marks_are_numbered_as_in_umt5(spiece):
    ours = Tokenizer(spiece(), WORDS)
    assert ours.ids("") == ours.ids(" \n\t ") == [END]
    assert (PAD, END) == (0, 1)
    assert ours.ids("<pad></s><s><unk>") == [0, 1, 2, 3, END]
    # 300 marks follow the pieces, the last first: 256000 is <extra_id_299> in the real one, of 256000 pieces.
    assert ours.ids("<extra_id_299><extra_id_0>") == [480, 779, END]


def test_no_text_is_longer_than_512(spiece):
    ours = Tokenizer(spiece(), WORDS)
    long, short = ours.ids("a walk " * 600), ours.ids("a walk " * 40)
    assert len(long) == 512 and long[-1] == END and END not in long[:-1]
    assert long[: len(short) - 1] == short[:-1] and len(short) < 512
    assert len(Tokenizer(spiece(), WORDS, tokens=16).ids("a walk " * 600)) == 16


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("  Mara \n\n walks\t\u00a0slowly \u3000", "Mara walks slowly"),
        ("caf\u00c3\u00a9", "café"),  # UTF-8 that was read as Latin-1
        ("\uff26\uff35\uff2c\uff2c", "FULL"),  # wide letters
        ("\u201cquoted\u201d it\u2019s", '"quoted" it\'s'),
        ("black &amp; white", "black & white"),
        ("a &amp;lt;b&amp;gt; c", "a <b> c"),  # named twice
        ("", ""),
    ],
)
def test_text_is_tidied_as_the_original_does(text, seen):
    assert tidy(text) == seen


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=60) | st.lists(st.sampled_from(["&amp;", "&lt", "Ã©", "\u2003", "a", ";"])).map("".join))
def test_tidying_is_what_diffusers_does(text):
    from diffusers.pipelines.wan.pipeline_wan import prompt_clean

    assert tidy(text) == prompt_clean(text)


def test_nothing_is_fetched(spiece, monkeypatch):
    def refuse(*_):
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert Tokenizer(as_json(spiece()), WORDS).ids("Mara")[-1] == END


def test_a_file_and_its_troubles(spiece, tmp_path):
    path = tmp_path / "spiece.model"
    path.write_bytes(spiece())
    assert Tokenizer.open(path, WORDS).ids("Mara") == Tokenizer(spiece(), WORDS).ids("Mara")
    with pytest.raises(BadInput, match=r"absent cannot be read: no such file"):
        Tokenizer.open(tmp_path / "absent", WORDS)


def changed(data: bytes, **facts) -> bytes:
    return json.dumps(json.loads(as_json(data)) | facts).encode()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda train: b"", "0 stand for the unknown"),
        (lambda train: b"{}", "is no vocabulary"),
        (lambda train: train()[:-9], "ends inside a field"),
        (lambda train: train(model_type="bpe"), "not a unigram model"),
        (lambda train: train(eos_piece="<end>"), "its piece 1 is '<end>', not </s>"),
        (lambda train: train(pad_piece="[pad]"), "is not umT5's"),
        (lambda train: changed(train(), post_processor=None), "an empty text is []"),
        (lambda train: as_json(train())[:-1], "is no vocabulary"),
        (lambda train: b"{" + b" " * 64 * 2**20, "the most is 67108864"),
    ],
)
def test_what_is_no_vocabulary_of_umt5(spiece, make, says):
    with pytest.raises(BadInput, match=re.escape(says)) as refused:
        Tokenizer(make(spiece), WORDS, source="spiece.model")
    assert str(refused.value).startswith("spiece.model ") and "\n" not in str(refused.value)


def test_a_table_too_small_for_the_vocabulary(spiece):
    with pytest.raises(BadInput, match="its numbers go up to 779 of 778"):
        Tokenizer(spiece(), 779)


@pytest.mark.parametrize("form", ["spiece", "normalizer", "json"])
def test_damaged_files_are_refused_or_read(spiece, form):
    """Some hundred mutations of each, the engine's own panics among what they cause: never anything but BadInput."""
    data = as_json(spiece()) if form == "json" else spiece()
    first = data.rfind(b"nmt_nfkc") if form == "normalizer" else data.rfind(b'"normalizer"') if form == "json" else 0
    drawn, refused = random.Random(0), 0
    for _ in range(60):
        damaged = bytearray(data)
        for _ in range(drawn.choice((1, 3, 20))):
            at = drawn.randrange(max(first, 0), len(damaged))
            match drawn.randrange(3):
                case 0:
                    damaged[at] = drawn.randrange(256)
                case 1:
                    damaged[at : at + 1] = drawn.randbytes(drawn.randrange(1, 9))
                case _:
                    del damaged[at : at + drawn.randrange(1, 20)]
        try:
            assert Tokenizer(bytes(damaged), WORDS).ids("Licensed under ﬁ 中文")[-1] == END
        except BadInput:
            refused += 1
    assert 20 < refused < 60


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    with pytest.raises(ValueError) as refused:
        read_spiece(data)
    assert "\n" not in str(refused.value)
