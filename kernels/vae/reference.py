"""The autoencoder's operations between convolutions in plain torch: the reference for the kernels, and the CPU
implementation.

Films (B, C, T, H, W) are channels last in memory. Each step is rounded to the dtype of the film, as torch does when
every step is an operation of its own: fused, the results stay those of the published network.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-12  # the least norm of a pixel that is divided by; torch's default in F.normalize


def rms_norm_silu(x: Tensor, gamma: Tensor, bias: Tensor | None, silu: bool, past: Tensor | None) -> Tensor:
    """RMSNorm and SiLU before a causal convolution: silu(rms_norm(x + bias) * gamma), appended in time to `past`.

    x (B, C, T, H, W) float; gamma (C,); bias (C,) or None: of the preceding convolution; past (B, C, P, H, W) or None:
    frames that are copied in front, unchanged. Returns (B, C, P + T, H, W) in the dtype of x.
    """
    if bias is not None:
        x = x + _channels(bias)
    y = F.normalize(x.float(), dim=1, eps=EPS).to(x.dtype).mul_(len(gamma) ** 0.5).mul_(_channels(gamma))
    if silu:
        y = F.silu(y, inplace=True)
    return _channels_last(y if past is None else torch.cat([past, y], 2))


def bias_residual(x: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    """x + bias + residual: the end of a residual block. x and residual (B, C, T, H, W), bias (C,)."""
    return _channels_last((x + _channels(bias)).add_(residual))


def nearest2x(x: Tensor) -> Tensor:
    """Nearest-neighbour upsampling: (B, C, T, H, W) -> (B, C, T, 2H, 2W)."""
    B, C, T, H, W = x.shape
    pixels = x.permute(0, 2, 3, 4, 1)[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2, -1)
    return pixels.reshape(B, T, 2 * H, 2 * W, C).contiguous().permute(0, 4, 1, 2, 3)


def _channels(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def _channels_last(x: Tensor) -> Tensor:
    """x in channels-last memory format; copied only where it is not already."""
    return x.contiguous(memory_format=torch.channels_last_3d)
