"""A training run resumes exactly where it was saved, keeps its history, and ends with its budget."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from models.training import run as state
from models.training.run import Run, Session

FOREVER = 1e9  # minutes: the learning rate then does not fall noticeably within a test


class Net(nn.Module):
    """A linear layer, and a buffer like the statistics of a VAE."""

    kept: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.register_buffer("kept", torch.arange(3.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def net(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net()


def walk(run: Run, first: int, count: int) -> list[float]:
    """Some steps on data that depend only on the number of the step; the losses."""
    losses = []
    for step in range(first, first + count):
        x = torch.randn(16, 6, generator=torch.Generator().manual_seed(step))
        loss = (run.network(x) - x[:, :3].cumsum(1)).square().mean()
        assert run.learn(loss)
        losses.append(loss.item())
    return losses


def weights(module: nn.Module) -> Tensor:
    return torch.cat([p.flatten() for p in module.state_dict().values()])


def test_a_resumed_run_is_the_run_that_was_never_stopped(tmp_path):
    whole = Run(tmp_path / "whole.safetensors", net(), minutes=FOREVER, lr=1e-2)
    walk(whole, 0, 25)
    first = Run(tmp_path / "run.safetensors", net(), minutes=FOREVER, lr=1e-2)
    walk(first, 0, 14)
    first.note(loss=1.5)
    first.save()
    again = Run(tmp_path / "run.safetensors", net(seed=99), minutes=FOREVER, lr=1e-2)  # other weights: all must be read
    assert again.step == 14 and again.seconds == pytest.approx(first.seconds)
    assert again.history == first.history and again.history[0]["loss"] == 1.5
    walk(again, 14, 11)
    torch.testing.assert_close(weights(again.network), weights(whole.network), rtol=0, atol=1e-7)
    torch.testing.assert_close(weights(again.ema), weights(whole.ema), rtol=0, atol=1e-7)
    assert again.step == whole.step == 25


def test_training_learns_and_its_average_lags(tmp_path):
    run = Run(tmp_path / "run.safetensors", net(), minutes=FOREVER, lr=5e-2, average=0.9)
    losses = walk(run, 0, 300)
    assert sum(losses[-20:]) < 0.05 * sum(losses[:20])
    start, fast, slow = weights(net()), weights(run.network), weights(run.ema)
    assert 0 < (fast - slow).norm() < 0.2 * (fast - start).norm()


def test_the_average_is_the_mean_of_what_was_while_it_is_young(tmp_path):
    """Step n keeps 1 - 1/(n+1) of the past, so that after n steps every state weighs the same."""
    run = Run(tmp_path / "run.safetensors", net(), minutes=FOREVER, lr=1e-2)
    seen = [weights(run.network).clone()]
    for step in range(6):
        walk(run, step, 1)
        seen.append(weights(run.network).clone())
    torch.testing.assert_close(weights(run.ema), torch.stack(seen).mean(0), rtol=1e-5, atol=1e-6)


def test_the_first_steps_are_small(tmp_path):
    run = Run(tmp_path / "run.safetensors", net(), minutes=FOREVER, lr=1e-2)
    walk(run, 0, 1)
    assert (weights(run.network) - weights(net())).abs().max() < 1.1e-4  # a hundredth of the rate: it warms up


def test_the_run_ends_with_its_budget_and_is_on_disk(tmp_path, capsys):
    path = tmp_path / "run.safetensors"
    run = Run(path, net(), minutes=1e-6, lr=1e-2)
    x = torch.ones(4, 6)
    assert run.learn(run.network(x).square().mean()) is False and run.progress == 1
    run.note(loss=0.25)
    assert json.loads(capsys.readouterr().out)["loss"] == 0.25
    tensors, facts = state.read(path)
    assert facts["step"] == 1 and facts["history"][-1]["loss"] == 0.25  # also what is noted after the last step
    torch.testing.assert_close(tensors["layer.weight"], run.ema.layer.weight)
    torch.testing.assert_close(tensors["kept"], torch.arange(3.0))
    assert [p.name for p in tmp_path.iterdir()] == ["run.safetensors"]
    assert Run(path, net(seed=1), minutes=1e-6, lr=1e-2).progress == 1  # started again there is nothing to do


def test_a_larger_budget_goes_on(tmp_path):
    path = tmp_path / "run.safetensors"
    run = Run(path, net(), minutes=1e-6, lr=1e-2)
    run.learn(run.network(torch.ones(4, 6)).square().mean())
    longer = Run(path, net(seed=1), minutes=FOREVER, lr=1e-2)
    assert longer.progress < 1e-6 and longer.step == 1
    walk(longer, 1, 2)
    assert longer.step == 3


def test_a_sitting_that_is_over_ends_the_step_and_all_is_saved(tmp_path):
    path, saved = tmp_path / "run.safetensors", []
    run = Run(path, net(), minutes=FOREVER, lr=1e-2, session=Session(0.0, lambda: saved.append(path.exists())))
    assert run.going and run.learn(run.network(torch.ones(4, 6)).square().mean()) is False and not run.going
    run.note(loss=0.25)
    assert saved == [True, True]  # after the step, and after the note that came with it
    _, facts = state.read(path)
    assert facts["step"] == 1 and facts["history"][0]["loss"] == 0.25 and facts["done"] is False
    again = Run(path, net(seed=1), minutes=FOREVER, lr=1e-2)
    walk(again, 1, 3)
    assert again.step == 4 and again.going


def test_an_average_can_be_amended(tmp_path):
    path = tmp_path / "run.safetensors"
    run = Run(path, net(), minutes=FOREVER, lr=1e-2)
    walk(run, 0, 2)
    run.save()
    before = run.ema.layer.weight.clone()
    state.amend(path, {"kept": torch.tensor([5.0, 6.0, 7.0])})
    found, facts = state.read(path)
    assert found["kept"].tolist() == [5, 6, 7] and facts["step"] == 2
    torch.testing.assert_close(found["layer.weight"], before)


def test_saving_never_leaves_half_a_file(tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"
    run = Run(path, net(), minutes=FOREVER, lr=1e-2)
    walk(run, 0, 2)
    run.save()
    before = path.read_bytes()
    walk(run, 2, 2)
    monkeypatch.setattr("models.atomic_write.os.replace", _power_cut)
    with pytest.raises(OSError, match="power"):
        run.save()
    assert path.read_bytes() == before


def _power_cut(*_: object) -> None:
    raise OSError("power")
