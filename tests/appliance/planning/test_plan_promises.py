"""What plans promise: the goals for small GPUs, and what holds for every machine, model and film."""

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.direction.shot import ShotDirection
from appliance.machine.datasheets import named, sheets
from appliance.machine.device import Device
from appliance.planning.plan import Plan, Refusal
from appliance.planning.plan import plan as plan_of
from appliance.planning.request import PlanRequest
from models.card import CARDS, PREVIS, WAN_1_3B, WAN_14B, WAN_A14B

GIB = 2**30
SIZES = {"480p": (832, 480), "720p": (1280, 720)}


def box(card, ram_gib, free_share=1.0):
    """A plain machine with one GPU: 8 cores, a screen, an unmeasured disk, 2 GiB or a tenth of its memory in use."""
    gpu = named(card)
    gpu = replace(gpu, free_bytes=int(gpu.free_bytes * free_share))
    used = max(2.0, ram_gib / 10)
    return Device(
        name="box", cpu="a CPU", cores=8, cpu_flags=("avx2",), ram_total_bytes=int(ram_gib * GIB),
        ram_free_bytes=int((ram_gib - used) * GIB), disk_free_bytes=500 * GIB, gpus=(gpu,), torch="2.13.0",
    )  # fmt: skip


def plan(direction, machine, card=PREVIS, **known):
    return plan_of(PlanRequest(direction=direction, machine=machine, card=card, **known))


def shot(card, size, frames=81, quality="take"):
    width, height = SIZES[size] if isinstance(size, str) else size
    return ShotDirection(
        seed=7, quality=quality, time={"duration_s": (frames - 1) / card.fps, "fps": card.fps},
        format={"width": width, "height": height},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("card", "ram_gib", "model", "size"),
    [
        ("RTX 2060 6GB", 8, WAN_1_3B, "480p"),
        ("RTX 3060 Laptop", 16, WAN_1_3B, "480p"),
        ("RTX 4060", 32, WAN_14B, "480p"),
        ("RTX 3080 10GB", 32, WAN_14B, "720p"),
        ("RTX 3060 12GB", 32, WAN_14B, "720p"),
        ("RTX 3060 12GB", 16, WAN_A14B, "480p"),
        ("RTX 3060 12GB", 32, WAN_A14B, "480p"),
    ],
)
def test_the_goals(card, ram_gib, model, size):
    """1.3B 480p at 6 GB; 14B 480p at 8 GB and 32 GB of memory; 14B 720p from 10 GB; A14B 480p at 12 GB: 81 frames, in
    int8, with all of the model's steps, on the GPU.
    """
    machine = box(card, ram_gib)
    made = plan(shot(model, size), machine, model)
    assert isinstance(made, Plan) and made.device == "cuda:0" and made.precision == "int8"
    assert made.steps == model.steps and made.frames == 81 and (made.width, made.height) == SIZES[size]
    assert made.memory_bytes <= machine.gpus[0].free_bytes and made.host_bytes <= machine.ram_free_bytes


ANY = {
    "card": st.sampled_from([sheet.name for sheet in sheets()]),
    "ram_gib": st.sampled_from([8, 12, 16, 24, 32, 64, 128]),
    "model": st.sampled_from(list(CARDS.values())),
    "size": st.sampled_from([(448, 256), (832, 480), (1280, 720), (1920, 1088)]),
    "frames": st.sampled_from([17, 33, 81, 121]),
    "quality": st.sampled_from(["draft", "take", "print"]),
}
RANK = {"bf16": 0, "int8": 1, "int4": 2}


@settings(max_examples=50, deadline=None)
@given(**ANY, shares=st.tuples(st.floats(0.3, 3), st.floats(0.3, 3)))
def test_more_memory_on_the_gpu_never_makes_a_plan_slower_or_coarser(
    card, ram_gib, model, size, frames, quality, shares
):
    direction = shot(model, size, frames, quality)
    less, more = (plan(direction, box(card, ram_gib, share), model) for share in sorted(shares))
    if isinstance(less, Plan):
        assert isinstance(more, Plan)
        assert more.seconds <= less.seconds + 0.002
        assert quality == "draft" or RANK[more.precision] <= RANK[less.precision]


