"""Files appear whole or not at all."""

import errno
import json
import os
from pathlib import Path

import pytest

from appliance import atomic_files as publish
from models.atomic_write import part_path
from models.errors import RushesError


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_published_file_is_the_part_and_the_part_is_gone(tmp_path):
    final = tmp_path / "new" / "12C-T4.mp4"
    part = publish.create_part(final)
    assert part.parent == final.parent and part.name == f".12C-T4.mp4.{os.getpid()}.part"
    part.write_bytes(b"film")
    publish.publish(part, final)
    assert final.read_bytes() == b"film" and names(final.parent) == ["12C-T4.mp4"]


def test_publishing_never_overwrites(tmp_path):
    final = tmp_path / "a.mp4"
    final.write_bytes(b"the first")
    part = publish.create_part(final)
    part.write_bytes(b"the second")
    with pytest.raises(RushesError, match=r"a\.mp4: a file of that name exists"):
        publish.publish(part, final)
    assert final.read_bytes() == b"the first"


def test_publishing_may_be_repeated_after_it_was_cut_off_between_link_and_unlink(tmp_path):
    final = tmp_path / "a.mp4"
    part = publish.create_part(final)
    part.write_bytes(b"film")
    os.link(part, final)
    publish.publish(part, final)
    assert names(tmp_path) == ["a.mp4"] and final.read_bytes() == b"film"


@pytest.mark.parametrize("taken", [False, True])
def test_where_hard_links_are_unsupported_a_rename_does_it_and_still_does_not_overwrite(tmp_path, monkeypatch, taken):
    def refuse(*_args, **_kwargs):
        raise FileExistsError(errno.EEXIST, "exists") if taken else OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    final = tmp_path / "a.mp4"
    if taken:
        final.write_bytes(b"the first")
    part = publish.create_part(final)
    part.write_bytes(b"film")
    if taken:
        with pytest.raises(RushesError):
            publish.publish(part, final)
        assert final.read_bytes() == b"the first"
    else:
        publish.publish(part, final)
        assert names(tmp_path) == ["a.mp4"] and final.read_bytes() == b"film"


def test_a_part_is_not_written_through_a_symbolic_link(tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"keep")
    final = tmp_path / "a.mp4"
    part_path(final).symlink_to(victim)
    publish.create_part(final).write_bytes(b"film")
    assert victim.read_bytes() == b"keep"


def test_a_replacement_takes_the_place_of_the_older_file(tmp_path):
    page = tmp_path / "take.json"
    for document in ({"slate": "12C T4", "action": "她转身"}, {"slate": "13"}):
        publish.replace(publish.write_part(page, publish.json_bytes(document)), page)
        assert json.loads(page.read_text()) == document and page.read_text().endswith("}\n")
        assert names(tmp_path) == ["take.json"]
    with pytest.raises(ValueError):
        publish.json_bytes({"seconds": float("nan")})


def test_a_replacement_that_is_refused_leaves_the_older_file_alone(tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "inside").write_bytes(b"keep")
    with pytest.raises(RushesError, match="taken"):  # a folder of that name
        publish.replace(publish.write_part(tmp_path / "taken", b"page"), tmp_path / "taken")
    assert names(tmp_path) == ["taken"] and (tmp_path / "taken" / "inside").read_bytes() == b"keep"


def test_sweep_takes_the_parts_of_the_dead_and_leaves_the_living(python, tmp_path):
    ended = python("-c", "import os; print(os.getpid())")
    dead = tmp_path / "12C" / f".12C-T1.mp4.{int(ended.stdout)}.part"
    alive = tmp_path / "12C" / f".12C-T2.mp4.{os.getpid()}.part"
    unrelated = tmp_path / "12C" / ".notes.part"
    for path in (dead, alive, unrelated):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    assert publish.sweep(tmp_path) == [dead]
    assert alive.exists() and unrelated.exists()


def test_a_full_disk_is_one_line_and_leaves_nothing(python, tmp_path):
    """A real refusal by the kernel: a process that may not write files beyond 4 KB."""
    code = (
        "import resource, sys; from pathlib import Path; from appliance.atomic_files import write_part\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "from models.errors import RushesError\n"
        "try: write_part(Path(sys.argv[1]), b'x' * 100_000)\n"
        "except RushesError as error: print(error); sys.exit(error.exit_code)\n"
    )
    done = python("-c", code, tmp_path / "page.json")
    assert done.returncode == 1 and done.stderr == ""
    assert len(done.stdout.splitlines()) == 1 and "page.json" in done.stdout and "ulimit -f" in done.stdout
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.ENOSPC, "disk is full"), (errno.EACCES, "permission denied"), (errno.EROFS, "read-only"), (9999, "odd")],
)
def test_every_refusal_names_the_file_and_a_way_out(code, words):
    error = publish.disk_error(OSError(code, "odd"), Path("/takes/12C.mp4"))
    assert "/takes/12C.mp4" in str(error) and words in str(error) and "\n" not in str(error)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission_is_one_line(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises(RushesError, match="permission denied"):
        publish.write_part(folder / "a.json", b"x")
