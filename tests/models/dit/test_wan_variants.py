"""Every variant of Wan's transformer: against diffusers with the same weights, or against its formulas written out."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.card import (
    CARDS,
    WAN_5B,
    WAN_CAMERA_14B,
    WAN_CONTROL_14B_V11,
    WAN_FLF2V,
    WAN_I2V_480P,
    WAN_I2V_A14B,
    WAN_VACE_1_3B,
    WAN_VACE_14B,
    Card,
)
from models.cost.transformer import parameters
from models.dit.linear import Int4Linear, Int8Linear
from models.dit.wan import Transformer
from models.dit.wan_variants import ExtraInputs
from models.importing.wan_names import diffusers_name
from models.loading.quantize import errors, load_quantized, quantize
from models.loading.streaming import place
from models.placement import Placement
from models.weight_files.package_header import SCHEME_INT4, SCHEME_INT8

SMALL = {"dim": 48, "ffn": 32, "heads": 2, "layers": 2, "text_dim": 16, "text_len": 512}
T2V = Card("t2v", in_channels=16, **SMALL)
I2V = replace(T2V, name="i2v", in_channels=36, image_dim=20)
FLF2V = replace(I2V, name="flf2v", image_positions=514)
I2V_A14B = replace(T2V, name="i2v-a14b", in_channels=36)
TI2V = replace(T2V, name="ti2v", in_channels=48, out_channels=48)
VACE = replace(T2V, name="vace", layers=4, vace_layers=(0, 2), vace_channels=96)
VACE_I2V = replace(VACE, name="vace-i2v", in_channels=36, image_dim=20)
CAMERA = replace(T2V, name="camera", in_channels=32, image_dim=20, camera_channels=24)
CONTROL = replace(T2V, name="control", in_channels=48, image_dim=20, reference_channels=16)
VARIANTS = (T2V, I2V, FLF2V, I2V_A14B, TI2V, VACE, VACE_I2V, CAMERA, CONTROL)
FRAMES, HEIGHT, WIDTH = LATENT = (3, 6, 8)


def inputs(card: Card, batch: int = 1) -> tuple[Tensor, Tensor, Tensor, ExtraInputs]:
    """Of every kind that the card reads."""
    generator = torch.Generator().manual_seed(7)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=generator)

    x, t, context = drawn(card.in_channels, *LATENT), torch.rand(batch, generator=generator) * 1000, drawn(9, 16)
    return x, t, context, ExtraInputs(
        pictures=drawn(card.image_positions or 257, card.image_dim) if card.image_dim else None,
        hints=drawn(card.vace_channels, *LATENT) if card.vace_layers else None,
        rays=drawn(card.camera_channels, FRAMES, 8 * HEIGHT, 8 * WIDTH) if card.camera_channels else None,
        reference=drawn(card.reference_channels, HEIGHT, WIDTH) if card.reference_channels else None,
    )  # fmt: skip


def relative(a: Tensor, b: Tensor) -> float:
    return float((a.detach().double() - b.detach().double()).norm() / b.detach().double().norm())


def oracle(network: Transformer) -> torch.nn.Module:
    """diffusers' network of the same card and weights, loaded strictly."""
    import diffusers  # seconds, which only these tests are to cost

    card, extra, kind = network.card, {}, diffusers.WanTransformer3DModel
    if card.image_dim:
        extra = {"image_dim": card.image_dim, "added_kv_proj_dim": card.dim}
        extra["pos_embed_seq_len"] = card.image_positions or None
    if card.vace_layers:
        kind = diffusers.WanVACETransformer3DModel
        extra |= {"vace_layers": list(card.vace_layers), "vace_in_channels": card.vace_channels}
    other = kind(
        patch_size=card.patch, num_attention_heads=card.heads, attention_head_dim=card.head_dim,
        in_channels=card.in_channels, out_channels=card.out_channels, text_dim=card.text_dim, freq_dim=card.freq_dim,
        ffn_dim=card.ffn, num_layers=card.layers, cross_attn_norm=True, eps=card.eps, **extra,
    )  # fmt: skip
    other.load_state_dict({diffusers_name(k): v for k, v in network.state_dict().items()}, strict=True)
    return other.eval()


