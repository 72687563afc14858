"""Peak memory of a render, itemised, on the device and on the host. Torch-free.

    always       the program or CUDA context, resident weights, two slots for streamed blocks, the autoencoder
    then one of  encoding the text | a forward: the residual stream and the peak of a block | coding films
    reserve      rounding and fragmentation of the allocator

Sizes of weights are in `transformer`, of forwards in `activations`, of coding in `autoencoder`, of the text encoder in
`text_encoder`; FLOPs are in `flops`. Checked against published counts and against our networks.
"""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass
from functools import lru_cache

from models.card import Card
from models.cost import text_encoder
from models.cost.activations import cpu_work_bytes, stream_bytes, work_bytes
from models.cost.autoencoder import AUTOENCODERS, coder_bytes
from models.cost.transformer import blocks_bytes, outside_bytes, weights_bytes
from models.geometry import Geometry
from models.placement import STAGE_BYTES_A_PIXEL, STAGED_BYTES_A_PIXEL, Placement

MIB = 2**20

# The program itself: Python, torch, PyAV, OpenCV and thread stacks (a take of 33 frames of 224x128 peaked at 731 MiB
# with torch's CPU build, about 100 of them of the take), or a CUDA context with its library workspaces (0.6 GiB is
# usual). The first is measured, the second an estimate.
CONTEXT_BYTES = {"cpu": 660 * MIB, "cuda": 640 * MIB}
# Rounding and fragmentation of the allocator, as a share of the working memory. An estimate.
SLACK = {"cpu": 0.15, "cuda": 0.10}
# A process that uses CUDA takes 1.5 to 2 GiB of host memory: libraries, kernels, staging.
HOST_PROGRAM_BYTES = 2048 * MIB
# Pinned buffers through which blocks leave a file (models/loading/streaming.py).
RING_BUFFERS, RING_BUFFER_BYTES = 2, 32 * MIB
RING_BYTES = RING_BUFFERS * RING_BUFFER_BYTES


