"""Plans and refusals of plain machines, and what they say."""

import json
import re
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.direction.shot import ShotDirection
from appliance.machine.device import Device, Gpu
from appliance.machine.rates import Calibration, Rates
from appliance.planning.fit import DISK_RESERVE_BYTES, disk_bytes
from appliance.planning.plan import Plan, Refusal
from appliance.planning.plan import plan as plan_of
from appliance.planning.request import PlanRequest
from models.card import CARDS, PREVIS, WAN_1_3B, WAN_14B, few_steps, steps_of
from models.errors import BadInput
from models.geometry import Geometry
from models.placement import Placement

MIB, GIB = 2**20, 2**30


def gpu(free_gib, total_gib=None, capability=(8, 9), index=0):
    free, total = int(free_gib * GIB), int((total_gib or free_gib) * GIB)
    return Gpu(index, f"GPU-{index:08d}", f"RTX {index}", capability, total, free)


def machine(*gpus, cores=8, ram_gib=32.0, disk_gib=100.0, torch="2.13.0"):
    return Device(
        name="box", cpu="a CPU", cores=cores, cpu_flags=("avx2",), ram_total_bytes=int(ram_gib * GIB),
        ram_free_bytes=int(ram_gib * GIB), disk_free_bytes=int(disk_gib * GIB), gpus=gpus, torch=torch,
        no_gpu=None if gpus else "no NVIDIA driver is installed",
    )  # fmt: skip


def plan(direction, machine, card=PREVIS, **known):
    return plan_of(PlanRequest(direction=direction, machine=machine, card=card, **known))


def shot(seconds=2.0, width=224, height=128, fps=16.0, quality="take", handles=0, seed=7):
    return ShotDirection(
        seed=seed, quality=quality, time={"duration_s": seconds, "fps": fps, "handles_f": handles},
        format={"width": width, "height": height},
    )  # fmt: skip


DEFAULT, SD, HD = {}, {"seconds": 5, "width": 832, "height": 480}, {"seconds": 5, "width": 1280, "height": 720}


@pytest.mark.parametrize(
    ("card", "memory_gib", "direction", "outcome", "stays"),
    [
        (PREVIS, 2, DEFAULT, "cuda:0", None),
        (PREVIS, 0.5, DEFAULT, "cpu", None),
        (PREVIS, 8, SD, "cuda:0", None),
        (WAN_1_3B, 4, SD, "cuda:0", 0),
        (WAN_1_3B, 12, SD, "cuda:0", None),
        (WAN_14B, 8, SD, "cuda:0", 0),
        (WAN_14B, 12, HD, "cuda:0", 0),
        (WAN_14B, 24, SD, "cuda:0", None),
        (WAN_14B, 48, HD, "cuda:0", None),
    ],
)
def test_what_a_gpu_holds(card, memory_gib, direction, outcome, stays):
    """What is too large for a GPU is streamed to it from 64 GiB of system memory; `stays` None is all, 0 is some."""
    made = plan(shot(**direction), machine(gpu(memory_gib), ram_gib=64), card)
    assert isinstance(made, Plan) and made.device == outcome
    assert (made.placement.resident_blocks is None) == (stays is None)
    assert made.memory_bytes <= (64 if outcome == "cpu" else memory_gib) * GIB
    if outcome == "cpu":
        assert any("cuda:0" in line and "needs" in line for line in made.why)


def test_the_default_shot_on_a_plain_machine():
    made = plan(shot(), machine())
    assert (made.frames, made.width, made.height, made.fps) == (33, 224, 128, 16.0)
    assert (made.card, made.steps, made.solver, made.seed) == ("previs", 4, "unipc", 7)
    assert (made.device, made.precision, made.measured) == ("cpu", "int8", False)
    assert made.seconds_low < made.seconds < made.seconds_high
    assert made.disk_bytes == 3_721_216  # as test_plan_bytes.py works it out
    assert "8 cores" in made.why[-1]


