"""The main path on a tiny network of random weights: what it reports, what it reads, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.card import TINY
from models.controls.films import SAMPLES, control_films
from models.controls.rays import camera_rays
from models.controls.tokens import context_tokens
from models.errors import BadInput
from models.events import NOTHING, Conditioned, Decoded, Loaded, Noted, Request, Resumed, Settings, Stepped
from models.loading import load as loading
from models.placement import Placement
from models.rendering import render
from models.rendering.conditioning import prepare_previs
from models.rendering.keyframes import keyframes
from models.stage import render as stage
from models.stage.model_sheet import sheet
from models.training.shots import scenes
from models.weight_files.tensors import open_package, save


@pytest.fixture(scope="module")
def package(tmp_path_factory, write_previs):
    return write_previs(tmp_path_factory.mktemp("package") / "tiny.safetensors", TINY)


@pytest.fixture(scope="module")
def older(tmp_path_factory, write_previs):
    """A package from before the model sheet."""
    return write_previs(tmp_path_factory.mktemp("older") / "tiny.safetensors", replace(TINY, reference_channels=0))


@pytest.fixture(scope="module")
def blocking():
    return scenes.shot(3, 9, 32, 48)


def film(blocking, package, request=NOTHING, **settings):
    asked = Settings(**({"steps": 2, "seed": 1} | settings))
    events = list(render.render(blocking, asked, package, request=request))
    return np.concatenate([event.frames for event in events if isinstance(event, Decoded)])


def test_a_render_reports_in_order(blocking, package):
    events = list(render.render(blocking, Settings(steps=3, seed=1), package))
    assert [type(event) for event in events] == [Loaded, Conditioned, *[Stepped] * 3, *[Decoded] * 3]
    assert [(e.index, e.of) for e in events if isinstance(e, Stepped)] == [(1, 3), (2, 3), (3, 3)]
    assert [(e.first, len(e.frames)) for e in events if isinstance(e, Decoded)] == [(0, 1), (1, 4), (5, 4)]
    assert len(events[0].weights_sha256) == len(events[0].kernels_sha256) == 64
    assert all(event.seconds >= 0 for event in events)
    for event in events[5:]:
        assert event.frames.dtype == np.float32 and event.frames.shape[1:] == (32, 48, 3)
        assert event.frames.min() >= 0 and event.frames.max() <= 1


def test_it_leaves_the_callers_autograd_alone_between_events(blocking, package):
    for _ in render.render(blocking, Settings(steps=1, seed=1), package):
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


@pytest.mark.parametrize(
    "placement",
    [
        Placement(0),
        Placement(1, "disk", ffn_rows=7),
        Placement(vae_tile=16, stage_frames=1),
        Placement(0, "ram", 5, 24),
    ],
)
def test_the_film_is_the_same_wherever_the_blocks_are(blocking, package, placement):
    plain = film(blocking, package)
    np.testing.assert_allclose(film(blocking, package, placement=placement), plain, rtol=0, atol=2e-5)
    np.testing.assert_array_equal(film(blocking, package, placement=replace(placement, vae_tile=0)), plain)


def test_a_plan_may_choose_how_tokens_look_at_each_other(blocking, package):
    plain, quick = film(blocking, package), film(blocking, package, attention="int8_f32")
    assert 0 < np.abs(quick - plain).max() < 0.05
    np.testing.assert_array_equal(film(blocking, package), plain)  # the warm model forgets it


@pytest.mark.parametrize("solver", ["unipc", "euler"])
def test_one_seed_is_one_film(blocking, package, solver):
    first = film(blocking, package, solver=solver)
    np.testing.assert_array_equal(film(blocking, package, solver=solver), first)
    assert np.abs(film(blocking, package, solver=solver, seed=2) - first).max() > 1e-3


def test_what_is_directed_reaches_the_network(blocking, package):
    """A lamp's color, a subject's heading and a lens each change the film, whatever the weights are."""
    plain = film(blocking, package)
    key = replace(blocking.lights[0], rgb=blocking.lights[0].rgb * [0.5, 1, 2])
    turned = replace(blocking.subjects[0], heading_deg=blocking.subjects[0].heading_deg + 90)
    for other in (
        replace(blocking, lights=(key, *blocking.lights[1:])),
        replace(blocking, subjects=(turned, *blocking.subjects[1:])),
        replace(blocking, focal_mm=blocking.focal_mm * 1.3),
    ):
        assert np.abs(film(other, package) - plain).max() > 1e-4


def test_the_network_reads_what_training_showed_it(blocking, package):
    """Keyframe (20), previs (16), depth (16), rays (24): the order of training.fit.drop."""
    model = loading.load(package, "cpu")
    with torch.inference_mode():
        inputs = prepare_previs(model, blocking)
        previs, depth = control_films(blocking)
        coded = [
            model.vae.encode((torch.from_numpy(f).permute(3, 0, 1, 2)[None] * 2 - 1).to(model.vae.analysis[1].weight))
            for f in (previs, np.repeat(depth[..., None], 3, -1))
        ]
    assert inputs.maps.shape == (1, 76, 3, 4, 6)
    assert (inputs.maps[:, :20] == 0).all()
    torch.testing.assert_close(inputs.maps[:, 20:36], coded[0])
    torch.testing.assert_close(inputs.maps[:, 36:52], coded[1])
    np.testing.assert_array_equal(inputs.maps[0, 52:].numpy(), camera_rays(blocking))
    np.testing.assert_array_equal(inputs.contexts[0][0].numpy(), context_tokens(blocking))


def test_the_model_sheet_is_read_where_the_card_has_a_reference(blocking, package, older):
    assert film(blocking, older).shape == film(blocking, package).shape
    model = loading.load(package, "cpu")
    drawn = stage.render_frame(sheet(blocking), 0, samples=SAMPLES).rgb
    still = torch.from_numpy(drawn).permute(2, 0, 1)[None, :, None] * 2 - 1
    with torch.inference_mode():
        inputs = prepare_previs(model, blocking)
        coded = model.vae.encode(still.to(next(model.vae.parameters())))
    assert inputs.extras.reference.shape == (1, 16, 4, 6)
    torch.testing.assert_close(inputs.extras.reference, coded[:, :, 0])
    nobody = replace(blocking, subjects=())
    with torch.inference_mode():
        assert torch.equal(prepare_previs(model, nobody).extras.reference, torch.zeros(1, 16, 4, 6))
    assert np.isfinite(film(nobody, package)).all()


def test_the_sheet_changes_the_film(blocking, package):
    """One shot with the sheet of other people, so that nothing else of what is read differs."""
    model, settings = loading.load(package, "cpu"), Settings(steps=2, seed=1)
    look = replace(blocking.subjects[0].appearance, top=(0.6, 0.05, 0.05), bottom=(0.05, 0.05, 0.6))
    other = replace(blocking, subjects=(replace(blocking.subjects[0], appearance=look), *blocking.subjects[1:]))
    with torch.inference_mode():
        inputs, strange = (prepare_previs(model, shot) for shot in (blocking, other))
    levels, start = render.initial_state(model, blocking, settings)
    one, two = (
        list(render.denoise_film(model, replace(inputs, extras=extras), levels, settings, start))[-1].latent
        for extras in (inputs.extras, strange.extras)
    )
    assert (one - two).abs().max() > 1e-4


def picture(seed, height=32, width=48):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("ends", "between"),
    [
        ({"first": 0}, []),
        ({"last": 8}, []),
        ({"first": 0, "last": 8}, []),
        ({}, [3]),
        ({"first": 0, "last": 8}, [5, 4]),
    ],
)
def test_pictures_of_a_request_are_keyframes(blocking, package, ends, between):
    """Each is drawn with its frame's number as a seed."""
    at = [*ends.values(), *between]
    request = Request(**{name: picture(seed=t) for name, t in ends.items()}, keys={t: picture(seed=t) for t in between})
    model = loading.load(package, "cpu")
    shown = torch.zeros(1, 3, 9, 32, 48)
    for t in at:
        shown[:, :, t] = torch.from_numpy(picture(seed=t)).permute(2, 0, 1) / 127.5 - 1
    kept, mask = keyframes(shown, at)
    with torch.inference_mode():
        maps, plain = prepare_previs(model, blocking, request).maps, prepare_previs(model, blocking).maps
        coded = model.vae.encode(kept.to(next(model.vae.parameters())))
    assert torch.equal(maps[:, :4], mask)
    torch.testing.assert_close(maps[:, 4:20], coded)
    assert torch.equal(maps[:, 20:], plain[:, 20:])
    assert np.abs(film(blocking, package, request) - film(blocking, package)).max() > 1e-4


