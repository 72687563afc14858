"""Float and int8 linear layers against float64: prepared inputs, residuals, and which memory is written in place."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.dit.linear import Int8Linear, Linear, Norm, QuantizedRows, add_residual, layer_norm

B, L, D, N = 2, 5, 256, 12


@pytest.fixture
def parts() -> dict[str, Tensor]:
    torch.manual_seed(0)
    sizes = {"x": (B, L, D), "y": (B, L, D), "gate": (B, 1, D), "gain": (B, 1, D), "shift": (B, 1, D)}
    return {name: torch.randn(size) for name, size in sizes.items()}


def normed(x: Tensor, gain: Tensor, shift: Tensor, eps: float = 1e-6) -> Tensor:
    """The norm by its definition, in float64."""
    x, gain, shift = x.double(), gain.double(), shift.double()
    mean = x.mean(-1, keepdim=True)
    return (x - mean) / ((x - mean).square().mean(-1, keepdim=True) + eps).sqrt() * gain + shift


def held(rows: QuantizedRows) -> Tensor:
    """What the rounded rows stand for."""
    assert rows.q.shape[:2] == rows.scale.shape == (B, L)
    return rows.q.double() * rows.scale.double()[..., None]


def near(rows: QuantizedRows, exact: Tensor) -> None:
    """Within half a step of the rounding, row by row."""
    assert ((held(rows) - exact).abs() <= 0.501 * rows.scale.double()[..., None]).all()


@pytest.mark.parametrize("films", [1, B])
@torch.no_grad()
def test_the_norm_of_what_enters(parts: dict[str, Tensor], films: int) -> None:
    norm = Norm(parts["gain"][:films], parts["shift"][:films], 1e-6)
    exact = normed(parts["x"], *norm[:2])
    torch.testing.assert_close(
        Linear(D, N).prepare_normed(parts["x"].clone(), norm).double(), exact, atol=1e-5, rtol=1e-5
    )
    near(Int8Linear(D, N, torch.float32).prepare_normed(parts["x"], norm), exact)
    near(
        Int8Linear(D, N, torch.float32).prepare(parts["x"].transpose(0, 1).contiguous().transpose(0, 1)),
        parts["x"].double(),
    )


@pytest.mark.parametrize("gated", [True, False])
@torch.no_grad()
def test_what_is_joined_is_written_over_the_stream(parts: dict[str, Tensor], gated: bool) -> None:
    gate = parts["gate"] if gated else None
    norm = Norm(parts["gain"], parts["shift"], 1e-6)
    exact = parts["x"].double() + (parts["gate"].double() if gated else 1) * parts["y"].double()
    for layer in (Linear(D, N), Int8Linear(D, N, torch.float32)):
        stream = parts["x"].clone()
        after, rows = layer.add_residual(stream, parts["y"].bfloat16().float(), gate, norm)
        assert after is stream
        assert (after - exact).norm() / exact.norm() < 3e-3  # y is rounded to bf16, as branches give it
        if isinstance(rows, QuantizedRows):
            near(rows, normed(after, *norm[:2]))
        else:
            torch.testing.assert_close(rows.double(), normed(after, *norm[:2]), atol=1e-5, rtol=1e-5)
    stream = parts["x"].clone()
    assert add_residual(stream, parts["y"], gate) is stream
    torch.testing.assert_close(stream.double(), exact, atol=1e-6, rtol=1e-6)


def test_under_autograd_the_stream_is_left_alone(parts: dict[str, Tensor]) -> None:
    x = parts["x"].requires_grad_()
    layer = Linear(D, N)
    norm = Norm(parts["gain"].requires_grad_(), parts["shift"].requires_grad_(), 1e-6)
    after, rows = layer.add_residual(x, parts["y"], parts["gate"].requires_grad_(), norm)
    before = x.detach().clone()
    (layer(rows).square().sum() + after.sum()).backward()
    assert torch.equal(x.detach(), before)
    assert all(part.grad is not None and part.grad.abs().sum() > 0 for part in (x, parts["gate"], *norm[:2]))


@torch.no_grad()
def test_a_split_of_rows_loses_none() -> None:
    torch.manual_seed(0)
    layer = Int8Linear(D, N, torch.float32)
    layer.weight.random_(-127, 128)
    rows = layer.prepare(torch.randn(B, L, D))
    whole = layer(rows)
    assert [part.q.shape[1] for part in rows.split(2)] == [2, 2, 1]
    assert torch.equal(torch.cat([layer(part) for part in rows.split(2)], 1), whole)


def test_layer_norm_epsilon() -> None:
    x = torch.tensor([[1e-3, -1e-3]], dtype=torch.float32)  # variance equal to epsilon: shrinks by sqrt(2)
    torch.testing.assert_close(layer_norm(x, 1e-6), torch.tensor([[0.5**0.5, -(0.5**0.5)]]))


@pytest.mark.parametrize("size", [256, 512])
@torch.no_grad()
def test_turned_by_hadamard_a_layer_bears_outliers(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    weight = torch.randn(64, 1024, generator=generator) / 32
    x = torch.randn(1, 200, 1024, generator=generator)
    x[..., torch.randperm(1024, generator=generator)[:6]] *= 50
    exact = x.double() @ weight.double().t()

    def error(hadamard: int) -> float:
        layer = Int8Linear(1024, 64, torch.float32, hadamard=hadamard)
        layer.weight, layer.weight_scale = layer_of(weight, hadamard)
        return float((layer(x).double() - exact).norm() / exact.norm())

    assert error(size) < 0.5 * error(0)


def layer_of(weight: Tensor, hadamard: int) -> tuple[Tensor, Tensor]:
    """A weight as int8, turned by a Hadamard matrix built by hand: Sylvester's, by doubling."""
    if hadamard:
        h = torch.ones(1, 1)
        while len(h) < hadamard:
            h = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), h)
        weight = (weight.unflatten(1, (-1, hadamard)) @ h / hadamard**0.5).flatten(1)
    scale = weight.abs().amax(1) / 127
    return (weight / scale[:, None]).round().to(torch.int8), scale
