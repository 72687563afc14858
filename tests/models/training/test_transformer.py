"""The whole training on two small shots: footage, autoencoder, latents, transformer, package; a few seconds each."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import load_file

from models.card import TINY
from models.controls.films import SAMPLES, code_depth
from models.controls.rays import camera_rays
from models.controls.tokens import context_tokens
from models.dit.wan import Transformer
from models.loading.load import load, unload
from models.rendering.keyframes import keyframe_mask
from models.stage import render as stage
from models.training import autoencoder, detail
from models.training import release as package
from models.training import run as state
from models.training import transformer as fit
from models.training.shots import latents, scenes
from models.training.shots import shoot as footage
from models.vae.detail import Detail
from models.vae.previs import VAE
from models.weight_files.tensors import open_package

HEIGHT, WIDTH, SHORT, LONG = 96, 112, 9, 13  # crops of training need 96 pixels and nine frames
SEEDS = (scenes.TEST_SEEDS + 2, scenes.TEST_SEEDS + 1)  # a long one and a short one
CARD = replace(TINY, dim=16, ffn=32, layers=1)


@pytest.fixture(scope="module")
def small():
    """Shots of a size that a test can render."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("HEIGHT", HEIGHT), ("WIDTH", WIDTH), ("SHORT", SHORT), ("LONG", LONG)):
            patch.setattr(footage, name, value)
        yield


