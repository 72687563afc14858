"""Messages between daemon and worker: each survives its line, what is no message is refused with the reason."""

import json
import os
import sys
import time
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.daemon.worker_process import WorkerDied, WorkerProcess
from appliance.worker import protocol
from appliance.worker.protocol import (
    LONGEST_LINE_BYTES,
    ORDERS,
    REPORTS,
    CancelOrder,
    EmbeddingRead,
    Note,
    Progress,
    ProtocolError,
    Ready,
    WrongVersion,
    decode_order,
    decode_report,
    encode,
)
from models.events import Embedding

ROOT = Path(__file__).resolve().parents[3]

st.register_type_strategy(int, st.integers(-(2**63) + 1, 2**63 - 1))
st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))
st.register_type_strategy(str, st.text(max_size=40))
st.register_type_strategy(bytes, st.binary(max_size=40))
st.register_type_strategy(Path, st.text(st.characters(exclude_characters="\0"), max_size=40).map(Path))
MESSAGES = [(message, decode_order) for message in ORDERS.values()]
MESSAGES += [(message, decode_report) for message in REPORTS.values()]


def stated(message):
    """Messages of a class with every field stated; a greeting of our version."""
    if message is Ready:
        return st.just(Ready())
    return st.builds(message, **{field.name: ... for field in fields(message)})


@pytest.mark.parametrize(("message", "decode"), MESSAGES, ids=lambda value: getattr(value, "__name__", ""))
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_every_message_survives_its_line(message, decode, data):
    sent = data.draw(stated(message))
    line = encode(sent)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert decode(line) == sent


