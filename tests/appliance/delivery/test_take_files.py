"""A take's files: proved before they are published, and nothing left of a take that failed."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from appliance.atomic_files import file_sha256
from appliance.delivery.labels import aigc as label
from appliance.delivery.media.stills import filmstrip_png, picture_png
from appliance.delivery.media.verify import probe_video
from appliance.delivery.publish import publish_take, published
from appliance.delivery.take_files import TakeFacts, TakeWriter
from models.errors import RushesError

FACTS = TakeFacts(
    take="12C T4",
    take_id=31,
    direction={"slate": "12C", "text": {"action": "她转身"}},
    asked={"camera.moves": "exact", "text.action": "ignored"},
    blocking_sha256="b" * 64,
    plan={"frames": 9, "steps": 8},
    seed=7,
    weights_sha256="w" * 64,
    kernels_sha256="k" * 64,
    timings_s={"load": 1.23456, "draft": 2.0},
    peak_bytes=123_456_789,
)


def pictures(count=9, height=48, width=64):
    """Each frame a flat grey of its own, so a frame can be told by its value."""
    return np.linspace(0.1, 0.9, count, dtype=np.float32)[:, None, None, None] * np.ones(
        (1, height, width, 3), np.float32
    )


def writer(folder, frames=9, **options):
    return TakeWriter(folder, "12C-T4_31", width=64, height=48, fps=16.0, frames=frames, **options)


def deliver(folder):
    with writer(folder, metadata={"title": "12C T4"}) as take:
        for frame in pictures():
            take.write(frame[None])
        return take.finish(FACTS)


def published_film(folder):
    files = deliver(folder)
    publish_take(files.film, files.parts)
    return files.film


def visible(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))


def test_nothing_is_public_before_publish_and_everything_after(tmp_path):
    files = deliver(tmp_path / "12C")
    assert visible(tmp_path) == [] and files.parts[".mp4"].exists()
    publish_take(files.film, files.parts)
    named = [f"12C-T4_31.{suffix}" for suffix in ("json", "mp4", "png", "strip.png")]
    assert sorted(p.name for p in (tmp_path / "12C").iterdir()) == named
    publish_take(files.film, files.parts)  # after an interruption it may be said again
    assert visible(tmp_path) == named


def test_the_hashes_are_those_of_the_file_and_of_its_pictures(tmp_path):
    files = deliver(tmp_path)
    publish_take(files.film, files.parts)
    assert files.sha256 == file_sha256(files.film) and files.video == probe_video(files.film)


def test_the_label_names_the_take_and_the_pictures_it_shows(tmp_path, monkeypatch):
    monkeypatch.setenv("RUSHES_PRODUCER", "001191440300708461136T1XGW3")
    film = published_film(tmp_path)
    read = label.read_label(film)
    assert read.produce_id == f"12C-T4_31.{probe_video(film).frames_sha256[:16]}"
    assert read.content_producer == "001191440300708461136T1XGW3"
    with Image.open(film.with_suffix(".png")) as still:
        packet = still.info["XML:com.adobe.xmp"]
    assert "<TC260:AIGC>" in packet and read.produce_id in packet and "trainedAlgorithmicMedia" in packet


def test_the_page_holds_what_made_the_take(tmp_path):
    film = published_film(tmp_path)
    page = json.loads(film.with_suffix(".json").read_text())
    assert page["schema"] == "rushes-take/1" and page["take"] == "12C T4" and page["seed"] == 7
    assert page["direction"] == FACTS.direction and page["asked"] == FACTS.asked and page["plan"] == FACTS.plan
    assert (page["weights_sha256"], page["kernels_sha256"], page["blocking_sha256"]) == ("w" * 64, "k" * 64, "b" * 64)
    assert page["timings_s"] == {"load": 1.2346, "draft": 2.0} and page["peak_bytes"] == 123_456_789
    assert page["film"]["sha256"] == file_sha256(film)
    assert page["film"]["frames_sha256"] == probe_video(film).frames_sha256
    assert page["film"]["frames"] == 9 and page["film"]["file"] == film.name
    assert page["label"] == label.read_label(film).to_json()
    assert page["software"]["av"].startswith("18.") and page["software"]["python"].startswith("3.")


def test_two_takes_of_the_same_frames_are_the_same_film(tmp_path):
    a, b = deliver(tmp_path / "a"), deliver(tmp_path / "b")
    assert a.sha256 == b.sha256 and a.video == b.video


def test_the_thumbnail_is_the_middle_frame(tmp_path):
    film = published_film(tmp_path)
    with Image.open(film.with_suffix(".png")) as still:
        assert still.size == (64, 48)
        assert set(np.unique(np.asarray(still))) == {round(255 * float(pictures()[4, 0, 0, 0]))}


@pytest.mark.parametrize("count", [8, 10])
def test_a_film_of_another_length_than_planned_is_not_delivered(tmp_path, count):
    with pytest.raises(RushesError, match=f"has frames {count} where 9 was planned"), writer(tmp_path) as take:
        take.write(pictures(count))
        take.finish(FACTS)
    assert list(tmp_path.rglob("*")) == []


def test_an_error_or_a_cancel_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), writer(tmp_path) as take:
        take.write(pictures(3))
        raise KeyboardInterrupt
    with writer(tmp_path) as take:  # left without finishing: cancelled
        take.write(pictures(9))
    assert list(tmp_path.rglob("*")) == []


def test_a_delivered_take_is_not_overwritten(tmp_path):
    film = published_film(tmp_path)
    before = film.read_bytes()
    with pytest.raises(RushesError, match="already delivered"):
        writer(tmp_path)
    assert film.read_bytes() == before and len(list(tmp_path.iterdir())) == 4


def test_a_take_published_before_the_power_went_is_found_again(tmp_path):
    assert published(tmp_path / "12C-T4_31.mp4") is None
    film = published_film(tmp_path)
    page = film.with_suffix(".json")
    assert published(film) == json.loads(page.read_text())
    page.write_text(page.read_text().replace(file_sha256(film), "0" * 64))
    with pytest.raises(RushesError, match="not the film that"):
        published(film)
    page.unlink()
    with pytest.raises(RushesError, match="not the film that"):
        published(film)


def test_a_filmstrip_shows_frames_in_order_with_the_slate_beneath(tmp_path):
    film = published_film(tmp_path)
    facts = probe_video(film)
    with Image.open(io.BytesIO(filmstrip_png(film, facts, count=3))) as strip:
        codes = np.asarray(strip.convert("L")).astype(int)
        assert "TC260" in strip.info["XML:com.adobe.xmp"]
    assert codes.shape[1] == 3 * 64 + 4 * 3
    centres = codes[24, [3 + 32, 3 + 32 + 67, 3 + 32 + 134]]
    assert np.abs(centres - np.round(255 * np.array([0.1, 0.5, 0.9]))).max() <= 2
    below = codes[48 + 6 :]
    assert below.max() > 100  # the slate is written there
    with Image.open(io.BytesIO(filmstrip_png(film, facts, count=50))) as strip:  # more than it has: each frame once
        assert strip.size[0] == 9 * 64 + 10 * 3
    with Image.open(film.with_suffix(".strip.png")) as delivered:
        assert delivered.size[0] == 6 * 64 + 7 * 3


@pytest.mark.parametrize(("value", "code"), [(1.5, 255), (-1.0, 0)])
def test_a_picture_of_values_outside_the_range_is_clipped(value, code):
    with Image.open(io.BytesIO(picture_png(np.full((4, 4, 3), value, np.float32)))) as still:
        assert (np.asarray(still) == code).all()


@pytest.mark.parametrize(("frames", "limit", "name"), [(5, 2_000, "x.mp4"), (1, 50_000, "x.strip.png")])
def test_a_full_disk_at_any_moment_leaves_nothing(python, tmp_path, frames, limit, name):
    """First the film meets the limit, then, the film written, its filmstrip of noise does."""
    code = (
        "import resource, sys; import numpy as np; from pathlib import Path\n"
        "from appliance.delivery.take_files import TakeWriter, TakeFacts; from models.errors import RushesError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)\n"
        "noise = np.random.default_rng(0).random((int(sys.argv[3]), 128, 224, 3), np.float32)\n"
        "facts = TakeFacts('12C T4', 1, {}, {}, '', {}, 1, '', '')\n"
        "try:\n"
        "    with TakeWriter(Path(sys.argv[1]), 'x', width=224, height=128, fps=16, frames=len(noise)) as take:\n"
        "        take.write(noise); take.finish(facts)\n"
        "except RushesError as error: print(error); sys.exit(error.exit_code)\n"
    )
    done = python("-c", code, tmp_path, limit, frames)
    assert done.returncode == 1, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 1 and "exceed the size" in done.stdout and name in done.stdout
    assert list(tmp_path.iterdir()) == []