@pytest.fixture(scope="module")
def work(small, tmp_path_factory) -> Path:
    """A folder with the footage of two shots."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "footage").mkdir()
    for seed in SEEDS:
        save_file(footage.shoot(seed), folder / "footage" / f"{seed:07d}.safetensors")
    return folder


def crops_of(work: Path) -> autoencoder.Crops:
    return partial(autoencoder.batch, work / "footage")


@pytest.fixture(scope="module")
def vae(work) -> VAE:
    """An autoencoder that is the linear code of that footage, with its statistics measured."""
    made = VAE().requires_grad_(False)
    made.start_from_components(autoencoder.cells(crops_of(work), np.random.default_rng(0), batches=2))
    latents.statistics((load_file(path)["rgb"] for path in (work / "footage").iterdir()), made, "cpu")
    return made


@pytest.fixture(scope="module")
def encoded(work, vae) -> Path:
    latents.encode_all(work / "footage", work / "latents", vae, "cpu")
    return work / "latents"


def test_lengths_follow_the_seed(small):
    assert [footage.frames_of(seed) for seed in range(6)] == [LONG, SHORT, SHORT, LONG, SHORT, SHORT]
    assert [footage.frames_of(seed) for seed in SEEDS] == [LONG, SHORT]


def test_footage_is_the_stage_in_bytes(work):
    for seed, frames in zip(SEEDS, (LONG, SHORT), strict=True):
        film = load_file(work / "footage" / f"{seed:07d}.safetensors")
        assert {name: tuple(tensor.shape) for name, tensor in film.items()} == {
            "rgb": (frames, HEIGHT, WIDTH, 3), "previs": (frames, HEIGHT, WIDTH, 3), "depth": (frames, HEIGHT, WIDTH),
        }  # fmt: skip
        assert all(tensor.dtype == torch.uint8 for tensor in film.values())
    blocking = scenes.shot(seed, frames, HEIGHT, WIDTH)
    one = stage.render_frame(blocking, 4, samples=SAMPLES)
    for name, true in (("rgb", one.rgb), ("previs", one.previs)):
        assert np.abs(film[name][4].numpy() / 255 - true).max() <= 0.5 / 255 + 1e-6
    coded = code_depth(one.depth, blocking.subject_distance_m)
    assert np.abs(film["depth"][4].numpy() / 255 - coded).max() <= 0.5 / 255 + 1e-6


def test_bytes_become_what_the_autoencoder_reads():
    film = torch.tensor([0, 255, 51], dtype=torch.uint8).expand(1, 2, 3).reshape(1, 1, 2, 3)
    assert latents.pixels(film)[0, :, 0, 0, 0].tolist() == pytest.approx([-1, 1, -0.6])
    depth = torch.full((5, 2, 2), 255, dtype=torch.uint8)
    assert latents.pixels(depth).shape == (1, 3, 5, 2, 2) and (latents.pixels(depth) == 1).all()


def test_keyframes_are_first_frames_mostly_and_any_at_times():
    chosen = [latents.keyframes_of(seed, 9) for seed in range(300)]
    assert chosen == [latents.keyframes_of(seed, 9) for seed in range(300)]
    shares = [chosen.count(at) / 300 for at in ((0,), (0, 8), (8,))]
    assert shares == pytest.approx([3 / 7 + 1 / 63, 2 / 7, 1 / 7 + 1 / 63], abs=0.08)
    assert {at[0] for at in chosen} == set(range(9))


def test_crops_are_of_the_footage_between_minus_one_and_one(work):
    films = autoencoder.batch(work / "footage", np.random.default_rng(0))
    assert films.shape == (autoencoder.BATCH, 3, 9, 96, 96)
    assert films.min() >= -1 and films.max() <= 1 and films.std() > 0.1
    again = autoencoder.batch(work / "footage", np.random.default_rng(0))
    torch.testing.assert_close(films, again, rtol=0, atol=0)


def test_missing_footage_is_reported(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no footage in .*: run `python -m models.training.shots.shoot"):
        autoencoder.batch(tmp_path, np.random.default_rng(0))
    with pytest.raises(FileNotFoundError, match="no encoded shots in"):
        latents.Folder(tmp_path).batch(1, np.random.default_rng(0))


def test_the_distance_is_zero_only_for_the_same_film():
    film = torch.rand(2, 3, 12, 16, 16, generator=torch.Generator().manual_seed(0))
    same, error = autoencoder.loss_of(film, film)
    assert same == 0 and error == 0
    off, error = autoencoder.loss_of(film + 0.1, film)  # an even error: no edges, no motion
    assert off.item() == pytest.approx(0.1 + 0.1 + 2 * 0.01, rel=1e-4) and error.item() == pytest.approx(0.01, rel=1e-4)


def test_encoded_shots_have_unit_latents_and_their_conditions(encoded):
    for seed, frames in zip(SEEDS, (4, 3), strict=True):
        shot = load_file(encoded / f"{seed:07d}.safetensors")
        for name in ("rgb", "previs", "depth", "key"):
            assert shot[name].shape == (16, frames, 12, 14) and shot[name].dtype == torch.float16
        blocking = scenes.shot(seed, 4 * frames - 3, HEIGHT, WIDTH)
        np.testing.assert_allclose(shot["rays"].numpy(), camera_rays(blocking), atol=2e-3)
        np.testing.assert_array_equal(shot["context"].numpy(), context_tokens(blocking))
        at = latents.keyframes_of(seed, blocking.frames)
        torch.testing.assert_close(shot["mask"][None].float(), keyframe_mask((frames, 12, 14), at))
        if 0 in at:  # a causal code: the first frame alone
            torch.testing.assert_close(shot["key"][:, 0], shot["rgb"][:, 0])
        assert shot["sheet"].shape == (16, 12, 14) and bool(shot["sheet"].any()) == bool(blocking.subjects)
    rgb = torch.cat([load_file(path)["rgb"].float().flatten(1) for path in sorted(encoded.iterdir())], 1)
    torch.testing.assert_close(rgb.mean(1), torch.zeros(16), rtol=0, atol=0.02)
    torch.testing.assert_close(rgb.std(1), torch.ones(16), rtol=0, atol=0.02)


def test_batches_are_of_one_length_and_about_the_size_asked(encoded):
    shots, rng = latents.Folder(encoded), np.random.default_rng(0)
    lengths = set()
    for _ in range(12):
        batch = shots.batch(5 * 3 * 12 * 14, rng)
        count, frames = batch["rgb"].shape[0], batch["rgb"].shape[2]
        lengths.add(frames)
        assert count == {3: 5, 4: 4}[frames]
        assert batch["rays"].shape == (count, 24, frames, 12, 14) and batch["rgb"].dtype == torch.float32
        assert batch["context"].shape[0] == count and batch["context"].shape[2] == 64
    assert lengths == {3, 4}


def test_conditions_are_dropped_each_for_itself(encoded):
    batch = latents.Folder(encoded).batch(300 * 3 * 12 * 14, np.random.default_rng(0))
    batch["sheet"] += 1  # also where the shot is empty
    size = len(batch["rgb"])
    given, context, beside = fit.drop(batch, replace(CARD, reference_channels=16), torch.Generator().manual_seed(0))
    assert given.shape[1] == 4 + 16 + 16 + 16 + 24 and given.shape[0] == size
    groups = {"mask": (0, 4), "key": (4, 20), "previs": (20, 36), "depth": (36, 52), "rays": (52, 76)}
    kept = {name: given[:, a:b].flatten(1).abs().sum(1) > 0 for name, (a, b) in groups.items()}
    kept["sheet"] = beside.reference.flatten(1).abs().sum(1) > 0
    kept["context"] = context.flatten(1).abs().sum(1) > 0
    shares = {name: float(which.float().mean()) for name, which in kept.items()}
    for name, chance in (*fit.DROP.items(), ("key", 1 - fit.KEYFRAME)):
        assert shares[name] == pytest.approx((1 - chance) * (1 - fit.DROP_ALL), abs=0.07), name
    assert torch.equal(kept["mask"], kept["key"])
    assert fit.drop(batch, replace(CARD, reference_channels=0), torch.Generator())[2].reference is None
    for name in ("mask", "key", "previs", "depth", "rays"):
        a, b = groups[name]
        torch.testing.assert_close(given[kept[name], a:b], batch[name][kept[name]])
    assert not torch.equal(kept["previs"], kept["depth"])


def shots_of(encoded: Path) -> latents.Shots:
    return latents.Folder(encoded)


class Metronome:
    """A clock that advances by a second on every call: a budget is then a number of steps on any machine."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        self.seconds += 1.0
        return self.seconds