PICTURES = [(448, 256), (832, 480), (1280, 720), (1920, 1088)]


@settings(max_examples=50, deadline=None)
@given(
    **{name: values for name, values in ANY.items() if name not in ("size", "frames")},
    smaller=st.tuples(st.sampled_from(PICTURES), st.sampled_from([17, 33, 81, 121])),
    larger=st.tuples(st.sampled_from(PICTURES), st.sampled_from([17, 33, 81, 121])),
)
def test_fewer_pixels_and_frames_never_cost_more(card, ram_gib, model, quality, smaller, larger):
    """What can be made can be made smaller and shorter, in no more time and in no more disk."""
    pairs = zip(smaller, larger, strict=True)
    (small, large), (few, many) = (sorted(pair) for pair in pairs)
    more = plan(shot(model, large, many, quality), box(card, ram_gib), model)
    if isinstance(more, Plan):
        less = plan(shot(model, small, few, quality), box(card, ram_gib), model)
        assert isinstance(less, Plan)
        assert less.seconds <= more.seconds + 0.002 and less.disk_bytes <= more.disk_bytes


@settings(max_examples=50, deadline=None)
@given(**ANY, share=st.floats(0.3, 1))
def test_a_plan_fits_and_every_remedy_does(card, ram_gib, model, size, frames, quality, share):
    device, direction = box(card, ram_gib, share), shot(model, size, frames, quality)
    made = plan(direction, device, model)
    if isinstance(made, Plan):
        free = device.ram_free_bytes if made.device == "cpu" else device.gpus[0].free_bytes
        assert made.memory_bytes == made.footprint.total_bytes <= free
        assert made.host_bytes == made.footprint.host_bytes <= device.ram_free_bytes
        assert Plan.from_json(made.to_json()) == made
        return
    assert len(made.remedies) >= 3
    for way in made.remedies:
        named_model = re.match(r"another model: ([^,]+),", way)
        found = dict(re.findall(r"(duration_s|width|height) = ([\d.]+)", way))
        if way.startswith("other precision: int4"):
            assert isinstance(plan(direction, device, model, package_precision="int4"), Plan)
        elif named_model or found:
            other = CARDS[named_model[1]] if named_model else model
            time_ = {"duration_s": float(found.get("duration_s", direction.time.duration_s)), "fps": model.fps}
            form = {name: int(found.get(name, getattr(direction.format, name))) for name in ("width", "height")}
            assert isinstance(plan(replace(direction, time=time_, format=form), device, other), Plan), way


def kinds(refusal):
    return [re.split(r":| with ", way)[0] for way in refusal.remedies]


def test_ways_out_of_every_kind():
    hints = CARDS["wan2.1-vace-14b"]
    wide = plan(shot(WAN_14B, "720p"), box("RTX 4060", 16), WAN_14B)
    assert kinds(wide)[:3] == ["shorter", "smaller", "shorter and smaller"]
    pictures = re.findall(r"width = (\d+), format.height = (\d+)", " ".join(wide.remedies))
    small, both = (int(width) * int(height) for width, height in pictures[:2])
    assert both > small, "a film that is shorter too has a larger picture, or there is no point in it"
    # Other programs hold so much of this GPU that no size of the film fits it: three remedies are left.
    crowded = plan(shot(hints, (448, 256)), box("RTX A2000 6GB", 12, 0.7), hints)
    assert kinds(crowded) == ["another model", "another model", "shoot it on a machine"]
    assert crowded.remedies[1] == "another model: wan2.1-vace-1.3b, once it is imported (`rushes models import`)"
    shares = (0.30 + 0.02 * part for part in range(10))
    found = [
        kinds(made)
        for share in shares
        if isinstance(made := plan(shot(hints, "480p"), box("RTX 3090", 32, share), hints), Refusal)
    ]
    assert any("other precision" in ways for ways in found)
