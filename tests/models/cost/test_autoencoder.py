"""Costs of the autoencoders, against torch's counts of ours and what is published for Wan's."""

import copy
import weakref

import pytest
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from models.card import PREVIS, WAN_1_3B, WAN_5B, WAN_CONTROL_1_3B, WAN_I2V_A14B, WAN_VACE_1_3B
from models.controls.inputs import encoded_films
from models.cost.autoencoder import AUTOENCODERS, coder_bytes, decoding_bytes, tile_pixels, tiling
from models.geometry import Geometry

SD, HD = Geometry(81, 480, 832), Geometry(81, 720, 1280)


class Alive(TorchDispatchMode):
    """The most bytes that were alive at once, of tensors made meanwhile; not those that are known beforehand."""

    def __init__(self, known):
        super().__init__()
        self.known = {tensor.untyped_storage()._cdata for tensor in known}
        self.tensors: dict[int, int] = {}  # by storage, how many share it
        self.now = self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            storage = tensor.untyped_storage()
            if (key := storage._cdata) in self.known:
                continue
            self.now += 0 if key in self.tensors else storage.nbytes()
            self.tensors[key] = self.tensors.get(key, 0) + 1
            weakref.finalize(tensor, self.gone, key, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return made

    def gone(self, key, nbytes):
        self.tensors[key] -= 1
        if not self.tensors[key]:
            del self.tensors[key]
            self.now -= nbytes


def test_our_autoencoder_costs_what_torch_counts():
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from models.vae.previs import VAE

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


@pytest.fixture(scope="module", params=["wan2.1", "wan2.2"])
def wan(request):
    """One of Wan's at real size, without numbers, and what it is said to cost."""
    import torch

    from models.vae.wan import KINDS, WanVAE

    with torch.device("meta"):
        vae = WanVAE(KINDS[request.param])
    return vae, AUTOENCODERS[request.param]


def film_and_latents(vae, frames):
    """Of 96 x 64 pixels."""
    import torch

    height, width = 96 // vae.kind.cell, 64 // vae.kind.cell
    film = torch.empty(1, 3, 4 * frames - 3, 96, 64, device="meta")
    return film, torch.empty(1, vae.kind.channels, frames, height, width, device="meta")


def test_wans_autoencoders_have_the_parameters_of_their_networks(wan):
    vae, coder = wan
    assert coder.parameters == sum(weight.numel() for weight in vae.parameters())
    for half, last, layers in ((vae.encoder, vae.conv1, coder.encoder), (vae.decoder, vae.conv2, coder.decoder)):
        weights = [*half.named_parameters(), *last.named_parameters()]
        assert layers.weights == sum(weight.numel() for name, weight in weights if name.endswith("weight"))


def test_wans_autoencoders_cost_what_torch_counts(wan):
    """For one more latent frame; a film's first is cheaper. Their middle's attention, 4 L^2 C, is not in the rows."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    vae, coder = wan
    counted = []
    for frames in (3, 4):
        film, latents = film_and_latents(vae, frames)
        for call, given in ((vae.encode, film), (vae.decode, latents)):
            with FlopCounterMode(display=False) as counter, torch.inference_mode():
                call(given)
            counted.append(counter.get_total_flops())
    cells = latents.shape[3] * latents.shape[4]
    for half, layers, more in (
        (vae.encoder, coder.encoder, counted[2] - counted[0]),
        (vae.decoder, coder.decoder, counted[3] - counted[1]),
    ):
        attention = 4 * cells**2 * half.middle[1].proj.in_channels
        assert more in (cells * layers.flops_a_cell, cells * layers.flops_a_cell + attention)


@pytest.mark.parametrize("b", [2, 4])
def test_wans_autoencoders_take_the_memory_they_are_said_to(wan, b):
    """Followed tensor by tensor. Frames beside the work: at most eight in float32, and the latents."""
    import torch

    vae, coder = copy.deepcopy(wan[0]), wan[1]
    vae.settle(torch.device("meta"), torch.bfloat16 if b == 2 else torch.float32)
    film, latents = film_and_latents(vae, 4)
    pixels = 96 * 64
    for call, given, work in (
        (lambda z: [None for _ in vae.decode_stream(z)], latents, coder.decoded_bytes_a_pixel),
        (vae.encode, film, coder.encoded_bytes_a_pixel),
    ):
        with Alive([given, *vae.parameters()]) as alive, torch.inference_mode():
            call(given)
        beside = alive.peak / pixels - work[b // 4]
        assert 0 <= beside <= 8 * 3 * 4 + 3 * 4 * latents.numel() / pixels


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_our_decoder_takes_the_memory_it_is_said_to_in_tiles_too(dtype):
    """Followed tensor by tensor at 720p. Tiles of 128 pixels save a quarter: the rest is mostly frames."""
    import torch

    from models.vae.previs import VAE

    with torch.device("meta"):
        vae, z = VAE().to(getattr(torch, dtype)), torch.empty(1, 16, 2, 90, 160)
    peaks = []
    for tile in (0, 128):
        with Alive([z, *vae.parameters(), *vae.buffers()]) as alive, torch.inference_mode():
            for _ in vae.decode_stream(z, tile=tile):
                pass
        assert alive.peak <= decoding_bytes(PREVIS, Geometry(5, 720, 1280), vae.mean.itemsize, tile)
        peaks.append(alive.peak)
    assert peaks[1] < 0.8 * peaks[0]


def test_tiles_take_less_memory_and_more_work():
    assert tile_pixels(WAN_1_3B, HD, 192) == 256 * 256 and tile_pixels(WAN_1_3B, SD, 0) == 480 * 832
    assert tiling(WAN_1_3B, HD, 192) == 28 * 256**2 / (720 * 1280)  # 4 x 7 tiles
    sizes = [coder_bytes(WAN_1_3B, HD, 2, tile) for tile in (192, 256, 384, 512, 0)]
    assert sizes == sorted(sizes) and len(set(sizes)) == 5
    assert tiling(WAN_1_3B, HD, 0) == 1.0 <= tiling(WAN_1_3B, HD, 512)


def test_a_tile_of_ours_sees_as_far_as_its_network_does():
    from models.vae.previs import CELL_SIDE, VAE

    assert AUTOENCODERS["previs"].overlap == 2 * VAE().reach * CELL_SIDE


def test_cards_read_the_films_that_they_are_given_in_latents():
    cards = (PREVIS, WAN_1_3B, WAN_5B, WAN_I2V_A14B, WAN_CONTROL_1_3B, WAN_VACE_1_3B)
    assert [encoded_films(card) for card in cards] == [2, 0, 0, 1, 2, 2]
    assert coder_bytes(WAN_VACE_1_3B, SD, 4) == coder_bytes(WAN_1_3B, SD, 4), "decoding is what takes most"
