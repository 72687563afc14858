"""Placement as a value: its ranges, and how many control frames fit."""

import dataclasses
import json

import pytest

from models.placement import Placement, stage_frames


def test_a_placement_travels_as_json():
    placement = Placement(resident_blocks=3, source="disk", ffn_rows=512, vae_tile=64, stage_frames=2)
    assert Placement(**json.loads(json.dumps(dataclasses.asdict(placement)))) == placement


def test_everything_stays_unless_said_otherwise():
    assert Placement() == Placement(None, "ram", 0, 0, 0)


def test_the_stage_takes_the_cores_or_a_quarter_of_what_is_free():
    assert stage_frames(128, 224, 8 * 2**30, 2) == 2  # 22 MB a frame
    assert stage_frames(720, 1280, 8 * 2**30, 64) == 3  # 700 MB a frame, 2 GiB for them
    assert stage_frames(720, 1280, 2**30, 64) == 1  # one has to be made in any case
    assert stage_frames(720, 1280, 256 * 2**30, 64) == 64


@pytest.mark.parametrize(
    "wrong", [{"source": "moon"}, {"resident_blocks": -1}, {"ffn_rows": -1}, {"vae_tile": -8}, {"vae_tile": 100}]
)
def test_what_is_no_placement_is_refused(wrong):
    with pytest.raises(ValueError, match=r"must be|use 0 or more"):
        Placement(**wrong)
