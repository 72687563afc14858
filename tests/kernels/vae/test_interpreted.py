"""The autoencoder's kernels, interpreted at odd shapes, against their references.

No bfloat16: interpreted casts to it truncate. It is tested on GPUs (test_ops.py).
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kernels.vae import reference as reference_vae

F32, F16 = torch.float32, torch.float16
FILMS = {  # name: (B, C, T, H, W), dtype
    "one number": ((1, 1, 1, 1, 1), F32),
    "few channels": ((2, 3, 2, 3, 5), F32),
    "channels that fill no part": ((1, 100, 2, 3, 7), F16),
    "three parts": ((2, 96, 3, 4, 5), F16),
    "three parts, exactly": ((1, 96, 2, 3, 5), F32),
    "many channels": ((1, 1024, 1, 3, 6), F16),
}
NORMS = {  # name: (bias, silu, past frames)
    "norm": (False, False, 0), "norm silu": (False, True, 0), "after two": (False, True, 2), "biased": (True, True, 1),
}  # fmt: skip
# The tile follows from the channels alone: every film with everything on, and every norm at one film of each dtype.
CASES = [(name, "biased") for name in FILMS]
CASES += [(name, norm) for name in ("few channels", "three parts") for norm in NORMS if norm != "biased"]


def film(name: str, frames: int = 0, seed: int = 0) -> Tensor:
    (B, C, T, H, W), dtype = FILMS[name]
    x = torch.randn(B, C, frames or T, H, W, generator=torch.Generator().manual_seed(seed)) * torch.logspace(-3, 2, W)
    x[:, :, -1, -1, 0] = 0
    return x.to(dtype).contiguous(memory_format=torch.channels_last_3d)


def channels(name: str, seed: int) -> Tensor:
    (_, C, *_), dtype = FILMS[name]
    return (1 + 0.3 * torch.randn(C, generator=torch.Generator().manual_seed(seed))).to(dtype)


def norm_of(name: str, norm: str) -> tuple[Tensor, Tensor, Tensor | None, bool, Tensor | None]:
    biased, silu, before = NORMS[norm]
    past = film(name, before, seed=3) if before else None
    return film(name), channels(name, 1), channels(name, 2) if biased else None, silu, past


def interpret_all() -> dict[str, Tensor]:
    from kernels.vae import norm_silu

    results = {}
    for name, norm in CASES:
        results[f"{name}, {norm}"] = norm_silu.launch(*norm_of(name, norm))
    for name in FILMS:
        results[f"{name}, residual"] = norm_silu.launch_residual(film(name), channels(name, 2), film(name, seed=5))
        results[f"{name}, nearest"] = norm_silu.launch_nearest(film(name))
    return results


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_norm_and_activation(interpreted, name: str, norm: str) -> None:
    given, expected = interpreted[f"{name}, {norm}"], reference_vae.rms_norm_silu(*norm_of(name, norm))
    assert given.shape == expected.shape and given.dtype == expected.dtype
    before = NORMS[norm][2]
    assert torch.equal(given[:, :, :before], expected[:, :, :before])
    # Sums of squares in another order change float32's last bits; in float16 one rounding in a hundred, by one unit,
    # which the factors after it can make two.
    step = 2.0**-20 if given.dtype == F32 else 2.0**-9
    assert ((given - expected).abs().double() <= step * expected.abs().double() + 1e-7).all()
    assert given.dtype == F32 or (given == expected).double().mean() > 0.99


@pytest.mark.parametrize("name", FILMS)
def test_bias_and_residual_give_the_same_bits(interpreted, name: str) -> None:
    expected = reference_vae.bias_residual(film(name), channels(name, 2), film(name, seed=5))
    assert torch.equal(interpreted[f"{name}, residual"], expected)


@pytest.mark.parametrize("name", FILMS)
def test_every_pixel_is_there_four_times(interpreted, name: str) -> None:
    assert torch.equal(interpreted[f"{name}, nearest"], reference_vae.nearest2x(film(name)))
