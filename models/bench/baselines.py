"""Networks with random weights, and diffusers' network with the same weights, the baseline.

Weights are distributed so that every part matters: leaving out the rotary positions or a norm changes the output by
tens of percent, which one distribution for all would hide. They are generated on the device, a block at a time, so that
a network larger than the device's memory can be quantised there.
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

WIDE = re.compile(r"time_embedder|scale_shift_table|norm2")  # kept in float32 by diffusers when it loads bf16


def random_weights(card: Card, device: torch.device, seed: int = 0) -> Iterator[dict[str, Tensor]]:
    """The state dict of `Transformer(card)` in parts, each a block or the rest: matrices in bf16, other tensors in
    float32. The same seed on the same device gives the same weights.
    """
    with torch.device("meta"):
        parameters = list(Transformer(card).named_parameters())
    generator = torch.Generator(device).manual_seed(seed)
    for _, part in groupby(parameters, lambda pair: ".".join(pair[0].split(".")[:2])):
        yield {name: _random_weight(name, weight.shape, generator) for name, weight in part}


def _random_weight(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
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
    # Its table of rotations is not in checkpoints.
    rope = type(network.rope)(card.head_dim, card.patch, network.config.rope_max_seq_len)
    network.rope = rope.to(next(iter(state.values())).device)
    return network.requires_grad_(False).eval()
