"""Many workers, one queue: nothing is rendered twice, nothing is lost, a worker that stalls is fenced off."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from appliance.direction.shot import from_plain
from appliance.library.library import Fenced, Library
from appliance.library.take import TRANSITIONS, Status
from appliance.library.transitions import MAX_ATTEMPTS
from models.errors import BadInput, RushesError

ROOT = Path(__file__).resolve().parents[3]
SHOT = from_plain({"scene": "12", "setup": "C"})

WORKER = """
import random, sys, time
from pathlib import Path
from appliance.library.library import Fenced, Library
from appliance.processes import owner
from appliance.library.take import Status
LEASE = 0.3
library, me = Library.open(Path(sys.argv[1])), owner()
stall = random.Random(int(sys.argv[2]))
said = open(sys.argv[3], "a", buffering=1)
while True:
    take = library.claim(me, LEASE)
    if take is None:
        if not library.takes(status=Status.RENDERING):
            break
        time.sleep(0.02)
        continue
    time.sleep(0.45 if stall.random() < 0.15 else 0.005)
    try:
        library.change(take, Status.DELIVERED, f"fence {take.fence}")
        said.write(f"{take.id} {take.fence} delivered\\n")
    except Fenced:
        said.write(f"{take.id} {take.fence} fenced\\n")
"""


def test_a_race_of_workers_with_kills_and_stalls(tmp_path):
    path, takes = tmp_path / "library.db", 80
    with Library.open(path) as library:
        for _ in range(takes):
            library.queue(SHOT)
    chance, started = random.Random(5), 0

    def worker():
        nonlocal started
        started += 1
        said = tmp_path / f"said-{started}"
        return subprocess.Popen(
            [sys.executable, "-c", WORKER, str(path), str(started), str(said)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    running, kills, deadline = [worker() for _ in range(3)], 0, time.monotonic() + 60
    while any(process.poll() is None for process in running):
        assert time.monotonic() < deadline, "the queue did not empty"
        time.sleep(0.15)
        victim = chance.choice(running)
        if kills < 8 and victim.poll() is None:
            victim.send_signal(signal.SIGKILL)
            victim.wait()
            kills += 1
            running[running.index(victim)] = worker()
    lines = [line.split() for said in tmp_path.glob("said-*") for line in said.read_text().splitlines()]
    delivered = [int(line[0]) for line in lines if line[2] == "delivered"]
    assert kills >= 4
    assert len(delivered) == len(set(delivered)), "a take was delivered twice"
    with Library.open(path) as library:
        ended = library.takes(limit=takes)
        assert {take.status for take in ended} <= {Status.DELIVERED, Status.FAILED}
        assert {take.id for take in ended if take.status is Status.DELIVERED} >= set(delivered)
        for take in ended:
            kinds = [event.kind for event in library.events(take.id)]
            assert kinds.count("delivered") == (take.status is Status.DELIVERED)
            assert kinds.count("rendering") <= MAX_ATTEMPTS
            assert take.status is not Status.FAILED or "lease" in take.error
        assert library.faults() == []
    assert any(line[2] == "fenced" for line in lines), "nobody stalled past a lease: the race proved nothing"


class Workers(RuleBasedStateMachine):
    """Any order of calls, by holders new and old, against a model of what may happen."""

    @initialize(folder=st.uuids())
    def open(self, folder):
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.library = Library.open(Path(self.folder.name) / f"{folder}.db")
        self.status = {}  # id -> Status
        self.holder = {}  # id -> the fence that may write
        self.crashes = {}  # id -> attempts begun
        self.wanted_gone = set()
        self.hands = []  # every Take object anybody ever had

    @rule()
    def queue(self):
        take = self.library.queue(SHOT)
        self.status[take.id], self.holder[take.id], self.crashes[take.id] = Status.QUEUED, take.fence, 0
        self.hands.append(take)

    @rule()
    def claim(self):
        take = self.library.claim("box boot 1", 1e6)
        waiting = [id for id, status in self.status.items() if status is Status.QUEUED]
        if take is None:
            assert not waiting
            return
        assert take.id == min(waiting)
        assert take.fence > self.holder[take.id]
        self.crashes[take.id] += 1
        self.status[take.id], self.holder[take.id] = Status.RENDERING, take.fence
        self.hands.append(take)

    @precondition(lambda self: self.hands)
    @rule(data=st.data(), status=st.sampled_from([Status.DELIVERED, Status.FAILED, Status.CANCELLED, Status.QUEUED]))
    def change(self, data, status):
        take = data.draw(st.sampled_from(self.hands))
        may = take.fence == self.holder[take.id] and status in TRANSITIONS[self.status[take.id]]
        try:
            changed = self.library.change(take, status)
        except Fenced:
            assert take.fence != self.holder[take.id]
        except RushesError:
            assert not may
        else:
            assert may
            self.status[take.id], self.holder[take.id] = status, changed.fence
            self.hands.append(changed)

    @precondition(lambda self: self.hands)
    @rule(data=st.data(), blameless=st.booleans())
    def release(self, data, blameless):
        take = data.draw(st.sampled_from(self.hands))
        holds = take.fence == self.holder[take.id] and self.status[take.id] is Status.RENDERING
        try:
            released = self.library.release(take, "it crashed", blameless)
        except Fenced:
            assert not holds
            return
        assert holds
        if take.id in self.wanted_gone:
            assert released.status is Status.CANCELLED
        else:
            assert released.status in (Status.QUEUED, Status.FAILED)
        assert released.status is not Status.FAILED or released.error
        self.status[take.id], self.holder[take.id] = released.status, released.fence
        self.hands.append(released)

    @precondition(lambda self: self.status)
    @rule(data=st.data())
    def cancel(self, data):
        id = data.draw(st.sampled_from(sorted(self.status)))
        try:
            take = self.library.request_cancel(id)
        except BadInput:
            assert not TRANSITIONS[self.status[id]]
            return
        if self.status[id] is Status.QUEUED:
            self.status[id] = Status.CANCELLED
        else:
            self.wanted_gone.add(id)
        assert take.status is self.status[id]

    @precondition(lambda self: self.hands)
    @rule(data=st.data())
    def progress(self, data):
        take = data.draw(st.sampled_from(self.hands))
        holds = take.fence == self.holder[take.id] and self.status[take.id] is Status.RENDERING
        try:
            self.library.progress(take, "rendering", 1, 8)
            assert holds
        except Fenced:
            assert not holds

    @invariant()
    def the_rows_are_the_model(self):
        if hasattr(self, "library"):
            assert {take.id: take.status for take in self.library.takes(limit=1000)} == self.status
            for id, status in self.status.items():
                assert self.library.events(id)[-1].kind in (status, "note")

    def teardown(self):
        if hasattr(self, "library"):
            self.library.close()
            self.folder.cleanup()


TestWorkers = Workers.TestCase
TestWorkers.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)