def theirs(network: Transformer, x: Tensor, t: Tensor, context: Tensor, extras: ExtraInputs) -> Tensor:
    """What diffusers' network says."""
    given = {"encoder_hidden_states": F.pad(context, (0, 0, 0, 512 - context.shape[1]))}
    if extras.pictures is not None:
        seen = extras.pictures
        given["encoder_hidden_states_image"] = seen.unflatten(1, (-1, 257)).flatten(0, 1)
    if extras.hints is not None:
        given["control_hidden_states"] = extras.hints
        given["control_hidden_states_scale"] = torch.full((len(network.card.vace_layers),), extras.hint_scale)
    return oracle(network)(x, t, **given, return_dict=False)[0]


@pytest.mark.parametrize("card", [T2V, I2V, FLF2V, I2V_A14B, TI2V, VACE, VACE_I2V], ids=lambda card: card.name)
@pytest.mark.parametrize("batch", [1, 2])
@torch.no_grad()
def test_equals_diffusers(telling, card: Card, batch: int) -> None:
    network = telling(Transformer(card))
    given = inputs(card, batch)
    ours = network(*given)
    assert ours.shape == (batch, card.out_channels, *LATENT) and ours.dtype == torch.float32
    assert relative(ours, theirs(network, *given)) < 2e-5


@torch.no_grad()
def test_hints_are_added_by_their_scale(telling) -> None:
    network = telling(Transformer(VACE))
    x, t, context, extras = inputs(VACE)
    half = network(x, t, context, extras._replace(hint_scale=0.5))
    assert relative(half, theirs(network, x, t, context, extras._replace(hint_scale=0.5))) < 2e-5
    assert relative(half, network(x, t, context, extras)) > 1e-2
    with torch.enable_grad():  # where the stream is not written over
        assert relative(network(x, t, context, extras), theirs(network, x, t, context, extras)) < 2e-5


