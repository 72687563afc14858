"""One denoising step: both guidance passes, the right expert, a given first frame, and steps that reuse an output."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from models.card import Card
from models.dit.wan import Transformer
from models.dit.wan_variants import ExtraInputs
from models.loading import load as loading
from models.loading.quantize import load_quantized, quantize
from models.rendering.checkpoint import Checkpoints
from models.rendering.conditioning import prepare_previs
from models.rendering.guidance import GuidedVelocity, NetworkInputs
from models.rendering.sampler import State, denoise, noise, schedule
from models.rendering.step_cache import ALWAYS, EasyCache
from models.training.release import SHIPPED
from models.training.shots import scenes

CARD = Card("small", dim=24, ffn=32, heads=2, layers=2, in_channels=16, text_dim=16, text_len=8, whole_times=True)
PAIR = replace(CARD, experts=2, boundary=0.875, guidance=(4.0, 3.0))
TI2V = replace(CARD, in_channels=48, out_channels=48)
I2V = replace(CARD, in_channels=36, image_dim=20)
SIZE = (1, 16, 2, 4, 6)


def contexts(seed: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    one, two = torch.randn(2, 1, 8, 16, generator=torch.Generator().manual_seed(seed))
    return one, two


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


@pytest.fixture(scope="module")
def network(telling):
    return telling(Transformer(CARD)).requires_grad_(False)


@torch.no_grad()
def test_guidance_by_hand(network) -> None:
    x, (wanted, other) = noise(SIZE, 1), contexts()
    guide = GuidedVelocity(lambda _: network, CARD, NetworkInputs((wanted, other)), scales=(5.0,))
    t = torch.tensor([700.0])
    with_words, without = network(x, t, wanted), network(x, t, other)
    torch.testing.assert_close(guide(x, 700.0), without + 5 * (with_words - without))
    unguided = GuidedVelocity(lambda _: network, CARD, NetworkInputs((wanted, other)), scales=(1.0,))
    assert torch.equal(unguided(x, 700.0), with_words)
    assert torch.equal(
        GuidedVelocity(lambda _: network, CARD, NetworkInputs((wanted,)), scales=(1.0,))(x, 700.0), with_words
    )


def test_a_guidance_scale_for_each_expert(network) -> None:
    with pytest.raises(ValueError, match=r"guidance is \(3.0,\): small takes one number for each of 2"):
        GuidedVelocity(lambda _: network, PAIR, NetworkInputs(contexts()), scales=(3.0,))


@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
@torch.no_grad()
def test_both_passes_at_once_are_both_one_after_the_other(telling, int8: bool) -> None:
    """With everything that is read beside the words."""
    network = telling(Transformer(I2V))
    if int8:
        network = load_quantized(I2V, quantize(network.state_dict(), I2V))
    inputs = NetworkInputs(contexts(), noise((1, 20, *SIZE[2:]), 2), ExtraInputs(pictures=noise((1, 257, 20), 4)))
    shapes = []

    def seen(_: int):
        return lambda x, t, context, extras: (shapes.append(len(x)), network(x, t, context, extras))[1]

    x = noise(SIZE, 1)
    apart, together = (GuidedVelocity(seen, I2V, inputs, batch=batch)(x, 700.0) for batch in (1, 2))
    assert shapes == [1, 1, 2]
    assert relative(together, apart) < (1e-3 if int8 else 1e-5)


@torch.no_grad()
def test_each_expert_denoises_at_its_noise_with_its_scale(telling) -> None:
    high, low = (telling(Transformer(PAIR), seed) for seed in (1, 2))
    inputs, worked = NetworkInputs(contexts()), []

    def network(which: int) -> Transformer:
        worked.append(which)
        return (high, low)[which]

    guide, x = GuidedVelocity(network, PAIR, inputs), noise(SIZE, 1)
    for t, expert, pull in ((875.0, high, 4.0), (874.0, low, 3.0)):
        with_words, without = (expert(x, torch.tensor([t]), context) for context in inputs.contexts)
        torch.testing.assert_close(guide(x, t), without + pull * (with_words - without))
    plan = schedule("unipc", 40, 12.0, truncate=True)
    worked.clear()
    list(denoise(guide, x, plan))
    assert worked == [0] * 2 * 26 + [1] * 2 * 14  # both passes of a step; never back to the first


@torch.no_grad()
def test_a_first_frame_that_is_given_stays_and_is_told_to_be_without_noise(telling) -> None:
    network = telling(Transformer(TI2V))
    size = (1, 48, 3, 4, 6)
    first, x = noise((1, 48, 1, 4, 6), 5), noise(size, 1)
    inputs = NetworkInputs(contexts()[:1], first_latent=first)
    given = inputs.with_first_latent(x)
    assert torch.equal(given[:, :, :1], first) and torch.equal(given[:, :, 1:], x[:, :, 1:])
    v = GuidedVelocity(lambda _: network, TI2V, inputs, scales=(1.0,))(x, 600.0)
    torch.testing.assert_close(v, network(given, torch.tensor([[0.0, 600.0, 600.0]]), inputs.contexts[0]))


def walk(network, card: Card, tolerance: float, steps: int = 40, start: State | None = None, size=SIZE):
    """The states of a render with a cache, and the cache."""
    plan = schedule("unipc", steps, 5.0, truncate=True)
    state = start or State(0, steps, noise(size, 1))
    cache = EasyCache(tolerance, state)
    guide = GuidedVelocity(network, card, NetworkInputs(contexts()), scales=(3.0,) * card.experts, cache=cache)
    return [cache.attach(each) for each in denoise(guide, state.latent, plan, resume=state)], cache


@torch.no_grad()
def test_no_tolerance_skips_nothing(network) -> None:
    plan = schedule("unipc", 12, 5.0, truncate=True)
    guide = GuidedVelocity(lambda _: network, CARD, NetworkInputs(contexts()), scales=(3.0,))
    exact = list(denoise(guide, noise(SIZE, 1), plan))
    states, cache = walk(lambda _: network, CARD, 0.0, 12)
    assert cache.skipped == 0
    for one, other in zip(exact, states, strict=True):
        assert torch.equal(one.latent, other.latent)


@torch.no_grad()
def test_what_skipping_costs(record_property) -> None:
    """The trained network that ships, at the published tolerance: a third of its forwards less, and a near film."""
    model = loading.load(SHIPPED, "cpu")
    inputs = prepare_previs(model, scenes.shot(3, 5, 48, 64))
    plan, latents, skipped = schedule("unipc", 20, model.card.shift), [], 0.0
    for tolerance in (0.0, 0.05):
        state = State(0, 20, noise((1, 16, 2, 6, 8), 1))
        cache = EasyCache(tolerance, state)
        *_, last = denoise(
            GuidedVelocity(lambda _: model.transformer, model.card, inputs, cache=cache), state.latent, plan
        )
        latents.append(last.latent)
        skipped = cache.skipped
    exact, near = (torch.cat(list(model.vae.decode_stream(latent)), 2) for latent in latents)
    psnr = -10 * float(torch.log10(((exact - near) / 2).square().mean()))
    found = {"skipped of 20": skipped, "of the latent": relative(latents[1], latents[0]), "dB of the film": psnr}
    record_property("what skipping costs", str(found))
    assert skipped >= 5 and found["of the latent"] < 0.05 and psnr > 40


@torch.no_grad()
def test_the_network_always_runs_at_the_first_steps_the_last_and_for_a_new_expert(telling) -> None:
    experts, asked = [telling(Transformer(PAIR), seed) for seed in (1, 2)], []

    def network(which: int) -> Transformer:
        asked.append(which)
        return experts[which]

    _, cache = walk(network, PAIR, 1e9, 24)
    # both passes: the first steps; the new expert twice, before a change of its answers is known; the last
    assert asked == [0] * 2 * ALWAYS + [1] * 2 * 3
    assert cache.skipped == 24 - ALWAYS - 3
    assert sum(t >= 875 for t in schedule("unipc", 24, 5.0, truncate=True).times) > ALWAYS


@pytest.mark.parametrize("card", [CARD, PAIR], ids=["one", "two experts"])
@torch.no_grad()
def test_a_render_with_a_cache_resumes_to_the_same_film(tmp_path, telling, card: Card) -> None:
    experts = [telling(Transformer(card), seed) for seed in (1, 2)]
    states, cache = walk(experts.__getitem__, card, 2.0, 20)
    assert cache.skipped > 3
    switch = sum(t >= 875 for t in schedule("unipc", 20, 5.0, truncate=True).times)
    for state in (states[i] for i in (2, switch - 1, switch, 12, 17)):
        checkpoints, start = Checkpoints(tmp_path, "k"), State(0, 20, noise(SIZE, 1))
        assert checkpoints.save(state) is None
        resumed, skipped = checkpoints.newest(start)
        assert skipped == [] and resumed.index == state.index
        rest, again = walk(experts.__getitem__, card, 2.0, 20, resumed)
        assert torch.equal(rest[-1].latent, states[-1].latent) and again.skipped == cache.skipped


def test_half_a_cache_is_refused(tmp_path) -> None:
    """A saved step that holds answers and not their numbers, or the numbers alone, is passed over."""
    start = State(0, 20, noise(SIZE, 1))
    for half in (
        replace(start, index=1, cached=(start.latent,) * 3),
        replace(start, index=1, cache_numbers=(0.0,) * 4),
    ):
        checkpoints = Checkpoints(tmp_path, "k")
        assert checkpoints.save(half) is None
        found, skipped = checkpoints.newest(start)
        assert found is start and len(skipped) == 1 and "does not hold a state" in skipped[0]
