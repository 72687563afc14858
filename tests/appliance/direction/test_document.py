"""Shot files: whatever a direction can say is written and read back the same, and a bad file is one clear line."""

import json
from dataclasses import MISSING
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from appliance.direction.document import from_json, from_toml, load_file, to_json, to_toml
from appliance.direction.fields import Spec, defaults, specs
from appliance.direction.shot import ShotDirection, from_plain
from appliance.direction.vocabulary import MOVES
from models.errors import BadInput

EXAMPLES = sorted((Path(__file__).resolve().parents[3] / "appliance" / "examples").glob("*.toml"))
IDS = ("mara", "Jonas_2", "third-man")
EASES = st.sampled_from(["linear", "smooth", "in", "out", "hold", "exp(2.5)", "exp(-3)"])


def values(spec: Spec):
    """Anything a field may hold, as plain values."""
    if spec.kind in ("number", "integer"):
        one = st.integers(int(spec.lo), int(spec.hi)) if spec.kind == "integer" else st.floats(spec.lo, spec.hi)
        value = one if spec.size == 1 else st.lists(one, min_size=spec.size, max_size=spec.size)
        return value | keys(value) if spec.keyed else value
    if spec.kind == "text":
        text = st.text(max_size=min(spec.most, 30) if not spec.many else 30)
        return st.lists(text, max_size=min(spec.most, 3)) if spec.many else text
    if spec.kind == "list":
        return st.lists(tables(spec.of), max_size=2)
    return {
        "flag": st.booleans(), "word": st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_-]{0,31}\Z"), "ease": EASES,
        "choice": st.sampled_from(spec.options()) if spec.kind == "choice" else None,
        "color": st.from_regex(r"\A#[0-9a-f]{6}\Z"), "table": tables(spec.of) if spec.kind == "table" else None,
    }[spec.kind]  # fmt: skip


def keys(value):
    times = st.lists(st.floats(-60, 600), min_size=1, max_size=4, unique=True).map(sorted)

    def key(t_s):
        return st.fixed_dictionaries({"t_s": st.just(t_s), "value": value}, optional={"ease": EASES})

    return times.flatmap(lambda when: st.tuples(*map(key, when))).map(list)


def tables(of, leave_out=()):
    known = {name: values(spec) for name, spec in specs(of).items() if name not in leave_out and spec.kind != "named"}
    needed = {name: known.pop(name) for name, default in defaults(of).items() if default is MISSING and name in known}
    return st.fixed_dictionaries(needed, optional=known)


@st.composite
def moves(draw, length):
    kind = draw(st.sampled_from([kind for kind in MOVES.values() if kind.name != "static"]))
    move = {"type": kind.name, "ease": draw(EASES)}
    amount = draw(st.sampled_from(kind.amounts))
    if kind.target == "may" and draw(st.booleans()):
        move["target"] = draw(st.sampled_from(IDS) | st.lists(st.floats(-100, 100), min_size=3, max_size=3))
    if kind.name != "rack_focus" or "target" not in move:
        move[amount.key] = draw(st.floats(amount.lo, amount.hi))
    if draw(st.booleans()):
        move["from_s"] = draw(st.floats(0, length / 2))
        move["to_s"] = draw(st.floats(length * 0.6, length))
    return move


