"""Bytes of plans worked out by hand, from the published shapes of Wan 2.1: 81 frames, int8, on a GPU.

D width, F hidden width, N layers: 1536, 8960, 30 (1.3B) and 5120, 13824, 40 (14B)
latents 16 x 21 x 60 x 104 at 832x480, 16 x 21 x 90 x 160 at 1280x720; a token is 2x2 of them
text 512 x 4096; time 256 frequencies; blocks 0, 1, N-3, N-2, N-1 stay in bf16
"""

import dataclasses

from appliance.direction.shot import ShotDirection
from appliance.machine.datasheets import named
from appliance.machine.device import Device
from appliance.planning.fit import disk_bytes
from appliance.planning.plan import Plan, plan
from appliance.planning.request import PlanRequest
from models.card import PREVIS, WAN_1_3B, WAN_14B, WAN_A14B
from models.geometry import Geometry

GIB = 2**30
VAE_PARAMETERS = 126_892_531  # of Wan 2.1's autoencoder, as published
CONTEXT = 640 * 2**20  # of CUDA and its libraries
PROCESS = 2048 * 2**20  # system memory of a process with CUDA


def made(gpu, ram_gib, card, width, height):
    """The plan for an idle machine: a tenth of its memory, or 2 GiB, is in use."""
    free = int((ram_gib - max(2.0, ram_gib / 10)) * GIB)
    machine = Device(
        name="box", cpu="a CPU", cores=8, cpu_flags=(), ram_total_bytes=ram_gib * GIB, ram_free_bytes=free,
        disk_free_bytes=500 * GIB, gpus=(named(gpu),), torch="2.13.0",
    )  # fmt: skip
    direction = ShotDirection(
        seed=7, time={"duration_s": 80 / card.fps, "fps": card.fps}, format={"width": width, "height": height}
    )
    outcome = plan(PlanRequest(direction=direction, machine=machine, card=card))
    assert isinstance(outcome, Plan) and outcome.precision == "int8" and outcome.batch == 1
    return outcome


def block(d, f):
    """(int8, bf16) bytes of one block."""
    matrices = 8 * d * d + 2 * d * f  # q k v o of self- and of cross-attention; feed-forward up and down
    vectors = 9 * d + f + 4 * d + 2 * d + 6 * d  # biases; norms of q and k; norm3; modulation
    scales = 9 * d + f  # a float32 for each output channel
    return matrices + 4 * scales + 4 * vectors, 2 * matrices + 4 * vectors


def outside(d):
    """bf16 bytes of what is not in a block."""
    entering = (64 * d + d) + (4096 * d + d) + (d * d + d)  # patches, text, text again
    time = (256 * d + d) + (d * d + d) + (6 * d * d + 6 * d)
    head = (64 * d + 64) + 2 * d
    return 2 * (entering + time + head)


def test_the_block_and_the_whole_of_14b_in_round_numbers():
    """What the helpers above give, against numbers worked out on paper: 351,394,304 parameters a block."""
    assert block(5120, 13824) == (351_272_960 + 239_616 + 485_376, 702_545_920 + 485_376)
    assert outside(5120) == 2 * 232_719_424
    assert 40 * 351_394_304 + 232_719_424 == 14_288_491_584  # as published


def test_14b_at_480p_on_24_gib_is_all_on_the_gpu():
    plan = made("RTX 4090", 64, WAN_14B, 832, 480)
    size = plan.footprint
    assert (plan.placement.resident_blocks, plan.placement.ffn_rows, plan.placement.vae_tile) == (None, 0, 0)
    assert size.weights_bytes == 465_438_848 + 35 * 351_997_952 + 5 * 703_031_296 == 16_300_523_648
    assert (size.slots_bytes, size.host_blocks_bytes, size.host_file_bytes) == (0, 0, 0)
    assert size.coder_bytes == 2 * VAE_PARAMETERS and size.context_bytes == CONTEXT
    # 21 x 30 x 52 = 32,760 tokens of 5120: the residual stream in float32; the text embedding with keys and values of
    # one block, 512 x (4096 + 4 x 5120) in bf16; the latents in float32: 16 channels read, 5 x 16 of the solver.
    assert size.activation_bytes == 32_760 * 5120 * 4 + 512 * 24_576 * 2 + 131_040 * 96 * 4 == 746_409_984
    # The feed-forward of a bf16 block: residual, norm and result of 2 bytes each; hidden before and after the GELU.
    assert size.work_bytes == 32_760 * (5120 * 6 + 13_824 * 4) == 2_817_884_160
    assert size.moment == "forward" and size.reserve_bytes == round(0.1 * (746_409_984 + 2_817_884_160))
    assert plan.memory_bytes == 21_146_120_908 <= 24 * GIB
    # 4 x 4096² + 3 x 4096 x 10240 + 32 x 64 + 2 x 4096 parameters of a text layer, and float32 scales; two of them
    layer = 192_948_224 + 4 * 40_960
    assert size.host_text_bytes == 2 * layer and size.host_program_bytes == PROCESS
    assert plan.host_bytes == PROCESS + 2 * layer + 4 * 832 * 480 * 3 * 4  # and four decoded frames in float32


