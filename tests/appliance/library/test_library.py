"""The library stores what it is given, gives a take to one worker at a time, and says in one line what is wrong."""

import os
import stat

import pytest

from appliance.direction.document import from_json
from appliance.direction.shot import from_plain
from appliance.library.connection import connect
from appliance.library.library import Fenced, Library
from appliance.library.machines import calibrations, machines, measured_rates, note_machine, store_rates
from appliance.library.migrations import STEPS, migrate
from appliance.library.take import TRANSITIONS, Status
from appliance.machine.rates import Calibration, Rates
from models.errors import BadInput, RushesError

HERE = "box boot1 100"


def shot(scene="12", setup="C", action="Mara crosses", **more):
    return from_plain({"scene": scene, "setup": setup, "text": {"action": action}, **more})


@pytest.fixture
def library(tmp_path):
    with Library.open(tmp_path / "library.db") as library:
        yield library


def test_a_queued_take_has_its_number_its_seed_and_its_direction(library):
    first = library.queue(shot())
    second = library.queue(shot(seed=7))
    other = library.queue(shot(setup="D"))
    assert [first.slate, second.slate, other.slate] == ["12C T1", "12C T2", "12D T1"]
    assert second.seed == 7
    drawn = from_json(first.direction_json)
    assert drawn.seed == first.seed
    assert drawn.text.action == first.action == "Mara crosses"
    assert first.status is Status.QUEUED


def test_drawn_seeds_differ(library):
    assert len({library.queue(shot()).seed for _ in range(20)}) == 20


def test_a_stated_take_number_is_used_once(library):
    assert library.queue(shot(take=4)).slate == "12C T4"
    assert library.queue(shot()).slate == "12C T5"
    with pytest.raises(BadInput, match=r"take 4 of 12C exists.*6"):
        library.queue(shot(take=4))
    assert library.queue(shot(take=4), prev_take=1).slate == "12C T6"


def test_a_shot_is_kept_once_with_the_action_of_its_latest_direction(library):
    first = library.queue(shot(action="Mara waits"))
    library.queue(shot(action="Mara crosses"))
    library.queue(shot(setup="D", action="the room is empty"))
    with pytest.raises(BadInput):
        library.queue(shot(take=1, action="never queued"))  # nor is its shot touched
    kept = library.rows("SELECT scene, setup, action, first_queued_at, print_take FROM shots ORDER BY id")
    assert [tuple(row)[:3] for row in kept] == [("12", "C", "Mara crosses"), ("12", "D", "the room is empty")]
    assert kept[0]["first_queued_at"] <= first.queued_at and kept[0]["print_take"] is None
    assert library.take(first.id).action == "Mara waits"  # a take keeps its own
    assert library.rows("SELECT shot_id, take_number FROM takes ORDER BY id")[2]["shot_id"] == 2


def test_no_look_at_the_queue_or_at_a_shot_reads_the_whole_history(library):
    library.queue(shot())
    asked: list[str] = []
    library._db.set_trace_callback(asked.append)
    library.take(1), library.take("12C T1"), library.take("12C"), library.takes(limit=1), library.board()
    library.waiting(), library.events(1), calibrations(library, "previs", "box"), library.queue(shot())
    library.claim(HERE, 60)
    library._db.set_trace_callback(None)
    read = [sql for sql in asked if sql.startswith("SELECT")]
    steps = {sql: [row["detail"] for row in library.rows(f"EXPLAIN QUERY PLAN {sql}")] for sql in read}
    assert len(steps) >= 10
    for sql, plan in steps.items():
        newest_first = "WHERE 1 ORDER BY id DESC LIMIT" in sql  # reads no further than its limit
        assert newest_first or not any(step.startswith("SCAN") for step in plan), (sql, plan)


def test_takes_are_found_by_id_and_by_every_spelling_of_their_slate(library):
    for _ in range(3):
        library.queue(shot())
    last = library.queue(shot())
    library.queue(shot(scene="7", setup="AB"))
    for reference in ("4", 4, "#4", "12C T4", "12C-T4", "12ct4", " 12c t4 ", "12C_T4", "12C", "12c"):
        assert library.take(reference) == last, reference
    assert library.take("7ab").slate == "7AB T1"


@pytest.mark.parametrize(
    "reference", ["9", "12C T9", "99Z", "", "\x1b[2J", "9" * 30, "12C T" + "9" * 30, "' OR 1=1 --", "-1"]
)
def test_a_take_that_is_not_there_is_one_clean_line(library, reference):
    library.queue(shot())
    with pytest.raises(BadInput) as refusal:
        library.take(reference)
    assert "rushes takes" in str(refusal.value)
    assert "\x1b" not in str(refusal.value) and "\n" not in str(refusal.value)


