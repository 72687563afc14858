"""Networks with drawn weights, and the same weights in diffusers' network, with which ours is compared.

Weights are drawn so that every part is felt: leaving out the rotary positions or a norm changes the output by tens of
percent, which drawing them all alike would hide. They are drawn on the device, a block at a time, so that a network
larger than the device's memory can become int8 there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from itertools import groupby

import torch
from torch import Tensor, nn

from models.card import Card
from models.dit.wan import Transformer
from models.importing.wan_names import diffusers_name

WIDE = re.compile(r"time_embedder|scale_shift_table|norm2")  # what diffusers keeps in float32 when it loads bf16


def drawn(card: Card, device: torch.device, seed: int = 0) -> Iterator[dict[str, Tensor]]:
    """The state dict of `Transformer(card)` in parts, a block or what lies outside them: matrices in bf16, the rest in
    float32. The same seed on the same device gives the same weights.
    """
    with torch.device("meta"):
        parameters = list(Transformer(card).named_parameters())
    generator = torch.Generator(device).manual_seed(seed)
    for _, part in groupby(parameters, lambda pair: ".".join(pair[0].split(".")[:2])):
        yield {name: _draw(name, weight.shape, generator) for name, weight in part}


def _draw(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    noise = torch.randn(shape, generator=generator, device=generator.device)
    if name.endswith(("norm_q.weight", "norm_k.weight")):
        return noise.mul_(0.5).add_(2)
    if name.endswith("norm3.weight"):
        return noise.mul_(0.3).add_(1)
    if name.endswith(".weight"):
        return noise.mul_(shape[1:].numel() ** -0.5).bfloat16()
    return noise.mul_(0.3)


def diffusers_network(card: Card, state: Mapping[str, Tensor]) -> nn.Module:
    """diffusers' WanTransformer3DModel with these weights, as loading a checkpoint in bf16 leaves it. Raises
    ImportError where diffusers is not installed.
    """
    kind = import_module("diffusers").WanTransformer3DModel
    with torch.device("meta"):
        network = kind(
            patch_size=card.patch, num_attention_heads=card.heads, attention_head_dim=card.head_dim,
            in_channels=card.in_channels, out_channels=card.out_channels, text_dim=card.text_dim,
            freq_dim=card.freq_dim, ffn_dim=card.ffn, num_layers=card.layers, cross_attn_norm=True, eps=card.eps,
        )  # fmt: skip
    named = {diffusers_name(name): tensor for name, tensor in state.items()}
    placed = {name: tensor.float() if WIDE.search(str(name)) else tensor.bfloat16() for name, tensor in named.items()}
    network.load_state_dict(placed, strict=True, assign=True)
    # Its table of turns belongs to no checkpoint.
    turns = type(network.rope)(card.head_dim, card.patch, network.config.rope_max_seq_len)
    network.rope = turns.to(next(iter(state.values())).device)
    return network.requires_grad_(False).eval()
