"""The whole int8 path of a forward on the CPU, through the reference implementations: near the float one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from models.card import WAN_1_3B, Card
from models.dit.wan import Transformer
from models.loading.quantize import load_quantized, quantize

WIDE = replace(WAN_1_3B, name="wide", dim=256, ffn=512, heads=2, layers=3, text_dim=32, text_len=20)  # heads of 128
NARROW = replace(WIDE, name="narrow", heads=4)  # heads of 64


@torch.no_grad()
def oracle(card: Card) -> Transformer:
    """Weights under which leaving out the rotary positions or per-head norms changes the output by tens of percent."""
    network, generator = Transformer(card), torch.Generator().manual_seed(0)
    for name, weight in network.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if name.endswith(("norm_q.weight", "norm_k.weight")):
            weight.copy_(2 + 0.5 * noise)
        elif name.endswith("norm3.weight"):
            weight.copy_(1 + 0.3 * noise)
        else:
            weight.copy_(noise / weight[0].numel() ** 0.5 if weight.dim() in (2, 5) else 0.3 * noise)
    return network.eval()


def inputs(card: Card) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, card.in_channels, 3, 10, 14, generator=generator)  # 105 tokens: one key block, and a part of one
    return x, torch.tensor([900.5, 200.25]), torch.randn(2, 11, card.text_dim, generator=generator)


def streams(network: Transformer, **how: object) -> list[Tensor]:
    """The stream after each block, and what the network gives."""
    seen: list[Tensor] = []
    for name, value in how.items():
        setattr(network, name, value)
    hooks = [block.register_forward_hook(lambda *call: seen.append(call[2].clone())) for block in network.blocks]
    seen.append(network(*inputs(network.card)))
    for hook in hooks:
        hook.remove()
    return seen


def relative(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


@pytest.mark.parametrize("card", [WIDE, NARROW], ids=["heads of 128", "heads of 64"])
@pytest.mark.parametrize("attention", ["int8_f32", "int8_f16", "int8_fp8_f16"])
@torch.no_grad()
def test_every_block_stays_near_in_int8(card: Card, attention: str) -> None:
    network = oracle(card)
    exact = streams(network)
    alone = streams(network, attention=attention)  # int8 attention between float matrices
    whole = streams(load_quantized(card, quantize(network.state_dict(), card)), attention=attention)
    for block, rough in ((block, rough) for found in (alone, whole) for block, rough in zip(exact, found, strict=True)):
        assert 1e-4 < relative(rough, block) < 0.03


class Order(TorchDispatchMode):
    """Which of our operations were called, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        if operation.namespace == "rushes":
            self.names.append(operation.overloadpacket.__name__)
        return operation(*arguments, **(named or {}))


@torch.no_grad()
def test_a_block_is_a_chain_of_our_kernels() -> None:
    card = replace(NARROW, layers=1)
    network = load_quantized(card, quantize(oracle(card).state_dict(), card))
    network.attention = "int8_f32"
    with Order() as order:
        network(*inputs(card))
    assert order.names == [
        "ln_mod_quant", "int8_linear", "quant_queries", "int8_linear", "quant_keys", "int8_linear", "scale_values",
        "attn_int8", "quant_rows", "int8_linear", "gate_res_norm_quant",
        "quant_rows", "int8_linear", "rmsnorm_rope", "int8_linear", "rmsnorm_rope", "int8_linear",  # to the context
        "quant_rows", "int8_linear", "gate_res_norm_quant",
        "int8_linear", "quant_rows", "int8_linear", "gate_res",
    ]  # fmt: skip


@pytest.mark.parametrize("rows", [1, 48, 105, 1000])
@torch.no_grad()
def test_a_feed_forward_in_parts_is_the_same(rows: int) -> None:
    network = oracle(NARROW)
    small = load_quantized(NARROW, quantize(network.state_dict(), NARROW))
    assert torch.equal(streams(small, ffn_rows=rows)[-1], streams(small, ffn_rows=0)[-1])
    assert relative(streams(network, ffn_rows=rows)[-1], streams(network, ffn_rows=0)[-1]) < 1e-5


@torch.no_grad()
def test_training_and_rendering_compute_the_same() -> None:
    network = oracle(NARROW)
    rendered = network(*inputs(NARROW))
    with torch.enable_grad():
        trained = network(*inputs(NARROW))
    assert trained.requires_grad and relative(trained, rendered) < 1e-6


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("card", [WIDE, NARROW], ids=["heads of 128", "heads of 64"])
@pytest.mark.parametrize("attention", ["sdpa", "int8_f32", "int8_f16"])
@torch.no_grad()
def test_the_gpu_agrees_with_the_cpu(card: Card, attention: str) -> None:
    network = load_quantized(card, quantize(oracle(card).state_dict(), card), torch.bfloat16)
    expected = streams(network, attention=attention)[-1]
    # Each is 0.018 from the floats, and rounds in its own way: see tests/models/loading/test_quantize.py.
    assert relative(network.cuda()(*(part.cuda() for part in inputs(card))).cpu(), expected) < 0.03
