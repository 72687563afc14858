"""Footage in GPU memory (here on the CPU): in order, as crops for the autoencoder, as latents for the network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.training.autoencoder import FRAMES, GPU_BATCH, GPU_CROP
from models.training.gpu_footage import GpuFootage, sample
from models.training.shots import latents, scenes
from models.training.shots import shoot as footage
from models.vae.previs import VAE

FIRST = scenes.TEST_SEEDS  # this shot and the next are short


@pytest.fixture(scope="module")
def stock():
    """Two shots, on the processor, which renders them as footage.shoot does."""
    with GpuFootage(FIRST, 2, "cpu", processes=1) as made:
        made.ready(100)
        yield made


@pytest.fixture(scope="module")
def vae() -> VAE:
    torch.manual_seed(0)
    return VAE().requires_grad_(False)


def test_it_renders_what_there_is_and_counts_it(stock):
    assert stock.count() == 2
    stock.grow(5)
    assert stock.count() == 2
    shown = list(stock.pictures(9))
    assert len(shown) == 2 and len(list(stock.pictures(1))) == 1
    np.testing.assert_array_equal(shown[1].numpy(), footage.shoot(FIRST + 1)["rgb"])


def test_crops_are_pictures_between_minus_one_and_one(stock):
    crops = stock.crops(np.random.default_rng(0))
    assert crops.shape == (GPU_BATCH, 3, FRAMES, GPU_CROP, GPU_CROP) and crops.dtype == torch.float32
    assert crops.min() >= -1 and crops.max() <= 1 and crops.std() > 0.1
    torch.testing.assert_close(stock.crops(np.random.default_rng(0)), crops, rtol=0, atol=0)
    assert (crops[:, 0] == crops[:, 1]).flatten(1).all(1).any()  # a depth among them


def test_shots_are_encoded_as_those_in_a_folder_are(stock, vae):
    shots = stock.encode_with(vae, 0.0)
    assert stock.encode_with(vae, 0.0) is shots
    kept = [shot for shots_of in shots.by_length.values() for shot in shots_of]
    assert len(kept) == 2
    film = {name: torch.from_numpy(array) for name, array in footage.shoot(FIRST).items()}
    alone = latents.encode(FIRST, film, vae, "cpu")
    assert alone.keys() == kept[0].keys()
    for name, tensor in alone.items():
        found = kept[0][name][: len(tensor)]  # a context is filled up
        torch.testing.assert_close(found, tensor, rtol=0, atol=0)
    batch = shots.batch(2 * kept[0]["rgb"][0].numel(), np.random.default_rng(0))
    assert batch["sheet"].shape == (2, 16, 16, 28) and batch["mask"].shape[:2] == (2, 4)


def test_a_seed_is_the_same_shot_in_every_process():
    one, other = sample(FIRST + 1), sample(FIRST + 1)
    np.testing.assert_array_equal(one.film.numbers, other.film.numbers)
    assert one.conditions.keys() == {"rays", "context"} and one.seed == FIRST + 1


def test_what_does_not_fit_is_not_rendered(monkeypatch):
    monkeypatch.setattr("models.training.gpu_footage.WITHOUT_GPU", 4e6)  # one shot as latents, none as pictures
    with GpuFootage(FIRST, 9, "cpu", processes=1) as small:
        assert (small.most_films, small.most_shots) == (0, 1)
        small.ready(9)
        assert small.count() == 0
        monkeypatch.setattr("models.training.gpu_footage.FILM_BYTES", 1e6)
        small.most_films = GpuFootage(FIRST, 9, "cpu", processes=1).most_films  # one picture fits too
        small.ready(9)
        assert (small.most_films, small.count()) == (1, 1)