@pytest.fixture(scope="module")
def trained(encoded, work) -> Path:
    """A transformer after 60 steps."""
    path = work / "transformer.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "time", Metronome())
        patch.setattr(fit, "CELLS", 3 * 3 * 12 * 14)
        fit.fit(shots_of(encoded), path, CARD, minutes=1, device="cpu", lr=1e-2)
    return path


def test_the_transformer_learns_two_shots_in_seconds(trained, encoded):
    weights, facts = state.read(trained)
    assert 55 <= facts["step"] <= 60 and [row["step"] for row in facts["history"]] == [50, facts["step"]]
    new, old = Transformer(CARD), Transformer(CARD)
    old.init_weights(0)
    new.load_state_dict(weights)
    batch = latents.Folder(encoded).batch(8 * 3 * 12 * 14, np.random.default_rng(5))
    generator = torch.Generator().manual_seed(5)
    given, context, beside = fit.drop(batch, CARD, generator)
    noise = torch.randn(batch["rgb"].shape, generator=generator)
    level = torch.linspace(0.1, 0.95, len(noise))

    def loss(network: Transformer) -> float:
        mixed = level[:, None, None, None, None]
        x = batch["rgb"].lerp(noise, mixed)
        with torch.inference_mode():
            out = network(torch.cat([x, given], 1), 1000 * level, context, beside)
        return float(fit.error(network.card, out, batch["rgb"], noise, mixed, batch["previs"]))

    assert loss(new) < 0.95 * loss(old)