def test_words_narrow_the_list_newest_first(library):
    library.queue(shot(action="Mara crosses the ROOM"))
    library.queue(shot(setup="D", action="the room is empty"))
    library.queue(shot(action="Leon waits"))
    library.request_cancel(3)
    assert [take.id for take in library.takes()] == [3, 2, 1]
    assert [take.id for take in library.takes(["room"])] == [2, 1]
    assert [take.id for take in library.takes(["Room", "12C"])] == [1]
    assert [take.id for take in library.takes(["cancelled"])] == [3]
    assert [take.id for take in library.takes(status=Status.QUEUED, limit=1)] == [2]
    assert library.takes(['"', "%", "NEAR("]) == []


def test_the_board_is_what_renders_then_what_waits_then_what_ended(library):
    for _ in range(4):
        library.queue(shot())
    library.request_cancel(2)
    claimed = library.claim(HERE, 60)
    assert [(take.id, take.status) for take in library.board()] == [
        (claimed.id, Status.RENDERING), (3, Status.QUEUED), (4, Status.QUEUED), (2, Status.CANCELLED)
    ]  # fmt: skip


def test_a_take_lives_through_claim_progress_and_delivery(library):
    library.queue(shot())
    take = library.claim(HERE, 60)
    assert (take.status, take.attempt, take.fence, take.owner) == (Status.RENDERING, 1, 1, HERE)
    assert take.machine == "box"
    library.record(take, plan_json="{}", card="previs", predicted_seconds=20.0, nominal_seconds=10.0, steps=8,
                   precision="int8", device_kind="cpu", predicted_bytes=6)  # fmt: skip
    library.progress(take, "rendering", 3, 8)
    assert (library.take(1).phase, library.take(1).step, library.take(1).steps) == ("rendering", 3, 8)
    film = library.takes_folder / "12C" / "12C-T1_1.mp4"
    done = library.change(take, Status.DELIVERED, path=film, sha256="ab", seconds=15.0, peak_bytes=5)
    assert (done.path, done.sha256, done.owner, done.lease_until) == (film, "ab", None, None)
    assert done.machine == "box"  # who rendered it is remembered, who holds it no more
    assert done.ended and done.ended_at >= done.started_at >= done.queued_at
    assert [event.kind for event in library.events(1)] == ["queued", "rendering", "delivered"]
    assert (done.predicted_bytes, done.peak_bytes) == (6, 5)
    assert calibrations(library, "previs", "box") == {("int8", "cpu"): Calibration(1.5, takes=1)}
    assert calibrations(library, "other", "box") == calibrations(library, "previs", "another") == {}


def rendered(library, seconds, precision="int8", kind="cpu", peak=None):
    """A delivered take that was predicted to take 10 seconds and 100 bytes."""
    library.queue(shot())
    take = library.claim(HERE, 60)
    library.record(take, card="previs", nominal_seconds=10.0, precision=precision, device_kind=kind,
                   predicted_bytes=100)  # fmt: skip
    library.change(take, Status.DELIVERED, seconds=seconds, peak_bytes=peak)


def test_takes_are_calibrated_by_their_median_for_each_precision_and_kind_of_device(library):
    for seconds in (10.0, 12.0, 90.0, 11.0):
        rendered(library, seconds)
    for seconds in (1.0, 2.0, 3.0):
        rendered(library, seconds, kind="cuda")
    rendered(library, 30.0, precision="bf16", kind="cuda")
    measured = calibrations(library, "previs", "box")
    assert {key: (round(found.ratio, 6), found.takes) for key, found in measured.items()} == {
        ("int8", "cpu"): (1.15, 4), ("int8", "cuda"): (0.2, 3), ("bf16", "cuda"): (3.0, 1)
    }  # fmt: skip
    assert calibrations(library, "previs", "box", last=2)["int8", "cpu"] == Calibration((9.0 + 1.1) / 2, 2)


def test_the_most_memory_that_a_take_took_over_its_prediction_is_remembered(library):
    for peak in (None, 90, 108, 103):
        rendered(library, 10.0, peak=peak)
    assert calibrations(library, "previs", "box") == {("int8", "cpu"): Calibration(1.0, 4, memory=1.08)}
    assert calibrations(library, "previs", "box", last=1) == {("int8", "cpu"): Calibration(1.0, 1, memory=1.03)}


def test_takes_before_the_rates_were_measured_say_nothing_of_predictions_by_them(library):
    rendered(library, 20.0)
    store_rates(library, "box", {"cpu": {"rates": {"flops_int8": 1e12, "copy_bytes_s": None}}})
    assert calibrations(library, "previs", "box") == {}
    rendered(library, 12.0)
    assert calibrations(library, "previs", "box") == {("int8", "cpu"): Calibration(1.2, takes=1)}


