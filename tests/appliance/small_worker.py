"""A worker small enough to test the daemon with: it speaks the same protocol, writes real films without torch, and
misbehaves as the take's action says ("crash", "crash once", "hang", "babble", "fail", "memory", "memory once", "disk",
"slow", "deaf", "wait", "read": it encodes the texts whose embeddings it was not given).

SMALL_WORKER_GO: a file that "wait" waits for. SMALL_WORKER_VERSION: a file with the protocol version to claim.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from appliance.processes import die_with_parent
from appliance.worker.protocol import (
    VERSION,
    Cancelled,
    CancelOrder,
    Done,
    EmbeddingRead,
    Failed,
    FailureKind,
    KnownEmbedding,
    Note,
    Progress,
    Ready,
    decode_order,
    encode,
)
from models.errors import RushesError
from models.events import Embedding

cancelled = set()
known = []
orders = []
changed = threading.Condition()


def read():
    for line in sys.stdin.buffer:
        order = decode_order(line)
        with changed:
            if isinstance(order, CancelOrder):
                cancelled.add(order.take)
            elif isinstance(order, KnownEmbedding):
                known.append(order.embedding.text)
            else:
                orders.append(order)
            changed.notify()
    os._exit(0)


def report(message):
    os.write(1, encode(message))  # short, so whole, whichever thread it comes from


def render(order):
    take, film = order.take, order.film
    direction, plan = json.loads(order.direction), json.loads(order.plan)
    does = direction["text"]["action"]
    report(Note(take, f"worker {os.getpid()}"))
    mark = film.parent / "crashed-once"
    if does == "crash" or (does == "crash once" and not mark.exists()):
        film.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        report(Progress(take, "rendering", 1, 2))
        os.kill(os.getpid(), signal.SIGSEGV)
    if does == "babble":
        print("Loading checkpoint shards: 100%", flush=True)
    if does in ("hang", "babble"):
        time.sleep(600)
    if does == "memory once" and not mark.exists():
        film.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        return report(Failed(take, FailureKind.MEMORY, "could not, for once", plan["device"]))
    if does in ("fail", "memory", "disk"):
        kind = FailureKind({"fail": "failed"}.get(does, does))
        return report(Failed(take, kind, f"could not, for {does}", plan["device"]))
    for step in range(1, 1000 if does in ("slow", "deaf") else 3):
        report(Progress(take, "rendering", step, 1000))
        with changed:
            if changed.wait_for(lambda: take in cancelled and does != "deaf", 0.05):
                return report(Cancelled(take))
    if does == "read":
        encode_texts(order)
    if does == "wait":
        while not Path(os.environ["SMALL_WORKER_GO"]).exists():
            time.sleep(0.02)
    delivered = threading.Event()
    threading.Thread(target=keep_reporting, args=(take, delivered)).start()
    try:
        done = deliver(order, direction, plan)
    except RushesError as error:
        done = Failed(take, FailureKind.DISK, str(error))
    delivered.set()
    report(done)


def keep_reporting(take, delivered):
    """On a busy machine numpy and PyAV take longer to load than some tests let a worker be silent."""
    while not delivered.wait(0.2):
        report(Progress(take, "delivering", 2, 1000))


def encode_texts(order):
    """Two tokens of 64 numbers for each text, and one embedding that no encoder makes."""
    report(Note(order.take, f"{len(known)} known, by {order.package.stem}: {order.prompt}"))
    for text in (order.prompt, order.negative_prompt):
        if text not in known:
            report(EmbeddingRead(order.take, Embedding(text, 2, bytes([len(text) % 256]) * 2 * 64 * 2)))
    report(EmbeddingRead(order.take, Embedding("nonsense", 9, b"")))


def deliver(order, direction, plan):
    import numpy as np

    from appliance.delivery.take_files import TakeFacts, TakeWriter

    size = {name: plan[name] for name in ("width", "height", "fps", "frames")}
    with TakeWriter(order.film.parent, order.film.stem, **size) as writer:
        writer.write(np.full((plan["frames"], plan["height"], plan["width"], 3), 0.5, np.float32))
        files = writer.finish(
            TakeFacts(order.film.stem, order.take, direction, {}, "b", plan, plan["seed"], "w", "k", {"total": 2.5}, 7)
        )
    return Done(order.take, files.parts, files.sha256, seconds=2.5, peak_bytes=7)


if __name__ == "__main__":
    die_with_parent()
    threading.Thread(target=read, daemon=True).start()
    claims = Path(os.environ.get("SMALL_WORKER_VERSION", "none"))
    report(Ready(int(claims.read_text()) if claims.exists() else VERSION))
    while True:
        with changed:
            changed.wait_for(lambda: orders)
            order = orders.pop(0)
        render(order)
