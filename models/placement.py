"""Which blocks of a network stay in a device's memory. Torch-free, for plans state it and the daemon passes it on."""

from __future__ import annotations

from dataclasses import dataclass

# Memory of the stage for each pixel of a frame that it renders at 2x2 rays: 293 MB at 832x480 were measured.
STAGE_BYTES_A_PIXEL = 760
STAGED_BYTES_A_PIXEL = (3 + 1) * 4  # of each frame of its finished films: colours and depth, in float32
STAGE_SHARE = 0.25  # of the memory that is free when it starts


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the blocks of a network are while it runs, and how much of a film is computed at once.

    It changes memory and time, not the film. Raises ValueError for a value outside its range.
    """

    resident_blocks: int | None = None  # None: every block stays on the device; n: the first n, the others are streamed
    source: str = (
        "ram"  # where the others are streamed from: "ram" (pinned if possible) | "disk" (the mapped package file)
    )
    ffn_rows: int = 0  # tokens that the feed-forward computes at once; 0: all
    vae_tile: int = 0  # pixels of a side of a tile in decoding, a multiple of 8; 0: whole frames
    stage_frames: int = 0  # control frames that the CPU renders at once; 0: one a core

    def __post_init__(self) -> None:
        if self.source not in ("ram", "disk"):
            raise ValueError(f"blocks are streamed from {self.source!r}: it must be ram or disk")
        if min(self.resident_blocks or 0, self.ffn_rows, self.stage_frames, self.vae_tile) < 0:
            raise ValueError(f"{self} has a negative count: use 0 or more")
        if self.vae_tile % 8:
            raise ValueError(f"vae_tile is {self.vae_tile}: it must be a multiple of 8 pixels, the side of a cell")


def stage_frames(height: int, width: int, free_bytes: int, cores: int) -> int:
    """How many control frames of this size may be rendered at once: one a core, within a quarter of the free memory.

    64 cores that each rendered one of 720p would take 45 GB.
    """
    return max(1, min(cores, int(STAGE_SHARE * free_bytes) // (STAGE_BYTES_A_PIXEL * height * width)))