def test_first_and_last_come_before_a_key_that_is_there_too():
    one, two, other = (picture(seed) for seed in (1, 2, 3))
    request = Request(first=one, last=two, keys={8: other, 4: other, 0: other})
    assert [*request.pictures(9)] == [0, 4, 8] and [*request.pictures(13)] == [0, 4, 8, 12]
    assert request.pictures(9)[0] is one and request.pictures(9)[8] is two and request.pictures(13)[8] is other
    assert NOTHING.pictures(9) == {}


def test_a_key_outside_the_film_is_an_error(blocking, package):
    with pytest.raises(ValueError, match="keyframe 9 is not a frame of the film: its frames are 0 to 8"):
        film(blocking, package, Request(keys={9: picture(1)}))


def test_a_model_stays_warm_until_its_file_changes(blocking, package, write_previs, tmp_path):
    first = loading.load(package, "cpu")
    assert loading.load(package, "cpu") is first
    other = loading.load(write_previs(tmp_path / "other.safetensors", TINY, seed=1), "cpu")
    assert other is not first and other.weights_sha256 != first.weights_sha256
    assert loading.load(package, "cpu") is not first  # one model in memory at a time


@pytest.mark.parametrize(("solver", "step"), [("unipc", 1), ("unipc", 2), ("unipc", 3), ("euler", 2)])
def test_a_render_cut_off_after_a_step_goes_on_to_the_same_film(blocking, package, tmp_path, solver, step):
    settings = Settings(steps=3, seed=1, solver=solver)
    for event in render.render(blocking, settings, package, tmp_path):
        if isinstance(event, Stepped) and event.index == step:
            break
    events = list(render.render(blocking, settings, package, tmp_path))
    kinds = [Loaded, Conditioned, Resumed, *[Stepped] * (3 - step), *[Decoded] * 3]
    assert [type(event) for event in events] == kinds and events[2] == Resumed(step, 3)
    assert [event.index for event in events if isinstance(event, Stepped)] == list(range(step + 1, 4))
    frames = np.concatenate([event.frames for event in events if isinstance(event, Decoded)])
    np.testing.assert_array_equal(frames, film(blocking, package, steps=3, solver=solver))


