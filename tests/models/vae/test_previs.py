"""The autoencoder streams exactly, never looks ahead, and keeps Wan's grid."""

from __future__ import annotations

import copy

import pytest
import torch

from models.card import PREVIS
from models.cost.autoencoder import decoding_bytes
from models.geometry import Geometry
from models.vae.previs import CHANNELS, VAE, group, ungroup

EXACT = {"rtol": 0, "atol": 2e-5}  # of float32: convolutions add up in another order for another number of pictures


@pytest.fixture(scope="module")
def vae() -> VAE:
    """Random weights, and statistics that are not those of a fresh one."""
    torch.manual_seed(0)
    made = VAE().eval().requires_grad_(False)
    made.mean.copy_(torch.linspace(-0.5, 0.5, CHANNELS))
    made.std.copy_(torch.linspace(0.5, 2.0, CHANNELS))
    return made


def film(frames: int, height: int = 32, width: int = 48, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(frames)
    return torch.rand(batch, 3, frames, height, width, generator=generator) * 2 - 1


def latent(frames: int, height: int = 4, width: int = 6, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, CHANNELS, frames, height, width, generator=torch.Generator().manual_seed(frames))


@pytest.mark.parametrize(("frames", "latents"), [(1, 1), (5, 2), (17, 5), (33, 9)])
def test_the_grid_is_wans(vae, frames, latents):
    z = vae.encode(film(frames, 16, 32))
    assert z.shape == (1, 16, latents, 2, 4) and z.dtype == torch.float32
    back = vae.decode(z)
    assert back.shape == (1, 3, frames, 16, 32) and back.dtype == torch.float32
    assert back.min() >= -1 and back.max() <= 1


@pytest.mark.parametrize("at_once", [1, 2, 3, 100])
def test_a_film_decoded_in_chunks_is_the_film_decoded_whole(vae, at_once):
    z = latent(6)
    whole = vae.decode(z)
    chunks = list(vae.decode_stream(z, at_once))
    assert [c.shape[2] for c in chunks][:1] == [4 * min(at_once, 6) - 3]
    torch.testing.assert_close(torch.cat(chunks, 2), whole, **EXACT)


@pytest.mark.parametrize(("tile", "at_once"), [(48, 1), (120, 2), (400, 2)])
def test_a_film_decoded_in_tiles_is_the_film_decoded_whole(vae, tile, at_once):
    z = latent(2, 5, 26)
    whole = vae.decode(z)
    film = torch.cat(list(vae.decode_stream(z, at_once, tile)), 2)
    torch.testing.assert_close(film, whole, **EXACT)


def test_a_cell_reaches_exactly_as_far_as_tiles_assume(vae):
    """One latent cell is changed: the film changes up to `reach` cells away, in its own group and later ones."""
    exact = copy.deepcopy(vae).double()
    z = latent(2, 23, 23).double()
    changed = z.clone()
    changed[:, :, 0, 11, 11] += 100
    far = (exact.film(z.transpose(1, 2)) != exact.film(changed.transpose(1, 2))).any(2)[0]
    for group_of_frames in far:
        rows = group_of_frames.any(1).nonzero().flatten() // 8
        assert 11 - int(rows.min()) == int(rows.max()) - 11 == vae.reach == 10


def test_no_layer_works_on_more_than_a_tile_and_its_reach(vae):
    """At cells and at halves of them, so what is alive at once does not grow with the picture."""
    seen = []
    hooks = [
        layer.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape)) for layer in vae.decoder.layers
    ]
    list(vae.decode_stream(latent(2, 4, 60), tile=64))
    for hook in hooks:
        hook.remove()
    assert max(shape[-1] for shape in seen) == 2 * (8 + 2 * vae.reach) and max(shape[0] for shape in seen) == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@torch.inference_mode()
def test_tiles_bound_the_memory_of_a_gpu(vae):
    """To what is predicted, workspaces of the convolutions included; the frames themselves, 44 MB for four at 720p, and
    what blocks remember do not shrink with tiles, so that the whole is no small part of what it was.
    """
    here, z = copy.deepcopy(vae).cuda(), latent(3, 90, 160).cuda()
    peaks, films = [], []
    for tile in (0, 128):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        films.append(torch.cat([chunk.cpu() for chunk in here.decode_stream(z, tile=tile)], 2))
        peaks.append(torch.cuda.max_memory_allocated() - before)
        assert peaks[-1] <= decoding_bytes(PREVIS, Geometry(9, 720, 1280), 4, tile)
    torch.testing.assert_close(films[1], films[0], rtol=0, atol=1e-3)
    assert peaks[1] < peaks[0]


def test_a_film_encoded_in_chunks_is_the_film_encoded_whole(vae):
    groups = group(film(21))
    memory = vae.encoder.fresh_memory()
    chunks = [vae.code(groups[:, start : start + 2], memory) for start in range(0, 6, 2)]
    torch.testing.assert_close(torch.cat(chunks, 1), vae.code(groups), **EXACT)


def test_a_film_encoded_group_by_group_is_the_film_encoded_whole(vae):
    shapes = []
    hook = vae.encoder.register_forward_pre_hook(lambda _, given: shapes.append(given[0].shape))
    whole = film(21)
    streamed = vae.encode_stream([whole[:, :, :1], *whole[:, :, 1:].split(4, 2)])
    hook.remove()
    assert [shape[1] for shape in shapes] == [1] * 6  # never more than a group of four frames at work
    torch.testing.assert_close(streamed, vae.encode(film(21)), **EXACT)


