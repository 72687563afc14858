"""Disks fill, folders are locked, files are strange, versions differ: one readable line, and the library is whole."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.direction.shot import from_plain
from appliance.library.connection import LibraryFull, connect, sqlite3, sqlite_version_ok
from appliance.library.library import Library
from appliance.library.migrations import STEPS, migrate
from models.errors import RushesError

ROOT = Path(__file__).resolve().parents[3]


def shot(action="Mara crosses"):
    return from_plain({"scene": "12", "setup": "C", "text": {"action": action}})


def refusal(path):
    with pytest.raises(RushesError) as refused:
        Library.open(path)
    line = str(refused.value)
    assert "\n" not in line and str(path) in line
    return line


def test_one_driver_for_the_whole_process():
    from sqlite_utils.utils import sqlite3 as theirs

    assert theirs is sqlite3


@pytest.mark.parametrize(
    ("version", "safe"),
    [((3, 53, 4), True), ((3, 51, 3), True), ((3, 51, 2), False), ((3, 51, 0), False), ((3, 50, 7), True),
     ((3, 50, 6), False), ((3, 44, 6), True), ((3, 45, 0), False), ((3, 40, 1), False)],
)  # fmt: skip
def test_the_versions_with_the_wal_reset_bug_are_known(version, safe):
    assert sqlite_version_ok(version) is safe


def test_another_programs_database_is_left_as_it_is(tmp_path):
    path = tmp_path / "library.db"
    other = connect(path)
    other.execute("CREATE TABLE photos (id INTEGER)")
    other.close()
    assert "another program's database" in refusal(path)
    other = connect(path)
    assert [row[0] for row in other.execute("SELECT name FROM sqlite_master")] == ["photos"]
    other.close()


def test_a_newer_library_is_refused_and_not_touched(tmp_path):
    path = tmp_path / "library.db"
    with Library.open(path) as library:
        library.queue(shot())
        library.rows(f"PRAGMA user_version = {len(STEPS) + 5}")
    assert f"newer Rushes (format {len(STEPS) + 5}" in refusal(path)


def test_a_torn_library_is_called_damaged(tmp_path):
    path = tmp_path / "library.db"
    with Library.open(path) as library:
        for _ in range(200):
            library.queue(shot())
        library.checkpoint()
    with open(path, "r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * 60_000)
    with pytest.raises(RushesError, match="damaged"), Library.open(path) as library:
        library.takes()
        library.events()


def test_the_next_format_is_reached_with_a_backup(tmp_path):
    path = tmp_path / "library.db"
    with Library.open(path) as library:
        library.queue(shot())

    def m003_notes(db):
        db.execute("ALTER TABLE takes ADD COLUMN notes TEXT NOT NULL DEFAULT 'none'")

    connection = connect(path)
    migrate(connection, path, (*STEPS, m003_notes))
    assert connection.execute("SELECT notes FROM takes").fetchall()[0][0] == "none"
    names = [row[0] for row in connection.execute("SELECT name FROM migrations ORDER BY number").fetchall()]
    assert names == [step.__name__ for step in STEPS] + ["m003_notes"]
    connection.close()
    with Library.open(tmp_path / f"library-format-{len(STEPS)}.backup") as copy:
        assert [take.slate for take in copy.takes()] == ["12C T1"]
    assert "newer" in refusal(path)  # and this program, older than that step, keeps off


def test_a_step_that_fails_leaves_the_format_as_it_was(tmp_path):
    path = tmp_path / "library.db"
    with Library.open(path) as library:
        library.queue(shot())

    def m003_half_done(db):
        db.execute("ALTER TABLE takes ADD COLUMN notes TEXT")
        db.execute("INSERT INTO nowhere VALUES (1)")

    connection = connect(path)
    with pytest.raises(RushesError, match="nowhere"):
        migrate(connection, path, (*STEPS, m003_half_done))
    connection.close()
    with Library.open(path) as library:
        assert "notes" not in [row["name"] for row in library.rows("PRAGMA table_info(takes)")]
        assert [take.slate for take in library.takes()] == ["12C T1"]


def test_several_first_openers_make_one_library(tmp_path):
    script = (
        "import sys; from pathlib import Path; from appliance.library.library import Library;"
        "Library.open(Path(sys.argv[1]))"
    )
    openers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "installation" / "library.db")],
            stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for _ in range(4)
    ]  # fmt: skip
    for opener in openers:
        _, errors = opener.communicate(timeout=60)
        assert opener.returncode == 0, errors.decode()
    with Library.open(tmp_path / "installation" / "library.db") as library:
        assert len(library.rows("SELECT * FROM migrations")) == len(STEPS)


def test_a_full_disk_loses_nothing_and_is_forgotten_when_there_is_room(tmp_path):
    with Library.open(tmp_path / "library.db") as library:
        library.queue(shot())
        pages = library.rows("PRAGMA page_count")[0][0]
        library.rows(f"PRAGMA max_page_count = {pages + 2}")  # SQLite's own SQLITE_FULL
        with pytest.raises(LibraryFull, match="the disk is full"):
            for _ in range(200):
                library.queue(shot("long words " * 20))
        kept = len(library.takes(limit=1000))
        assert library.faults() == []
        assert not library._db.in_transaction
        library.rows("PRAGMA max_page_count = 1000000")
        library.queue(shot())
        assert len(library.takes(limit=1000)) == kept + 1


FILE_LIMIT = """
import resource, sys
from pathlib import Path
from appliance.direction.shot import from_plain
from appliance.library.library import Library
from models.errors import RushesError
library = Library.open(Path(sys.argv[1]))
library.queue(from_plain({"scene": "1"}))
size = max(file.stat().st_size for file in Path(sys.argv[1]).parent.iterdir())
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 8192, resource.RLIM_INFINITY))
acknowledged = 1
try:
    while acknowledged < 500:
        library.queue(from_plain({"scene": "1"}))
        acknowledged += 1
except RushesError as error:
    print(acknowledged)
    print(error)
"""


def test_a_write_that_the_system_refuses_is_one_line_and_keeps_what_was_acknowledged(python, tmp_path):
    done = python("-c", FILE_LIMIT, tmp_path / "library.db")
    acknowledged, line = done.stdout.splitlines()
    assert done.stderr == ""
    assert "what was written before is intact" in line or "nothing was lost" in line
    with Library.open(tmp_path / "library.db") as library:
        assert library.faults() == []
        assert len(library.takes(limit=1000)) == int(acknowledged) < 500
        library.queue(shot())


COLD = """
import resource, sys
from pathlib import Path
from appliance.library.library import Library
Library.open(Path(sys.argv[1])).takes()
heavy = {"numpy", "torch", "sqlite_utils", "av"} & set(sys.modules)
used = resource.getrusage(resource.RUSAGE_SELF)
print(sorted(heavy), used.ru_utime + used.ru_stime)
"""


def test_looking_at_takes_is_light(python, tmp_path):
    with Library.open(tmp_path / "library.db") as library:
        library.queue(shot())
    heavy, seconds = python("-c", COLD, tmp_path / "library.db").stdout.rsplit(" ", 1)
    assert heavy == "[]"
    assert float(seconds) < 0.35  # of the processor, so that a busy machine does not matter; measured: 0.06
