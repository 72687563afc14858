"""What many tests need: our code in a process of its own, as it runs for people."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# The suite tries the same examples each time, so that a change is judged by what it changed. To look for new ones:
# `pytest --hypothesis-profile explore`.
if importlib.util.find_spec("hypothesis"):  # the tests that need a GPU run without it too
    from hypothesis import settings

    settings.register_profile("same", derandomize=True)
    settings.register_profile("explore", derandomize=False)
    settings.load_profile("same")


@pytest.fixture(scope="session")
def empty_package() -> Callable[..., str]:
    """Writes a package that says what it is and holds one number of each part: enough to be listed, quoted and queued.
    Returns the hash of its data.
    """
    from models.weight_files.package_header import FORMAT, card_to_json

    def write(path: Path, card, scheme="w8a8/1", parts=("transformer", "vae", "text", "tokenizer")) -> str:
        data, at = bytes(4 * len(parts)), range(0, 4 * len(parts), 4)
        places = {f"{part}.x": [begin, begin + 4] for part, begin in zip(parts, at, strict=True)}
        entries = {name: {"dtype": "F32", "shape": [1], "data_offsets": place} for name, place in places.items()}
        facts = {"format": FORMAT, "scheme": scheme, "card": card_to_json(card), "licence": "none", "training": "{}"}
        facts["data_sha256"] = hashlib.sha256(data).hexdigest()
        text = json.dumps({"__metadata__": facts, **entries}).encode()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(len(text).to_bytes(8, "little") + text + data)
        return facts["data_sha256"]

    return write


@pytest.fixture(scope="session")
def python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python on `-c CODE` or `-m MODULE`, our code first on its path; further names are its environment."""

    def run(*arguments: object, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", *map(str, arguments)], env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    return run


@pytest.fixture(scope="session")
def spiece() -> Callable[..., bytes]:
    """Trains a SentencePiece model with umT5's first four pieces and its way of making text ready: under 500 pieces."""

    @functools.cache
    def train(**changes) -> bytes:
        import sentencepiece

        model = io.BytesIO()
        text = (ROOT / "LICENSE").read_text()
        plain = {
            "vocab_size": 480, "model_type": "unigram", "byte_fallback": True, "normalization_rule_name": "nmt_nfkc",
            "pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3, "user_defined_symbols": ["[cut]"],
        }  # fmt: skip
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(text.splitlines()), model_writer=model, num_threads=1, minloglevel=2,
            **(plain | changes),
        )  # fmt: skip
        return model.getvalue()

    return train
