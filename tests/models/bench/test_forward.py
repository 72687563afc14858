"""One measured forward: random weights of a card's real shape, placed as stated; time, memory and digest."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from models.bench.forward import Case, main, measure, predicted_bytes, random_package
from models.card import WAN_1_3B
from models.dit.wan import Transformer
from models.geometry import Geometry
from models.loading.quantize import load_quantized
from models.placement import Placement
from models.weight_files.package_header import card_to_json

SMALL = replace(WAN_1_3B, dim=128, ffn=256, heads=2, layers=9, text_dim=32, text_len=8)
CASE = Case(SMALL, Geometry(5, 32, 48), forwards=2)


@pytest.mark.parametrize("precision", ["bf16", "int8", "int4"])
def test_random_weights_are_a_package_of_that_precision(precision):
    tensors = random_package(SMALL, precision, torch.device("cpu"))
    network = load_quantized(SMALL, tensors, torch.float32)
    assert network.state_dict().keys() >= Transformer(SMALL).state_dict().keys()
    kinds = {tensors[f"blocks.{layer}.ffn.0.weight"].dtype for layer in range(2, 6)}
    assert kinds == {{"bf16": torch.bfloat16, "int8": torch.int8, "int4": torch.uint8}[precision]}
    assert tensors["blocks.8.ffn.0.weight"].dtype == torch.bfloat16  # kept


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_the_result_is_the_same_in_every_placement(precision):
    digests = set()
    for placement in (Placement(), Placement(0, "ram"), Placement(2, "disk"), Placement(0, "disk", ffn_rows=3)):
        found = measure(replace(CASE, precision=precision, placement=placement))
        assert len(found["seconds"]) == 2 and found["forward_s"] == found["seconds"][1] and found["note"] is None
        assert found["peak_bytes"] > 50e6 and found["predicted_bytes"] == predicted_bytes(
            replace(CASE, precision=precision, placement=placement)
        )
        digests.add(found["digest"])
    assert len(digests) == 1


def test_a_prediction_of_the_network_alone_is_less_than_that_of_a_film():
    from models.cost.footprint import footprint

    for placement in (Placement(), Placement(4, "ram")):
        case = Case(WAN_1_3B, Geometry(81, 480, 832), placement=placement, attention="int8_f16", device="cuda:0")
        whole = footprint(case.card, case.geometry, "int8", "cuda:0", placement, "int8_f16")
        assert 0.5 * whole.total_bytes < predicted_bytes(case) < whole.total_bytes


def test_cases_travel_as_json(capsys):
    case = replace(CASE, placement=Placement(3, "disk"), card_bytes=5)
    assert Case.from_json(case.to_json()) == case
    assert main([CASE.to_json()]) == 0
    assert json.loads(capsys.readouterr().out)["forward_s"] > 0
    spoiled = {**json.loads(CASE.to_json()), "card": card_to_json(replace(SMALL, heads=3))}
    assert main([json.dumps(spoiled)]) == 2 and main([]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "heads" in said.err and said.err.count("\n") == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_simulated_gpu_that_is_too_small_is_a_result():
    wide = replace(SMALL, dim=1024, ffn=4096, heads=8)
    try:
        found = measure(replace(CASE, card=wide, device="cuda:0", card_bytes=700 * 2**20))
        assert "out_of_memory" in found
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