def test_rates_belong_to_a_machine_and_its_places(library):
    assert measured_rates(library, "box") == {}
    note_machine(library, "box", {"cores": 2})
    odd = {"flops_int8": float("inf"), "flops_bf16": -1, "copy_bytes_s": "fast", "upload_bytes_s": True}
    store_rates(library, "box", {"cpu": {"rates": {"flops_int8": 1e12, "flops_bf16": 2e12}}, "cuda:0": {"rates": odd}})
    note_machine(library, "box", {"cores": 4})  # what was measured outlives another look at the machine
    assert measured_rates(library, "box") == {"cpu": Rates(flops_int8=1e12, flops_bf16=2e12), "cuda:0": Rates()}
    assert measured_rates(library, "another") == {}
    store_rates(library, "another", {"cpu": {}})
    assert measured_rates(library, "another") == {"cpu": Rates()}


def test_a_library_of_the_first_format_keeps_its_takes_and_forgets_how_they_were_predicted(tmp_path):
    path = tmp_path / "library.db"
    connection = connect(path)
    migrate(connection, path, STEPS[:1])
    connection.execute("INSERT INTO shots (scene, setup, first_queued_at) VALUES ('12', 'C', 1)")
    connection.execute(
        "INSERT INTO takes (shot_id, take_number, direction_json, status, seed, queued_at, card, seconds, "
        "nominal_seconds, fence) VALUES (1, 1, '{}', 'delivered', 5, 1, 'previs', 9, 3, 1)"
    )
    connection.close()
    with Library.open(path) as library:
        (take,) = library.takes()
        assert (take.slate, take.seconds, take.predicted_bytes, take.missed_place) == ("12C T1", 9.0, None, None)
        assert library.rows("SELECT nominal_seconds FROM takes")[0][0] is None


def test_an_installation_can_move_to_another_disk(tmp_path):
    with Library.open(tmp_path / "old" / "library.db") as library:
        library.queue(shot())
        library.change(library.claim(HERE, 60), Status.DELIVERED, path=library.takes_folder / "12C" / "a.mp4")
    os.rename(tmp_path / "old", tmp_path / "new")
    with Library.open(tmp_path / "new" / "library.db") as library:
        assert library.take(1).path == tmp_path / "new" / "takes" / "12C" / "a.mp4"


def test_a_film_outside_the_installation_is_not_recorded(library):
    library.queue(shot())
    take = library.claim(HERE, 60)
    with pytest.raises(ValueError):
        library.change(take, Status.DELIVERED, path="/etc/passwd")
    assert library.take(1).status is Status.RENDERING


@pytest.mark.parametrize("start", Status)
def test_every_move_that_is_not_in_transitions_is_refused_and_changes_nothing(library, start):
    for target in set(Status) - {Status.RENDERING}:
        take = library.queue(shot())
        if start is not Status.QUEUED:
            take = library.claim(HERE, 60)
        if start not in (Status.QUEUED, Status.RENDERING):
            take = library.change(take, start)
        if target in TRANSITIONS[start]:
            assert library.change(take, target).status is target
        else:
            events = library.events(take.id)
            with pytest.raises(RushesError, match=f"is {start}: it can become"):
                library.change(take, target)
            assert library.take(take.id) == take
            assert library.events(take.id) == events
        while waiting := library.claim(HERE, 60):  # so that the next round claims its own take
            library.change(waiting, Status.CANCELLED)


def test_a_render_begins_with_a_claim_alone(library):
    with pytest.raises(ValueError, match="claim"):
        library.change(library.queue(shot()), Status.RENDERING)
    assert library.take(1).status is Status.QUEUED


def test_who_was_overtaken_is_fenced_off(library):
    library.queue(shot())
    old = library.claim("box boot1 1", -1)  # its lease is over as it begins
    new = library.claim("box boot1 2", 60)
    assert (new.id, new.fence > old.fence, new.attempt) == (old.id, True, 2)
    for write in (
        lambda: library.change(old, Status.DELIVERED),
        lambda: library.heartbeat(old, 60),
        lambda: library.progress(old, "rendering", 1, 8),
        lambda: library.release(old, "gone"),
    ):
        with pytest.raises(Fenced):
            write()
    assert library.take(1) == new
    assert library.change(new, Status.DELIVERED).status is Status.DELIVERED


def test_a_second_crash_is_a_failure_with_its_reason(library):
    library.queue(shot())
    again = library.release(library.claim(HERE, 60), "the worker crashed (SIGSEGV)")
    assert (again.status, again.attempt) == (Status.QUEUED, 1)
    failed = library.release(library.claim(HERE, 60), "the worker crashed (SIGSEGV)")
    assert failed.status is Status.FAILED
    assert "SIGSEGV" in failed.error and "rushes retake 1" in failed.error