@st.composite
def directions(draw):
    """A whole direction, as plain values: every field may be stated."""
    special = ("moves", "subjects", "cast", "lock", "frame", "camera", "continuity", "setup", "lens")
    shot = draw(tables(ShotDirection, special))
    of = {name: spec.of for name, spec in specs(ShotDirection).items()}
    shot["frame"] = draw(tables(of["frame"], ("subject",))) | draw(
        st.sampled_from([{}, {"subject": "mara"}, {"subject": "all"}])
    )
    shot["camera"] = draw(tables(of["camera"], ("follow", "pos_m"))) | {"follow": "third-man"}
    shot["lens"] = draw(tables(of["lens"], ("focus_on",))) | {"focus_on": "Jonas_2"}
    shot["continuity"] = draw(tables(of["continuity"]))
    shot["setup"] = draw(st.sampled_from(["A", "Z", "AB"]))
    shot["lock"] = draw(
        st.lists(st.sampled_from(["lens.focal_mm", "light", "moves[0].amount_deg", "cast.mara.hat"]), max_size=2)
    )
    length = shot.get("time", {}).get("duration_s", 2.0)
    shot["moves"] = draw(st.lists(moves(length), max_size=3))
    shot["cast"] = {
        name: draw(tables(of["cast"], ("id", "bareheaded"))) for name in draw(st.sets(st.sampled_from(IDS)))
    }
    track = st.lists(
        st.tuples(st.floats(-9, 9), st.floats(-9, 9)), max_size=3, unique_by=lambda p: (round(p[0]), round(p[1]))
    )
    gaze = st.sampled_from([*IDS, "camera", [1, 2, 3.5]])
    shot["subjects"] = [
        draw(tables(of["subjects"], ("id", "character", "track", "gaze")))
        | {"id": name, "track": [{"x_m": x, "z_m": z} for x, z in draw(track)], "gaze": draw(gaze)}
        for name in IDS
    ]
    for key, span in zip(shot.get("refs", {}).get("keyframes", []), ((0.2, 0.3), (0.5, 0.55)), strict=False):
        key["t_s"] = length * draw(st.floats(*span))  # at frames of their own, of the 5 that a film has at least
    if "camera" in shot and shot["camera"].get("shake", {}).get("hz_lo", 0.5) > shot["camera"].get("shake", {}).get(
        "hz_hi", 3.0
    ):
        del shot["camera"]["shake"]
    assume(not isinstance(shot["camera"].get("look_at"), str) or shot["camera"]["look_at"] in IDS)
    return from_plain(shot)


@given(directions())
@settings(max_examples=50, deadline=None)
def test_toml_and_json_lose_nothing(shot):
    assert from_toml(to_toml(shot)) == shot
    assert from_json(to_json(shot)) == shot
    assert to_toml(from_json(to_json(shot))) == to_toml(shot)


@given(st.text(max_size=200))
@settings(max_examples=50, deadline=None)
def test_any_text_survives_both_forms(words):
    shot = ShotDirection(text={"action": words, "style": words})
    assert from_toml(to_toml(shot)) == shot and from_json(to_json(shot)) == shot


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda b: b.decode("latin-1")))
@settings(max_examples=50, deadline=None)
def test_any_file_is_a_direction_or_one_line(text):
    for read in (from_toml, from_json):
        try:
            read(text)
        except BadInput as error:
            assert "\n" not in str(error) and str(error).isprintable()


def test_toml_reads_as_one_would_type_it():
    shot = from_plain({
        "scene": "12", "setup": "C", "moves": [{"type": "pan", "amount_deg": 20, "to_s": 2}],
        "light": {"key": {"az_deg": -60}}, "lens": {"focal_mm": [{"t_s": 0, "value": 35}, {"t_s": 2, "value": 50}]},
        "cast": {"mara": {"hat": "#ff0000"}}, "text": {"action": "one\ntwo"},
    })  # fmt: skip
    assert to_toml(shot) == (
        'scene = "12"\nsetup = "C"\n\n'
        "[lens]\nfocal_mm = [\n  {t_s = 0, value = 35},\n  {t_s = 2, value = 50},\n]\n\n"
        '[[moves]]\ntype = "pan"\namount_deg = 20\nto_s = 2\n\n'
        "[light.key]\naz_deg = -60\n\n"
        '[cast.mara]\nhat = "#ff0000"\n\n'
        '[text]\naction = """\none\ntwo"""\n'
    )


def test_the_record_restates_what_a_later_default_could_change():
    record = json.loads(to_json(ShotDirection()))
    assert record["lens"]["focal_mm"] == 35 and record["time"] == {"duration_s": 2, "fps": 16, "handles_f": 0}
    assert "seed" not in record, "what is not stated is not written"


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("duration_s = 2,5", "2,5 has a decimal comma: write a point"),
        ("size = “CU”", '“ is a typographic quotation mark: write a straight one, "'),
        ("size = ‘CU’", '‘ is a typographic quotation mark: write a straight one, "'),
        ('size ＝ "CU"', "＝ is a full-width character: write the narrow one, ="),
        ('moves = ["pan"，"tilt"]', "， is a full-width character: write the narrow one, ,"),
        ("fps = ２５", "２５ is in full-width digits: write 25"),
        ('size\u00a0= "CU"', "a space in it (U+00A0) is not the space bar's"),
        ("amount_deg = −20", "− is a dash: write a minus, -"),
        ('size: "CU"', "between a name and its value stands =, not a colon"),
        ("size = close-up", 'a text stands between quotation marks: "close-up"'),
        ('size = # "CU"', "a value is missing after ="),
        ('size = "Mara’s house', '" opens a text that does not end on this line: close it with "'),
        ('size = "CU”', '” is a typographic quotation mark: write a straight one, "'),
    ],
)
def test_a_slip_is_shown_with_its_line_and_what_to_write(line, advice):
    """The line is the third; the same characters in a text or in a comment before it are legal."""
    with pytest.raises(BadInput) as caught:
        from_toml(f'scene = "“１２”: a，b" # − ＝\n\n{line}\nsetup = "B"')
    assert "it is not valid TOML: line 3, " in str(caught.value)
    assert advice in str(caught.value)


