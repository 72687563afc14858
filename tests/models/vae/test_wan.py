"""Wan's autoencoders against diffusers with tiny random weights, streamed, in tiles, and at their real size."""

from __future__ import annotations

import copy
import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.errors import BadInput
from models.loading.load import load_vae
from models.vae.wan import KINDS, WAN21, WAN22, WanVAE, load_wan_vae, pack, unpack

EXACT = 1e-5  # relative to the largest number
TINY = {
    "2.1": replace(WAN21, encoder_width=4, decoder_width=4),
    "2.1 of another width": replace(WAN21, encoder_width=6, decoder_width=6),
    "2.2": replace(WAN22, encoder_width=4, decoder_width=8),
}

# of the published files, and diffusers' for them
with (Path(__file__).parents[1] / "wan_vae_names.tsv").open() as lines:
    NAMES = list(csv.DictReader(lines, delimiter="\t"))


def names(autoencoder: str) -> list[dict[str, str]]:
    return [row for row in NAMES if row["autoencoder"] == autoencoder]


def weighted(vae: WanVAE, seed: int = 0) -> WanVAE:
    """Weights that hide nothing: each layer keeps the size of what it is given, and biases and gammas matter."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in vae.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if name.endswith("gamma"):
            weight.copy_(1 + 0.1 * noise)
        else:
            weight.copy_(noise / math.sqrt(weight[0].numel()) if weight.dim() > 1 else 0.3 * noise)
    return vae


@pytest.fixture(scope="module", params=TINY)
def vae(request) -> WanVAE:
    """Ours."""
    return weighted(WanVAE(TINY[request.param]))


@pytest.fixture(scope="module")
def pair(vae):
    """Ours and diffusers' with the same weights."""
    diffusers = pytest.importorskip("diffusers")
    sizes = {"base_dim": vae.kind.encoder_width, "decoder_base_dim": vae.kind.decoder_width}
    sizes |= {"z_dim": vae.kind.channels}
    if vae.kind.bridged:
        sizes |= {
            "is_residual": True,
            "in_channels": 12,
            "out_channels": 12,
            "patch_size": 2,
            "scale_factor_spatial": 16,
        }
    theirs = diffusers.AutoencoderKLWan(**sizes).eval().requires_grad_(False)
    called = {row["published"]: row["diffusers"] for row in names("wan2.2" if vae.kind.bridged else "wan2.1")}
    theirs.load_state_dict({called[name]: tensor for name, tensor in vae.state_dict().items()})
    return vae, theirs


def film(vae: WanVAE, frames: int, rows: int, columns: int, batch: int = 1) -> Tensor:
    """Of so many cells."""
    size = (batch, 3, frames, rows * vae.kind.cell, columns * vae.kind.cell)
    return torch.rand(size, generator=torch.Generator().manual_seed(frames)) * 2 - 1


def latent(vae: WanVAE, frames: int, rows: int, columns: int, batch: int = 1) -> Tensor:
    size = (batch, vae.kind.channels, frames, rows, columns)
    return torch.randn(size, generator=torch.Generator().manual_seed(frames))


def raw(vae: WanVAE, latents: Tensor) -> Tensor:
    """As diffusers' decoder takes them: its pipelines undo the normalisation, not it."""
    mean, std = (torch.tensor(v)[:, None, None, None] for v in (vae.kind.mean, vae.kind.std))
    return latents * std + mean