@pytest.mark.parametrize("batch", [1, 2])
@torch.no_grad()
def test_a_time_for_each_latent_frame_is_diffusers_time_for_each_token(telling, batch: int) -> None:
    """The first frame of TI2V-5B is given, and told to be without noise."""
    network = telling(Transformer(TI2V))
    x, t, context, extras = inputs(TI2V, batch)
    times = t[:, None].repeat(1, FRAMES)
    times[:, 0] = 0
    each = times.repeat_interleave(HEIGHT * WIDTH // 4, 1)
    ours = network(x, times, context)
    assert relative(ours, theirs(network, x, each, context, extras)) < 2e-5
    assert relative(ours, network(x, t, context)) > 1e-2
    assert relative(network(x, t[:, None].expand(-1, FRAMES), context), network(x, t, context)) < 1e-6
    with torch.enable_grad():
        assert relative(network(x, times, context), ours) < 1e-6


@torch.no_grad()
def test_a_camera_by_hand(telling) -> None:
    """Rays of a cell's pixels in the order (channel, row, column), through a convolution and a residual block."""
    network = telling(Transformer(CAMERA))
    adapter = network.control_adapter
    x, t, context, extras = inputs(CAMERA)
    cells = extras.rays.double().reshape(24, FRAMES, HEIGHT, 8, WIDTH, 8)
    weight = adapter.conv.weight.double().reshape(48, 24, 8, 8, 2, 2)  # D, channel, row, column, cell
    split = cells.reshape(24, FRAMES, HEIGHT // 2, 2, 8, WIDTH // 2, 2, 8)
    made = torch.einsum("cfhyrwxq,dcrqyx->fdhw", split, weight) + adapter.conv.bias.double()[:, None, None]
    block = adapter.residual_blocks[0].double()
    within = F.relu(F.conv2d(made, block.conv1.weight, block.conv1.bias, padding=1))
    made = made + F.conv2d(within, block.conv2.weight, block.conv2.bias, padding=1)
    adapter.float()
    assert relative(adapter(extras.rays)[0].transpose(0, 1), made) < 1e-5
    # Added to the tokens, it is a film of its own kind on the patch embedding: a network without a camera that reads
    # these very numbers through a matrix of ones gives the same.
    plain = Transformer(replace(I2V, in_channels=32 + 48)).eval()
    state = {name: w for name, w in network.state_dict().items() if not name.startswith("control_adapter.")}
    ones = torch.zeros(48, 48, 1, 2, 2)
    ones[range(48), range(48), 0, 0, 0] = 1
    state["patch_embedding.weight"] = torch.cat([state["patch_embedding.weight"], ones], 1)
    plain.load_state_dict(state)
    sparse = torch.zeros(1, 48, *LATENT)
    sparse[..., ::2, ::2] = made.float().transpose(0, 1)[None]
    ours = network(x, t, context, extras)
    assert relative(ours, plain(torch.cat([x, sparse], 1), t, context, ExtraInputs(pictures=extras.pictures))) < 1e-5
    assert relative(ours, network(x, t, context, extras._replace(rays=None))) > 1e-2


@torch.no_grad()
def test_a_reference_is_a_frame_before_the_film(telling) -> None:
    """A network without one, whose first latent frame gives the very tokens, says the same of the rest."""
    network = telling(Transformer(CONTROL))
    x, t, context, extras = inputs(CONTROL)
    ours = network(x, t, context, extras)
    tokens = F.conv2d(extras.reference, network.ref_conv.weight, network.ref_conv.bias, stride=2)
    plain = Transformer(replace(I2V, in_channels=48 + 48)).eval()
    state = {name: w for name, w in network.state_dict().items() if not name.startswith("ref_conv.")}
    ones = torch.zeros(48, 48, 1, 2, 2)
    ones[range(48), range(48), 0, 0, 0] = 1
    state["patch_embedding.weight"] = torch.cat([state["patch_embedding.weight"], ones], 1)
    plain.load_state_dict(state)
    first = torch.zeros(1, 48 + 48, 1, HEIGHT, WIDTH)
    first[0, 48:, 0, ::2, ::2] = tokens[0] - network.patch_embedding.bias[:, None, None]
    film = torch.cat([first, F.pad(x, (0, 0, 0, 0, 0, 0, 0, 48))], 2)
    expected = plain(film, t, context, ExtraInputs(pictures=extras.pictures))[:, :, 1:]
    assert ours.shape == expected.shape
    assert relative(ours, expected) < 1e-5
    assert relative(ours, network(x, t, context, extras._replace(reference=None))) > 1e-2


# What a variant's file holds beyond the tensors of text-to-video, and how many tensors that makes.
PICTURES = {"img_emb.proj.0", "img_emb.proj.1", "img_emb.proj.3", "img_emb.proj.4"}
IN_BLOCK = {"cross_attn.k_img.weight", "cross_attn.k_img.bias", "cross_attn.v_img.weight", "cross_attn.v_img.bias",
            "cross_attn.norm_k_img.weight"}  # fmt: skip
CONVOLUTIONS = {"control_adapter.conv", "control_adapter.residual_blocks.0.conv1",
                "control_adapter.residual_blocks.0.conv2"}  # fmt: skip


@pytest.mark.parametrize(
    ("card", "tensors", "count"),
    [
        (WAN_I2V_480P, 1303, 16_394_878_784),
        (WAN_FLF2V, 1304, 16_395_536_704),
        (WAN_I2V_A14B, 1095, 14_288_901_184),
        (WAN_5B, 825, 4_999_787_712),
        (WAN_VACE_1_3B, 1264, 2_153_972_032),
        (WAN_VACE_14B, 1331, 17_337_592_896),
        (WAN_CAMERA_14B, 1303 + 6, None),
        (WAN_CONTROL_14B_V11, 1303 + 2, None),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_published_file_fits(card: Card, tensors: int, count: int | None) -> None:
    with torch.device("meta"):
        names = {name: weight.shape for name, weight in Transformer(card).state_dict().items()}
        plain = Transformer(replace(card, image_dim=0, image_positions=0, vace_layers=(), vace_channels=0,
                                    camera_channels=0, reference_channels=0)).state_dict()  # fmt: skip
    assert len(names) == tensors and parameters(card) == sum(shape.numel() for shape in names.values())
    assert count in (None, parameters(card))
    kinds = {re.sub(r"^(vace_)?blocks\.\d+\.", r"\1", name) for name in names.keys() - plain.keys()}
    expected = set()
    if card.image_dim:
        expected |= {f"{part}.{kind}" for part in PICTURES for kind in ("weight", "bias")} | IN_BLOCK
        assert names["img_emb.proj.3.weight"] == (card.dim, 1280)
    if card.image_positions:
        expected |= {"img_emb.emb_pos"}
        assert names["img_emb.emb_pos"] == (1, 514, 1280)
    if card.camera_channels:
        expected |= {f"{part}.{kind}" for part in CONVOLUTIONS for kind in ("weight", "bias")}
        assert names["control_adapter.conv.weight"] == (card.dim, 1536, 2, 2)
    if card.reference_channels:
        expected |= {"ref_conv.weight", "ref_conv.bias"}
        assert names["ref_conv.weight"] == (card.dim, 16, 2, 2)
    if card.vace_layers:
        of_blocks = {re.sub(r"^blocks\.\d+\.", "vace_", name) for name in plain if name.startswith("blocks.")}
        expected |= of_blocks | {
            f"vace_{side}_proj.{kind}" for side in ("before", "after") for kind in ("weight", "bias")
        }
        expected |= {"vace_patch_embedding.weight", "vace_patch_embedding.bias"}
        assert names["vace_patch_embedding.weight"] == (card.dim, 96, 1, 2, 2)
        assert [name for name in names if "before_proj.weight" in name] == ["vace_blocks.0.before_proj.weight"]
    assert kinds == expected


@pytest.mark.parametrize("card", VARIANTS, ids=lambda card: card.name)
@torch.no_grad()
def test_int8_reaches_the_matrices_of_every_variant(telling, card: Card) -> None:
    network = telling(Transformer(card))
    given = inputs(card)
    stored = quantize(network.state_dict(), card)
    small = load_quantized(card, stored)
    quantized = [name for name, module in small.named_modules() if isinstance(module, Int8Linear)]
    each = 12 if card.image_dim else 10
    assert len(quantized) == each * (card.layers + len(card.vace_layers))
    assert 1e-4 < relative(small(*given), network(*given)) < 0.03
    lost = errors(network.state_dict(), stored, card)
    assert all(0 < lost[f"{name}.weight"] < 0.012 for name in quantized)


def test_blocks_beside_kept_ones_are_kept() -> None:
    card = replace(VACE, layers=10, vace_layers=(0, 3, 6, 9), dim=64, ffn=64)
    stored = quantize(Transformer(card).state_dict(), card)
    small = {name.split(".")[1] for name in stored if name.startswith("vace_") and name.endswith("_scale")}
    assert small == {"1", "2"}  # blocks 3 and 6 of ten
    packed = load_quantized(card, quantize(Transformer(card).state_dict(), card, scheme=SCHEME_INT4))
    assert isinstance(packed.vace_blocks[1].ffn[0], Int4Linear)


@pytest.mark.parametrize("scheme", [SCHEME_INT8, SCHEME_INT4])
@torch.inference_mode()
def test_streamed_hints_are_the_same_film(telling, scheme: str) -> None:
    """The blocks of the film pass through two slots; those that make hints stay on the device."""
    card = replace(VACE, dim=64, ffn=64)
    stored = quantize(telling(Transformer(card)).state_dict(), card, scheme=scheme)
    given = inputs(card)
    resident, streamed = load_quantized(card, stored), load_quantized(card, stored)
    assert place(streamed, torch.device("cpu"), Placement(0)) is None
    assert torch.equal(streamed(*given), resident(*given))


@pytest.mark.parametrize("attention", ["int8_f32"])
@torch.inference_mode()
def test_frames_of_their_own_time_in_int8(telling, attention) -> None:
    network = telling(Transformer(TI2V))
    small = load_quantized(TI2V, quantize(network.state_dict(), TI2V))
    x, t, context, _ = inputs(TI2V, 2)
    times = t[:, None].repeat(1, FRAMES)
    times[:, 0] = 0
    exact = network(x, times, context)
    small.attention = attention
    assert relative(small(x, times, context), exact) < 0.03


def test_what_a_card_does_not_read_is_refused() -> None:
    x, t, context, extras = inputs(I2V)
    with pytest.raises(ValueError, match="pictures were given to t2v"):
        Transformer(T2V)(x[:, :16], t, context, extras)
    with pytest.raises(ValueError, match="i2v reads pictures, and none were given"):
        Transformer(I2V)(x, t, context)
    with pytest.raises(ValueError, match="vace reads hints, and none"):
        Transformer(VACE)(x[:, :16], t, context)
    with pytest.raises(ValueError, match="2 times were given for 3 latent frames"):
        Transformer(T2V)(x[:, :16], t[:, None].expand(-1, 2), context)
    with pytest.raises(ValueError, match="257 tokens; this model reads 514"):
        Transformer(FLF2V)(x, t, context, extras)
    with pytest.raises(ValueError, match="the first must be 0"):
        Transformer(replace(VACE, vace_layers=(1, 2)))


def test_every_card_is_a_network() -> None:
    with torch.device("meta"):
        for card in CARDS.values():
            Transformer(card)
