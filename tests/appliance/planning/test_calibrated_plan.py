"""What a machine has shown changes its next plan: its rates, what takes took, and a plan that ran out of memory."""

from dataclasses import replace

import pytest

from appliance.direction.shot import from_plain
from appliance.machine.device import Device, Gpu
from appliance.machine.rates import Calibration, MachineHistory, Rates
from appliance.planning import calibrated_plan
from appliance.planning.calibrated_plan import CREDIBLE, OutOfMemory, reduced_after
from appliance.planning.plan import Plan, Refusal
from appliance.planning.request import PlanRequest
from models.card import PREVIS, WAN_14B

GIB = 2**30
BOX = Device(
    name="box", cpu="a CPU", cores=8, cpu_flags=("avx2",), ram_total_bytes=64 * GIB, ram_free_bytes=60 * GIB,
    disk_free_bytes=500 * GIB, torch="2.13.0",
    gpus=(Gpu(0, "GPU-0", "NVIDIA GeForce RTX 4090", (8, 9), 24 * GIB, 23 * GIB),),
)  # fmt: skip
BARE = replace(BOX, gpus=(), no_gpu="no NVIDIA driver is installed")
SHOT = from_plain({"seed": 1, "time": {"duration_s": 2.0}, "format": {"width": 224, "height": 128}})
FILM = from_plain({"seed": 1, "time": {"duration_s": 5.0}, "format": {"width": 832, "height": 480}})


def planned(direction, machine, card, history, device_request=None, miss=None):
    request = PlanRequest(direction=direction, machine=machine, card=card, device_request=device_request)
    return calibrated_plan.planned(request, history, miss)


def test_rates_are_those_of_the_device_that_is_planned():
    fast, slow = Rates(flops_int8=1e12, flops_bf16=1e12), Rates(flops_int8=1e10, flops_bf16=1e10)
    quick, _ = planned(SHOT, BARE, PREVIS, MachineHistory({"cpu": fast, "cuda:0": slow}))
    dull, _ = planned(SHOT, BARE, PREVIS, MachineHistory({"cpu": slow, "cuda:0": fast}))
    assert isinstance(quick, Plan) and isinstance(dull, Plan)
    assert quick.device == dull.device == "cpu" and quick.measured and dull.seconds > 5 * quick.seconds
    plain, _ = planned(SHOT, BARE, PREVIS, MachineHistory())
    assert not plain.measured


def test_takes_correct_only_plans_of_their_precision_and_kind_of_device():
    ratios = {("int8", "cpu"): Calibration(2.0, 9), ("int8", "cuda"): Calibration(0.5, 9)}
    for machine, ratio in ((BARE, 2.0), (BOX, 0.5)):
        plain, nominal = planned(SHOT, machine, PREVIS, MachineHistory())
        corrected, still = planned(SHOT, machine, PREVIS, MachineHistory({}, ratios))
        assert plain.seconds == nominal == still  # the measure that later takes are held to does not move with them
        assert corrected.seconds == pytest.approx(ratio * nominal) and corrected.measured
        assert corrected.memory_bytes == plain.memory_bytes
    other, nominal = planned(SHOT, BOX, PREVIS, MachineHistory({}, {("bf16", "cuda"): Calibration(3.0, 9)}))
    assert other.seconds == nominal


def test_memory_that_takes_took_beyond_their_prediction_is_not_counted_on_again():
    first, _ = planned(FILM, BOX, WAN_14B, MachineHistory(), "gpu")
    known = MachineHistory(
        {}, {("int8", "cuda"): Calibration(1.0, 3, memory=1.5), ("int8", "cpu"): Calibration(1.0, 1)}
    )
    second, _ = planned(FILM, BOX, WAN_14B, known, "gpu")
    assert first.memory_bytes > BOX.gpus[0].free_bytes / 1.5 >= second.memory_bytes
    assert "a take here used 50% more memory than predicted: so much less of what is free is counted on" in second.why
    stage, _ = planned(SHOT, BARE, PREVIS, MachineHistory({}, {("int8", "cpu"): Calibration(1.0, 3, memory=1.5)}))
    assert not any("more memory" in words for words in stage.why), "the stage takes what is free"


def test_after_a_miss_the_next_plan_is_smaller_and_then_it_is_the_cpu():
    first, _ = planned(FILM, BOX, WAN_14B, MachineHistory(), "gpu")
    second, _ = planned(FILM, BOX, WAN_14B, MachineHistory(), "gpu", OutOfMemory(first.device, first.memory_bytes))
    assert second.device == first.device and second.memory_bytes <= CREDIBLE * first.memory_bytes
    assert second.placement != first.placement
    first, _ = planned(SHOT, BOX, PREVIS, MachineHistory())
    second, _ = planned(SHOT, BOX, PREVIS, MachineHistory(), None, OutOfMemory(first.device, first.memory_bytes))
    assert (first.device, second.device) == ("cuda:0", "cpu")  # so small a model does not get smaller on its GPU
    refused, _ = planned(SHOT, BARE, PREVIS, MachineHistory(), None, OutOfMemory("cpu", second.memory_bytes))
    assert isinstance(refused, Refusal)


def test_a_miss_lessens_only_the_device_where_memory_ran_out():
    two = replace(BOX, gpus=(*BOX.gpus, replace(BOX.gpus[0], index=1)))
    less = reduced_after(two, OutOfMemory("cuda:1", 20 * GIB))
    assert [gpu.free_bytes for gpu in less.gpus] == [23 * GIB, 17 * GIB] and less.ram_free_bytes == 60 * GIB
    assert reduced_after(two, OutOfMemory("cpu", 20 * GIB)) == replace(two, ram_free_bytes=17 * GIB)
    assert reduced_after(two, OutOfMemory("cuda:1", 90 * GIB)) == two  # what is free now may be less than what was then
    assert reduced_after(two, OutOfMemory("cuda:5", GIB)) == two  # a card that was taken out