def test_later_frames_never_change_earlier_latents(vae):
    one = film(13)
    other = one.clone()
    other[:, :, 5:] *= -1
    a, b = vae.encode(one), vae.encode(other)
    torch.testing.assert_close(a[:, :, :2], b[:, :, :2], **EXACT)  # frames 0..4
    assert (a[:, :, 2] - b[:, :, 2]).abs().max() > 1e-2


def test_later_latents_never_change_earlier_frames(vae):
    one = latent(4)
    other = one.clone()
    other[:, :, 2:] += 1
    a, b = vae.decode(one), vae.decode(other)
    torch.testing.assert_close(a[:, :, :5], b[:, :, :5], **EXACT)
    assert (a[:, :, 5:9] - b[:, :, 5:9]).abs().max() > 1e-3


def test_time_is_remembered(vae):
    """A latent is shown differently after another past: the memory is really read."""
    one = latent(3)
    other = one.clone()
    other[:, :, 0] += 1
    assert (vae.decode(one)[:, :, 5:9] - vae.decode(other)[:, :, 5:9]).abs().max() > 1e-4


def test_a_part_from_the_start_is_what_the_whole_begins_with(vae):
    z = latent(5)
    torch.testing.assert_close(vae.decode(z[:, :, :3]), vae.decode(z)[:, :, :9], **EXACT)
    pictures = film(17)
    torch.testing.assert_close(vae.encode(pictures[:, :, :9]), vae.encode(pictures)[:, :, :3], **EXACT)


def test_films_of_a_batch_do_not_meet(vae):
    z = latent(3, batch=2)
    torch.testing.assert_close(vae.decode(z)[1:], vae.decode(z[1:]), **EXACT)
    pictures = film(9, batch=2)
    torch.testing.assert_close(vae.encode(pictures)[:1], vae.encode(pictures[:1]), **EXACT)


def test_groups_of_four_by_hand():
    """Frame t carries the number t in red, t + 100 in green, t + 200 in blue."""
    t = torch.arange(9.0)
    pictures = torch.stack([t, t + 100, t + 200])[None, :, :, None, None].expand(1, 3, 9, 2, 2)
    groups = group(pictures)
    assert groups.shape == (1, 3, 12, 2, 2)
    red = groups[0, :, 0::3, 0, 0].tolist()
    assert red == [[0, 0, 0, 0], [1, 2, 3, 4], [5, 6, 7, 8]]
    assert groups[0, 2, :, 0, 0].tolist() == [5, 105, 205, 6, 106, 206, 7, 107, 207, 8, 108, 208]


@pytest.mark.parametrize("frames", [1, 5, 13])
def test_grouping_can_be_undone(frames):
    pictures = film(frames, 8, 8, batch=2)
    torch.testing.assert_close(ungroup(group(pictures), first=True), pictures, rtol=0, atol=0)
    later = group(film(9, 8, 8))[:, 1:]
    assert ungroup(later, first=False).shape == (1, 3, 8, 8, 8)


@pytest.mark.parametrize("frames", [2, 4, 8, 32])
def test_a_film_off_the_grid_is_refused(vae, frames):
    with pytest.raises(ValueError, match=f"a film of {frames} frames cannot be encoded: it must have 4n\\+1"):
        vae.encode(film(frames, 16, 16))


def test_latents_are_normalised_by_the_statistics(vae):
    z = vae.encode(film(5, 16, 16))
    raw = vae.code(group(film(5, 16, 16))).transpose(1, 2)
    for channel in (0, 7, 15):
        expected = (raw[:, channel] - vae.mean[channel]) / vae.std[channel]
        torch.testing.assert_close(z[:, channel], expected)
    torch.testing.assert_close(vae.denormalised(z).transpose(1, 2), raw, rtol=1e-5, atol=1e-5)


def test_training_begins_as_the_best_linear_code():
    """On cells of rank 16 the components lose nothing; on any others, what the least singular values hold."""
    generator = torch.Generator().manual_seed(3)
    basis = torch.linalg.qr(torch.randn(768, CHANNELS + 4, generator=generator)).Q
    scale = torch.tensor([0.5] * CHANNELS + [0.01] * 4)
    middle = 0.1 * torch.randn(768, generator=generator)
    cells = torch.randn(4000, CHANNELS + 4, generator=generator) * scale @ basis.T + middle
    fresh = VAE().eval().requires_grad_(False)
    fresh.start_from_components(cells)
    groups = torch.nn.functional.pixel_shuffle(cells[:24].reshape(1, 4, 6, 768).permute(0, 3, 1, 2), 8)[:, None]
    z = fresh.code(groups)
    lost = (fresh.film(z) - groups).square().sum(2).mean() * 64  # of one cell
    assert lost.item() == pytest.approx(4 * 0.01**2, rel=0.5)
    flat = fresh.analysis[1].weight[:, :, 0, 0] @ cells.T + fresh.analysis[1].bias[:, None]
    torch.testing.assert_close(flat.std(1), torch.ones(CHANNELS), rtol=0.01, atol=0.01)
    torch.testing.assert_close(flat.mean(1), torch.zeros(CHANNELS), rtol=0, atol=1e-3)
