"""A worker small enough to test the daemon with: it speaks the same lines, writes real films, and misbehaves as the
take's action asks ("crash", "crash once", "hang", "babble", "fail", "memory", "memory once", "disk", "slow", "deaf",
"wait", "read": it reads the words that it is told and does not know).
"""

import base64
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from appliance.processes import die_with_parent
from models.errors import RushesError

cancelled = set()
orders = []
here = threading.Condition()


def read():
    for text in sys.stdin:
        order = json.loads(text)
        if order["order"] == "cancel":
            cancelled.add(order["take"])
        else:
            with here:
                orders.append(order)
                here.notify()
    os._exit(0)


def say(report, **facts):
    print(json.dumps({"report": report, **facts}), flush=True)


def render(order):
    take, film = order["take"], Path(order["film"])
    direction, plan = json.loads(order["direction"]), json.loads(order["plan"])
    does = direction["text"]["action"]
    say("note", take=take, text=f"worker {os.getpid()}")
    mark = film.parent / "crashed-once"
    if does == "crash" or (does == "crash once" and not mark.exists()):
        film.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        say("progress", take=take, phase="rendering", step=1, steps=2)
        os.kill(os.getpid(), signal.SIGSEGV)
    if does == "babble":
        print("Loading checkpoint shards: 100%", flush=True)
    if does in ("hang", "babble"):
        time.sleep(600)
    if does == "memory once" and not mark.exists():
        film.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        return say("error", take=take, kind="memory", error="could not, for once", place=plan["device"])
    if does in ("fail", "memory", "disk"):
        kind, place = {"fail": "failed"}.get(does, does), plan["device"]
        return say("error", take=take, kind=kind, error=f"could not, for {does}", place=place)
    for step in range(1, 1000 if does in ("slow", "deaf") else 3):
        if take in cancelled and does != "deaf":
            return say("cancelled", take=take)
        say("progress", take=take, phase="rendering", step=step, steps=1000)
        time.sleep(0.05)
    if does == "read":
        read_words(take, order["words"], order["package"])
    if does == "wait":
        while not Path(os.environ["SMALL_WORKER_GO"]).exists():
            time.sleep(0.02)
    try:
        deliver(take, film, direction, plan)
    except RushesError as error:
        say("error", take=take, kind="disk", error=str(error))


def read_words(take, words, package):
    """Two tokens of 64 numbers for each text."""
    known = [each["text"] for each in words["known"]]
    say("note", take=take, text=f"{len(known)} known, by {Path(package).stem}: {words['positive']}")
    for text in (words["positive"], words["negative"]):
        if text not in known:
            data = base64.b64encode(bytes([len(text) % 256]) * 2 * 64 * 2).decode()
            say("words", take=take, embedding={"text": text, "tokens": 2, "data": data})
    say("words", take=take, embedding={"text": "nonsense", "tokens": 9, "data": ""})
    say("words", take=take, embedding="nonsense")


def deliver(take, film, direction, plan):
    import numpy as np

    from appliance.delivery.take_files import TakeFacts, TakeWriter

    size = {name: plan[name] for name in ("width", "height", "fps", "frames")}
    with TakeWriter(film.parent, film.stem, **size) as writer:
        writer.write(np.full((plan["frames"], plan["height"], plan["width"], 3), 0.5, np.float32))
        files = writer.finish(
            TakeFacts(film.stem, take, direction, {}, "b", plan, plan["seed"], "w", "k", {"total": 2.5}, 7)
        )
    parts = {suffix: str(part) for suffix, part in files.parts.items()}
    say("done", take=take, parts=parts, sha256=files.sha256, seconds=2.5, peak_bytes=7)


if __name__ == "__main__":
    die_with_parent()
    threading.Thread(target=read, daemon=True).start()
    say("ready")
    while True:
        with here:
            while not orders:
                here.wait()
            order = orders.pop(0)
        render(order)
