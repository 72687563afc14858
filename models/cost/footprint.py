"""The memory that a render takes at its highest, itemised, on the device and in the machine beside it. Torch-free.

    always       the program or CUDA context, the weights that stay, two slots for those that pass, the autoencoder
    then one of  reading the text | a forward: the stream and what a block adds | coding films
    reserve      what an allocator rounds up and holds back

Sizes of weights are in sizes, of forwards in activations, of coding in autoencoders, of the text encoder in text_sizes;
FLOPs are in flops. Checked against published counts and against our networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from models.card import Card
from models.cost import text_encoder as text_sizes
from models.cost.activations import cpu_work_bytes, stream_bytes, work_bytes
from models.cost.autoencoder import AUTOENCODERS, coder_bytes
from models.cost.transformer import blocks_bytes, outside_bytes, weights_bytes
from models.geometry import Geometry
from models.placement import STAGE_BYTES_A_PIXEL, STAGED_BYTES_A_PIXEL, Placement

MIB = 2**20

# The program itself: Python, torch, PyAV, OpenCV and thread stacks (a take of 33 frames of 224x128 was 731 MiB at its
# highest with torch's CPU build, about 100 of them its own), or a CUDA context with its library workspaces (0.6 GiB is
# usual). The first is measured, the second judgement.
CONTEXT_BYTES = {"cpu": 660 * MIB, "cuda": 640 * MIB}
# What an allocator rounds up and cannot use again, as a share of the memory that work comes and goes in. Judgement.
SLACK = {"cpu": 0.15, "cuda": 0.10}
# A process that uses CUDA keeps 1.5 to 2 GiB of the machine's memory: libraries, kernels, staging.
HOST_PROGRAM_BYTES = 2048 * MIB
RING_BYTES = 64 * MIB  # two pinned buffers through which blocks leave a file


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes at the highest moment, item by item. Text, forward and coding come one after the other: the largest counts.

    On a CPU all of it is the machine's memory, and the items of the host are 0.
    """

    weights_bytes: int = 0  # of the network, what stays on the device
    slots_bytes: int = 0  # for blocks that pass, and one matrix unpacked where they are stored in 4 bits
    coder_bytes: int = 0  # weights of the autoencoder
    encoder_bytes: int = 0  # weights of the text encoder, where they stay beside the network
    text_bytes: int = 0  # while words are read: slots for the encoder's layers, the work inside one
    activation_bytes: int = 0  # of a forward: the residual stream, context, latents
    work_bytes: int = 0  # of a forward: what one block adds, attention's workspace or the feed-forward's
    vae_bytes: int = 0  # while films are encoded or decoded
    context_bytes: int = 0  # the program, or the CUDA context
    reserve_bytes: int = 0  # the allocator's slack
    host_program_bytes: int = 0  # beside a GPU: the process
    host_blocks_bytes: int = 0  # blocks that wait in pinned memory
    host_file_bytes: int = 0  # buffers through which blocks come from the mapped file; its pages count for nobody
    host_text_bytes: int = 0  # the text encoder, where the machine's own memory works for it
    host_film_bytes: int = 0  # the film while it is put together

    @property
    def moment(self) -> str:
        """When memory is fullest: "text", "forward" or "film"."""
        sizes = {"forward": self.activation_bytes + self.work_bytes, "film": self.vae_bytes, "text": self.text_bytes}
        return max(sizes, key=lambda name: sizes[name])

    @property
    def working_bytes(self) -> int:
        """What comes and goes, at the fullest moment."""
        return max(self.activation_bytes + self.work_bytes, self.vae_bytes, self.text_bytes)

    @property
    def total_bytes(self) -> int:
        """What must be free on the device."""
        staying = self.weights_bytes + self.slots_bytes + self.coder_bytes + self.encoder_bytes + self.context_bytes
        return staying + self.working_bytes + self.reserve_bytes

    @property
    def host_bytes(self) -> int:
        """What must be free in the machine beside a GPU."""
        waiting = self.host_blocks_bytes + self.host_file_bytes
        return self.host_program_bytes + waiting + self.host_text_bytes + self.host_film_bytes