def test_14b_at_480p_on_8_gib_streams_every_block_from_system_memory():
    plan = made("RTX 4060", 32, WAN_14B, 832, 480)
    assert (plan.placement.resident_blocks, plan.placement.source) == (0, "ram")
    assert plan.footprint.weights_bytes == 465_438_848 and plan.footprint.slots_bytes == 2 * 703_031_296
    assert plan.footprint.host_blocks_bytes == 35 * 351_997_952 + 5 * 703_031_296 == 15_835_084_800
    assert plan.memory_bytes == 21_146_120_908 - 15_835_084_800 + 2 * 703_031_296 == 6_717_098_700 <= 8 * GIB


def test_14b_at_720p_on_10_gib_streams_and_works_in_pieces():
    plan = made("RTX 3080 10GB", 32, WAN_14B, 1280, 720)
    assert (plan.placement.resident_blocks, plan.placement.ffn_rows) == (0, 16_384)
    # 21 x 45 x 80 = 75,600 tokens; the most is in a norm that enters the feed-forward, 10 bytes a number
    assert plan.footprint.work_bytes == 75_600 * 5120 * 10 > 75_600 * 5120 * 6 + 16_384 * 13_824 * 4
    assert plan.footprint.activation_bytes == 75_600 * 5120 * 4 + 512 * 24_576 * 2 + 302_400 * 96 * 4
    assert plan.footprint.host_film_bytes == 81 * 1280 * 720 * 3 * 4  # put together from tiles, in float32
    assert plan.memory_bytes <= 10 * GIB


def test_a14b_at_480p_on_12_gib_keeps_the_first_blocks():
    plan = made("RTX 3060 12GB", 16, WAN_A14B, 832, 480)
    assert (plan.placement.resident_blocks, plan.placement.ffn_rows) == (12, 16_384)
    assert plan.footprint.weights_bytes == 465_438_848 + 2 * 703_031_296 + 10 * 351_997_952
    assert plan.footprint.host_blocks_bytes == 25 * 351_997_952 + 3 * 703_031_296
    assert plan.footprint.work_bytes == 32_760 * 5120 * 6 + 16_384 * 13_824 * 4


def test_1_3b_at_480p_on_24_gib():
    size = made("RTX 4090", 64, WAN_1_3B, 832, 480).footprint
    int8, bf16 = block(1536, 8960)
    assert size.weights_bytes == outside(1536) + 25 * int8 + 5 * bf16
    assert size.encoder_bytes == 24 * (192_948_224 + 4 * 40_960)
    assert size.activation_bytes == 32_760 * 1536 * 4 + 512 * (4096 + 4 * 1536) * 2 + 131_040 * 96 * 4
    assert size.work_bytes == 32_760 * (1536 * 6 + 8960 * 4)


def test_the_disk_of_a_take():
    """Half a byte a pixel of film; 3 a pixel of the thumbnail; 64 KiB; three checkpoints of four float32 latents."""
    film = made("RTX 4090", 64, WAN_14B, 832, 480)
    assert film.disk_bytes == 16_174_080 + 1_198_080 + 65_536 + 12 * 4 * 16 * 131_040
    assert disk_bytes(PREVIS, Geometry(33, 128, 224)) == 473_088 + 86_016 + 65_536 + 12 * 4 * 16 * 9 * 16 * 28


def test_the_total_is_the_sum_of_its_items():
    """Weights, slots, encoders and context throughout; of text, forward and film the largest; the reserve."""
    for gpu, ram, card in (("RTX 4090", 64, WAN_14B), ("RTX 2060 6GB", 16, WAN_1_3B), ("RTX 3060 12GB", 16, WAN_A14B)):
        plan = made(gpu, ram, card, 832, 480)
        size = dataclasses.asdict(plan.footprint)
        most = max(size["text_bytes"], size["activation_bytes"] + size["work_bytes"], size["vae_bytes"])
        names = ("weights", "slots", "coder", "encoder", "context", "reserve")
        assert plan.memory_bytes == most + sum(size[f"{name}_bytes"] for name in names)
        assert size["reserve_bytes"] == round(0.1 * most)
        assert plan.host_bytes == sum(count for name, count in size.items() if name.startswith("host_"))