def far(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape and ours.dtype == torch.float32
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize(("frames", "rows", "columns"), [(1, 2, 3), (5, 3, 1), (9, 1, 2), (17, 2, 2)])
def test_a_film_is_encoded_as_diffusers_does(pair, frames, rows, columns):
    vae, theirs = pair
    pictures = film(vae, frames, rows, columns)
    z = vae.encode(pictures)
    assert z.shape == (1, vae.kind.channels, (frames + 3) // 4, rows, columns)
    assert far(raw(vae, z), theirs.encode(pictures).latent_dist.mode()) < EXACT


@pytest.mark.parametrize(("frames", "rows", "columns"), [(1, 2, 3), (2, 3, 1), (3, 1, 2), (5, 2, 2)])
def test_a_film_is_decoded_as_diffusers_does(pair, frames, rows, columns):
    vae, theirs = pair
    z = latent(vae, frames, rows, columns)
    ours, expected = vae.decode(z), theirs.decode(raw(vae, z)).sample
    assert far(ours, expected) < EXACT
    assert (expected.abs() < 1).double().mean() > 0.5, "most of the film is not at the ends of its range"


def test_films_of_a_batch_do_not_meet(pair):
    vae, theirs = pair
    pictures, z = film(vae, 5, 2, 1, batch=2), latent(vae, 2, 1, 2, batch=2)
    assert far(raw(vae, vae.encode(pictures)), theirs.encode(pictures).latent_dist.mode()) < EXACT
    assert far(vae.decode(z), theirs.decode(raw(vae, z)).sample) < EXACT


def test_a_film_comes_in_chunks_that_later_latents_do_not_change(vae):
    z = latent(vae, 4, 2, 1)
    chunks = list(vae.decode_stream(z))
    assert [chunk.shape[2] for chunk in chunks] == [1, 4, 4, 4]
    assert torch.equal(torch.cat(chunks, 2), vae.decode(z))
    assert torch.equal(vae.decode(z[:, :, :2]), torch.cat(chunks[:2], 2))
    assert torch.equal(next(vae.decode_stream(z)), chunks[0])


def test_later_frames_do_not_change_latents(vae):
    pictures = film(vae, 13, 1, 2)
    assert torch.equal(vae.encode(pictures[:, :, :5]), vae.encode(pictures)[:, :, :2])


def test_a_film_may_come_to_the_encoder_in_chunks(vae):
    pictures = film(vae, 9, 1, 2)
    chunks = iter((pictures[:, :, :1], pictures[:, :, 1:5], pictures[:, :, 5:]))
    assert torch.equal(vae.encode_stream(chunks), vae.encode(pictures))


def test_time_is_remembered(vae):
    """From the second chunk to the third, which is the first whose past is not zeros."""
    one = latent(vae, 3, 1, 1)
    other = one.clone()
    other[:, :, 1] += 1
    assert far(vae.decode(one)[:, :, 5:], vae.decode(other)[:, :, 5:]) > 1e-2


@pytest.mark.parametrize("tile", [0, 96, 1000])
def test_where_one_tile_is_enough_nothing_changes(vae, tile):
    z = latent(vae, 2, 3, 4)
    assert torch.equal(torch.cat(list(vae.decode_stream(z, tile=tile)), 2), vae.decode(z))


def test_tiles_are_films_of_their_own_that_fade_into_each_other(pair):
    """Two tiles beside each other: outside the 64 pixels that both see, each is diffusers' film of its own cells."""
    vae, theirs = pair
    cell = vae.kind.cell
    wide, seen, shared = 192 // cell, (96 + 32) // cell, 64
    z = latent(vae, 3, 2, wide)
    chunks = list(vae.decode_stream(z, tile=96))
    assert [chunk.shape[2] for chunk in chunks] == [1, 4, 4]
    left, right = (theirs.decode(raw(vae, part)).sample for part in (z[..., :seen], z[..., -seen:]))
    share = (torch.arange(shared) + 0.5) / shared
    middle = left[..., -shared:] * (1 - share) + right[..., :shared] * share
    expected = torch.cat([left[..., :-shared], middle, right[..., shared:]], -1)
    ours = torch.cat(chunks, 2)
    ends = 96 - shared // 2
    for part in (slice(None, ends), slice(-ends, None)):
        assert far(ours[..., part], expected[..., part]) < EXACT
    inside = (left[..., -shared:].abs() < 1) & (right[..., :shared].abs() < 1)  # they fade before they are cut to range
    assert (ours - expected)[..., ends:-ends][inside].abs().max() < EXACT


def test_corners_of_a_film_in_tiles_are_those_of_films_of_their_own(vae):
    """Four tiles of 64 pixels, which see 96: the 32 at a corner are seen by one alone."""
    cells, seen = 128 // vae.kind.cell, 96 // vae.kind.cell
    z = latent(vae, 2, cells, cells)
    tiled = torch.cat(list(vae.decode_stream(z, tile=64)), 2)
    assert tiled.shape == (1, 3, 5, 128, 128) and tiled.abs().max() <= 1
    first, last = slice(seen), slice(-seen, None)
    for rows in (first, last):
        for columns in (first, last):
            corner = (..., *(slice(32) if part == first else slice(-32, None) for part in (rows, columns)))
            torch.testing.assert_close(tiled[corner], vae.decode(z[..., rows, columns])[corner], rtol=0, atol=EXACT)


@pytest.mark.parametrize("name", KINDS)
def test_weights_bear_the_published_names_at_real_size(name):
    kind = KINDS[name]
    with torch.device("meta"):
        vae = WanVAE(kind)
    shapes = {key: tuple(tensor.shape) for key, tensor in vae.state_dict().items()}
    assert shapes == {row["published"]: tuple(map(int, row["shape"].split("x"))) for row in names(name)}
    assert len(shapes) == {"wan2.1": 194, "wan2.2": 196}[name]


def test_weights_become_an_autoencoder_of_their_widths(vae):
    name = "wan2.2" if vae.kind.bridged else "wan2.1"
    weights, z = vae.state_dict(), latent(vae, 2, 1, 2)
    loaded = load_wan_vae(name, dict(weights), torch.device("cpu"), torch.float32)
    assert loaded.kind == vae.kind and far(loaded.decode(z), vae.decode(z)) < EXACT
    assert isinstance(load_vae(name, dict(weights), torch.device("cpu")), WanVAE)
    for broken in (
        {},
        {**weights, "conv1.bias": torch.zeros(3)},
        {k: v for k, v in weights.items() if "time" not in k},
    ):
        with pytest.raises(BadInput, match=f"no whole autoencoder of {name}"):
            load_wan_vae(name, broken, torch.device("cpu"), torch.float32)


def test_statistics_are_those_of_diffusers():
    config = pytest.importorskip("diffusers").AutoencoderKLWan(base_dim=4).config
    assert list(WAN21.mean) == config.latents_mean and list(WAN21.std) == config.latents_std
    assert (WAN22.channels, WAN22.cell, WAN21.channels, WAN21.cell) == (48, 16, 16, 8)
    assert len(WAN22.std) == 48 and min(WAN22.std) > 0


def test_patches_count_columns_slower_than_rows():
    picture = torch.tensor([[0.0, 1], [2, 3]])[None, None, None]
    packed = pack(picture, 2)
    assert packed.flatten().tolist() == [0, 2, 1, 3]
    assert torch.equal(unpack(packed, 2), picture)
    pictures = torch.randn(2, 3, 5, 4, 6)
    assert torch.equal(unpack(pack(pictures, 2), 2), pictures) and torch.equal(pack(pictures, 1), pictures)


@pytest.mark.parametrize(
    ("frames", "height", "words"),
    [(4, 16, "a film of 4 frames cannot be encoded: it must have 4n\\+1"), (5, 20, "a film of 20x16 .* multiples of")],
)
def test_a_film_off_the_grid_is_refused(vae, frames, height, words):
    with pytest.raises(ValueError, match=words):
        vae.encode(torch.zeros(1, 3, frames, height, 16))


def test_a_film_in_bf16_is_near(vae):
    """Rounded at every step, and still the same film; statistics are not rounded."""
    near = copy.deepcopy(vae).settle(torch.device("cpu"), torch.bfloat16)
    assert {weight.dtype for weight in near.parameters()} == {torch.bfloat16}
    z, pictures = latent(vae, 2, 2, 2), film(vae, 5, 2, 2)
    exact = vae.decode(z)
    assert (near.decode(z) - exact).square().mean().sqrt() < 0.03 * exact.square().mean().sqrt()
    exact = vae.encode(pictures)
    assert (near.encode(pictures) - exact).square().mean().sqrt() < 0.03 * exact.square().mean().sqrt()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@torch.inference_mode()
def test_a_gpu_gives_the_same_film(vae):
    here = copy.deepcopy(vae).settle(torch.device("cuda"), torch.float32)
    z, pictures = latent(vae, 3, 4, 6), film(vae, 9, 4, 6)
    torch.testing.assert_close(here.decode(z.cuda()).cpu(), vae.decode(z), rtol=0, atol=1e-3)
    torch.testing.assert_close(here.encode(pictures).cpu(), vae.encode(pictures), rtol=0, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@torch.inference_mode()
def test_tiles_bound_the_memory_of_a_gpu(vae):
    here = copy.deepcopy(vae).settle(torch.device("cuda"), torch.bfloat16)
    z, peaks = latent(vae, 3, 1024 // vae.kind.cell, 1024 // vae.kind.cell).cuda(), []
    for tile in (0, 128):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        for chunk in here.decode_stream(z, tile=tile):
            assert chunk.isfinite().all()
        peaks.append(torch.cuda.max_memory_allocated() - before)
    assert peaks[1] < peaks[0] / 4