def test_shutdown_is_not_failure(library):
    library.queue(shot())
    for _ in range(4):
        take = library.release(library.claim(HERE, 60), "the daemon was stopped", blameless=True)
        assert (take.status, take.attempt) == (Status.QUEUED, 0)


def test_a_take_that_restarts_the_machine_every_time_ends_too(library):
    library.queue(shot())
    for boot in range(20):
        if library.claim(f"box boot{boot} 1", 60) is None:
            break
        library.recover(f"box boot{boot + 1} 1", "unused")
    assert library.take(1).status is Status.FAILED
    assert boot >= 3  # more patience than with crashes


def test_recovery_counts_a_crash_and_forgives_a_power_cut(library):
    library.queue(shot())
    library.claim("box boot1 1", 600)
    (crashed,) = library.recover("box boot1 2", "the daemon ended while it rendered")
    assert (crashed.status, crashed.attempt) == (Status.QUEUED, 1)
    library.claim("box boot1 2", 600)
    (restarted,) = library.recover("box boot2 3", "the daemon ended while it rendered")
    assert (restarted.status, restarted.attempt) == (Status.QUEUED, 1)
    assert "restarted" in library.events(1)[-1].text


def test_a_wish_to_cancel_reaches_whoever_renders_and_survives_a_crash(library):
    library.queue(shot())
    take = library.claim(HERE, 60)
    assert library.heartbeat(take, 60) is False
    assert library.request_cancel(1).cancel_requested
    assert library.heartbeat(take, 60) is True
    assert library.release(take, "the worker crashed").status is Status.CANCELLED
    with pytest.raises(BadInput, match="already cancelled"):
        library.request_cancel(1)


def test_another_connection_is_seen_by_its_data_version(library):
    before = library.data_version()
    library.queue(shot())
    assert library.data_version() == before  # our own commit
    with Library.open(library.path) as other:
        other.queue(shot())
    assert library.data_version() != before


def test_control_characters_are_disarmed_on_the_way_in_and_on_the_way_out(library):
    library.queue(shot(action="walk\x1b]52;c;x\x07 on"))
    take = library.claim("bo\x1bx boot 1", 60)
    library.progress(take, "ren\x9bdering", 1, 2)
    library.change(take, Status.FAILED, error="bad\nnews \x1b[31m")
    with library.immediate():  # a row by another hand
        library._db.execute("UPDATE shots SET scene = ?", ("1\x1b[2J",))
        library._db.execute("UPDATE takes SET action = ?, machine = ? WHERE id = 1", ("x\u202ey", "b\x1b[7m"))
        library._db.execute("INSERT INTO events (take_id, at, kind, text) VALUES (1, 0, ?, ?)", ("no\x07te", "z\x00"))
    seen = repr(library.take(1)) + repr(library.events(1))
    assert "\\x1b" not in seen and "\\x07" not in seen and "\\x00" not in seen and "\\x9b" not in seen
    assert "\\u202e" not in seen and "\\n" not in seen
    assert "bad news" in library.take(1).error
    written = library.rows("SELECT phase, error, search FROM takes")[0]
    assert not any("\x1b" in text or "\x9b" in text for text in written)


def test_machines_are_remembered(library):
    note_machine(library, "edit-1", {"cores": 2})
    note_machine(library, "edit-1", {"cores": 4})
    ((name, facts, seen),) = machines(library)
    assert (name, facts, seen > 0) == ("edit-1", {"cores": 4}, True)


def test_the_file_is_made_for_a_group_of_operators(tmp_path):
    before = os.umask(0o077)
    try:
        Library.open(tmp_path / "library.db").close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "library.db").stat().st_mode) == 0o660


def test_every_promise_of_the_file_is_switched_on(library):
    def pragma(name):
        return library.rows(f"PRAGMA {name}")[0][0]

    assert pragma("journal_mode") == "wal"
    assert pragma("synchronous") == 2  # FULL
    assert pragma("foreign_keys") == 1
    assert library.faults() == []
    assert all(
        "STRICT" in row[0]
        for row in library.rows("SELECT sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    )


def test_the_write_ahead_log_is_folded_in_when_nobody_reads(library):
    for _ in range(50):
        library.queue(shot())
    log = library.path.with_name("library.db-wal")
    assert log.stat().st_size > 0
    assert library.checkpoint() is True
    assert log.stat().st_size == 0


def test_no_cursor_is_left_open(library):
    for _ in range(60):
        library.queue(shot())
    with Library.open(library.path) as reader:
        reader.takes(limit=1), reader.board(recent=1), reader.events(1, limit=1), reader.waiting()
        library.queue(shot())
        assert library.checkpoint() is True  # an open reader would be in the way