@dataclass(frozen=True, slots=True)
class Footprint:
    """Peak bytes, item by item. Text, forward and coding come one after the other: the largest counts.

    On a CPU everything is host memory, and the items of the host are 0.
    """

    weights_bytes: int = 0  # of the network, resident on the device
    slots_bytes: int = 0  # for streamed blocks, and one unpacked matrix where they are stored in 4 bits
    coder_bytes: int = 0  # weights of the autoencoder
    encoder_bytes: int = 0  # weights of the text encoder, where they stay loaded with the network
    text_bytes: int = 0  # while text is encoded: slots for the encoder's layers, the peak of one
    activation_bytes: int = 0  # of a forward: the residual stream, context, latents
    work_bytes: int = 0  # of a forward: the peak of one block, in attention or feed-forward
    vae_bytes: int = 0  # while films are encoded or decoded
    context_bytes: int = 0  # the program, or the CUDA context
    reserve_bytes: int = 0  # the allocator's overhead
    host_program_bytes: int = 0  # with a GPU: the process
    host_blocks_bytes: int = 0  # streamed blocks in pinned memory
    host_file_bytes: int = 0  # buffers between the mapped file and the device; pages of the file do not count
    host_text_bytes: int = 0  # the text encoder, where it runs on the host or is streamed from it
    host_film_bytes: int = 0  # the film while it is assembled

    @property
    def moment(self) -> str:
        """The phase of the peak: "text", "forward" or "film"."""
        sizes = {"forward": self.activation_bytes + self.work_bytes, "film": self.vae_bytes, "text": self.text_bytes}
        return max(sizes, key=lambda name: sizes[name])

    @property
    def working_bytes(self) -> int:
        """Working memory at the peak."""
        return max(self.activation_bytes + self.work_bytes, self.vae_bytes, self.text_bytes)

    @property
    def total_bytes(self) -> int:
        """What must be free on the device."""
        staying = self.weights_bytes + self.slots_bytes + self.coder_bytes + self.encoder_bytes + self.context_bytes
        return staying + self.working_bytes + self.reserve_bytes

    @property
    def host_bytes(self) -> int:
        """What must be free on the host of a GPU."""
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
    text: where text is encoded: "none", "cached", "gpu", "streamed" or "cpu". batch: passes of a step in one batch.
    """
    placement = placement or Placement()
    coder, kind = AUTOENCODERS[card.vae], device.partition(":")[0]
    b = 4 if kind == "cpu" else 2
    stays, slots, waiting = block_residency_bytes(card, precision, placement.resident_blocks)
    if kind == "cpu":
        work = cpu_work_bytes(card, geometry, b, placement.ffn_rows)
        reads = text_encoder.host_bytes(card, text)
    else:
        work = work_bytes(card, geometry, precision, attention, batch, placement.ffn_rows)
        reads = text_encoder.reading_bytes(card, text)
    stream, coding = stream_bytes(card, geometry, b, batch), coder_bytes(card, geometry, b, placement.vae_tile)
    from_ram = waiting if placement.source == "ram" else 0
    return Footprint(
        weights_bytes=stays,
        slots_bytes=slots,
        coder_bytes=coder.parameters * b,
        encoder_bytes=0 if kind == "cpu" else text_encoder.staying_bytes(text),
        text_bytes=reads,
        activation_bytes=stream,
        work_bytes=work,
        vae_bytes=coding,
        context_bytes=CONTEXT_BYTES[kind],
        reserve_bytes=round(SLACK[kind] * max(stream + work, coding, reads)),
        host_program_bytes=0 if kind == "cpu" else HOST_PROGRAM_BYTES,
        host_blocks_bytes=0 if kind == "cpu" else from_ram,
        host_file_bytes=0 if kind == "cpu" or from_ram or not waiting else RING_BYTES,
        host_text_bytes=0 if kind == "cpu" else text_encoder.host_bytes(card, text),
        host_film_bytes=0 if kind == "cpu" else film_bytes(card, geometry, placement.vae_tile),
    )


@lru_cache(maxsize=1024)
def block_residency_bytes(card: Card, precision: str, resident_blocks: int | None) -> tuple[int, int, int]:
    """(resident bytes on the device, bytes of the slots, bytes of the streamed blocks on the host), of one expert.

    A slot holds the largest streamed block. One expert at a time is on the device and in pinned memory, the other in
    its file. Matrices stored in 4 bits are unpacked to 8, one at a time.
    """
    blocks = blocks_bytes(card, precision)
    stay = len(blocks) if resident_blocks is None else min(resident_blocks, len(blocks))
    passing = blocks[stay:]
    unpacked = card.dim * max(card.ffn, card.dim) if precision == "int4" else 0
    slots = 2 * max(passing) if passing else 0
    return outside_bytes(card, precision) + sum(blocks[:stay]), slots + unpacked, sum(passing)


def film_bytes(card: Card, geometry: Geometry, tile: int) -> int:
    """Films in host memory, in float32: four frames as they come, or all of them where the film is assembled from tiles
    that are each decoded for its whole length. Before that, where the stage renders films for the card, all frames of
    those (3 channels and 1) and two being rendered.
    """
    pixels, frames = geometry.height * geometry.width, geometry.frames if tile and card.vae != "previs" else 4
    made = (geometry.frames * STAGED_BYTES_A_PIXEL + 2 * STAGE_BYTES_A_PIXEL) * pixels if card.vae == "previs" else 0
    return max(frames * pixels * 3 * 4, made)


def package_bytes(card: Card, precision: str = "int8") -> int:
    """The weights on disk: every expert, the autoencoder in bf16."""
    return card.experts * weights_bytes(card, precision) + 2 * AUTOENCODERS[card.vae].parameters


def peak_resident_bytes() -> int:
    """Resident memory of this process at its highest, to compare with a footprint."""
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in KiB, but in bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
