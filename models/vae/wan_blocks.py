"""Layers of Wan's autoencoders: causal convolutions, residual blocks, down- and upsampling.

Films are (B, C, T, H, W), channels last in memory, and come a chunk at a time: one frame first, then the four of
each latent frame. Convolutions in time are causal. Each caches its last input frames in a `Memory`, so that a film in
chunks gives the same result as at once; before its first frame are zeros.

Modules have the names of the published checkpoints (Wan-Video/Wan2.1 and Wan2.2, Apache-2.0), which number layers
without weights too: a residual block is 0 norm, 1 SiLU, 2 convolution, 3 norm, 4 SiLU, 5 dropout, 6 convolution.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels import ops


class CausalConv(nn.Conv3d):
    """A convolution that is causal in time."""

    def __init__(self, given: int, made: int, kernel: tuple[int, int, int], stride: int = 1) -> None:
        super().__init__(given, made, kernel, (stride, 1, 1), (0, kernel[1] // 2, kernel[2] // 2))
        self.kept = kernel[0] - stride  # frames that the next chunk needs

    def forward(self, x: Tensor, memory: Memory) -> Tensor:  # type: ignore[override]
        """x (B, C, T, H, W) -> (B, C', T / stride, H, W)."""
        return self.over(torch.cat([self.past(x, memory), x], 2), memory)

    def past(self, x: Tensor, memory: Memory) -> Tensor:
        """The cached frames before a chunk with the size and dtype of x."""
        if self not in memory:
            B, _, _, H, W = x.shape
            return x.new_zeros(B, self.kept, H, W, self.in_channels).permute(0, 4, 1, 2, 3)
        return memory[self]

    def over(self, x: Tensor, memory: Memory, bias: bool = True) -> Tensor:
        """The convolution of a chunk preceded by its past; caches its last frames. bias: False to leave it out."""
        memory[self] = x[:, :, -self.kept :].clone()  # a view would hold all of x
        return F.conv3d(x, self.weight, self.bias if bias else None, self.stride, self.padding)


Memory = dict[CausalConv, Tensor]


class Norm(nn.Module):
    """RMS norm over channels: x / |x| * sqrt(C) * gamma."""

    def __init__(self, channels: int, axes: int = 3) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, *[1] * axes))

    def forward(self, x: Tensor, silu: bool = False, past: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """The norm of x + bias, then SiLU if `silu`; preceded by the frames of `past`."""
        return ops.rms_norm_silu(x, self.gamma.flatten(), bias, silu, past)


class Residual(nn.Module):
    """A residual block: norm, SiLU, convolution, twice."""

    def __init__(self, given: int, made: int) -> None:
        super().__init__()
        norm1, conv1 = Norm(given), CausalConv(given, made, (3, 3, 3))
        norm2, conv2 = Norm(made), CausalConv(made, made, (3, 3, 3))
        self.residual = nn.ModuleDict({"0": norm1, "2": conv1, "3": norm2, "6": conv2})
        self.parts = norm1, conv1, norm2, conv2
        self.shortcut = nn.Conv3d(given, made, 1) if given != made else None

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        """x (B, C, T, H, W) -> (B, C', T, H, W)."""
        norm1, conv1, norm2, conv2 = self.parts
        # One name, so that each is freed as soon as the next exists. Biases are added by the operation that follows.
        y = norm1(x, True, conv1.past(x, memory))
        y = conv1.over(y, memory, bias=False)
        y = norm2(y, True, conv2.past(y, memory), conv1.bias)
        y = conv2.over(y, memory, bias=False)
        assert conv2.bias is not None
        return ops.bias_residual(y, conv2.bias, self.shortcut(x) if self.shortcut else x)


class Attention(nn.Module):
    """Self-attention over the positions of one frame, with one head."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = Norm(channels, axes=2)
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        """x (B, C, T, H, W) -> the same shape."""
        B, _, _, H, W = x.shape
        q, k, v = self.to_qkv(frames(self.norm(x))).flatten(2).transpose(1, 2)[:, None].chunk(3, -1)
        y = F.scaled_dot_product_attention(q, k, v)[:, 0].transpose(1, 2).unflatten(2, (H, W))
        return film(self.proj(y), B) + x


class Down(nn.Module):
    """Downsample height and width by 2; also time if `in_time`, except a film's first frame, which stays alone."""

    def __init__(self, channels: int, in_time: bool) -> None:
        super().__init__()
        self.resample = nn.ModuleDict({"1": nn.Conv2d(channels, channels, 3, stride=2)})
        self.time_conv = CausalConv(channels, channels, (3, 1, 1), stride=2) if in_time else None

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        """x (B, C, T, H, W) -> (B, C, T or T / 2, H / 2, W / 2)."""
        y = film(self.resample["1"](F.pad(frames(x), (0, 1, 0, 1))), len(x))
        if self.time_conv is None:
            return y
        if self.time_conv not in memory:
            memory[self.time_conv] = y
            return y
        return self.time_conv(y, memory)


class Up(nn.Module):
    """Upsample height and width by 2; also time if `in_time`, except a film's first frame."""

    def __init__(self, channels: int, made: int, in_time: bool) -> None:
        super().__init__()
        self.resample = nn.ModuleDict({"1": nn.Conv2d(channels, made, 3, padding=1)})
        self.time_conv = CausalConv(channels, 2 * channels, (3, 1, 1)) if in_time else None

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        """x (B, C, T, H, W) -> (B, C', T or 2T, 2H, 2W)."""
        if self.time_conv is not None:
            if self.time_conv in memory:
                x = interleaved(self.time_conv(x, memory))
            else:  # the first frame is not doubled, and the next chunk has zeros before it
                memory[self.time_conv] = self.time_conv.past(x, memory)
        return film(self.resample["1"](frames(ops.nearest2x(x))), len(x))


class DownLevel(nn.Module):
    """A level of Wan 2.2's encoder, with a shortcut that averages the input to the size of the output."""

    def __init__(self, layers: list[nn.Module], made: int, shrink: tuple[int, int]) -> None:
        super().__init__()
        self.downsamples = nn.ModuleList(layers)
        self.made, self.shrink = made, shrink

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        """x (B, C, T, H, W) -> (B, C', T', H', W')."""
        y = x
        for layer in self.downsamples:
            y = layer(y, memory)
        return y + averaged(x, self.made, *self.shrink)


class UpLevel(nn.Module):
    """A level of Wan 2.2's decoder, with a shortcut that repeats the input to the size of the output."""

    def __init__(self, layers: list[nn.Module], grow: tuple[int, int]) -> None:
        super().__init__()
        self.upsamples = nn.ModuleList(layers)
        self.grow = grow

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        """x (B, C, T, H, W) -> (B, C', T', H', W')."""
        y = x
        for layer in self.upsamples:
            y = layer(y, memory)
        return add_repeated(y, x, *self.grow) if self.grow[1] > 1 else y


def frames(x: Tensor) -> Tensor:
    """A film (B, C, T, H, W) as its frames (B * T, C, H, W)."""
    return x.transpose(1, 2).flatten(0, 1)


def film(x: Tensor, batch: int) -> Tensor:
    """The opposite of `frames`."""
    return x.unflatten(0, (batch, -1)).transpose(1, 2)


def interleaved(x: Tensor) -> Tensor:
    """(B, 2C, T, H, W) -> (B, C, 2T, H, W): the two halves of its channels are frames 2t and 2t + 1."""
    pairs = x.unflatten(1, (2, -1)).permute(0, 3, 1, 4, 5, 2)
    return pairs.flatten(1, 2).permute(0, 4, 1, 2, 3)


def averaged(x: Tensor, made: int, time: int, side: int) -> Tensor:
    """x (B, C, T, H, W) -> (B, made, T / time, H / side, W / side): cells become channels, and consecutive
    groups of channels are averaged. A film's first frame, which is a cell alone, is padded with zeros before it.
    """
    x = F.pad(x, (0, 0, 0, 0, -x.shape[2] % time, 0))
    x = x.unflatten(4, (-1, side)).unflatten(3, (-1, side)).unflatten(2, (-1, time))  # B C T t H h W w
    return x.permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(1, 4).unflatten(1, (made, -1)).mean(2)


def add_repeated(y: Tensor, x: Tensor, time: int, side: int) -> Tensor:
    """y (B, C', T', H', W') += x (B, C, T, H, W) upsampled, in place.

    A pixel of x becomes a cell of time x side x side: its channels, each repeated as often as needed, fill the cell's
    positions in order for each channel of y. Of a film's first frame only the last frame of the cell exists.
    """
    each, positions = x.shape[1] // y.shape[1], time * side * side
    missing = time * x.shape[2] - y.shape[2]
    for position in range(positions):
        t, rest = divmod(position, side * side)
        if t >= missing:
            target = y[:, :, t - missing :: time, rest // side :: side, rest % side :: side]
            target.add_(x[:, position * each // positions :: each])
    return y