class Watched(latents.Folder):
    """Records the state of the generator for each batch."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.drawn: list[str] = []

    def batch(self, cells: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        self.drawn.append(str(rng.bit_generator.state))
        return super().batch(cells, rng)


def test_a_training_that_goes_on_does_not_see_its_shots_in_the_same_order_again(encoded, tmp_path, monkeypatch):
    monkeypatch.setattr(fit, "CELLS", 3 * 3 * 12 * 14)
    orders = []
    for minutes in (3 / 60, 6 / 60):
        monkeypatch.setattr(state, "time", Metronome())
        shots = Watched(encoded)
        fit.fit(shots, tmp_path / "run.safetensors", CARD, minutes=minutes, device="cpu")
        orders.append(shots.drawn)
    assert all(orders) and not set(orders[0]) & set(orders[1])


def test_finished_training_is_not_changed(trained, encoded):
    before = trained.read_bytes()
    fit.fit(shots_of(encoded), trained, CARD, minutes=0.5, device="cpu")
    assert trained.read_bytes() == before


@pytest.fixture(scope="module")
def coded(work) -> Path:
    """An autoencoder after two steps."""
    path = work / "vae.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "time", Metronome())
        patch.setattr(autoencoder, "BATCH", 1)
        autoencoder.fit(crops_of(work), path, minutes=2 / 60, device="cpu")
    return path


def test_the_autoencoder_begins_well_and_goes_on_where_it_was(coded, work, monkeypatch):
    weights, facts = state.read(coded)
    assert facts["step"] == 2 and facts["history"][-1]["psnr"] > 12  # the linear code alone is a picture
    assert weights.keys() == VAE().state_dict().keys()
    monkeypatch.setattr(state, "time", Metronome())
    monkeypatch.setattr(autoencoder, "BATCH", 1)
    autoencoder.fit(crops_of(work), coded, minutes=3 / 60, device="cpu")
    assert [row["step"] for row in state.read(coded)[1]["history"]] == [2, 3]


def test_the_package_records_its_training(trained, coded, vae, tmp_path):
    out = tmp_path / "weights" / "small.safetensors"
    calls = [package.call(scenes.TEST_SEEDS, len(SEEDS), "cpu")]
    package.write(CARD, vae, {"autoencoder": coded, "transformer": trained}, calls, out)
    package.record(out, {"shots": 1, "steps": 2, "film": 20.5, "previs": 21.0, "ceiling": 30.0, "blind": 10.0})
    opened = open_package(out)
    assert opened.card == CARD
    networks = opened.part("vae."), opened.part("transformer.")
    assert networks[0].keys() == vae.state_dict().keys()
    torch.testing.assert_close(networks[0]["std"], vae.std)  # float32: not rounded
    assert any(tensor.dtype == torch.int8 for tensor in networks[1].values())
    record = (out.parent / "TRAINING.md").read_text()
    steps = state.read(trained)[1]["step"]
    assert f"| {steps} |" in record and "2 random directed shots" in record and f"{WIDTH}x{HEIGHT}" in record
    assert "| of the network | 20.5 |" in record
    assert (out.parent / "curves.png").read_bytes().startswith(b"\x89PNG")
    training = json.loads(opened.metadata["training"])
    assert training["runs"]["transformer"]["steps"] == steps and training["shots"] == 2


def test_the_command_explains_itself(python):
    said = python("-m", "models.training", "--help")
    assert "--vae-minutes" in said.stdout and "each part resumes" in said.stdout


def test_footage_that_is_there_is_not_rendered_again(python, tmp_path):
    done = tmp_path / "footage" / f"{scenes.TEST_SEEDS:07d}.safetensors"
    done.parent.mkdir()
    done.write_bytes(b"rendered by another process")
    run = python("-m", "models.training.shots.shoot", done.parent, "--end", scenes.TEST_SEEDS + 1)
    assert run.returncode == 0, run.stderr  # without --first it begins after the seeds kept for testing
    assert [path.name for path in done.parent.iterdir()] == [done.name]
    assert done.read_bytes() == b"rendered by another process"


def test_the_detail_learns_from_films_that_the_package_makes(trained, coded, vae, encoded, work, tmp_path, monkeypatch):
    out, path = tmp_path / "small.safetensors", tmp_path / "detail.safetensors"
    calls = [package.call(scenes.TEST_SEEDS, len(SEEDS), "cpu")]
    runs = {"autoencoder": coded, "transformer": trained}
    package.write(CARD, vae, runs, calls, out)
    model = load(out, "cpu")
    assert model.detail is None
    name = f"{SEEDS[1]:07d}.safetensors"
    shot = load_file(work / "footage" / name), load_file(encoded / name)
    one = detail.example(model, *shot, seed=0)
    assert {key: tuple(film.shape) for key, film in one.items()} == dict.fromkeys(
        ("film", "previs", "kept", "plain", "made"), (9, 3, HEIGHT, WIDTH)
    )
    assert torch.equal(one["previs"].permute(0, 2, 3, 1), shot[0]["previs"])
    monkeypatch.setattr(state, "time", Metronome())
    monkeypatch.setattr(detail, "EXAMPLES", 1)
    detail.fit(model, lambda rng: shot, path, minutes=0.75)
    weights, facts = state.read(path)
    learnt = Detail()
    learnt.load_state_dict(weights)
    film, plain, previs, true = (one[key].float() / 127.5 - 1 for key in ("made", "plain", "previs", "film"))
    with torch.inference_mode():
        before, after = ((net(film, plain, previs) - true).square().mean() for net in (Detail(), learnt))
    assert facts["step"] >= 40 and after < 0.9 * before
    package.write(CARD, vae, runs | {"detail": path}, calls, out)
    made = load(out, "cpu")
    assert made.detail is not None
    unload()
