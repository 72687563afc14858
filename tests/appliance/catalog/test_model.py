"""The model of a shot: found by name, refused where incomplete, planned by its card, with its own prompt."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from appliance.capability.prompt import NEGATIVE
from appliance.catalog.model import model_named, names, resolve_model, text_is_cached, usable_model
from appliance.daemon.attempt import RenderTake, StopFlag, Timeouts
from appliance.daemon.worker_process import WorkerProcess
from appliance.direction.document import from_json, from_toml, load_file, to_toml
from appliance.direction.shot import from_plain
from appliance.library import embeddings
from appliance.library.library import Library
from appliance.library.take import Status
from appliance.machine.probe import probe
from appliance.planning.plan import Plan
from appliance.processes import owner
from appliance.shooting.quote import check_shootable, plan_direction, read
from models.card import PREVIS, WAN_14B, few_steps
from models.errors import BadInput
from models.events import Embedding

ROOT = Path(__file__).resolve().parents[3]
CARD = replace(WAN_14B, name="wan2.1-t2v-14b-64x2", dim=64, ffn=128, heads=2, layers=2, text_dim=64, steps=4)
PARTS = ("transformer", "vae", "text", "tokenizer")
SHOT = """
scene = "12"
setup = "C"
seed = 5
[time]
duration_s = 0.5
[format]
width = 76
height = 64
[text]
action = "{action}"
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An installation with a shot file."""
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "shot.toml").write_text(SHOT.format(action="read"))
    return tmp_path


@pytest.fixture
def package(home, empty_package):
    """Writes an imported package, "ours"; returns the hash of its data."""

    def write(card=CARD, **facts):
        return empty_package(home / "models" / "ours.safetensors", card, **facts)

    return write


def test_the_shipped_model_is_the_default(home):
    assert model_named(None) == model_named("previs") == usable_model(None)
    assert (
        model_named(None).name,
        model_named(None).card,
        model_named(None).reader,
        model_named(None).package_precision,
    ) == ("previs", PREVIS, None, None)
    assert (
        model_named(None).prompts(load_file(home / "shot.toml")) == ("", "")
        and model_named(None).encoded_texts(load_file(home / "shot.toml")) == ()
    )


def test_an_imported_model(home, package):
    digest = package()
    ours = usable_model("ours")
    assert (ours.card, ours.sha256, ours.package_precision, ours.path.name) == (
        CARD,
        digest,
        "int8",
        "ours.safetensors",
    )
    assert (ours.reader.sha256, ours.reader.tokens, ours.reader.dim) == (digest, 512, 64)
    assert names() == ["previs", "ours"]
    shot = load_file(home / "shot.toml")
    assert ours.prompts(shot) == ("Read. 35 mm lens.", NEGATIVE) and ours.encoded_texts(shot) == ours.prompts(shot)


def test_without_guidance_there_is_no_negative_prompt(home, package):
    package(card=few_steps(CARD, "lightx2v"))
    shot = load_file(home / "shot.toml")
    assert usable_model("ours").prompts(shot) == ("Read. 35 mm lens.", "")
    assert usable_model("ours").encoded_texts(shot) == ("Read. 35 mm lens.",)


@pytest.mark.parametrize(
    ("card", "parts", "lacks"),
    [
        (CARD, ("transformer", "vae", "text"), "tokenizer"),
        (CARD, ("transformer",), "autoencoder and text encoder and tokenizer"),
        (replace(CARD, image_dim=1280), PARTS, "image encoder"),
        (replace(CARD, experts=2, guidance=(4.0, 3.0), boundary=0.875), PARTS, "second expert"),
    ],
)
def test_an_incomplete_model_can_be_quoted_and_not_used(home, card, parts, lacks, package):
    package(card=card, parts=parts)
    assert resolve_model(load_with(home, "ours"))[1] == card
    with pytest.raises(BadInput, match=f"the model ours was imported without its {lacks} and cannot render"):
        usable_model("ours")


def load_with(home, model):
    return read(home / "shot.toml", model=model)


def test_an_unknown_model_is_refused_with_the_installed_ones_and_how_to_import(home, package):
    package()
    with pytest.raises(BadInput, match=r"no model 'theirs': you can shoot with previs, ours; `rushes models import`"):
        plan_direction(home / "shot.toml", load_with(home, "theirs"), None)
    with pytest.raises(
        BadInput, match="no model 'theirs' here: it must be one of previs, ours; `rushes models import`"
    ):
        usable_model("theirs")
    priced = plan_direction(home / "shot.toml", load_with(home, "wan2.1-t2v-1.3b"), "cpu")
    assert priced.fits and ("note", "wan2.1-t2v-1.3b is not installed") in [
        (name, text.partition(";")[0]) for name, text in priced.rows()
    ]
    with pytest.raises(BadInput, match="there is no model"):
        check_shootable(priced)


def test_a_shot_names_its_model_in_its_file_and_the_command_line_wins(home):
    (home / "shot.toml").write_text('model = "wan2.1-vace-1.3b"\n' + SHOT.format(action="waits"))
    stated = load_file(home / "shot.toml")
    assert stated.model == "wan2.1-vace-1.3b" == from_toml(to_toml(stated)).model
    assert read(home / "shot.toml").model == "wan2.1-vace-1.3b" and load_with(home, "ours").model == "ours"


def test_a_card_stands_for_the_package_that_is_here_of_it(home, package):
    package()
    quoted = plan_direction(home / "shot.toml", load_with(home, CARD.name), None)
    assert quoted.direction.model == "ours" and quoted.card == CARD.name and quoted.package.name == "ours"


@pytest.mark.parametrize(("scheme", "precision"), [("w8a8/1", "int8"), ("w4a8/1", "int4"), ("none", "bf16")])
def test_the_quote_of_an_imported_model(home, scheme, precision, package):
    package(scheme=scheme)
    quoted = plan_direction(home / "shot.toml", load_with(home, "ours"), "cpu")
    made = quoted.require_plan()
    assert (made.card, made.precision, made.steps, made.solver) == (CARD.name, precision, 4, "unipc")
    assert (made.frames, made.width, made.height, made.text) == (9, 80, 64, "cpu")
    check_shootable(quoted)
    rows = dict(quoted.rows())
    assert rows["weights"].startswith("ours, ") and rows["text-only"] == "text.action"
    assert "multiples of 16 pixels" in rows["why"]


def test_cached_text_needs_no_encoder(home, package):
    package()
    shot, ours = load_with(home, "ours"), usable_model("ours")
    with Library.open() as library:
        assert not text_is_cached(library, ours, shot)
        both = [Embedding(text, 1, bytes(128)) for text in ours.prompts(shot)]
        embeddings.store(library, ours.reader, both[:1])
        assert not text_is_cached(library, ours, shot), "what it is not to show is still to be read"
        embeddings.store(library, ours.reader, both[1:])
        assert text_is_cached(library, ours, shot) and not text_is_cached(library, usable_model(None), shot)
    plan = plan_direction(home / "shot.toml", shot, "cpu").require_plan()
    assert plan.text == "cached" and plan.footprint.text_bytes < 10 * 2**20


def test_a_refusal_names_the_shipped_model_as_a_way_out(home, package):
    package(card=replace(WAN_14B, name="wan2.1-t2v-14b"))
    big = replace(load_with(home, "ours"), time=from_plain({"time": {"duration_s": 30}}).time)
    small = replace(probe(), ram_free_bytes=2 * 2**30, gpus=(), disk_free_bytes=10**12)
    from appliance.machine.rates import MachineHistory
    from appliance.planning.calibrated_plan import planned
    from appliance.planning.request import PlanRequest

    card = usable_model("ours").card
    request = PlanRequest(direction=big, machine=small, card=card, package_precision="int8")
    refused, _ = planned(request, MachineHistory())
    assert any("another model: previs" in way for way in refused.remedies)


@pytest.mark.parametrize(
    ("changes", "stated", "given"),
    [
        ({}, {"first": "a.png", "last": "b.png"}, {"first": None, "last": None}),
        ({"vace_layers": (0,), "vace_channels": 96}, {}, {"first": None, "last": None}),
        ({"vace_layers": (0,), "vace_channels": 96}, {"first": "a.png"}, {"first": "a.png", "last": None}),
        ({"in_channels": 36}, {"first": "a.png", "last": "b.png"}, {"first": "a.png", "last": None}),
        (
            {"in_channels": 36, "image_dim": 80, "image_positions": 514},
            {"first": "a.png", "last": "b.png"},
            {"first": "a.png", "last": "b.png"},
        ),
    ],
)
def test_pictures_that_a_film_begins_and_ends_with(home, package, changes, stated, given):
    package(replace(CARD, **changes), parts=(*PARTS, "vision"))
    (home / "a.png").touch()
    (home / "b.png").touch()
    text = "".join(f'{name} = "{path}"\n' for name, path in stated.items())
    (home / "shot.toml").write_text(SHOT.format(action="waits") + f"[refs]\n{text}")
    found = usable_model("ours").pictures(load_with(home, "ours"))
    assert found == {name: path and str(home / path) for name, path in given.items()} | {"keys": []}


@pytest.mark.parametrize(("reference_channels", "any_frame"), [(0, False), (16, True)])
def test_our_own_models_get_the_pictures_that_they_were_trained_with(home, package, reference_channels, any_frame):
    """The first alone, or with the sheet of its people any: a picture elsewhere is then no mistake either."""
    package(replace(PREVIS, name="previs-other", reference_channels=reference_channels))
    (home / "a.png").touch()
    (home / "b.png").touch()
    a, b = str(home / "a.png"), str(home / "b.png")
    assert usable_model("ours").pictures(load_with(home, "ours")) == {"first": None, "last": None, "keys": []}
    stated = '[refs]\nfirst = "a.png"\nlast = "b.png"\nkeyframes = [{t_s = 0.3, path = "b.png"}]\n'
    (home / "shot.toml").write_text(SHOT.format(action="waits") + stated)
    given = {"first": a, "last": b if any_frame else None, "keys": [[5, b]] if any_frame else []}
    assert usable_model("ours").pictures(load_with(home, "ours")) == given
    told = plan_direction(home / "shot.toml", load_with(home, None), "cpu").to_json()["obeyed"]
    assert (told["refs.keyframes[0].t_s"], told["refs.keyframes[0].path"]) == ("approximate", "approximate")


def test_a_keyframe_whose_picture_is_not_there_is_refused_before_it_is_queued(home):
    (home / "a.png").touch()
    keys = '[refs]\nkeyframes = [{t_s = 0.1, path = "a.png"}, {t_s = 0.3, path = "gone.png"}]\n'
    (home / "shot.toml").write_text(SHOT.format(action="waits") + keys)
    with pytest.raises(
        BadInput, match=r"refs\.keyframes\[1\]\.path is .*gone\.png, and there is no such file: give the path of a pic"
    ):
        check_shootable(plan_direction(home / "shot.toml", load_with(home, None), "cpu"))
    (home / "gone.png").touch()
    (home / "a.png").write_bytes(b"no picture")
    with pytest.raises(BadInput, match=r"a\.png is not a picture that can be read .*: use PNG, JPEG"):
        check_shootable(plan_direction(home / "shot.toml", load_with(home, None), "cpu"))
    Image.effect_noise((64, 64), 50).save(home / "a.png")
    (home / "a.png").write_bytes((home / "a.png").read_bytes()[:2000])  # a copy that was cut off: its header is whole
    Image.new("RGB", (4, 4)).save(home / "gone.png")
    with pytest.raises(BadInput, match=r"a\.png is not a picture that can be read"):
        check_shootable(plan_direction(home / "shot.toml", load_with(home, None), "cpu"))
    Image.new("RGB", (4, 4)).save(home / "a.png")
    check_shootable(plan_direction(home / "shot.toml", load_with(home, None), "cpu"))


def test_a_model_that_needs_a_picture_is_refused_without_one(home, package):
    package(replace(CARD, in_channels=36))
    quoted = plan_direction(home / "shot.toml", load_with(home, "ours"), "cpu")
    assert quoted.fits, "what it would cost is told all the same"
    with pytest.raises(BadInput, match=r"ours needs a picture of the first frame: give its path in refs\.first"):
        check_shootable(quoted)
    (home / "shot.toml").write_text(SHOT.format(action="waits") + '[refs]\nfirst = "gone.png"\n')
    with pytest.raises(BadInput, match=r"refs\.first is .*gone\.png, and there is no such file"):
        check_shootable(plan_direction(home / "shot.toml", load_with(home, "ours"), "cpu"))


@pytest.fixture
def attempt(home):
    """Renders the queued take with a small worker; returns the take as it ended."""
    command = [sys.executable, "-P", str(ROOT / "tests" / "appliance" / "small_worker.py")]

    def attempt(library):
        rendering = RenderTake(library, library.claim(owner(), 60), Timeouts(), StopFlag())
        if rendering.plan(replace(probe(), gpus=(), ram_free_bytes=16 * 2**30, disk_free_bytes=10**12)):
            worker = WorkerProcess(command, home / "worker.log")
            try:
                rendering.with_worker(worker)
            finally:
                worker.end()
        return library.take(rendering.take.id)

    return attempt


def test_a_take_records_its_model_and_its_text_is_encoded_once(home, attempt, package):
    digest = package()
    with Library.open() as library:
        assert library.queue(load_with(home, "ours")).model == "ours"
        first = attempt(library)
        assert (first.status, first.model, first.model_sha256) == (Status.DELIVERED, "ours", digest), first.error
        plan = Plan.from_json(first.plan_json)
        assert (plan.card, plan.precision, plan.text) == (CARD.name, "int8", "cpu")
        assert "0 known, by ours: Read. 35 mm lens." in notes(library, first)
        assert first.model_words == f"ours, data {digest[:16]}"
        library.queue(from_json(first.direction_json), prev_take=first.id)
        second = attempt(library)
        assert second.status is Status.DELIVERED and Plan.from_json(second.plan_json).text == "cached"
        assert "2 known, by ours: Read. 35 mm lens." in notes(library, second)
        assert library.rows("SELECT count(*) FROM embeddings")[0][0] == 2, "nonsense was not kept"


def test_a_take_whose_model_was_removed_fails_with_the_way_out(home, attempt, package):
    package()
    with Library.open() as library:
        library.queue(load_with(home, "ours"))
        (home / "models" / "ours.safetensors").unlink()
        failed = attempt(library)
        assert failed.status is Status.FAILED and "no model 'ours' here" in failed.error


def test_the_shipped_model_is_recorded_too(home, attempt):
    with Library.open() as library:
        library.queue(load_file(home / "shot.toml"))
        done = attempt(library)
        assert (done.status, done.model, done.model_sha256) == (Status.DELIVERED, "previs", model_named(None).sha256)


def notes(library, take):
    return [event.text for event in library.events(take.id)]