def footprint(
    card: Card,
    geometry: Geometry,
    precision: str = "int8",
    device: str = "cpu",
    placement: Placement | None = None,
    attention: str = "sdpa",
    text: str = "none",
    batch: int = 1,
) -> Footprint:
    """The memory of a render of one film.

    device: "cpu" or "cuda:N"; activations are float32 there, bf16 here. attention: as kernels/dispatch.py names it.
    text: where words are read, of text_sizes.TEXT_PLACES. batch: passes of a step that go through together.
    """
    placement = placement or Placement()
    coder, kind = AUTOENCODERS[card.vae], device.partition(":")[0]
    b = 4 if kind == "cpu" else 2
    stays, slots, waiting = block_residency_bytes(card, precision, placement.resident_blocks)
    if kind == "cpu":
        work = cpu_work_bytes(card, geometry, b, placement.ffn_rows)
        reads = text_sizes.host_bytes(card, text)
    else:
        work = work_bytes(card, geometry, precision, attention, batch, placement.ffn_rows)
        reads = text_sizes.reading_bytes(card, text)
    stream, coding = stream_bytes(card, geometry, b, batch), coder_bytes(card, geometry, b, placement.vae_tile)
    from_ram = waiting if placement.source == "ram" else 0
    return Footprint(
        weights_bytes=stays,
        slots_bytes=slots,
        coder_bytes=coder.parameters * b,
        encoder_bytes=0 if kind == "cpu" else text_sizes.staying_bytes(text),
        text_bytes=reads,
        activation_bytes=stream,
        work_bytes=work,
        vae_bytes=coding,
        context_bytes=CONTEXT_BYTES[kind],
        reserve_bytes=round(SLACK[kind] * max(stream + work, coding, reads)),
        host_program_bytes=0 if kind == "cpu" else HOST_PROGRAM_BYTES,
        host_blocks_bytes=0 if kind == "cpu" else from_ram,
        host_file_bytes=0 if kind == "cpu" or from_ram or not waiting else RING_BYTES,
        host_text_bytes=0 if kind == "cpu" else text_sizes.host_bytes(card, text),
        host_film_bytes=0 if kind == "cpu" else film_bytes(card, geometry, placement.vae_tile),
    )


@lru_cache(maxsize=1024)
def block_residency_bytes(card: Card, precision: str, resident_blocks: int | None) -> tuple[int, int, int]:
    """(bytes that stay on the device, bytes of the slots, bytes of the blocks that wait outside), of one expert.

    A slot holds the largest block that passes. Experts take turns: one is on the device and in pinned memory, the other
    in its file until its steps come. Matrices stored in 4 bits are unpacked to 8, one at a time.
    """
    blocks = blocks_bytes(card, precision)
    stay = len(blocks) if resident_blocks is None else min(resident_blocks, len(blocks))
    passing = blocks[stay:]
    unpacked = card.dim * max(card.ffn, card.dim) if precision == "int4" else 0
    slots = 2 * max(passing) if passing else 0
    return outside_bytes(card, precision) + sum(blocks[:stay]), slots + unpacked, sum(passing)


def film_bytes(card: Card, geometry: Geometry, tile: int) -> int:
    """Films in the machine's memory, in float32: four frames as they come, or all of them where the film is put
    together from tiles that were each decoded from beginning to end. Before that, where the stage makes films for the
    card, all frames of those (3 channels and 1) and two at work.
    """
    pixels, frames = geometry.height * geometry.width, geometry.frames if tile and card.vae != "previs" else 4
    made = (geometry.frames * STAGED_BYTES_A_PIXEL + 2 * STAGE_BYTES_A_PIXEL) * pixels if card.vae == "previs" else 0
    return max(frames * pixels * 3 * 4, made)


def package_bytes(card: Card, precision: str = "int8") -> int:
    """What the weights take on disk: every expert, the autoencoder in bf16."""
    return card.experts * weights_bytes(card, precision) + 2 * AUTOENCODERS[card.vae].parameters