@pytest.mark.parametrize(("quality", "steps"), [("draft", 2), ("take", 4), ("print", 10)])
def test_the_quality_dial(quality, steps):
    made = plan(shot(quality=quality), machine())
    assert made.steps == steps == steps_of(quality, PREVIS)
    assert [steps_of(q, WAN_14B) for q in ("draft", "take", "print")] == [25, 50, 60]
    assert {steps_of(q, few_steps(WAN_14B, "lightx2v")) for q in ("draft", "take", "print")} == {4}


def test_an_imported_model_is_sampled_as_its_card_says():
    made = plan(shot(seconds=5, width=840, height=488, fps=16), machine(gpu(24), ram_gib=64), CARDS["wan2.2-ti2v-5b"])
    assert (made.frames, made.width, made.height, made.solver, made.batch) == (81, 832, 480, "unipc", made.batch)
    assert any("840x488 asked, 832x480 made: the model works in multiples of 32" in line for line in made.why)
    assert any("16 fps: wan2.2-ti2v-5b was trained at 24 fps" in line for line in made.why)
    distilled = few_steps(WAN_1_3B, "lightx2v")
    assert plan(shot(**SD), machine(gpu(24)), distilled).solver == "euler"
    long = plan(shot(seconds=20, width=480, height=320), machine(gpu(24)), WAN_1_3B)
    assert any("321 frames: wan2.1-t2v-1.3b was trained on 81" in line for line in long.why)


def test_better_quality_takes_longer_and_a_gpu_or_more_cores_less():
    draft, take, best = (plan(shot(quality=q), machine()).seconds for q in ("draft", "take", "print"))
    assert draft < take < best
    assert plan(shot(), machine(cores=2)).seconds > plan(shot(), machine(cores=16)).seconds
    assert plan(shot(**SD), machine(gpu(24))).seconds < plan(shot(**SD), machine()).seconds


def test_whatever_is_snapped_is_said():
    made = plan(shot(seconds=2.0, width=225, height=130), machine())
    assert (made.frames, made.width, made.height) == (33, 224, 128)
    assert any("32 frames asked, 33 made" in line and "; the last is a handle" in line for line in made.why)
    assert any("225x130 asked, 224x128 made" in line for line in made.why)
    exact = plan(shot(seconds=33 / 16), machine())
    assert exact.frames == 33 and not any("asked" in line for line in exact.why)
    assert plan(shot(seconds=2.0, handles=8), machine()).frames == 49


def test_what_the_model_has_not_seen_is_said():
    assert not [line for line in plan(shot(), machine()).why if "trained" in line]
    made = plan(shot(seconds=5, width=640, height=352, fps=24), machine())
    assert any("trained on 33" in line for line in made.why)
    assert any("trained at 224x128" in line for line in made.why)
    assert any("24 fps" in line for line in made.why)


def test_the_gpu_with_the_most_free_memory_is_taken_and_named():
    made = plan(shot(), machine(gpu(4, 24), gpu(20, 24, index=1)))
    assert made.device == "cuda:1" and any("GPU-00000001" in line for line in made.why)
    assert plan(shot(), machine(gpu(4, 24), gpu(20, 24, index=1)), device_request="cuda:0").device == "cuda:0"
    assert plan(shot(), machine(gpu(20)), device_request="cpu").device == "cpu"


@pytest.mark.parametrize(
    ("device", "words"),
    [
        (machine(gpu(24), torch="2.13.0+cpu"), "no CUDA"),
        (machine(gpu(24, capability=(7, 0))), "capability 7.0 is below the 7.5"),
        (machine(gpu(24), ram_gib=1.5), "system memory"),
    ],
)
def test_a_gpu_that_cannot_be_used_is_left_and_the_plan_says_why(device, words):
    made = plan(shot(), device)
    assert made.device == "cpu" and any(words in line for line in made.why)


@pytest.mark.parametrize("device_request", ["gpu", "cuda:0", "cuda:3"])
def test_a_gpu_asked_for_but_absent_is_refused_with_ways_out(device_request):
    made = plan(shot(), machine(), device_request=device_request)
    assert isinstance(made, Refusal)
    assert device_request in made.reason and "no GPU" in made.reason and "driver" in made.reason
    assert len(made.remedies) >= 3 and any("cpu" in way for way in made.remedies)


