"""A small imported model on the main path, against diffusers' pipelines with the same weights, noise and embeddings."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models.card import WAN_1_3B, Card
from models.controls.films import control_films
from models.controls.rays import camera_rays
from models.errors import BadInput
from models.events import Conditioned, Decoded, Embedding, Loaded, Request, Settings, TextEncoded
from models.importing.wan_names import diffusers_name
from models.loading import load as loading
from models.rendering import conditioning, encode
from models.rendering.render import initial_state, render
from models.rendering.sampler import schedule
from models.training.shots import scenes

diffusers = pytest.importorskip("diffusers")

T2V = replace(WAN_1_3B, name="t2v", dim=48, ffn=32, heads=2, layers=2, text_dim=16, steps=6, guidance=(3.0,))
A14B = replace(T2V, name="a14b", experts=2, boundary=0.875, guidance=(2.0, 3.0))
TI2V = replace(T2V, name="ti2v", in_channels=48, out_channels=48, vae="wan2.2", space_stride=16)
I2V = replace(T2V, name="i2v", in_channels=36, image_dim=20)
I2V_A14B = replace(A14B, name="i2v-a14b", in_channels=36, boundary=0.9)
FLF2V = replace(I2V, name="flf2v", image_positions=514)
VACE = replace(T2V, name="vace", vace_layers=(0,), vace_channels=96)
CONTROL = replace(T2V, name="control", in_channels=48, image_dim=20)
CAMERA = replace(T2V, name="camera", in_channels=32, image_dim=20, camera_channels=24)
SEED = 3

with (Path(__file__).parents[1] / "wan_vae_names.tsv").open() as lines:
    CODER_NAMES = {
        (row["autoencoder"], row["published"]): row["diffusers"] for row in csv.DictReader(lines, delimiter="\t")
    }


class OurGrid(diffusers.UniPCMultistepScheduler):
    """diffusers' solver on the noise levels of Wan's own code, which it starts a little elsewhere."""

    def set_timesteps(self, num_inference_steps, device=None, **kwargs):
        super().set_timesteps(num_inference_steps, device)
        plan = schedule("unipc", num_inference_steps, self.config.flow_shift, truncate=True)
        self.sigmas = torch.tensor(plan.sigmas, dtype=torch.float32)
        self.timesteps = torch.tensor(plan.times, dtype=torch.int64)


class WithTokens(diffusers.WanImageToVideoPipeline):
    """Is given a picture, and what CLIP sees of it."""

    def check_inputs(self, *args, **kwargs):
        """It would have either."""


@pytest.fixture
def exact(monkeypatch):
    """float32 whatever this processor is fastest in, as diffusers is asked to compute."""
    loading.unload()
    for module in (loading, encode):
        monkeypatch.setattr(module, "dtype_on", lambda device: torch.float32)
    yield
    loading.unload()


@pytest.fixture(scope="module")
def blocking():
    return scenes.shot(3, 9, 64, 96)


def asked(**pictures) -> Request:
    """Words that were read before, of two lengths."""
    generator = torch.Generator().manual_seed(5)
    rows = [torch.randn(count, 16, generator=generator).bfloat16() for count in (7, 4)]
    known = [
        Embedding(name, len(row), row.view(torch.uint8).numpy().tobytes())
        for name, row in zip(("a red door", "rain"), rows, strict=True)
    ]
    return Request("a red door", "rain", tuple(known), **pictures)


def picture(seed: int, height: int = 64, width: int = 96) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def film(blocking, path: Path, request: Request, **settings) -> np.ndarray:
    """As the main path renders it."""
    events = list(render(blocking, Settings(**({"steps": 6, "seed": SEED} | settings)), path, request=request))
    return np.concatenate([event.frames for event in events if isinstance(event, Decoded)])


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    assert one.shape == other.shape
    return float(-10 * np.log10(np.mean((one.astype(np.float64) - other) ** 2) + 1e-30))


def theirs(path: Path, kind: type, **changes):
    """diffusers' pipeline of a package's networks."""
    model = loading.load(path, "cpu")
    card, networks = model.card, []
    for expert in range(card.experts):
        extra = {"image_dim": card.image_dim, "added_kv_proj_dim": card.dim} if card.image_dim else {}
        extra |= {"pos_embed_seq_len": card.image_positions} if card.image_positions else {}
        network = diffusers.WanTransformer3DModel(
            num_attention_heads=card.heads, attention_head_dim=card.head_dim, in_channels=card.in_channels,
            out_channels=card.out_channels, text_dim=card.text_dim, freq_dim=card.freq_dim, ffn_dim=card.ffn,
            num_layers=card.layers, cross_attn_norm=True, eps=card.eps, **extra,
        )  # fmt: skip
        state = model.experts.network(expert).state_dict()
        network.load_state_dict({diffusers_name(name): part for name, part in state.items()})
        networks.append(network.eval())
    kind_of_vae = model.vae.kind
    sizes = {"base_dim": 4, "decoder_base_dim": kind_of_vae.decoder_width, "z_dim": kind_of_vae.channels}
    if kind_of_vae.bridged:
        sizes |= {"is_residual": True, "in_channels": 12, "out_channels": 12, "patch_size": 2}
        sizes |= {"scale_factor_spatial": 16}
    vae = diffusers.AutoencoderKLWan(
        **sizes, latents_mean=list(kind_of_vae.mean), latents_std=list(kind_of_vae.std)
    ).eval()
    vae.load_state_dict({CODER_NAMES[card.vae, name]: part for name, part in model.vae.state_dict().items()})
    scheduler = OurGrid(
        prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=card.shift
    )
    parts = {"tokenizer": None, "text_encoder": None, "vae": vae, "scheduler": scheduler, "transformer": networks[0]}
    if card.experts == 2:
        parts |= {"transformer_2": networks[1], "boundary_ratio": card.boundary}
    pipe = kind(**parts, **changes)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@torch.no_grad()
def their_film(pipe, path: Path, blocking, request: Request, **given) -> np.ndarray:
    model = loading.load(path, "cpu")
    contexts, _ = encode.encode_prompts(model, request, "cpu")
    _, start = initial_state(model, blocking, Settings(6, SEED))
    scales = {"guidance_scale": model.card.guidance[0]}
    scales |= {"guidance_scale_2": model.card.guidance[1]} if model.card.experts == 2 else {}
    return pipe(
        prompt_embeds=contexts[0].float(), negative_prompt_embeds=contexts[1].float(), latents=start.latent,
        height=blocking.height, width=blocking.width, num_frames=blocking.frames, num_inference_steps=6,
        output_type="np", **scales, **given,
    ).frames[0]  # fmt: skip


@pytest.mark.parametrize("card", [T2V, A14B], ids=lambda card: card.name)
def test_words_become_the_film_of_diffusers(exact, wan_package, blocking, card: Card) -> None:
    path = wan_package(card)
    expected = their_film(theirs(path, diffusers.WanPipeline), path, blocking, asked())
    ours = film(blocking, path, asked())
    assert psnr(ours, expected) > 50
    assert psnr(film(blocking, path, asked(), batch=2), expected) > 50
    assert np.mean((ours > 0.02) & (ours < 0.98)) > 0.3, "a film at the ends of its range could hide anything"
    assert psnr(film(blocking, path, replace(asked(), negative="a red door")), ours) < 40  # words matter


def test_a_first_picture_becomes_the_film_of_diffusers(exact, wan_package, blocking) -> None:
    """TI2V-5B: the first latent frame is the picture, and is told to be without noise."""
    from PIL import Image

    path, request = wan_package(TI2V), asked(first=picture(1))
    pipe = theirs(
        path, diffusers.WanImageToVideoPipeline, expand_timesteps=True, image_encoder=None, image_processor=None
    )
    expected = their_film(pipe, path, blocking, request, image=Image.fromarray(request.first))
    ours = film(blocking, path, request)
    assert psnr(ours, expected) > 50
    assert psnr(film(blocking, path, asked()), ours) < 40


@pytest.mark.parametrize("card", [I2V, FLF2V, I2V_A14B], ids=lambda card: card.name)
def test_pictures_with_words_become_the_film_of_diffusers(exact, wan_package, blocking, card: Card) -> None:
    from PIL import Image

    path = wan_package(card)
    pictures = {"first": picture(1)} | ({"last": picture(2)} if card.image_positions else {})
    request, model = asked(**pictures), loading.load(path, "cpu")
    with torch.inference_mode():
        contexts, _ = encode.encode_prompts(model, request, "cpu")
        inputs = conditioning.prepare_wan(model, blocking, request, contexts)
    pipe = theirs(path, WithTokens, image_encoder=None, image_processor=None)
    given = {"image": Image.fromarray(request.first)}
    if card.image_dim:
        seen = inputs.extras.pictures.clone()
        assert seen.shape == (1, 257 * len(pictures), 20)
        given["image_embeds"] = seen.unflatten(1, (-1, 257)).flatten(0, 1)
    if card.image_positions:
        given["last_image"] = Image.fromarray(request.last)
    ours = film(blocking, path, request)
    assert psnr(ours, their_film(pipe, path, blocking, request, **given)) > 50
    assert psnr(film(blocking, path, replace(request, first=picture(9))), ours) < 40


@pytest.mark.parametrize("card", [T2V, TI2V], ids=lambda card: card.name)
def test_int8_is_the_film_of_bf16(wan_package, blocking, card: Card, record_property) -> None:
    request = asked(first=picture(1))
    near = psnr(film(blocking, wan_package(card, int8=True), request), film(blocking, wan_package(card), request))
    record_property("int8 against bf16 in dB", near)
    assert near > 30


@torch.inference_mode()
def test_hints_are_what_vace_was_trained_on(exact, wan_package, blocking) -> None:
    """Latents of what stays and of what is made, and a mask of a cell's pixels; a first picture stays."""
    path = wan_package(VACE)
    pipe = theirs(wan_package(T2V), diffusers.WanPipeline)
    model, request = loading.load(path, "cpu"), asked(first=picture(1))
    inputs = conditioning.prepare_wan(model, blocking, request, encode.encode_prompts(model, request, "cpu")[0])
    depth = torch.from_numpy(control_films(blocking)[1])[None, None].expand(1, 3, -1, -1, -1) * 2 - 1
    depth = depth.clone()
    depth[:, :, 0] = torch.from_numpy(request.first).permute(2, 0, 1) / 127.5 - 1
    made = torch.ones(1, 1, *depth.shape[2:])
    made[:, :, 0] = 0
    wan = diffusers.WanVACEPipeline
    holder = type("Holder", (), {
        "vae": pipe.vae, "transformer": pipe.transformer, "_execution_device": torch.device("cpu"),
        "vae_scale_factor_temporal": 4, "vae_scale_factor_spatial": 8,
    })()  # fmt: skip
    latents = wan.prepare_video_latents(holder, depth, made, [[]])
    expected = torch.cat([latents, wan.prepare_masks(holder, made, [[]])], 1)
    torch.testing.assert_close(inputs.extras.hints, expected, atol=1e-4, rtol=1e-4)
    assert len(film(blocking, path, request)) == blocking.frames


