"""How a model is placed on a device: precision, residency, batching, text encoding."""

from dataclasses import replace

from appliance.direction.shot import ShotDirection
from appliance.machine.datasheets import named
from appliance.machine.device import Device
from appliance.planning.plan import plan as plan_of
from appliance.planning.request import PlanRequest
from models.card import PREVIS, WAN_1_3B, WAN_14B

GIB = 2**30
SIZES = {"480p": (832, 480)}


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


def test_system_memory_decides_where_blocks_wait():
    little, some, much = (plan(shot(WAN_14B, "480p"), box("RTX 4060", ram), WAN_14B) for ram in (8, 16, 32))
    assert [made.placement.source for made in (little, some, much)] == ["disk", "disk", "ram"]
    assert much.host_bytes > 14 * GIB > 4 * GIB > little.host_bytes
    assert any("from disk" in words for words in little.why)
    assert much.seconds <= little.seconds
    slow = replace(box("RTX 4060", 8), store_read_bytes_s=150e6)
    waits = plan(shot(WAN_14B, "480p"), slow, WAN_14B)
    assert waits.seconds > 1.5 * much.seconds and any("sets the pace" in words for words in waits.why)


def test_a_draft_may_be_coarser_where_that_is_quicker():
    """On a fast GPU with little memory and a slow disk, blocks of 4 bits fit system memory."""
    machine = replace(box("RTX 4090", 24, 0.4), store_read_bytes_s=500e6)
    draft, take = (plan(shot(WAN_14B, "480p", 33, quality), machine, WAN_14B) for quality in ("draft", "take"))
    assert (draft.precision, take.precision) == ("int4", "int8")
    assert any("4 bits" in words for words in draft.why)


def test_short_films_batch_both_guidance_passes():
    """Nine frames are too little work to hide a block's load: it is loaded once for both passes."""
    made = plan(shot(WAN_14B, (448, 256), 9), box("RTX 4060", 64), WAN_14B)
    assert made.batch == 2 and any("loaded once for both" in words for words in made.why)
    assert plan(shot(WAN_14B, "480p", 81), box("RTX 4060", 64), WAN_14B).batch == 1


def test_the_prompt_is_encoded_where_the_encoder_fits():
    modes = {
        card: plan(shot(WAN_1_3B, "480p"), box(card, 32), WAN_1_3B).text for card in ("RTX 2080 Ti", "RTX 4060", "H200")
    }
    assert modes == {"RTX 2080 Ti": "cpu", "RTX 4060": "streamed", "H200": "gpu"}
    known = plan(shot(WAN_1_3B, "480p"), box("RTX 4060", 32), WAN_1_3B, text_cached=True)
    assert known.text == "cached" and known.footprint.host_text_bytes == 0
    assert plan(shot(PREVIS, "480p"), box("RTX 4060", 32)).text == "none"