def test_another_gpu_asked_for_than_is_there_names_those_that_are():
    made = plan(shot(), machine(gpu(24)), device_request="cuda:3")
    assert isinstance(made, Refusal) and "cuda:0 (RTX 0)" in made.reason
    assert "ask for one that is here: cuda:0" in made.remedies


def follow(way, direction):
    """The direction that a remedy describes, by the words in it alone."""
    found = dict(re.findall(r"(time\.duration_s|format\.width|format\.height) = ([\d.]+)", way))
    time_ = {"duration_s": float(found.get("time.duration_s", direction.time.duration_s)), "fps": direction.time.fps,
             "handles_f": direction.time.handles_f}  # fmt: skip
    form = {name: int(found.get(f"format.{name}", getattr(direction.format, name))) for name in ("width", "height")}
    return replace(direction, time=time_, format=form) if found else None


@settings(max_examples=50, deadline=None)
@given(
    seconds=st.floats(1, 30),
    width=st.integers(256, 1920),
    height=st.integers(256, 1920),
    fps=st.sampled_from([12.0, 16.0, 23.976, 24.0, 30.0]),
    handles=st.sampled_from([0, 8]),
    ram_gib=st.floats(0.6, 8),
)
def test_every_remedy_with_numbers_is_true(seconds, width, height, fps, handles, ram_gib):
    device = machine(ram_gib=ram_gib)
    direction = shot(seconds, width, height, fps, handles=handles)
    made = plan(direction, device)
    if isinstance(made, Plan):
        assert made.memory_bytes <= device.ram_free_bytes
        return
    assert len(made.remedies) >= (3 if ram_gib >= 1.5 else 1)  # the program itself takes 0.5 GiB
    followed = [other for way in made.remedies if (other := follow(way, direction)) is not None]
    assert len(followed) >= (2 if ram_gib >= 1.5 else 0)
    for other in followed:
        assert isinstance(plan(other, device), Plan)


def test_too_many_tokens_is_refused_whatever_the_machine():
    made = plan(shot(30, 1920, 1080, 30), machine(gpu(1000), ram_gib=4000))
    assert isinstance(made, Refusal) and "1,844,160 tokens" in made.reason and "131,072" in made.reason
    assert len(made.remedies) >= 3


def test_not_enough_memory_says_how_much():
    made = plan(shot(5, 640, 352), machine(ram_gib=0.9))
    assert isinstance(made, Refusal) and "GiB of memory" in made.reason and "922 MiB free" in made.reason
    assert any("shoot it on a machine with" in way for way in made.remedies)
    busy = replace(machine(ram_gib=32), ram_free_bytes=int(0.9 * GIB))
    assert any(way.startswith("end other programs") for way in plan(shot(5, 640, 352), busy).remedies)


def test_a_disk_without_room_is_refused_and_says_how_much():
    keep = disk_bytes(PREVIS, Geometry(33, 128, 224)) + DISK_RESERVE_BYTES
    assert isinstance(plan(shot(), replace(machine(), disk_free_bytes=keep)), Plan)
    made = plan(shot(), replace(machine(), disk_free_bytes=keep - 10 * MIB))
    assert isinstance(made, Refusal) and "on disk" in made.reason
    assert "free 10 MiB of disk" in made.remedies and any("RUSHES_HOME" in way for way in made.remedies)
    assert isinstance(plan(shot(), replace(machine(), disk_free_bytes=None)), Plan)  # the system does not tell


