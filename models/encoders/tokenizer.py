"""A prompt -> the token ids that umT5 reads. Torch-free; nothing is ever downloaded.

    prompt -> tidy -> pieces -> token ids, truncated to 512 with the end token

The vocabulary is a file that comes with the weights: tokenizer.json, or the SentencePiece model it was made from
(which ComfyUI's files carry inside). Facts from wan/modules/tokenizers.py of Wan-Video/Wan2.1 (Apache-2.0).
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ftfy
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Engine

from models.encoders.sentencepiece import read_spiece
from models.errors import BadInput

PAD, END = 0, 1
MARKS = ("<pad>", "</s>")  # special tokens of these two ids
EXTRA = 300  # sentinel tokens <extra_id_n> that follow the pieces, the last first
MAX_BYTES = 64 * 2**20  # umT5's tokenizer.json has 16.8 million
WAY_OUT = "use the one that came with the weights"


class Tokenizer:
    """The vocabulary of one encoder."""

    def __init__(self, data: bytes, words: int, tokens: int = 512, source: str = "the tokenizer") -> None:
        """data: a tokenizer.json or a SentencePiece model. words: rows of the token embedding. tokens: the most it
        reads. Raises BadInput, which begins with `source`, for a vocabulary that is not the encoder's.
        """
        self.source = source
        if len(data) > MAX_BYTES:
            raise BadInput(f"{source} has {len(data)} bytes, the most is {MAX_BYTES}; {WAY_OUT}")
        with _explain_errors(source):
            self._engine = Engine.from_buffer(data) if data.lstrip()[:1] == b"{" else _of_pieces(data)
            self._engine.enable_truncation(tokens)
            self._engine.no_padding()
            largest = max(self._engine.get_vocab().values(), default=0)
            empty = self._engine.encode("").ids
        if largest >= words or empty != [END] or self._engine.token_to_id(MARKS[PAD]) != PAD:
            raise BadInput(
                f"{source} is not umT5's: its numbers go up to {largest} of {words - 1}, and an empty text is {empty}, "
                f"not [{END}]; {WAY_OUT}"
            )

    @classmethod
    def open(cls, path: Path, words: int, tokens: int = 512) -> Tokenizer:
        """The vocabulary in a file. Raises BadInput."""
        try:
            with open(path, "rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise BadInput(f"{path} cannot be read: {(error.strerror or str(error)).lower()}; {WAY_OUT}") from error
        return cls(data, words, tokens, str(path))

    def ids(self, text: str) -> list[int]:
        """The token ids of a text, tidied, the end token last; no padding."""
        with _explain_errors(self.source):
            return self._engine.encode(tidy(text)).ids


def tidy(text: str) -> str:
    """Text cleaned as in the training of Wan's encoder: mojibake, curled quotes and wide letters are repaired (ftfy),
    HTML entities are unescaped twice, and every run of white space becomes one blank.
    """
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())


def _of_pieces(data: bytes) -> Engine:
    """An engine from a SentencePiece model. Raises ValueError for anything else."""
    vocabulary = read_spiece(data)
    known = {text for text, _ in vocabulary.pieces}
    gaps = [gap for number in reversed(range(EXTRA)) if (gap := f"<extra_id_{number}>") not in known]
    pieces = [*vocabulary.pieces, *((gap, 0.0) for gap in gaps)]
    engine = Engine(models.Unigram(pieces, vocabulary.unknown, vocabulary.bytes_for_unknown))
    steps: list[Any] = []
    if vocabulary.replacements:
        steps.append(normalizers.Precompiled(vocabulary.replacements))
    if vocabulary.collapse_blanks:
        steps += [normalizers.Replace(Regex(r"\A +| +\z"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    if vocabulary.blank_first:
        steps.append(normalizers.Prepend(" "))
    engine.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    if vocabulary.by_user:  # never split or merged with their neighbours
        whole = "|".join(re.escape(text) for text in sorted(vocabulary.by_user, key=len, reverse=True))
        engine.pre_tokenizer = pre_tokenizers.Split(Regex(whole), "isolated")
    engine.add_special_tokens([AddedToken(text, normalized=False) for text in (*vocabulary.marks, *gaps)])
    end = vocabulary.pieces[END][0] if len(vocabulary.pieces) > END else ""
    if end != MARKS[END]:
        raise ValueError(f"its piece {END} is {end[:20]!a}, not {MARKS[END]}")
    engine.post_processor = processors.TemplateProcessing(single=f"$A {end}", special_tokens=[(end, END)])
    return engine


@contextmanager
def _explain_errors(source: str) -> Iterator[None]:
    """Errors of the engine become BadInput. Its Rust panics are no Exceptions, and have no public name."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        why = " ".join(str(error).split())[:200]
        raise BadInput(f"{source} is no vocabulary: {why}; {WAY_OUT}") from error