def test_without_a_known_slip_the_line_is_shown_with_what_the_parser_says():
    with pytest.raises(BadInput, match=r"line 2, \[lens: .*at line 2, column 6"):
        from_toml('scene = "1"\r\n[lens\r\n')


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("moves = [", "not valid TOML"),
        ("scene = '1'\nscene = '2'", "not valid TOML"),
        ("a = " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("[lens]\nfocal_mm = nan", "lens.focal_mm is nan"),
        ("[lens]\nfocus_m = inf", "the most is 10000"),
        ("take = 1979-05-27", "take is a date"),
        ("#" + "x" * (1 << 20), "larger than 1 MiB"),
    ],
)
def test_bad_toml(text, part):
    with pytest.raises(BadInput) as caught:
        from_toml(text)
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "not valid JSON"),
        ("[]", "the direction is []"),
        ('{"seed": NaN}', "NaN is not a number"),
        ('{"seed": 1, "seed": 2}', "twice"),
        ("[" * 100000, "nested too deeply"),
        ('{"seed": ' + "9" * 5000 + "}", "not valid JSON"),
        ('{"lens": {"t_stop": 1e400}}', "lens.t_stop is inf"),
        ('{"lens": null}', "lens is not stated"),
    ],
)
def test_bad_json(text, part):
    with pytest.raises(BadInput) as caught:
        from_json(text)
    assert part in str(caught.value)


def test_load_names_the_file(tmp_path):
    shot = tmp_path / "shot.toml"
    shot.write_text("[lens]\nfocal = 35\n")
    with pytest.raises(BadInput, match=r"shot\.toml: lens\.focal is not a field"):
        load_file(shot)
    for path, part in (
        (tmp_path / "none.toml", "no such file"),
        (tmp_path, "it is a folder"),
        (Path("a\0b"), "cannot be read"),
    ):
        with pytest.raises(BadInput) as caught:
            load_file(path)
        assert part in str(caught.value) and "\n" not in str(caught.value)
    shot.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="not UTF-8"):
        load_file(shot)
    shot.write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(BadInput, match="1 MiB"):
        load_file(shot)
    record = tmp_path / "shot.json"
    record.write_text(to_json(ShotDirection(scene="9")))
    assert load_file(record).scene == "9"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_valid_shots(path):
    shot = load_file(path)
    assert (shot.frames, shot.format.width, shot.format.height) == (33, 224, 128)
    assert from_toml(to_toml(shot)) == shot
    assert shot.seed is not None, "an example is the same film for everybody"


def test_there_are_examples_beside_the_code():
    assert len(EXAMPLES) >= 4 and {"mara_crosses"} <= {path.stem for path in EXAMPLES}


@pytest.mark.parametrize(("text", "rate"), [("24000/1001", 24000 / 1001), ("30000 / 1001", 30000 / 1001), ("25/1", 25)])
def test_a_frame_rate_may_be_a_fraction(text, rate):
    assert from_toml(f'[time]\nfps = "{text}"').time.fps == rate


@pytest.mark.parametrize("text", ["24000/0", "1/1", "24", "60/1", "24000/1001/2"])
def test_other_texts_are_no_frame_rate(text):
    with pytest.raises(BadInput, match=r"time\.fps is"):
        from_toml(f'[time]\nfps = "{text}"')


def test_a_fraction_is_a_number_only_for_a_frame_rate():
    with pytest.raises(BadInput, match=r"lens\.focal_mm is"):
        from_toml('[lens]\nfocal_mm = "70/2"')
