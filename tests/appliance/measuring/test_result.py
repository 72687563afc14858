"""Asked and measured: as words, over the wire and back, in the library, and in what people are shown of a take."""

import json

import pytest

from appliance.direction.shot import from_plain
from appliance.library.library import Fenced, Library
from appliance.library.take import Status
from appliance.measuring.result import HEAD, Measured, measured_of, verdict_words

PAN = Measured("pan", "deg", 20.0, 19.2, -0.8, 1.5, "deg")
ZOOM = Measured("zoom", "x", 1.0, 1.08, 8.0, 4.0, "%")
LOST = Measured("key azimuth", "deg", -60.0, None, None, 10.0, "deg", "too little of the person is lit")


def test_a_row_in_words():
    assert (PAN.ok, ZOOM.ok, LOST.ok) == (True, False, None)
    assert PAN.words() == "ok  pan 19.2, 20 asked: off by -0.8 of 1.5 deg"
    assert ZOOM.words() == "OFF zoom 1.08, 1 asked: off by +8 of 4 %"
    assert LOST.words() == "key azimuth not measured: too little of the person is lit"
    assert PAN.cells() == ("pan", "20 deg", "19.2 deg", "-0.8", "1.5 deg", "ok")
    assert LOST.cells()[2:] == ("", "", "10 deg", "not measured: too little of the person is lit")
    assert len(HEAD) == len(PAN.cells())
    assert (verdict_words(7, 9), verdict_words(0, 0)) == ("7/9", "")


def test_over_the_wire_and_back():
    wire = json.loads(json.dumps([row.to_json() for row in (PAN, ZOOM, LOST)], allow_nan=False))
    assert [row["ok"] for row in wire] == [True, False, None]
    assert measured_of(wire) == (PAN, ZOOM, LOST)
    endless = Measured("zoom", "x", 1.0, float("inf"), float("inf"), 4.0, "%", "").to_json()
    assert (endless["measured"], endless["error"], endless["ok"]) == (None, None, None)


WRONG = [PAN.to_json() | one for one in ({"asked": "20"}, {"error": float("nan")}, {"asked": None})]


@pytest.mark.parametrize("wrong", [None, {}, "rows", [None], [{"axis": "pan"}], WRONG])
def test_what_is_no_row_is_left_out(wrong):
    assert measured_of(wrong) == ()


@pytest.fixture
def library(tmp_path, monkeypatch):
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path))
    with Library.open() as library:
        library.queue(from_plain({"scene": "12", "setup": "C", "seed": 7}))
        yield library


def test_the_library_keeps_what_was_measured_with_the_delivery(library):
    claimed = library.claim("test 0 1", 60)
    taken = library.change(claimed, Status.DELIVERED, measured=(PAN, ZOOM, LOST))
    assert (taken.axes_within, taken.axes_measured) == (1, 2)
    assert library.measures(taken.id) == {taken.id: (PAN, ZOOM, LOST)}
    assert library.measures(taken.id + 1) == {}
    other = library.queue(from_plain({"scene": "12", "setup": "C", "seed": 8}))
    assert (other.axes_within, other.axes_measured) == (0, 0) and library.measures() == {}


def test_who_lost_a_take_writes_no_measures_of_it(library):
    claimed = library.claim("test 0 1", 60)
    library.release(claimed, "somebody else's now", blameless=True)
    with pytest.raises(Fenced):
        library.change(claimed, Status.DELIVERED, measured=(PAN,))
    assert library.measures(claimed.id) == {}


def test_people_are_shown_what_was_measured(library, python):
    library.change(library.claim("test 0 1", 60), Status.DELIVERED, measured=(PAN, ZOOM, LOST))
    listed, shown, told = (python("-m", "appliance", *verb) for verb in
                           (("takes",), ("take", "12C"), ("take", "12C", "--json")))  # fmt: skip
    head, row = listed.stdout.splitlines()[:2]
    assert row[head.index("as asked") :].split()[0] == "1/2"
    assert "measured on its film: 1 of 2 within tolerance" in shown.stdout
    assert "not measured: too little of the person is lit" in shown.stdout and "OFF" in shown.stdout
    measures = json.loads(told.stdout)["measures"]
    assert [(row["axis"], row["ok"]) for row in measures] == [("pan", True), ("zoom", False), ("key azimuth", None)]


def test_the_desk_shows_them_too(library):
    from tui.live.watcher import Watcher, probe_machine
    from tui.wording.take_lines import details

    library.change(library.claim("test 0 1", 60), Status.DELIVERED, measured=(PAN, LOST))
    watcher = Watcher(lambda message: None, None, probe_machine)
    snapshot = watcher._read(library, "")
    (take,) = snapshot.ended
    rows = dict(details(take, take.queued_at, snapshot.measures[take.id]))
    assert rows["as asked"].splitlines() == ["1/1 within tolerance", PAN.words(), LOST.words()]
    assert "as asked" not in dict(details(take, take.queued_at))
