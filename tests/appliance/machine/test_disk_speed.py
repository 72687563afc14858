"""Reading speed: bounded, of the file as it is, remembered; on a file system with and without O_DIRECT."""

import os
import time

import pytest

from appliance.machine import disk_speed as store
from appliance.machine.disk_speed import PIECE_BYTES, known_speed, read_speed


@pytest.mark.parametrize("size", [1, 4096, PIECE_BYTES + 513])
def test_a_whole_small_file_is_read(tmp_path, size):
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(size))
    assert known_speed(path) is None
    speed = read_speed(path)
    assert speed.read_bytes == size and speed.bytes_s > 0
    assert known_speed(path) is speed and read_speed(path) is speed


def test_a_file_that_changed_is_measured_again(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(bytes(5000))
    assert read_speed(path).read_bytes == 5000
    path.write_bytes(bytes(6000))
    assert known_speed(path) is None and read_speed(path).read_bytes == 6000


def test_no_more_than_the_bound_is_read_of_a_large_file(tmp_path):
    path = tmp_path / "weights"
    with open(path, "wb") as file:
        file.truncate(1 << 30)  # a hole: no disk is asked, so only the bound ends it
    start = time.perf_counter()
    assert read_speed(path).read_bytes <= store.MOST_BYTES
    assert time.perf_counter() - start < store.MOST_S + 2


def test_where_o_direct_is_refused_the_cache_is_asked_to_forget(tmp_path, monkeypatch):
    opened = os.open

    def refuses(path, flags, *mode, **more):
        if flags & os.O_DIRECT:
            raise OSError(22, "Invalid argument")
        return opened(path, flags, *mode, **more)

    path = tmp_path / "weights"
    path.write_bytes(bytes(70_000))
    monkeypatch.setattr(os, "open", refuses)
    speed = read_speed(path)
    assert speed.read_bytes == 70_000 and speed.direct is False


def test_nothing_to_read(tmp_path):
    assert read_speed(tmp_path / "none") is None
    (tmp_path / "empty").write_bytes(b"")
    assert read_speed(tmp_path / "empty") is None and read_speed(tmp_path) is None
