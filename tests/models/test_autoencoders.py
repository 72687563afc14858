"""What the autoencoders cost, against torch's counts of ours and what is published for Wan's."""

import pytest

from models.autoencoders import AUTOENCODERS, coder_bytes, tile_pixels, tiling
from models.card import WAN_1_3B, WAN_5B
from models.geometry import Geometry

SD, HD = Geometry(81, 480, 832), Geometry(81, 720, 1280)
GIB = 2**30


def test_our_autoencoder_costs_what_torch_counts():
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from models.vae import VAE

    coder = AUTOENCODERS["previs"]
    with torch.device("meta"):
        vae = VAE()
        film, latents = torch.empty(1, 3, 9, 64, 96), torch.empty(1, 16, 3, 8, 12)
    assert coder.parameters == sum(p.numel() for p in vae.parameters())
    cells = 3 * 8 * 12
    with FlopCounterMode(display=False) as counter:
        vae.encode(film)
    assert counter.get_total_flops() == cells * coder.encoder.flops_a_cell
    with FlopCounterMode(display=False) as counter:
        vae.decode(latents)
    assert counter.get_total_flops() == cells * coder.decoder.flops_a_cell


@pytest.mark.parametrize(
    ("card", "geometry", "b", "gib"),
    [
        (WAN_1_3B, SD, 4, 7.61), (WAN_1_3B, SD, 2, 3.95), (WAN_1_3B, HD, 4, 17.55), (WAN_1_3B, HD, 2, 9.11),
        (WAN_5B, Geometry(121, 704, 1280, 16), 4, 19.28), (WAN_5B, Geometry(121, 704, 1280, 16), 2, 9.64),
    ],
)  # fmt: skip
def test_wans_decoders_take_the_published_memory(card, geometry, b, gib):
    """Published with two films beside the work; ours leave four frames at a time, in float32."""
    pixels = geometry.height * geometry.width
    work = coder_bytes(card, geometry, b) - 8 * pixels * 3 * 4
    assert (work + 2 * geometry.frames * pixels * 3 * b) / GIB == pytest.approx(gib, rel=0.01)


def test_wans_decoders_have_the_published_weights():
    assert AUTOENCODERS["wan2.1"].decoder.weights / 1e6 == pytest.approx(73.3, abs=0.1)
    assert AUTOENCODERS["wan2.2"].decoder.weights / 1e6 == pytest.approx(555.0, abs=0.1)


def test_tiles_take_less_memory_and_more_work():
    assert tile_pixels(WAN_1_3B, HD, 192) == 256 * 256 and tile_pixels(WAN_1_3B, SD, 0) == 480 * 832
    assert tiling(WAN_1_3B, HD, 192) == 28 * 256**2 / (720 * 1280)  # 4 x 7 tiles
    sizes = [coder_bytes(WAN_1_3B, HD, 2, tile) for tile in (192, 256, 384, 512, 0)]
    assert sizes == sorted(sizes) and len(set(sizes)) == 5
    assert tiling(WAN_1_3B, HD, 0) == 1.0 <= tiling(WAN_1_3B, HD, 512)


def test_a_tile_of_ours_sees_as_far_as_its_network_does():
    from models.vae import CELL_SIDE, VAE

    assert AUTOENCODERS["previs"].overlap == 2 * VAE().reach * CELL_SIDE
