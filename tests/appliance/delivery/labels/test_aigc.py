"""The AIGC label: one, valid, and where the standard puts it."""

import json

import av
import numpy as np
import pytest

from appliance.delivery.labels import aigc as label
from appliance.delivery.media.mp4 import Mp4Writer
from models.errors import BadInput, RushesError

SHA = "0123456789abcdef" * 4


def film(path, metadata=None):
    with Mp4Writer(path, 32, 16, 16.0, metadata) as writer:
        writer.write(np.full((3, 16, 32, 3), 0.5, np.float32))
    return path


def test_the_value_is_annex_e():
    value = json.loads(label.make("12C T4", SHA, by="001191440300708461136T1XGW3").to_json())
    assert value == {
        "Label": "1",
        "ContentProducer": "001191440300708461136T1XGW3",
        "ProduceID": "12C-T4.0123456789abcdef",
        "ReservedCode1": "",
        "ContentPropagator": "001191440300708461136T1XGW3",
        "PropagateID": "12C-T4.0123456789abcdef",
        "ReservedCode2": "",
    }
    assert list(value)[:3] == ["Label", "ContentProducer", "ProduceID"]


def test_a_take_of_any_name_gives_allowed_characters():
    made = label.make('场景 12"C\\ T4', SHA, by="x")
    assert label.Label.from_json(made.to_json()) == made
    assert all(0x21 <= ord(c) <= 0x7E and c not in '"\\' for c in made.produce_id)


@pytest.mark.parametrize("code", ["a b", "公司", 'say"', "back\\slash", "x" * 65])
def test_a_producer_the_standard_does_not_allow_is_refused(monkeypatch, code):
    monkeypatch.setenv("RUSHES_PRODUCER", code)
    with pytest.raises(BadInput, match="RUSHES_PRODUCER"):
        label.producer()


def test_a_house_that_configured_nothing_has_a_producer(monkeypatch):
    monkeypatch.delenv("RUSHES_PRODUCER", raising=False)
    assert label.producer() == label.UNREGISTERED
    monkeypatch.setenv("RUSHES_PRODUCER", "001191440300708461136T1XGW3")
    assert label.make("1A T1", SHA).content_producer == "001191440300708461136T1XGW3"


def test_a_film_carries_exactly_one_label_and_libav_reads_the_same(tmp_path):
    made = label.make("12C-T4_31", SHA, by="x")
    path = film(tmp_path / "a.mp4", {"AIGC": made.to_json(), "comment": "about AIGC", "title": "12C T4"})
    assert label.read_label(path) == made
    with av.open(str(path)) as file:
        assert file.metadata["AIGC"] == made.to_json()
    assert path.read_bytes().count(b"mdtaAIGC") == 1


def test_settling_changes_the_label_and_nothing_else(tmp_path):
    pending = label.make("12C-T4_31", by="x")
    path = film(tmp_path / "a.mp4", {"AIGC": pending.to_json()})
    before = path.read_bytes()
    settled = label.make("12C-T4_31", SHA, by="x")
    label.settle(path, settled)
    assert label.read_label(path) == settled
    assert path.read_bytes() == before.replace(pending.to_json().encode(), settled.to_json().encode())
    with pytest.raises(RushesError, match="pending"):
        label.settle(path, label.make("longer-than-before", SHA, by="x"))


def test_a_film_without_a_label_is_found_out(tmp_path):
    path = tmp_path / "bare.mp4"
    with av.open(str(path), "w") as file:  # no use_metadata_tags: the muxer drops the key without a word
        file.metadata["AIGC"] = label.make("1A", SHA).to_json()
        stream = file.add_stream("libx264", rate=16)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        file.mux(stream.encode(av.VideoFrame(32, 16, "yuv420p")))
        file.mux(stream.encode(None))
    with pytest.raises(RushesError, match="no AIGC label"):
        label.read_label(path)


def test_two_labels_are_found_out(tmp_path):
    made = label.make("1A", SHA).to_json()
    path = film(tmp_path / "two.mp4", {"AIGC": made, "XAIGC": made})
    with pytest.raises(RushesError, match="2 AIGC labels"):
        label.read_label(path)


@pytest.mark.parametrize(
    "value", ["{}", "no JSON", '{"Label": "1"}', label.make("1A", SHA).to_json().replace("1A", "1 A")]
)
def test_a_label_that_is_not_valid_is_found_out(tmp_path, value):
    with pytest.raises(RushesError, match="not valid"):
        label.read_label(film(tmp_path / "a.mp4", {"AIGC": value}))


def test_a_file_that_is_no_film_is_one_readable_line(tmp_path):
    for data in (b"", b"hello, this is not a film at all", b"\x00\x00\x00\x10ftypisom\x00\x00\x00\x00"):
        path = tmp_path / "a.mp4"
        path.write_bytes(data)
        with pytest.raises(BadInput, match="not a whole MP4 file"):
            label.read_label(path)
