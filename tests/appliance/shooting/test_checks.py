"""What the render would refuse is refused before a row is written, and what the film will not show is said."""

from __future__ import annotations

import json

import pytest

from appliance.cli.main import main
from appliance.library.library import Library

SHOT = 'scene = "1"\nsetup = "B"\nseed = 1\n[[subjects]]\nid = "mara"\n'
# Each of these was queued once, and failed only when it was rendered.
REFUSED = {
    "pedestal": ('[[moves]]\ntype = "pedestal"\namount_m = -3\n', "camera.pos_m is -"),
    "zoom": ('[lens]\nfocal_mm = 100\n[[moves]]\ntype = "zoom"\namount_x = 8\n', "lens.focal_mm is 800.0"),
    "crane": ('[frame]\nangle = "high"\n[[moves]]\ntype = "crane"\namount_deg = 70\n', "moves[0].amount_deg is 70"),
    "dolly_zoom": ('[frame]\nsize = "CU"\n[[moves]]\ntype = "dolly_zoom"\namount_m = 4\n', "moves[0].amount_m is 4"),
    "first": ('[refs]\nfirst = "gone.png"\n', "refs.first is "),
    "keyframe": ('[refs]\nkeyframes = [{t_s = 0.3, path = "gone.png"}]\n', "refs.keyframes[0].path is "),
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("verb", ["quote", "shoot", "preview"])
def test_what_cannot_be_rendered_is_refused_before_it_is_queued(home, capsys, verb):
    options = {"shoot": ["--detach"], "preview": ["--out", str(home / "film.mp4")]}.get(verb, [])
    for name, (fields, begins) in REFUSED.items():
        file = home / f"{name}.toml"
        file.write_text(SHOT + fields)
        assert main([verb, str(file), *options]) == 2, name
        error = capsys.readouterr().err
        assert error.startswith(f"rushes: {file}: {begins}") and error.count("\n") == 1, error
    if (home / "library.db").exists():
        with Library.open() as library:
            assert library.takes() == []
    assert not (home / "film.mp4").exists()


def test_one_bad_file_keeps_all_from_the_queue(home, capsys):
    good, bad = home / "good.toml", home / "bad.toml"
    good.write_text(SHOT)
    bad.write_text(SHOT + REFUSED["pedestal"][0])
    assert main(["shoot", str(good), str(bad), "--detach"]) == 2
    assert str(bad) in capsys.readouterr().err
    with Library.open() as library:
        assert library.takes() == []


def test_what_the_film_will_not_show_is_a_warning_of_the_quote_and_the_preview(home, capsys):
    file = home / "wall.toml"
    file.write_text(SHOT + '[set]\nname = "room"\n[frame]\nsize = "WS"\nside = "back"\n[lens]\nfocal_mm = 50\n')
    hidden = 'mara is hidden by the set in 33 of 33 frames; frame.side = "front" avoids it'
    assert main(["quote", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["warnings"] == [hidden]
    assert main(["quote", str(file)]) == 0
    assert hidden in " ".join(capsys.readouterr().out.split())
    assert main(["preview", str(file), "--out", str(home / "wall.mp4")]) == 0
    assert f"warning: {hidden}" in " ".join(capsys.readouterr().out.split())
    file.write_text(SHOT)
    assert main(["quote", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["warnings"] == []
