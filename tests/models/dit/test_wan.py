"""The transformer against diffusers' WanTransformer3DModel, and against the names and shapes of real checkpoints."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from kernels.attention.rotary import rotary_rows
from models.card import PREVIS, TINY, WAN_1_3B, WAN_14B, Card
from models.dit.linear import layer_norm
from models.dit.wan import Transformer, sinusoid
from models.dit.wan_variants import ExtraInputs

CARD = Card("oracle", dim=48, ffn=32, heads=2, layers=2, in_channels=16, text_dim=16, text_len=12)

# original name -> diffusers name, in this order; `norm3` and `norm2` swap (our norm3 is the affine one).
RENAMES = (
    (r"^text_embedding\.0", "condition_embedder.text_embedder.linear_1"),
    (r"^text_embedding\.2", "condition_embedder.text_embedder.linear_2"),
    (r"^time_embedding\.0", "condition_embedder.time_embedder.linear_1"),
    (r"^time_embedding\.2", "condition_embedder.time_embedder.linear_2"),
    (r"^time_projection\.1", "condition_embedder.time_proj"),
    (r"^head\.modulation", "scale_shift_table"),
    (r"^head\.head", "proj_out"),
    (r"\.modulation", ".scale_shift_table"),
    (r"\.norm3\.", ".norm2."),
    (r"\.self_attn\.", ".attn1."),
    (r"\.cross_attn\.", ".attn2."),
    (r"\.([qkv])\.(weight|bias)", r".to_\1.\2"),
    (r"\.o\.(weight|bias)", r".to_out.0.\1"),
    (r"\.ffn\.0", ".ffn.net.0.proj"),
    (r"\.ffn\.2", ".ffn.net.2"),
)

# The parameters of one block and of the rest, as a Wan text-to-video checkpoint names them.
BLOCK_KEYS = {
    "modulation",
    "norm3.weight",
    "norm3.bias",
    "ffn.0.weight",
    "ffn.0.bias",
    "ffn.2.weight",
    "ffn.2.bias",
} | {
    f"{attn}.{name}"
    for attn in ("self_attn", "cross_attn")
    for name in (*(f"{m}.{p}" for m in "qkvo" for p in ("weight", "bias")), "norm_q.weight", "norm_k.weight")
}
OTHER_KEYS = {"head.modulation"} | {
    f"{name}.{part}"
    for name in (
        "patch_embedding", "text_embedding.0", "text_embedding.2", "time_embedding.0", "time_embedding.2",
        "time_projection.1", "head.head",
    )
    for part in ("weight", "bias")
}  # fmt: skip


def diffusers_name(name: str) -> str:
    for pattern, substitute in RENAMES:
        name = re.sub(pattern, substitute, name)
    return name


@torch.no_grad()
def randomise(network: Transformer, seed: int = 0) -> Transformer:
    """Weights under which leaving out the rotary positions or per-head norms changes the output by tens of percent."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in network.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if name.endswith(("norm_q.weight", "norm_k.weight")):
            weight.copy_(2 + 0.5 * noise)
        elif name.endswith("norm3.weight"):
            weight.copy_(1 + 0.3 * noise)
        elif weight.dim() in (2, 5):
            weight.copy_(noise / weight[0].numel() ** 0.5)
        else:
            weight.copy_(0.3 * noise)
    return network


def inputs(card: Card, latent: tuple[int, int, int], tokens: int, batch: int = 1) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(batch, card.in_channels, *latent, generator=generator)
    t = torch.rand(batch, generator=generator) * 1000
    return x, t, torch.randn(batch, tokens, card.text_dim, generator=generator)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


def oracle(network: Transformer) -> torch.nn.Module:
    """diffusers' network of the same sizes with the same weights, loaded strictly."""
    import diffusers  # seconds, which only these tests are to cost

    card = network.card
    other = diffusers.WanTransformer3DModel(
        patch_size=card.patch, num_attention_heads=card.heads, attention_head_dim=card.head_dim,
        in_channels=card.in_channels, out_channels=card.out_channels, text_dim=card.text_dim, freq_dim=card.freq_dim,
        ffn_dim=card.ffn, num_layers=card.layers, cross_attn_norm=True, eps=card.eps,
    )  # fmt: skip
    other.load_state_dict({diffusers_name(k): v for k, v in network.state_dict().items()}, strict=True)
    return other.eval()


@pytest.mark.parametrize(
    ("card", "latent", "tokens", "batch"),
    [
        (CARD, (5, 8, 10), 9, 1),
        (CARD, (1, 2, 2), 12, 3),
        (replace(CARD, dim=24), (3, 4, 6), 1, 2),  # head width 12: 4 channels for each axis
        (replace(CARD, dim=64, heads=4), (2, 6, 4), 12, 1),  # head width 16: 8, 4, 4
        (replace(CARD, dim=128, heads=1, layers=1), (2, 10, 4), 5, 1),  # the head width of Wan
        (replace(PREVIS, layers=2, reference_channels=0), (3, 4, 6), 11, 1),
        (replace(TINY, reference_channels=0), (2, 4, 4), 16, 2),
    ],
)
@torch.no_grad()
def test_equals_diffusers(card: Card, latent: tuple[int, int, int], tokens: int, batch: int) -> None:
    network = randomise(Transformer(card))
    x, t, context = inputs(card, latent, tokens, batch)
    padded = torch.nn.functional.pad(context, (0, 0, 0, card.text_len - tokens))
    theirs = oracle(network)(x, t, padded, return_dict=False)[0]
    ours = network(x, t, context)
    assert ours.shape == (batch, card.out_channels, *latent) and ours.dtype == torch.float32
    assert relative(ours, theirs) < 2e-5


