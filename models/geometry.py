"""Every grid rule in one place: seconds, frames, pixels, latent grid, tokens.

A Wan-shaped video is 4n+1 frames of pixels in multiples of 16; the VAE shrinks it by 4 in time (the first
frame alone) and 8 in space, and the transformer reads 2x2 patches of that: 33 x 128 x 224 is 9 x 16 x 28
latents and 9 * 8 * 14 = 1008 tokens. Where the autoencoder shrinks by 16 (Wan 2.2 5B), pixels come in multiples of 32.
"""

from __future__ import annotations

from dataclasses import dataclass

TIME_STRIDE = 4
SPACE_STRIDE = 8
PATCH = 2


def snap_frames(seconds: float, fps: float) -> int:
    """The least 4n+1 count of frames that holds the length, at least 5: 3 s at 25 fps are 75 frames and give 77.

    Never less than was asked: a cut needs every frame, and one too many is trimmed by an editor in a moment.
    """
    return max(1, -(-(round(seconds * fps) - 1) // TIME_STRIDE)) * TIME_STRIDE + 1


def snap_pixels(pixels: int, stride: int = SPACE_STRIDE) -> int:
    """The nearest pixels that fill whole patches, at least one: 225 gives 224; with a stride of 16, 720 gives 704."""
    grid = stride * PATCH
    return max(1, round(pixels / grid)) * grid


@dataclass(frozen=True, slots=True)
class Geometry:
    """A video's size on both grids. Raises ValueError when it is off the grid: snap first."""

    frames: int
    height: int  # pixels
    width: int
    stride: int = SPACE_STRIDE  # pixels to a latent cell, each way: Card.space_stride

    def __post_init__(self) -> None:
        if self.frames < 1 or (self.frames - 1) % TIME_STRIDE:
            raise ValueError(f"frames is {self.frames}: a shot has 4n+1 frames; use snap_frames")
        grid = self.stride * PATCH
        for name, value in (("height", self.height), ("width", self.width)):
            if value < grid or value % grid:
                raise ValueError(f"{name} is {value}: it must be a multiple of {grid}; use snap_pixels")

    @property
    def latent(self) -> tuple[int, int, int]:
        """(F, H, W): 33 x 128 x 224 gives (9, 16, 28)."""
        return (self.frames - 1) // TIME_STRIDE + 1, self.height // self.stride, self.width // self.stride

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tokens along time, height and width: 33 x 128 x 224 gives (9, 8, 14)."""
        frames, height, width = self.latent
        return frames, height // PATCH, width // PATCH

    @property
    def tokens(self) -> int:
        """L: 33 x 128 x 224 gives 1008."""
        frames, height, width = self.grid
        return frames * height * width