NOTE = {"type": "note", "take": 31, "text": "resumed"}
WRONG = {
    "no JSON": (b"Loading checkpoint shards: 100%", "not a JSON report: Loading checkpoint"),
    "not UTF-8": (b'{"type": "note\xff"}', "not a JSON report"),
    "nested too deep": (b"[" * 100_000, "not a JSON report"),
    "no object": (b"[1]", "a list instead of an object"),
    "no type": ({"take": 31}, "unknown type of report null"),
    "a type of no message": (NOTE | {"type": "render"}, 'unknown type of report "render"; it is one of ready, '),
    "a field missing": ({"type": "note", "take": 31}, "note.text is missing"),
    "a field too many": (NOTE | {"\x1b[2J": 1}, "note.\ufffd[2J is an unknown field"),
    "text for a number": (NOTE | {"take": "31"}, 'note.take is "31", not int'),
    "true for a number": (NOTE | {"take": True}, "note.take is true, not int"),
    "a fraction for a whole number": (NOTE | {"take": 31.0}, "note.take is 31.0, not int"),
    "a number that no library can hold": (NOTE | {"take": 2**63}, "note.take is 9223372036854775808, not int"),
    "nothing for a text": (NOTE | {"text": None}, "note.text is null, not str"),
    "a number that is none": (
        b'{"type": "done", "take": 1, "parts": {}, "sha256": "", "seconds": NaN, "peak_bytes": 1, "measured": []}',
        "done.seconds is NaN, not float",
    ),
    "a number without end": (
        b'{"type": "done", "take": 1, "parts": {}, "sha256": "", "seconds": 1e999, "peak_bytes": 1, "measured": []}',
        "done.seconds is Infinity, not float",
    ),
    "an unknown kind of failure": (
        {"type": "failed", "take": 1, "kind": "tired", "error": "", "device": "cpu"},
        "failed.kind is 'tired', not one of bad_input, failed, disk, memory, fault",
    ),
    "a shape of three": ({"type": "film", "take": 1, "shape": [17, 128, 224]}, "film.shape is [17, 128, 224], not"),
    "a wrong number within": ({"type": "film", "take": 1, "shape": [1, 2, 3, "3"]}, 'film.shape[3] is "3", not int'),
    "no base64": (
        {"type": "embedding", "take": 1, "embedding": {"text": "", "tokens": 1, "data": "?"}},
        'embedding.embedding.data is "?", not bytes',
    ),
    "text for an embedding": ({"type": "embedding", "take": 1, "embedding": "x"}, 'embedding.embedding is "x", not'),
    "a path that no system has": (
        {"type": "done", "take": 1, "parts": {".mp4": "a\0b"}, "sha256": "", "seconds": 1, "peak_bytes": 1}
        | {"measured": []},
        "done.parts..mp4 is",
    ),
    "a version that is no number": ({"type": "ready", "version": "1"}, 'ready.version is "1", not int'),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_message_is_refused_with_the_reason_in_one_line(name):
    line, reason = WRONG[name]
    with pytest.raises(ProtocolError) as refused:
        decode_report(line if isinstance(line, bytes) else json.dumps(line).encode())
    assert reason in str(refused.value) and str(refused.value).isprintable()


def test_the_greeting_of_another_version_is_told_from_a_wrong_one_whatever_else_it_says():
    line = json.dumps({"type": "ready", "version": protocol.VERSION + 1, "gpus": []}).encode()
    with pytest.raises(WrongVersion, match=r"protocol version 2, this daemon version 1.*stop the daemon"):
        decode_report(line)


def test_a_line_has_at_most_eight_mebibytes():
    largest = EmbeddingRead(31, Embedding("x", 512, bytes(2 * 512 * 4096)))  # umT5's longest text
    assert decode_report(encode(largest)) == largest
    empty = len(encode(Note(31, "")))
    whole = encode(Note(31, "x" * (LONGEST_LINE_BYTES + 1 - empty)))
    assert len(whole) == LONGEST_LINE_BYTES + 1 and decode_report(whole)
    with pytest.raises(ProtocolError, match="longer than 8 MiB"):
        encode(Note(31, "x" * (LONGEST_LINE_BYTES + 2 - empty)))
    with pytest.raises(ProtocolError, match="longer than 8 MiB"):
        decode_report(whole[:-1] + b" \n")


def child(tmp_path, code):
    """A worker that runs some code, `send` in it; errors go to a log."""
    start = (
        "import os, sys, time\nfrom appliance.worker.protocol import *\n"
        "def send(line): sys.stdout.buffer.write(line); sys.stdout.flush()\n"
    )
    return WorkerProcess([sys.executable, "-P", "-c", start + code], tmp_path / "worker.log")


def read(worker):
    """Its reports until it fails, and the failure."""
    reports = []
    try:
        while time.monotonic() - worker.heard_at < 30:
            reports += worker.reports(1.0)
    except (WorkerDied, ProtocolError) as error:
        return reports, error
    finally:
        worker.end()
    return reports, None


@pytest.fixture(autouse=True)
def our_code_first(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


MISBEHAVIOUR = {
    "an endless line": ("while True: send(b'x' * 65536)", WorkerDied, "sent a message longer than 8 MiB"),
    "no report": (
        "send(encode(Ready()) + b'hello\\n'); time.sleep(60)",
        WorkerDied,
        "no report: not a JSON report: hello",
    ),
    "no greeting": ("send(encode(Note(1, 'x'))); time.sleep(60)", WorkerDied, "sent Note before its greeting"),
    "another version": ("send(encode(Ready(7))); time.sleep(60)", WrongVersion, "protocol version 7"),
    "a closed pipe": ("send(encode(Ready())); os.close(1); time.sleep(60)", WorkerDied, "the worker closed its pipe"),
    "an exit": ("send(encode(Ready())); os._exit(3)", WorkerDied, "the worker ended with exit code 3"),
}


@pytest.mark.parametrize("name", MISBEHAVIOUR)
def test_a_worker_that_misbehaves_is_refused_with_the_reason(tmp_path, name):
    code, error, reason = MISBEHAVIOUR[name]
    _, failure = read(child(tmp_path, code))
    assert type(failure) is error and reason in str(failure)


def test_no_order_goes_to_a_worker_before_its_greeting(tmp_path):
    """One of another version must not begin to render."""
    told = tmp_path / "told"
    listen = f"import select; got = select.select([0], [], [], 0.3)[0]; open({str(told)!r}, 'w').write(str(len(got)))\n"
    worker = child(tmp_path, f"{listen}send(encode(Ready()))\nsend(encode(decode_order(sys.stdin.buffer.readline())))")
    worker.order(CancelOrder(31))
    reports, failure = read(worker)
    assert reports == [Ready()] and "unknown type of report" in str(failure)  # the order, sent back
    assert '"cancel"' in str(failure) and told.read_text() == "0"


def test_reports_arrive_whole_however_they_are_cut(tmp_path):
    code = (
        "sent = encode(Ready()) + encode(Note(1, 'a')) + b'\\n' + encode(Progress(1, 'rendering', 2, 8))\n"
        "for part in (sent[:5], sent[5:40], sent[40:]):\n    send(part); time.sleep(0.05)\n"
        "time.sleep(60)"
    )
    worker = child(tmp_path, code)
    seen = []
    while len(seen) < 3:
        seen += worker.reports(30.0)
    assert seen == [Ready(), Note(1, "a"), Progress(1, "rendering", 2, 8)] and worker.ready
    pid = worker.pid
    worker.end()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
