"""For every known card: the render reads of a request and of the stage what reports and requests promise, no more."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from appliance.capability.report import level
from models.card import CARDS, PREVIS, Card, reads_text
from models.controls import inputs
from models.cost.flops import coder_flops
from models.errors import BadInput
from models.events import Request
from models.geometry import Geometry
from models.loading.load import Model, load
from models.rendering.conditioning import condition
from models.rendering.guidance import NetworkInputs
from models.training.shots import scenes

OLDER = replace(PREVIS, reference_channels=0)  # packages from before the model sheet
KNOWN = [pytest.param(card, id=name) for name, card in CARDS.items()] + [pytest.param(OLDER, id="previs, older")]
SIZE = Geometry(5, 32, 32)
BLOCKING = scenes.shot(3, SIZE.frames, SIZE.height, SIZE.width)
NOBODY = replace(BLOCKING, subjects=())
MOVED = replace(BLOCKING, c2w=BLOCKING.c2w + np.pad([[0.3]], ((2, 0), (3, 0))) * (np.arange(5) > 0)[:, None, None])


@pytest.fixture
def model(card: Card, wan_package, write_previs, tmp_path) -> Model:
    """The card's network and encoders, of which everything that a control needs is there, and small."""
    if not reads_text(card):
        path = write_previs(tmp_path / "previs.safetensors", replace(card, dim=32, ffn=64, heads=2, layers=1))
    else:
        small = replace(card, dim=24, ffn=32, heads=2, layers=1, text_dim=16, image_dim=20 if card.image_dim else 0)
        path = wan_package(replace(small, vace_layers=(0,) if card.vace_layers else ()))
    return load(path, "cpu")


def prepared(model: Model, blocking=BLOCKING, **pictures) -> NetworkInputs:
    contexts = (torch.zeros(1, 4, model.card.text_dim),)
    with torch.inference_mode():
        return condition(model, blocking, Request(**pictures), contexts, at_once=1)


def picture(grey: int) -> np.ndarray:
    return np.full((SIZE.height, SIZE.width, 3), grey, np.uint8)


def needed(card: Card) -> dict[str, np.ndarray]:
    """The pictures without which a card makes no film."""
    found = {"first": picture(60)} if inputs.needs_first_frame(card) else {}
    return found | ({"last": picture(90)} if inputs.needs_last_frame(card) else {})


def equal(one: NetworkInputs, other: NetworkInputs) -> bool:
    def parts(made: NetworkInputs) -> list:
        return [*made.contexts, *made.extras, made.maps, made.first_latent, made.previs]

    assert {field.name for field in fields(one)} == {"contexts", "extras", "maps", "first_latent", "previs"}
    pairs = zip(parts(one), parts(other), strict=True)
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


@pytest.mark.parametrize("card", KNOWN)
def test_what_is_promised_is_read_and_nothing_else(card: Card, model: Model, monkeypatch) -> None:
    films: list[int] = []  # latent frames of each film that is encoded
    encode = model.vae.encode_stream
    monkeypatch.setattr(model.vae, "encode_stream", lambda chunks: (z := encode(chunks), films.append(z.shape[2]))[0])
    given = needed(card)
    plain = prepared(model, **given)
    stills, whole = films.count(1), films.count(SIZE.latent[0])

    changes = {"first": picture(200), "last": picture(210), "keys": {2: picture(220)}}
    read = {name: not equal(plain, prepared(model, **(given | {name: other}))) for name, other in changes.items()}
    assert read == {
        "first": inputs.reads_first_frame(card),
        "last": inputs.reads_last_frame(card),
        "keys": inputs.reads_keyframes(card),
    }

    ours = not reads_text(card)
    people, camera = (not equal(plain, prepared(model, other, **given)) for other in (NOBODY, MOVED))
    assert people is (ours or inputs.reads_depth(card))
    assert camera is (ours or inputs.reads_depth(card) or inputs.reads_camera_rays(card))
    assert (plain.extras.rays is not None) is inputs.reads_camera_rays(card)
    assert (plain.extras.reference is not None) is inputs.reads_model_sheet(card)

    # Films encoded, which plans count: a first frame that is not given is zeros, and costs no encoding.
    assert stills == inputs.reads_model_sheet(card)
    assert whole == inputs.encoded_films(card) - inputs.concatenates_first_frame(card)
    none = replace(card, in_channels=card.out_channels, vace_layers=())
    assert ours or (coder_flops(card, SIZE) > coder_flops(none, SIZE)) is (inputs.encoded_films(card) > 0)

    if card is not OLDER:  # the report knows cards by name
        fields_of = {"first": "refs.first", "last": "refs.last", "keys": "refs.keyframes"}
        assert {name: level(field, card.name) in ("exact", "approximate") for name, field in fields_of.items()} == read
        assert ours or (level("frame", card.name) == "exact") is camera
        assert ours or (level("subjects[].track", card.name) == "exact") is people


@pytest.mark.parametrize("card", [each for each in KNOWN if needed(each.values[0])])
def test_a_picture_is_demanded_where_it_is_promised(card: Card, model: Model) -> None:
    """Only there: above, every card makes its film with the pictures that it needs and no others."""
    for name in needed(card):
        others = {which: each for which, each in needed(card).items() if which != name}
        verb = {"first": "begins", "last": "ends"}[name]
        with pytest.raises(BadInput, match=f"{card.name} makes a film that {verb} with a picture"):
            prepared(model, **others)