def test_a_mask_is_folded_pixel_by_pixel() -> None:
    made = torch.zeros(1, 1, 9, 16, 16)
    made[0, 0, 4, 3, 10] = 1  # the middle of the frames: row 3 and column 2 of the cell 0, 1
    folded = conditioning.folded_mask(made, 8)
    assert folded.shape == (1, 64, 3, 2, 2) and folded.sum() == 1 and folded[0, 3 * 8 + 2, 1, 0, 1] == 1


@pytest.mark.parametrize("card", [CONTROL, CAMERA], ids=lambda card: card.name)
def test_control_reaches_the_film(wan_package, blocking, card: Card) -> None:
    """With a first picture, and without one, when CLIP's tokens are zeros."""
    path, model = wan_package(card), loading.load(wan_package(card), "cpu")
    with torch.inference_mode():
        contexts, _ = encode.encode_prompts(model, asked(), "cpu")
        bare = conditioning.prepare_wan(model, blocking, asked(), contexts)
        begun = conditioning.prepare_wan(model, blocking, asked(first=picture(1)), contexts)
    assert bare.maps.shape == (1, card.in_channels - 16, 3, 8, 12)
    assert not bare.maps[:, -16:].any() and begun.maps[:, -16:, :1].all() and not begun.maps[:, -16:, 1:].any()
    assert not bare.extras.pictures.any() and begun.extras.pictures.any()
    if card.camera_channels:
        rays = bare.extras.rays
        assert rays.shape == (1, 24, 3, 64, 96)
        cells = F.avg_pool2d(rays.flatten(0, 1), 8)  # the middle of a cell is the mean of its pixels, nearly
        expected = torch.from_numpy(camera_rays(blocking))
        assert float((cells - expected).abs().max()) < 0.01
    else:
        assert bare.maps[:, :16].any()
    assert psnr(film(blocking, path, asked()), film(blocking, path, asked(first=picture(1)))) < 40


