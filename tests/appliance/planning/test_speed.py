"""How fast a place is taken to be, held to what was measured on a card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.machine.datasheets import named
from appliance.machine.device import Device
from appliance.machine.rates import Rates
from appliance.planning.duration import BlockTimes
from appliance.planning.speed import gpu_speed
from models.card import WAN_1_3B, WAN_14B
from models.geometry import Geometry

MEASURED = Path(__file__).resolve().parents[3] / "kernels" / "measured"
(H100,) = MEASURED.glob("models-nvidia-h100-80gb-hbm3-*.json")
SCENES = {
    "Wan 1.3B 480p": (WAN_1_3B, Geometry(81, 480, 832)),
    "Wan 14B 480p": (WAN_14B, Geometry(81, 480, 832)),
    "a block of Wan 14B 720p": (WAN_14B, Geometry(81, 720, 1280)),
}
BOX = Device(
    name="box", cpu="a CPU", cores=8, cpu_flags=(), ram_total_bytes=2**37, ram_free_bytes=2**36, disk_free_bytes=2**40,
    gpus=(), torch="2.11.0",
)  # fmt: skip


@pytest.mark.parametrize("scene", SCENES)
def test_an_h100_is_as_fast_as_it_was_measured_to_be(scene):
    card, geometry = SCENES[scene]
    pace = BlockTimes(card, geometry, "int8", gpu_speed(named("H100"), BOX, "sdpa"), 1, "ram")
    rows = [row for row in json.loads(H100.read_text())["rows"] if row["scene"] == scene and row["way"] == "sdpa"]
    assert rows
    for row in rows:
        estimated = pace.block_s if row["part"] == "block" else pace.forward(card.layers)
        assert estimated == pytest.approx(row["ms"] / 1e3, rel=0.1)


def test_measured_rates_replace_the_datasheet():
    """Attention and film stand to the rate of products as they do by the datasheet."""
    by_sheet = gpu_speed(named("H100"), BOX, "sdpa")
    rated = gpu_speed(named("H100"), BOX, "sdpa", Rates(flops_bf16=by_sheet.bf16 / 2, copy_bytes_s=1e12))
    assert rated.bf16 == by_sheet.bf16 / 2 and rated.copy == 1e12 and rated.int8 == by_sheet.int8
    assert rated.attention == pytest.approx(by_sheet.attention / 2) and rated.film == pytest.approx(by_sheet.film / 2)
