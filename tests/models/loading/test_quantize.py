"""Quantised networks: close to the original, the same bytes each time, refused where tensors do not match the card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.card import PREVIS, TINY, WAN_14B, Card
from models.dit.linear import Int4Linear, Int8Linear
from models.dit.wan import Transformer
from models.errors import BadInput
from models.loading.quantize import READERS, errors, hadamard_of, load_quantized, quantize
from models.weight_files.package_header import SCHEME_INT4, SCHEME_INT8, card_to_json
from models.weight_files.tensors import open_package, save

DEEP = replace(TINY, name="deep", layers=9)
TWO = replace(PREVIS, dim=256, ffn=1024, heads=4, layers=2, reference_channels=0)  # widths that 256 and 512 divide
MATRICES = 10  # of a block


@torch.no_grad()
def trained(card: Card, seed: int = 0) -> Transformer:
    """Like a trained network: matrices that preserve norms, query and key norms that make attention selective, a head
    that is not zero.
    """
    network, generator = Transformer(card), torch.Generator().manual_seed(seed)
    for name, weight in network.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if name.endswith(("norm_q.weight", "norm_k.weight")):
            weight.copy_(2 + 0.5 * noise)
        elif name.endswith("norm3.weight"):
            weight.copy_(1 + 0.3 * noise)
        else:
            weight.copy_(noise / weight[0].numel() ** 0.5 if weight.dim() in (2, 5) else 0.3 * noise)
    return network.eval()


def inputs(card: Card) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, card.in_channels, 3, 6, 8, generator=generator)
    return x, torch.tensor([900.5, 200.25]), torch.randn(2, 11, card.text_dim, generator=generator)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


@pytest.mark.parametrize(("card", "kept"), [(PREVIS, 0), (TINY, 0), (DEEP, 5)], ids=["previs", "tiny", "deep"])
@torch.no_grad()
def test_the_int8_network_is_close_to_the_original(card: Card, kept: int) -> None:
    network = trained(card)
    stored = quantize(network.state_dict(), card)
    small = load_quantized(card, stored)
    assert sum(isinstance(module, Int8Linear) for module in small.modules()) == (card.layers - kept) * MATRICES
    exact, rough = network(*inputs(card)), small(*inputs(card))
    assert rough.shape == exact.shape and rough.dtype == torch.float32
    assert 1e-4 < relative(rough, exact) < 0.03


@torch.no_grad()
def test_no_block_of_the_shipped_size_needs_more_than_int8() -> None:
    network = trained(PREVIS)
    exact, blocks = network(*inputs(PREVIS)), set(range(PREVIS.layers))
    errors_of = {}
    for block in blocks:
        small = load_quantized(PREVIS, quantize(network.state_dict(), PREVIS, keep=blocks - {block}))
        errors_of[block] = relative(small(*inputs(PREVIS)), exact)
    assert len(errors_of) == 8 and max(errors_of.values()) < 0.03, errors_of


@torch.no_grad()
def test_a_layer_equals_its_float64_self() -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(48, 20)
    stored = quantize({"blocks.0.ffn.2.weight": linear.weight, "blocks.0.ffn.2.bias": linear.bias}, TINY)
    weight, scale = stored["blocks.0.ffn.2.weight"], stored["blocks.0.ffn.2.weight_scale"]
    layer = Int8Linear(48, 20, torch.float32)
    layer.load_state_dict({"weight": weight, "weight_scale": scale, "bias": linear.bias})
    assert (weight.double() * scale.double()[:, None] - linear.weight.double()).abs().max() <= scale.max() * 0.501
    x = torch.randn(2, 5, 48)
    peak = x.abs().amax(-1, keepdim=True).double()
    rounded = torch.round(x.double() * 127 / peak) * peak / 127
    expected = rounded @ (weight.double() * scale.double()[:, None]).t() + linear.bias.double()
    torch.testing.assert_close(layer(x).double(), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(layer(layer.prepare(x)), layer(x))


@torch.no_grad()
def test_gelu_of_the_feed_forward_is_not_lost() -> None:
    network = trained(TINY)
    small = load_quantized(TINY, quantize(network.state_dict(), TINY))
    y = torch.randn(1, 7, TINY.dim)
    assert relative(small.blocks[0].ffn(y), network.blocks[0].ffn(y)) < 0.03


def test_the_same_weights_give_the_same_tensors() -> None:
    first, second = (quantize(trained(TINY).state_dict(), TINY) for _ in range(2))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = quantize(trained(TINY, seed=1).state_dict(), TINY)
    assert not torch.equal(first["blocks.0.ffn.0.weight"], other["blocks.0.ffn.0.weight"])


@torch.no_grad()
def test_a_package_gives_back_the_same_network(tmp_path: Path) -> None:
    stored = quantize(trained(TINY).state_dict(), TINY)
    facts = {"scheme": SCHEME_INT8, "card": card_to_json(TINY), "licence": "Apache-2.0", "training": "{}"}
    save(tmp_path / "p", {f"transformer.{name}": tensor for name, tensor in stored.items()}, facts)
    package = open_package(tmp_path / "p")
    read = package.part("transformer.")
    assert read.keys() == stored.keys()
    assert all(torch.equal(read[name], stored[name]) and read[name].dtype == stored[name].dtype for name in stored)
    with torch.inference_mode():
        one, other = load_quantized(TINY, stored), load_quantized(package.card, read)
        assert torch.equal(one(*inputs(TINY)), other(*inputs(TINY)))


@torch.no_grad()
def test_an_int4_package_is_half_as_large_and_computes_what_its_int8_rows_would(tmp_path: Path) -> None:
    card = TWO
    exact = trained(card)
    stored = quantize(exact.state_dict(), card, keep={0}, scheme=SCHEME_INT4)
    facts = {"scheme": SCHEME_INT4, "card": card_to_json(card), "licence": "Apache-2.0", "training": "{}"}
    save(tmp_path / "p", stored, facts)
    read = open_package(tmp_path / "p").tensors
    assert read.keys() == stored.keys() and all(torch.equal(read[name], stored[name]) for name in stored)
    small = load_quantized(card, read)
    packed = {name: layer for name, layer in small.named_modules() if isinstance(layer, Int4Linear)}
    assert len(packed) == MATRICES and all(name.startswith("blocks.1.") for name in packed)
    weights = 8 * card.dim**2 + 2 * card.dim * card.ffn
    held = [tensor for name, tensor in read.items() if name.startswith("blocks.1.") and not tensor.is_floating_point()]
    assert sum(tensor.nbytes for tensor in held) == weights // 2 + weights // 64
    # The same network with its rows unpacked into an int8 package: bit for bit.
    rows = {name: tensor for name, tensor in read.items() if not name.endswith("_multiplier")}
    rows |= {f"{name}.weight": layer.int8_weight() for name, layer in packed.items()}
    rough, unpacked = small(*inputs(card)), load_quantized(card, rows)(*inputs(card))
    assert torch.equal(rough, unpacked)
    assert 0.01 < relative(rough, exact(*inputs(card))) < 0.15
    lost = errors(exact.state_dict(), stored, card)
    assert all(0.088 < lost[f"{name}.weight"] < 0.094 for name in packed)


@torch.no_grad()
def test_int4_with_rotated_inputs_and_with_short_rows() -> None:
    card = TWO
    exact = trained(card)
    turned = load_quantized(card, quantize(exact.state_dict(), card, rotate=READERS, scheme=SCHEME_INT4))
    assert {m.hadamard for m in turned.modules() if isinstance(m, Int4Linear)} == {256, 512}
    assert 0.01 < relative(turned(*inputs(card)), exact(*inputs(card))) < 0.2
    mixed = load_quantized(TINY, quantize(trained(TINY).state_dict(), TINY, scheme=SCHEME_INT4))
    kinds = {name: type(module) for name, module in mixed.blocks[0].named_modules() if isinstance(module, Int8Linear)}
    assert kinds.pop("ffn.2") is Int4Linear  # 64 columns; the others have 32
    assert set(kinds.values()) == {Int8Linear}
    with pytest.raises(ValueError, match="w2a8"):
        quantize(exact.state_dict(), card, scheme="w2a8/1")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.pop("blocks.0.ffn.2.weight_multiplier"), r"ffn\.2\.weight in the weights is \(32, 32\)"),
        (lambda s: s.pop("blocks.0.ffn.2.weight_scale"), r"ffn\.2\.weight in the weights is \(32, 32\)"),
        (lambda s: s.update({"blocks.0.ffn.2.weight": torch.zeros(32, 32)}), "stored as torch.float32"),
        (lambda s: s.update({"blocks.0.ffn.2.weight": torch.zeros(32, 32, dtype=torch.int8)}), "as torch.int8"),
        (
            lambda s: s.update({"blocks.0.ffn.0.weight_multiplier": torch.ones(64, 0, dtype=torch.int8)}),
            "rows are too short",
        ),
    ],
)
def test_packed_tensors_that_do_not_fit_are_refused(change, says: str) -> None:
    stored = quantize(trained(TINY).state_dict(), TINY, scheme=SCHEME_INT4)
    change(stored)
    with pytest.raises(BadInput, match=says):
        load_quantized(TINY, stored)


@torch.no_grad()
def test_inputs_rotated_by_hadamard_matrices(tmp_path: Path) -> None:
    card = TWO
    exact = trained(card)
    state = exact.state_dict()
    plain, stored = quantize(state, card), quantize(state, card, rotate=READERS)
    assert {n: int(stored[n]) for n in stored.keys() - plain.keys()} == {
        "hadamard.self_attn.in": 256, "hadamard.self_attn.out": 256, "hadamard.cross_attn.in": 256,
        "hadamard.context": 256, "hadamard.cross_attn.out": 256, "hadamard.ffn.in": 256, "hadamard.ffn.hidden": 512,
    }  # fmt: skip
    facts = {"scheme": SCHEME_INT8, "card": card_to_json(card), "licence": "Apache-2.0", "training": "{}"}
    save(tmp_path / "p", stored, facts)
    turned = load_quantized(card, open_package(tmp_path / "p").tensors)
    assert {m.hadamard for m in turned.modules() if isinstance(m, Int8Linear)} == {256, 512}
    assert 1e-4 < relative(turned(*inputs(card)), exact(*inputs(card))) < 0.03
    # Turned for the hidden state alone, one matrix of ten differs.
    alone = quantize(state, card, rotate=("ffn.hidden",))
    assert [n for n in plain if not torch.equal(plain[n], alone[n])] == [
        f"blocks.{i}.ffn.2.{part}" for i in range(2) for part in ("weight", "weight_scale")
    ]


def test_the_widths_of_wan_divide_into_hadamard_matrices() -> None:
    sizes = {1536: 512, 8960: 256, 5120: 512, 13824: 512, 3072: 512, 32: 0}
    assert {width: hadamard_of(width) for width in sizes} == sizes


@pytest.mark.parametrize("rotate", [(), ("ffn.hidden",)])
@torch.no_grad()
def test_the_relative_error_of_each_matrix(rotate: tuple[str, ...]) -> None:
    card = TWO
    state = trained(card).state_dict()
    stored = quantize(state, card, keep={0}, rotate=rotate)
    lost = errors(state, stored, card)
    assert lost.keys() == {name for name, weight in state.items() if weight.dim() in (2, 5)}
    for name, error in lost.items():
        int8 = stored[name].dtype == torch.int8
        assert (0.005 < error < 0.009) if int8 else (0.0015 < error < 0.0019)
    rebuilt = stored["blocks.1.ffn.0.weight"] * stored["blocks.1.ffn.0.weight_scale"][:, None]
    assert lost["blocks.1.ffn.0.weight"] == pytest.approx(relative(rebuilt, state["blocks.1.ffn.0.weight"]), rel=1e-4)


def test_which_tensors_stay_unquantised_and_their_dtypes() -> None:
    assert PREVIS.kept_blocks == frozenset()
    assert WAN_14B.kept_blocks == {0, 1, 37, 38, 39}
    stored = quantize(trained(DEEP).state_dict(), DEEP)
    assert {name for name, tensor in stored.items() if tensor.dtype == torch.int8} == {
        f"blocks.{i}.{layer}.weight"
        for i in (2, 3, 4, 5)
        for layer in (*(f"{kind}_attn.{m}" for kind in ("self", "cross") for m in "qkvo"), "ffn.0", "ffn.2")
    }
    assert stored["blocks.0.self_attn.q.weight"].dtype == torch.bfloat16
    assert stored["head.head.weight"].dtype == stored["patch_embedding.weight"].dtype == torch.bfloat16
    for name in ("head.modulation", "blocks.2.modulation", "blocks.2.self_attn.q.bias", "blocks.2.norm3.weight"):
        assert stored[name].dtype == torch.float32


@torch.no_grad()
def test_an_unquantized_network_loads_too() -> None:
    network = trained(TINY)
    plain = load_quantized(TINY, network.state_dict())
    assert torch.equal(plain(*inputs(TINY)), network(*inputs(TINY)))


@torch.no_grad()
def test_bf16_inside() -> None:
    network = trained(TINY)
    small = load_quantized(TINY, quantize(network.state_dict(), TINY), torch.bfloat16)
    assert small.blocks[0].self_attn.q(torch.zeros(1, 3, TINY.dim)).dtype == torch.bfloat16
    assert small.blocks[0].self_attn.q.weight_scale.dtype == torch.float32
    assert relative(small(*inputs(TINY)), network(*inputs(TINY))) < 0.04


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.pop("head.head.bias"), "lack head.head.bias"),
        (lambda s: s.update({"blocks.9.ffn.0.weight": torch.zeros(1)}), r"hold blocks\.9\.ffn\.0\.weight"),
        (lambda s: s.update({"blocks.9.ffn.0.weight_scale": torch.zeros(1)}), r"hold a quantized blocks\.9\.ffn\.0"),
        (lambda s: s.update({"head.head.weight_scale": torch.zeros(1)}), r"hold a quantized head\.head"),
        (lambda s: s.pop("blocks.0.ffn.0.weight_scale"), "is stored as torch.int8"),
        (lambda s: s.update({"head.modulation": torch.zeros(1, 2, 3)}), r"is \(1, 2, 3\)"),
        (lambda s: s.update({"hadamard.head": torch.tensor(256)}), r"hold hadamard\.head"),
        (lambda s: s.update({"hadamard.ffn.in": torch.tensor(256)}), r"hold hadamard\.ffn\.in"),  # 32 wide
        (lambda s: s.update({"hadamard.ffn.in": torch.tensor([16])}), r"hold hadamard\.ffn\.in"),
        (lambda s: s.update({"head.head.bias": torch.zeros(64, dtype=torch.int64)}), "is stored as torch.int64"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(change, says: str) -> None:
    stored = quantize(trained(TINY).state_dict(), TINY)
    change(stored)
    with pytest.raises(BadInput, match=says):
        load_quantized(TINY, stored)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@torch.no_grad()
@pytest.mark.parametrize("scheme", [SCHEME_INT8, SCHEME_INT4])
def test_the_gpu_agrees_with_the_cpu(scheme: str) -> None:
    small = load_quantized(PREVIS, quantize(trained(PREVIS).state_dict(), PREVIS, scheme=scheme))
    expected = small(*inputs(PREVIS))
    result = small.cuda()(*(part.cuda() for part in inputs(PREVIS)))
    # Sums in another order round other levels, and layer by layer more of them: the two end as far apart as two
    # networks do that are each 0.02 from the floats, 2^0.5 times that.
    assert relative(result.cpu(), expected) < 0.03