def test_only_what_would_give_the_same_film_is_gone_on_with(blocking, package, write_previs, tmp_path):
    """Another seed, solver, number of steps, blocking or weights: each starts anew, says why, and is not disturbed."""
    settings = Settings(steps=2, seed=1)
    other = write_previs(tmp_path / "other.safetensors", TINY, seed=1)
    exposed = replace(blocking, exposure_ev=blocking.exposure_ev + 1)
    list(render.render(blocking, settings, package, tmp_path))
    for shot, asked, weights in (
        (blocking, replace(settings, seed=2), package),
        (blocking, replace(settings, solver="euler"), package),
        (blocking, replace(settings, steps=3), package),
        (exposed, settings, package),
        (blocking, settings, other),
    ):
        events = list(render.render(shot, asked, weights, tmp_path))
        assert [type(event) for event in events[:4]] == [Loaded, Conditioned, Noted, Noted]
        assert "another blocking, seed, setting, model or version" in events[2].text
        assert [event.index for event in events if isinstance(event, Stepped)] == list(range(1, asked.steps + 1))
        frames = np.concatenate([event.frames for event in events if isinstance(event, Decoded)])
        np.testing.assert_array_equal(
            frames, film(shot, weights, steps=asked.steps, seed=asked.seed, solver=asked.solver)
        )


def test_a_film_is_gone_on_with_only_where_the_same_pictures_are_the_same_frames(blocking, package, tmp_path):
    """As a take does whose pictures were changed on the disk between two attempts."""
    settings, shown = Settings(steps=1, seed=1), picture(1)

    def resumed(request):
        """Whether a render continues after the saved step; one that does not has saved its own when it is left."""
        events = render.render(blocking, settings, package, tmp_path, request)
        return isinstance(next(event for event in events if isinstance(event, Resumed | Stepped)), Resumed)

    changed = shown.copy()
    changed[3, 4, 0] ^= 1
    assert not resumed(Request(keys={4: shown})) and resumed(Request(keys={4: shown.copy()}))
    for other in (
        Request(keys={4: changed}), Request(keys={5: shown}), Request(keys={4: shown.reshape(48, 32, 3)}),
        Request(keys={4: shown, 5: shown}), Request(first=shown), Request(last=shown), NOTHING,
    ):  # fmt: skip
        assert not resumed(other) and resumed(other)


def test_a_folder_that_is_not_there_costs_a_note(blocking, package, tmp_path):
    events = list(render.render(blocking, Settings(steps=3, seed=1), package, tmp_path / "absent"))
    assert [type(event) for event in events] == [Loaded, Conditioned, Noted, *[Stepped] * 3, *[Decoded] * 3]
    assert "continuing without resume" in events[2].text
    frames = np.concatenate([event.frames for event in events if isinstance(event, Decoded)])
    np.testing.assert_array_equal(frames, film(blocking, package, steps=3))


def test_what_cannot_be_rendered_is_refused_in_one_line(blocking, package, tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(package.read_bytes()[:-1000])
    junk = tmp_path / "junk.safetensors"
    junk.write_text("not a package at all, though it is long enough to look at")
    for path in (tmp_path / "absent.safetensors", broken, junk):
        with pytest.raises(BadInput) as refused:
            next(render.render(blocking, Settings(steps=1, seed=0), path))
        assert "\n" not in str(refused.value) and path.name in str(refused.value)


def test_a_package_without_an_autoencoder_is_refused(blocking, package, tmp_path):
    whole = open_package(package)
    path = tmp_path / "half.safetensors"
    half = {f"transformer.{name}": tensor.clone() for name, tensor in whole.part("transformer.").items()}
    save(path, half, {k: v for k, v in whole.metadata.items() if k in {"scheme", "card", "licence", "training"}})
    with pytest.raises(BadInput, match="the weights hold no autoencoder of this version's shape"):
        next(render.render(blocking, Settings(steps=1, seed=0), path))


def test_a_device_that_nobody_knows_is_said(blocking, package):
    with pytest.raises(BadInput, match="device 'tape' is not known: it must be cpu, cuda:0"):
        next(render.render(blocking, Settings(steps=1, seed=0, device="tape"), package))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_said(blocking, package):
    with pytest.raises(BadInput, match="cuda:0 was asked for, but this machine has no usable GPU: use --device cpu"):
        next(render.render(blocking, Settings(steps=1, seed=0, device="cuda:0"), package))
