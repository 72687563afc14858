"""The text encoder agrees with transformers', wherever its blocks are, and nearly so in int8."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from models.card import UMT5_XXL, TextCard
from models.cost.text_encoder import LAYER_BYTES, LAYER_PARAMETERS
from models.dit.linear import Int8Linear
from models.encoders.names import original_text_name
from models.encoders.umt5 import NEAREST, TextEncoder, distance_buckets, text_dtype
from models.errors import BadInput
from models.loading.quantize import READERS, errors, load_quantized, quantize
from models.loading.streaming import StreamedBlocks, place
from models.placement import Placement
from models.weight_files.package_header import SCHEME_INT4

TINY = TextCard("umt5-tiny", words=96, dim=32, ffn=48, heads=4, layers=3)
CPU = torch.device("cpu")
MATRICES = 7  # of a block


@torch.no_grad()
def trained(card: TextCard = TINY, seed: int = 0) -> TextEncoder:
    """Stands for a trained encoder: matrices that keep sizes, scores of size one, norms and distances that are felt."""
    network, generator = TextEncoder(card), torch.Generator().manual_seed(seed)
    for name, weight in network.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if "norm" in name:
            weight.copy_(1 + 0.3 * noise)
        else:
            weight.copy_(noise if "embedding" in name else noise / weight.shape[1] ** 0.5)
        if name.endswith("attn.q.weight"):
            weight.mul_((card.dim // card.heads) ** -0.5)
    return network.eval()


def words(*lengths: int, card: TextCard = TINY) -> tuple[torch.Tensor, torch.Tensor]:
    """Texts of these lengths, filled up with the number 0, and where their tokens are."""
    ids = torch.randint(2, card.words, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(7))
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return ids * mask, mask


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


def their_encoder(card: TextCard):
    from transformers import UMT5Config, UMT5EncoderModel

    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=card.words, d_model=card.dim, d_kv=card.dim // card.heads, d_ff=card.ffn,
            num_layers=card.layers, num_heads=card.heads, feed_forward_proj="gated-gelu",
        )
    ).eval()  # fmt: skip


@pytest.mark.parametrize("lengths", [(1,), (9,), (5, 23), (512, 130)])
@torch.no_grad()
def test_it_gives_what_transformers_gives(lengths):
    ours, theirs = trained(), their_encoder(TINY)
    renamed = {name: ours.state_dict()[original_text_name(name)] for name in theirs.state_dict()}
    theirs.load_state_dict(renamed, strict=True)
    ids, mask = words(*lengths)
    expected = theirs(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    for found, right, length in zip(ours(ids, mask), expected, lengths, strict=True):
        assert relative(found[:length], right[:length]) < 1e-5


@pytest.mark.parametrize(
    "mutation",
    [
        lambda n: setattr(n.blocks[1], "pos_embedding", n.blocks[0].pos_embedding),  # one table for all, as T5 has it
        lambda n: n.blocks[0].attn.q.weight.mul_(8**-0.5),  # scores divided by sqrt(E)
        lambda n: setattr(n.blocks[0].ffn, "fc1", n.blocks[0].ffn.gate[0]),
        lambda n: n.blocks[2].norm2.weight.fill_(1.0),
    ],
)
@torch.no_grad()
def test_the_comparison_would_see_a_mistake(mutation):
    right, wrong = trained(), trained()
    mutation(wrong)
    assert relative(wrong(*words(23)), right(*words(23))) > 0.01


@torch.no_grad()
def test_what_fills_a_text_up_is_not_seen():
    """A text alone, without a mask, gives what it gives beside a longer one, filled up to 512."""
    network = trained()
    ids, mask = words(11, 512)
    together = network(ids, mask)
    assert relative(network(ids[:1, :11])[0], together[0, :11]) < 1e-6
    ids[0, 11:] = 5
    assert torch.equal(network(ids, mask)[0, :11], together[0, :11])


def test_the_buckets_are_those_of_the_logarithm():
    from transformers.models.umt5.modeling_umt5 import UMT5Attention

    place = torch.arange(600)
    theirs = UMT5Attention(their_encoder(TINY).config)._relative_position_bucket(place - place[:, None])
    assert torch.equal(distance_buckets(600, CPU), theirs)
    # By whole numbers: n**2 is at least (8 * 2**(k / 2))**2 = 64 * 2**k.
    assert NEAREST[7:] == tuple(next(n for n in range(200) if n * n >= 64 << k) for k in range(8))


@pytest.mark.parametrize("turn", [(), ("ffn.hidden",)])
@torch.no_grad()
def test_the_int8_encoder_stays_near(turn, record_property):
    card = replace(TINY, dim=64, ffn=256, layers=8)
    exact = trained(card)
    stored = quantize(exact.state_dict(), card, rotate=turn)
    assert {name for name, tensor in stored.items() if tensor.dtype == torch.int8} == {
        f"blocks.{i}.{matrix}.weight"
        for i in range(card.layers)
        for matrix in ("attn.q", "attn.k", "attn.v", "attn.o", "ffn.gate.0", "ffn.fc1", "ffn.fc2")
    }
    assert {
        str(stored[name].dtype) for name in ("token_embedding.weight", "blocks.0.pos_embedding.embedding.weight")
    } == {"torch.bfloat16"}
    small = load_quantized(card, stored)
    assert sum(isinstance(module, Int8Linear) for module in small.modules()) == card.layers * MATRICES
    assert {small.blocks[0].ffn.fc2.hadamard, *(block.ffn.gate[0].hadamard for block in small.blocks)} == (
        {0, 256} if turn else {0}
    )
    lost = relative(small(*words(40, card=card)), exact(*words(40, card=card)))
    record_property("relative_rms", lost)
    assert 1e-3 < lost < 0.05
    assert all(
        0.004 < error < 0.011
        for name, error in errors(exact.state_dict(), stored, card).items()
        if "embedding" not in name
    )


@torch.no_grad()
def test_each_int8_block_stays_nearer_still(record_property):
    card = replace(TINY, dim=64, ffn=256, layers=2)
    exact = trained(card)
    x, buckets = torch.randn(1, 40, 64, generator=torch.Generator().manual_seed(3)), distance_buckets(40, CPU)
    small = load_quantized(card, quantize(exact.state_dict(), card))
    for index, (rough, right) in enumerate(zip(small.blocks, exact.blocks, strict=True)):
        lost = relative(rough(x.clone(), buckets, None), right(x.clone(), buckets, None))
        record_property(f"relative_rms_{index}", lost)
        assert 1e-3 < lost < 0.02


@torch.no_grad()
def test_int4_serves_it_too():
    card = replace(TINY, dim=64, ffn=256)
    exact = trained(card)
    small = load_quantized(card, quantize(exact.state_dict(), card, scheme=SCHEME_INT4, rotate=READERS))
    assert 0.01 < relative(small(*words(40, card=card)), exact(*words(40, card=card))) < 0.25


@pytest.mark.parametrize("resident", [0, 1, 3])
@torch.inference_mode()
def test_streamed_equals_resident_bit_for_bit(resident):
    stored = quantize(trained().state_dict(), TINY)
    stays, passes = load_quantized(TINY, stored), load_quantized(TINY, stored)
    place(passes, CPU, Placement(resident))
    assert isinstance(passes.blocks, StreamedBlocks) == (resident < TINY.layers)
    for lengths in ((7, 3), (12,)):
        assert torch.equal(passes(*words(*lengths)), stays(*words(*lengths)))


def test_the_table_of_words_stays_where_it_was_loaded():
    stored = quantize(trained().state_dict(), TINY)
    network = load_quantized(TINY, stored, torch.bfloat16)
    assert network.token_embedding.weight.data_ptr() == stored["token_embedding.weight"].data_ptr()
    network.to("meta")
    assert network.token_embedding.weight.data_ptr() == stored["token_embedding.weight"].data_ptr()
    assert network.norm.weight.is_meta


@torch.no_grad()
def test_bf16_inside_and_never_float16():
    network = load_quantized(TINY, trained().state_dict(), text_dtype(torch.bfloat16))
    assert network.blocks[0].attn.q.weight.dtype == torch.bfloat16
    assert network.norm.weight.dtype == network(*words(9)).dtype == torch.float32
    assert 1e-4 < relative(network(*words(9)), trained()(*words(9))) < 0.03
    assert text_dtype(torch.float16) == torch.float32


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.pop("blocks.1.ffn.fc2.weight"), "lack blocks.1.ffn.fc2.weight, which a umt5-tiny"),
        (
            lambda s: s.update({"blocks.0.attn.q.bias": torch.zeros(32)}),
            "hold blocks.0.attn.q.bias, which no umt5-tiny",
        ),
        (lambda s: s.update({"norm.weight_scale": torch.zeros(1)}), "hold a quantized norm"),
        (lambda s: s.update({"hadamard.self_attn.in": torch.tensor(256)}), "hold hadamard.self_attn.in"),
    ],
)
def test_tensors_that_are_not_its_own_are_refused(change, says):
    stored = quantize(trained().state_dict(), TINY)
    change(stored)
    with pytest.raises(BadInput, match=re.escape(says)):
        load_quantized(TINY, stored)


def test_the_sizes_of_the_real_one():
    with torch.device("meta"):
        network = TextEncoder(UMT5_XXL)
    assert sum(weight.numel() for weight in network.parameters()) == 5_680_910_336
    assert sum(weight.numel() for weight in network.blocks[0].parameters()) == LAYER_PARAMETERS
    matrices = [weight for weight in network.blocks[0].parameters() if weight.dim() > 1 and len(weight) > 32]
    assert LAYER_PARAMETERS + 4 * sum(map(len, matrices)) == LAYER_BYTES


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("resident", [None, 1])
@torch.inference_mode()
def test_the_gpu_agrees_with_the_cpu(resident):
    card = replace(TINY, dim=256, ffn=512)
    stored = quantize(trained(card).state_dict(), card)
    right = load_quantized(card, stored)(*words(40, 7, card=card))
    network = load_quantized(card, stored)
    place(network, torch.device("cuda:0"), Placement(resident))
    found = network(*words(40, 7, card=card))
    assert found.is_cuda and not network.token_embedding.weight.is_cuda
    # Each is 0.028 from the floats, and rounds in its own way: see tests/models/loading/test_quantize.py.
    assert relative(found[0].cpu(), right[0]) < 0.045 and relative(found[1, :7].cpu(), right[1, :7]) < 0.045