def test_a_picture_of_another_shape_covers_the_film_and_is_cropped(blocking) -> None:
    wide = np.zeros((64, 200, 3), np.uint8)
    wide[:, 52:148] = 255
    fitted = conditioning._fitted(wide, blocking)
    assert fitted.shape == (1, 3, 64, 96) and (fitted == 1).all()
    assert conditioning._fitted(picture(1, 31, 40), blocking).shape == (1, 3, 64, 96)


def test_what_is_missing_is_said(wan_package, blocking) -> None:
    with pytest.raises(BadInput, match="i2v makes a film that begins with a picture"):
        film(blocking, wan_package(I2V), asked())
    with pytest.raises(BadInput, match="flf2v makes a film that ends with a picture"):
        film(blocking, wan_package(FLF2V), asked(first=picture(1)))
    with pytest.raises(BadInput, match="no text encoder of sound sizes"):
        film(blocking, wan_package(T2V), replace(asked(), known=()))


def test_words_are_read_once(house, states) -> None:
    """From files on a disk to a film; what was read is handed out, and spares the encoder the next time."""
    shot = scenes.shot(3, 5, 32, 48)
    house.write(states["transformer"])
    code, events = house.run(house.disk, "--card", "wan2.1-t2v-14b")
    assert code == 0, events[-1]
    path, settings = Path(events[-1]["path"]), Settings(steps=2, seed=1)
    first = list(render(shot, settings, path, request=Request("a red door", "rain")))
    assert [type(event) for event in first[:3]] == [Loaded, TextEncoded, Conditioned]
    assert [each.text for each in first[1].embeddings] == ["a red door", "rain"]
    known = first[1].embeddings
    again = list(render(shot, settings, path, request=Request("a red door", "rain", known)))
    assert not any(isinstance(event, TextEncoded) for event in again)
    one, other = (np.concatenate([e.frames for e in events if isinstance(e, Decoded)]) for events in (first, again))
    np.testing.assert_array_equal(one, other)
    third = list(render(shot, settings, path, request=Request("a red door", "snow", known)))
    assert [each.text for each in third[1].embeddings] == ["snow"]
