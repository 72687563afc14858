"""Detail is restored from the previs: frame by frame, near what the gate alone would give, and only if there is one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.cost.autoencoder import AUTOENCODERS
from models.errors import BadInput
from models.loading.load import load_detail
from models.vae.detail import GATE, Detail


def films(frames: int = 1) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(frames, 3, 16, 24, generator=generator) * 2 - 1 for _ in range(3)]


def test_before_it_learns_the_gate_alone_speaks():
    film, plain, previs = films()
    share = 1 / (1 + np.exp(-GATE))
    torch.testing.assert_close(Detail()(film, plain, previs), film + share * (previs - plain), rtol=0, atol=1e-6)


def test_what_the_autoencoder_kept_whole_is_left_alone():
    film, plain, _ = films()
    torch.testing.assert_close(Detail()(film, plain, plain), film, rtol=0, atol=1e-6)


def trained() -> Detail:
    torch.manual_seed(0)
    detail = Detail()
    torch.nn.init.normal_(detail.leave.weight, std=0.05)
    return detail


def test_frames_do_not_see_each_other_and_are_clamped():
    detail, (film, plain, previs) = trained(), films(5)
    seen = (previs * 127.5 + 127.5).round().to(torch.uint8)
    with torch.inference_mode():
        whole = detail.restore(*(f.transpose(0, 1)[None] for f in (film, plain)), seen.permute(0, 2, 3, 1))
        alone = [detail(film[t : t + 1], plain[t : t + 1], seen[t : t + 1].float() / 127.5 - 1) for t in range(5)]
    assert whole.shape == (1, 3, 5, 16, 24) and whole.min() >= -1 and whole.max() <= 1
    torch.testing.assert_close(whole[0].transpose(0, 1), torch.cat(alone).clamp(-1, 1), rtol=0, atol=1e-6)
    assert not torch.allclose(torch.cat(alone), film, atol=0.05)


def test_a_pixel_depends_on_those_around_it_alone():
    """3x3 convolutions at a quarter of the size: one, two pairs of which one is twice as wide, one: 7 positions."""
    detail, (film, plain, previs) = trained(), [torch.nn.functional.pad(f, (0, 72)) for f in films()]
    with torch.inference_mode():
        before = detail(film, plain, previs)
        film[..., -1] += 1.0
        moved = (detail(film, plain, previs) - before).abs().amax((0, 1, 2))
    reach = 96 - int(moved.nonzero()[0])
    assert 4 < reach <= 4 * 7 + 4


def test_its_work_is_counted():
    weights = sum(p.numel() for p in Detail().parameters() if p.dim() > 1)
    finish = AUTOENCODERS["previs"].finish
    assert finish is not None and finish.weights == weights
    assert finish.flops_a_cell == 2 * weights * 4 * 4  # four frames of 2x2 positions


def test_it_is_loaded_where_there_is_one():
    assert load_detail({}, torch.device("cpu")) is None
    tensors = trained().state_dict()
    loaded = load_detail(tensors, torch.device("cpu"))
    assert loaded is not None and not loaded.training
    film, plain, previs = films()
    with torch.inference_mode():
        torch.testing.assert_close(loaded(film, plain, previs), trained()(film, plain, previs), rtol=0.02, atol=0.02)
    with pytest.raises(BadInput, match="no detail network of this version's shape"):
        load_detail({"enter.weight": tensors["enter.weight"]}, torch.device("cpu"))