@torch.no_grad()
def test_padding_of_the_context_is_seen() -> None:
    network = randomise(Transformer(CARD))
    x, t, context = inputs(CARD, (2, 4, 4), 5)
    shorter = randomise(Transformer(replace(CARD, text_len=5)))
    assert relative(shorter(x, t, context), network(x, t, context)) > 1e-2


@torch.no_grad()
def test_films_of_a_batch_do_not_mix() -> None:
    network = randomise(Transformer(CARD))
    x, t, context = inputs(CARD, (2, 4, 6), 5, batch=3)
    together = network(x, t, context)
    alone = torch.cat([network(x[i : i + 1], t[i : i + 1], context[i : i + 1]) for i in range(3)])
    assert relative(together, alone) < 1e-6


@pytest.mark.parametrize("how", ["autocast", "bf16 module"])
@torch.no_grad()
def test_bf16_stays_near_fp32(how: str) -> None:
    network = randomise(Transformer(CARD))
    x, t, context = inputs(CARD, (3, 6, 6), 9)
    exact = network(x, t, context)
    if how == "autocast":
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = network(x, t, context)
    else:
        rough = network.bfloat16()(x.bfloat16(), t, context.bfloat16())
    assert rough.dtype == torch.float32
    assert 1e-4 < relative(rough, exact) < 2e-2


@pytest.mark.parametrize(
    ("card", "tensors", "parameters"), [(WAN_1_3B, 825, 1_418_996_800), (WAN_14B, 1095, 14_288_491_584)]
)
def test_a_wan_checkpoint_fits(card: Card, tensors: int, parameters: int) -> None:
    with torch.device("meta"):
        state = Transformer(card).state_dict()
    assert len(state) == tensors
    assert sum(w.numel() for w in state.values()) == parameters
    expected = OTHER_KEYS | {f"blocks.{i}.{key}" for i in range(card.layers) for key in BLOCK_KEYS}
    assert set(state) == expected
    assert state["patch_embedding.weight"].shape == (card.dim, 16, 1, 2, 2)
    assert state["time_embedding.0.weight"].shape == (card.dim, 256)
    assert state["text_embedding.0.weight"].shape == (card.dim, 4096)
    assert state["time_projection.1.weight"].shape == (6 * card.dim, card.dim)
    assert state["blocks.0.modulation"].shape == (1, 6, card.dim)
    assert state["head.modulation"].shape == (1, 2, card.dim)
    assert state["head.head.weight"].shape == (64, card.dim)


def test_training_starts_silent_and_reaches_every_weight() -> None:
    network = Transformer(TINY)
    network.init_weights(seed=3)
    x, t, context = inputs(TINY, (2, 4, 4), 5)
    extras = ExtraInputs(reference=torch.randn(len(x), TINY.reference_channels, 4, 4))
    out = network(x, t, context, extras)
    assert out.abs().max() == 0  # the head is silent at first
    torch.nn.init.normal_(network.head.head.weight)
    network(x, t, context, extras).square().mean().backward()
    unmoved = [name for name, w in network.named_parameters() if w.grad is None or not w.grad.abs().sum() > 0]
    assert unmoved == []


def test_a_seed_means_the_same_weights() -> None:
    first, second, other = Transformer(TINY), Transformer(TINY), Transformer(TINY)
    for network, seed in ((first, 1), (second, 1), (other, 2)):
        network.init_weights(seed)
    for name, weight in first.named_parameters():
        assert torch.equal(weight, second.get_parameter(name))
    assert not torch.equal(first.patch_embedding.weight, other.patch_embedding.weight)


def test_rotary_table_made_while_rendering_serves_training() -> None:
    network = randomise(Transformer(TINY))
    x, t, context = inputs(TINY, (2, 4, 4), 5)
    rotary_rows.cache_clear()
    with torch.inference_mode():
        network(x, t, context)
    network(x, t, context).sum().backward()


def test_sinusoid_by_hand() -> None:
    expected = [torch.tensor(v).cos() for v in (500.5, 5.005)] + [torch.tensor(v).sin() for v in (500.5, 5.005)]
    torch.testing.assert_close(sinusoid(torch.tensor([500.5]), 4)[0], torch.stack(expected), atol=1e-4, rtol=0)


def test_layer_norm_epsilon() -> None:
    x = torch.tensor([[1e-3, -1e-3]], dtype=torch.float32)  # variance equal to epsilon: shrinks by sqrt(2)
    torch.testing.assert_close(layer_norm(x, 1e-6), torch.tensor([[0.5**0.5, -(0.5**0.5)]]))


def test_what_does_not_fit_is_refused() -> None:
    network = Transformer(TINY)
    x, t, context = inputs(TINY, (1, 4, 4), 5)
    with pytest.raises(ValueError, match="context has 17 tokens"):
        network(x, t, torch.zeros(1, 17, TINY.text_dim))
    with pytest.raises(ValueError, match="latent 1x3x4"):
        network(x[:, :, :, :3], t, context)
