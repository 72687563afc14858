"""Small packages of every model family, written once a module."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from models.card import Card
from models.dit.wan import Transformer
from models.encoders.clip import VisionCard, VisionTower
from models.loading.quantize import quantize
from models.vae.previs import VAE
from models.vae.wan import KINDS, WanVAE
from models.weight_files.package_header import SCHEME_INT8, card_to_json
from models.weight_files.tensors import save

TOWER = VisionCard("tower", image=224, patch=14, dim=20, ffn=24, heads=2, layers=2)


@torch.no_grad()
def wan_vae(name: str) -> WanVAE:
    """A small autoencoder of Wan, with weights under which most of a film is not at the ends of its range."""
    generator = torch.Generator().manual_seed(1)
    vae = WanVAE(replace(KINDS[name], encoder_width=4, decoder_width=8 if name == "wan2.2" else 4))
    for key, weight in vae.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if key.endswith("gamma"):
            weight.copy_(1 + 0.1 * noise)
        else:
            weight.copy_(noise / math.sqrt(weight[0].numel()) if weight.dim() > 1 else 0.3 * noise)
    return vae


@pytest.fixture(scope="module")
def wan_package(tmp_path_factory, telling) -> Callable[..., Path]:
    """Writes the package of a card of the Wan family: in int8, or as the bf16 that diffusers is given too."""
    folder = tmp_path_factory.mktemp("packages")

    def write(card: Card, int8: bool = False) -> Path:
        path = folder / f"{card.name}-{int8}.safetensors"
        if path.exists():
            return path
        tensors, bf16_blocks = {}, () if int8 else range(card.layers)
        for expert, prefix in enumerate(("transformer.", "transformer_2.")[: card.experts]):
            state = telling(Transformer(card), expert).state_dict()
            tensors |= {prefix + name: part for name, part in quantize(state, card, keep=bf16_blocks).items()}
        tensors |= {f"vae.{name}": part.clone() for name, part in wan_vae(card.vae).state_dict().items()}
        facts = {
            "scheme": SCHEME_INT8 if int8 else "none",
            "card": card_to_json(card),
            "licence": "none",
            "training": "{}",
        }
        if card.image_dim:
            tensors |= {f"vision.{name}": part for name, part in telling(VisionTower(TOWER)).state_dict().items()}
            facts["vision"] = json.dumps(asdict(TOWER))
        save(path, tensors, facts)
        return path

    return write


@pytest.fixture(scope="session")
def write_previs() -> Callable[..., Path]:
    """Writes a package of our own architecture with random weights."""

    def write(path: Path, card: Card, seed: int = 0) -> Path:
        torch.manual_seed(seed)
        network = Transformer(card)
        network.init_weights(seed)
        with torch.no_grad():
            for parameter in network.head.parameters():
                parameter.normal_(std=0.2)  # a fresh head gives zeros: nothing that is read would then matter
        tensors = {f"transformer.{k}": v for k, v in quantize(network.state_dict(), card).items()}
        tensors |= {f"vae.{k}": v.clone() for k, v in VAE().state_dict().items()}
        save(path, tensors, {"scheme": SCHEME_INT8, "card": card_to_json(card), "licence": "none", "training": "{}"})
        return path

    return write
