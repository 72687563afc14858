"""A training goes from call to call in a few small files: what they hold, how large they are, what damage is found."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from models.card import PREVIS
from models.dit.wan import Transformer
from models.errors import BadInput, RushesError
from models.training import carry
from models.training import run as state
from models.training.carry import CarriedRun
from models.training.run import Run
from models.vae.previs import VAE

FOREVER = 1e9  # minutes


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 40), nn.LayerNorm(40), nn.Linear(40, 3))


def walk(run: Run, steps: int) -> None:
    for _ in range(steps):
        x = torch.randn(16, 6, generator=torch.Generator().manual_seed(run.step))
        run.learn((run.network(x) - x[:, :3].cumsum(1)).square().mean())


@pytest.fixture
def runs(tmp_path):
    """A run to resume after 40 steps, and a finished one."""
    paths = {name: tmp_path / "work" / f"{name}.safetensors" for name in ("autoencoder", "transformer")}
    paths["autoencoder"].parent.mkdir()
    for name, minutes in (("transformer", FOREVER), ("autoencoder", 1e-9)):
        run = Run(paths[name], net(), minutes=minutes, lr=1e-2)
        walk(run, 40 if minutes == FOREVER else 1)
        run.note(loss=0.5)
        run.save()
    return paths


def elsewhere(runs, tmp_path):
    """The same runs in another working folder, which is empty."""
    (tmp_path / "other").mkdir(exist_ok=True)
    return {name: tmp_path / "other" / path.name for name, path in runs.items()}


def test_only_the_average_is_carried(runs, tmp_path):
    there = CarriedRun(tmp_path / "carry", runs)
    there.calls = [{"shots": 3}]
    there.write()
    found = elsewhere(runs, tmp_path)
    here = CarriedRun(tmp_path / "carry", found)
    here.read()
    assert here.calls == [{"shots": 3}]
    for name in ("transformer", "autoencoder"):
        before, facts = state.read_all(runs[name])
        after, same = state.read_all(found[name])
        assert same == facts and after.keys() == {key for key in before if key.startswith("ema.")}
        for key, tensor in after.items():
            true = before[key] if tensor.dim() == 1 else before[key].to(torch.bfloat16)
            torch.testing.assert_close(tensor, true, rtol=0, atol=0)


def test_a_carried_run_resumes_from_its_average_with_a_new_warm_up(runs, tmp_path):
    CarriedRun(tmp_path / "carry", runs).write()
    found = elsewhere(runs, tmp_path)
    CarriedRun(tmp_path / "carry", found).read()
    run = Run(found["transformer"], net(seed=9), minutes=FOREVER, lr=1e-2)
    saved = state.read_all(runs["transformer"])[1]["history"]
    assert run.step == 40 and run.history == saved and [(row["step"], row["loss"]) for row in saved] == [(40, 0.5)]
    assert all(p.dtype == torch.float32 for p in run.network.parameters())
    before = [p.detach().clone() for p in run.network.parameters()]
    walk(run, 1)
    moved = max((a - b).abs().max() for a, b in zip(before, run.network.parameters(), strict=True))
    assert 0 < moved < 1.1e-4  # a hundredth of the rate
    walk(run, 59)
    run.save()
    again = Run(found["transformer"], net(seed=9), minutes=FOREVER, lr=1e-2)  # in its own folder, with its moments
    walk(again, 1)
    assert again.optimizer.param_groups[0]["lr"] == pytest.approx(1e-2 * 0.61)  # the warm-up goes on as well
    done = Run(found["autoencoder"], net(seed=9), minutes=FOREVER, lr=1e-2)
    for fast, slow in zip(done.network.parameters(), done.ema.parameters(), strict=True):
        torch.testing.assert_close(fast, slow, rtol=0, atol=0)


def test_the_later_run_stays(runs, tmp_path):
    folder = CarriedRun(tmp_path / "carry", runs)
    folder.write()
    run = Run(runs["transformer"], net(), minutes=FOREVER, lr=1e-2)
    walk(run, 1)
    run.save()
    before = runs["transformer"].read_bytes()
    CarriedRun(tmp_path / "carry", runs).read()
    assert runs["transformer"].read_bytes() == before
    assert not list(runs["transformer"].parent.glob("*.carried"))


def test_only_changed_shards_are_written_and_old_ones_removed(runs, tmp_path):
    folder = CarriedRun(tmp_path / "carry", runs)
    folder.write()
    before = {path.name: path.stat().st_mtime_ns for path in folder.folder.glob("*.shard")}
    run = Run(runs["transformer"], net(), minutes=FOREVER, lr=1e-2)
    walk(run, 1)
    run.save()
    folder.write()
    after = {path.name: path.stat().st_mtime_ns for path in folder.folder.glob("*.shard")}
    assert len(after) == len(before) == 2
    assert [name.split("-")[0] for name, when in after.items() if before.get(name) == when] == ["autoencoder"]
    names = {
        shard["name"]
        for run in json.loads((folder.folder / "manifest.json").read_text())["runs"].values()
        for shard in run
    }
    assert {path.name for path in folder.folder.iterdir()} == names | {"manifest.json"}


def test_a_large_run_is_cut_and_joined(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(carry, "SHARD_BYTES", 900)
    CarriedRun(tmp_path / "carry", runs).write()
    sizes = [path.stat().st_size for path in (tmp_path / "carry").glob("*.shard")]
    assert len(sizes) > 3 and max(sizes) == 900
    found = elsewhere(runs, tmp_path)
    CarriedRun(tmp_path / "carry", found).read()
    assert state.read(found["transformer"])[1] == state.read(runs["transformer"])[1]


def test_damaged_shards_and_manifests_are_named(runs, tmp_path):
    CarriedRun(tmp_path / "carry", runs).write()
    shard = sorted((tmp_path / "carry").glob("transformer-*"))[0]
    data = shard.read_bytes()
    for damaged in (data[:-1], data[:-1] + bytes([data[-1] ^ 1]), None):
        shard.unlink() if damaged is None else shard.write_bytes(damaged)
        with pytest.raises(
            BadInput,
            match=rf"{shard.name} holds \d+ bytes that do not match the {len(data)} bytes .* copy the folder again",
        ):
            CarriedRun(tmp_path / "carry", elsewhere(runs, tmp_path)).read()
        assert not list((tmp_path / "other").iterdir())
    for text in ("{", "[]", '{"format": "rushes.training/1"}', '{"format": "other/1"}'):
        (tmp_path / "carry" / "manifest.json").write_text(text)
        with pytest.raises(BadInput, match="manifest"):
            CarriedRun(tmp_path / "carry", runs).read()


def test_an_empty_folder_is_a_new_training(runs, tmp_path):
    folder = CarriedRun(tmp_path / "nothing", runs)
    folder.read()
    assert folder.calls == []


def test_too_much_to_carry_is_refused(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(carry, "SHARD_BYTES", 300)
    with pytest.raises(RushesError, match=r"would hold \d+ files of \d+ bytes, at most 8 files"):
        CarriedRun(tmp_path / "carry", runs).write()


def test_the_shipped_card_fits():
    """Bytes of the tensors, at most 100 kB of header and curve a run."""
    with torch.device("meta"):
        vae = VAE()
        transformer = Transformer(PREVIS)
        decoder = nn.ModuleDict({"synthesis": vae.synthesis, "decoder": vae.decoder})

    def shards(network: nn.Module) -> list[int]:
        tensors = {f"{kind}.{k}": v for kind in ("ema", "network") for k, v in network.state_dict().items()}
        size = 100_000 + sum(v.numel() * v.element_size() for v in carry.carried(tensors).values())
        return [min(carry.SHARD_BYTES, size - at) for at in range(0, size, carry.SHARD_BYTES)]

    found = [size for network in (vae, transformer, decoder) for size in shards(network)]
    assert max(found) < 16 * 2**20 and len(found) + 1 <= carry.MAX_FILES and sum(found) < carry.MAX_BYTES