def test_takes_that_were_measured_correct_the_estimate_and_narrow_it():
    bare = plan(shot(), machine())
    once = plan(shot(), machine(), calibration=Calibration(0.5, takes=1))
    often = plan(shot(), machine(), calibration=Calibration(0.5, takes=25))
    assert once.measured and often.measured and not bare.measured
    assert once.seconds == often.seconds == pytest.approx(bare.seconds / 2)
    assert bare.seconds_high / bare.seconds_low > once.seconds_high / once.seconds_low
    assert once.seconds_high / once.seconds_low > often.seconds_high / often.seconds_low
    assert often.seconds_low < often.seconds < often.seconds_high
    assert often.why == (*bare.why, "the time is corrected by 25 takes made here: 0.5 times the estimate")
    plain = {"seconds": 0, "seconds_low": 0, "seconds_high": 0, "measured": False, "why": ()}
    assert replace(often, **plain) == replace(bare, **plain)
    for wrong in (Calibration(0.0, 1), Calibration(-1.0, 1), Calibration(float("nan"), 1), Calibration(1.0, 0)):
        with pytest.raises(ValueError, match="ratio"):
            plan(shot(), machine(), calibration=wrong)


def test_a_plan_survives_json():
    for made in (plan(shot(), machine()), plan(shot(seed=None), machine(gpu(24)), calibration=Calibration(1.25, 3))):
        text = made.to_json()
        assert Plan.from_json(text) == made and json.loads(text)["footprint"]["weights_bytes"] > 0


def test_plans_of_older_libraries_are_read():
    made = plan(shot(), machine(gpu(8)))
    old = json.loads(made.to_json())
    for name in ("placement", "attention", "text", "batch", "cache", "host_bytes"):
        del old[name]
    old["footprint"] = {"weights_bytes": 5, "activation_bytes": 7, "vae_bytes": 11, "reserve_bytes": 13}
    read = Plan.from_json(json.dumps(old))
    assert read.placement == Placement() and read.footprint.total_bytes == 5 + 11 + 13


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"card": "previs"}', "null", '{"footprint": {}, "why": []}'])
def test_what_is_no_plan_is_refused_in_one_line(text):
    with pytest.raises(BadInput, match="not a plan") as caught:
        Plan.from_json(text)
    assert "\n" not in str(caught.value)


def test_a_film_too_long_for_the_cpu_may_be_asked_for_by_name():
    film = shot(5, 832, 480)
    slow = plan(film, machine(cores=2), WAN_1_3B)
    assert isinstance(slow, Refusal) and "on the CPU, 2 cores, it would take about" in slow.reason
    assert any(way.startswith("ask for cpu by name (--device cpu): about") for way in slow.remedies)
    assert not any("of free memory" in way for way in slow.remedies), "more memory would not make it quicker"
    assert isinstance(plan(film, machine(cores=2), WAN_1_3B, device_request="cpu"), Plan)
    quick = plan(film, machine(cores=2), WAN_1_3B, rates={"cpu": Rates(flops_int8=1e14, flops_bf16=1e14)})
    assert isinstance(quick, Plan), "what was measured here counts"


def test_rates_are_those_of_each_device():
    two = machine(gpu(24), gpu(24, index=1))
    fast, slow = Rates(flops_int8=3e14, flops_bf16=1e14), Rates(flops_int8=1e13, flops_bf16=1e13)
    for place, rates in (("cuda:0", {"cuda:0": fast, "cuda:1": slow}), ("cuda:1", {"cuda:0": slow, "cuda:1": fast})):
        made = plan(shot(**SD), two, WAN_1_3B, rates=rates)
        assert made.device == place and made.measured


def test_planning_is_fast_enough_for_every_keystroke():
    """A refusal with its search is the slowest; the largest models have the most candidates."""

    def fastest_s(direction, device, card):
        spent = []
        for _ in range(20):
            begun = time.process_time()
            plan(direction, device, card)
            spent.append(time.process_time() - begun)
        return min(spent)

    assert fastest_s(shot(30, 1920, 1080, 30), machine(gpu(8), ram_gib=4), PREVIS) < 0.005
    for card in (PREVIS, WAN_1_3B, CARDS["wan2.2-ti2v-5b"], WAN_14B, CARDS["wan2.2-t2v-a14b"]):
        assert fastest_s(shot(**HD), machine(gpu(12)), card) < 0.1
