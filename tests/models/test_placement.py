"""How a network lies in memory, as a value."""

import dataclasses
import json

import pytest

from models.placement import Placement


def test_a_placement_travels_as_json():
    placement = Placement(resident_blocks=3, source="disk", ffn_rows=512, vae_tile=64)
    assert Placement(**json.loads(json.dumps(dataclasses.asdict(placement)))) == placement


def test_everything_stays_unless_said_otherwise():
    assert Placement() == Placement(None, "ram", 0, 0)


@pytest.mark.parametrize(
    "wrong", [{"source": "moon"}, {"resident_blocks": -1}, {"ffn_rows": -1}, {"vae_tile": -8}, {"vae_tile": 100}]
)
def test_what_is_no_placement_is_refused(wrong):
    with pytest.raises(ValueError, match=r"must be|use 0 or more"):
        Placement(**wrong)
