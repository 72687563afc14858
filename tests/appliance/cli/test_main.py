"""The command line in real processes: exit codes, output, one readable line for every error."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from appliance.direction.shot import from_plain
from appliance.library.library import Library
from appliance.text_width import cells

ROOT = Path(__file__).resolve().parents[3]
SHOT = ROOT / "appliance" / "examples" / "mara_crosses.toml"


@pytest.fixture
def rushes(python, tmp_path):
    """Runs a verb in a new installation; the working folder is empty."""
    work = tmp_path / "work"
    work.mkdir()

    def run(*arguments, **env):
        return python("-m", "appliance", *arguments, cwd=work, RUSHES_HOME=str(tmp_path / "home"), **env)

    run.home = tmp_path / "home"
    run.work = work
    return run


@pytest.fixture
def queued(rushes):
    """Two takes are queued."""
    with Library.open(rushes.home / "library.db") as library:
        for action in ("Mara crosses", "雨夜 \x1b[31mred"):
            library.queue(from_plain({"scene": "12", "setup": "C", "seed": 7, "text": {"action": action}}))
    return rushes


def refused(run, code):
    """The line of an error."""
    assert run.returncode == code, run.stderr
    assert run.stderr.startswith("rushes: ") and run.stderr.count("\n") == 1, run.stderr
    assert "Traceback" not in run.stderr
    return run.stderr


def test_a_new_installation_is_empty_and_says_what_to_do(rushes):
    assert "rushes example" in rushes("takes").stdout
    assert "rushes shoot" in rushes("board").stdout
    assert json.loads(rushes("takes", "--json").stdout) == []


def test_takes_and_board_show_the_queue(queued):
    listed = queued("takes")
    assert listed.returncode == 0 and "12C T2" in listed.stdout and "雨夜" in listed.stdout
    assert "\x1b" not in listed.stdout
    assert [take["slate"] for take in json.loads(queued("board", "--json").stdout)] == ["12C T1", "12C T2"]


def test_words_and_status_narrow_the_list(queued):
    assert [take["id"] for take in json.loads(queued("takes", "crosses", "--json").stdout)] == [1]
    assert json.loads(queued("takes", "--status", "failed", "--json").stdout) == []
    assert len(json.loads(queued("takes", "--limit", "1", "--json").stdout)) == 1


def test_one_take_by_number_and_by_slate(queued):
    by_number, by_slate = (json.loads(queued("take", name, "--json").stdout) for name in ("1", "12C-T1"))
    assert by_number == by_slate
    assert by_number["direction"]["scene"] == "12" and by_number["direction"]["seed"] == 7
    assert [event["kind"] for event in by_number["events"]] == ["queued"]
    assert 'scene = "12"' in queued("take", "1").stdout


def test_cancel_once_and_twice(queued):
    assert queued("cancel", "12C-T1").stdout == "12C T1  cancelled\n"
    assert "already" in refused(queued("cancel", "12C-T1"), 2)
    assert json.loads(queued("take", "1", "--json").stdout)["status"] == "cancelled"


@pytest.mark.parametrize("verb", ["take", "cancel", "retake"])
def test_a_take_that_is_not_there(queued, verb):
    assert "99" in refused(queued(verb, "99"), 2)


def test_a_quote_says_what_it_costs_and_options_replace_the_values_of_the_file(rushes):
    quote = rushes("quote", SHOT)
    assert quote.returncode == 0 and "33 frames of 224x128" in quote.stdout
    (document,) = json.loads(rushes("quote", SHOT, "--json").stdout)
    assert document["fits"] and document["quote"]["frames"] == 33
    assert document["quote"]["seed"] == tomllib.loads(SHOT.read_text())["seed"]
    (draft,) = json.loads(rushes("quote", SHOT, "--json", "--seed", "5", "--quality", "draft").stdout)
    assert draft["quote"]["seed"] == 5 and draft["quote"]["steps"] < document["quote"]["steps"]


def test_a_preview_is_a_film_and_a_picture(rushes):
    made = json.loads(rushes("preview", SHOT, "--out", "mara.mp4", "--json").stdout)
    assert made["frames"] == 33
    assert (rushes.work / "mara.mp4").stat().st_size > 1000
    assert (rushes.work / "mara.strip.png").read_bytes().startswith(b"\x89PNG")
    assert "mara.mp4 exists already" in refused(rushes("preview", SHOT, "--out", "mara.mp4"), 2)


def test_an_example_is_copied_and_never_over_a_file(rushes):
    names = json.loads(rushes("example", "--json").stdout)
    assert "mara_crosses" in names
    assert rushes("example", "mara_crosses").returncode == 0
    assert (rushes.work / "mara_crosses.toml").read_bytes() == SHOT.read_bytes()
    assert "exists already" in refused(rushes("example", "mara_crosses"), 2)
    assert "mara_crosses" in refused(rushes("example", "nope"), 2)


TAKE = {
    "id", "slate", "scene", "setup", "take_number", "action", "device", "status", "phase", "step", "steps", "seed",
    "path", "sha256", "error", "attempt", "queued_at", "started_at", "ended_at", "predicted_seconds", "seconds",
    "peak_bytes", "cancel_requested", "prev_take", "direction", "plan", "files", "machine", "predicted_bytes",
    "missed_place", "missed_bytes", "model", "model_sha256",
    "axes_measured", "axes_within",
}  # fmt: skip
PLAN = {
    "card", "frames", "width", "height", "fps", "steps", "solver", "seed", "device", "precision", "footprint",
    "memory_bytes", "seconds", "seconds_low", "seconds_high", "measured", "disk_bytes", "why", "placement",
    "attention", "text", "batch", "cache", "host_bytes",
}  # fmt: skip


def test_the_keys_of_every_json_document_stay(queued):
    """Scripts read these: keys may be added, none may be removed."""

    def document(*arguments, code=0):
        run = queued(*arguments, "--json")
        assert run.returncode == code, run.stderr
        return json.loads(run.stdout)

    (quote,) = document("quote", SHOT)
    assert quote.keys() == {"file", "slate", "fits", "quote", "obeyed", "on", "model", "ahead", "package", "warnings"}
    assert quote["quote"].keys() == PLAN
    assert quote["obeyed"]["text.action"] == "ignored" and quote["obeyed"]["moves[0].amount_deg"] == "exact"
    (refusal,) = document("quote", SHOT, "--device", "cuda:9", code=1)
    assert not refusal["fits"] and refusal["quote"].keys() == {"reason", "remedies"}
    assert all(take.keys() == TAKE for take in (*document("takes"), *document("board")))
    take = document("take", "1")
    assert take.keys() == TAKE | {"events", "measures"}
    assert take["events"][0].keys() == {"id", "take_id", "at", "kind", "text"}
    assert document("cancel", "1").keys() == TAKE
    doctor = document("doctor")
    assert doctor.keys() == {"ok", "checks", "machine", "remarks"}
    assert doctor["checks"][0].keys() == {"name", "ok", "found", "remedy"}
    models = document("models")
    assert models.keys() == {"shipped", "house", "unfinished", "known"}
    assert models["shipped"].keys() >= {"path", "card", "parameters", "file_bytes", "bytes_by_type", "metadata"}
    assert models["known"][0].keys() == {"name", "layers", "dim", "heads", "parameters", "int8_bytes", "ships"}
    assert document("example", "whisper").keys() == {"copied"}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_encoding_shows_what_it_can_and_json_is_whole(queued, encoding):
    listed = queued("takes", PYTHONIOENCODING=encoding)
    assert listed.returncode == 0 and "12C T2" in listed.stdout and listed.stderr == ""
    assert json.loads(queued("take", "2", "--json", PYTHONIOENCODING=encoding).stdout)["action"].startswith("雨夜")


@pytest.mark.parametrize("command", [("takes",), ("board",), ("quote", SHOT.name), ("example",)], ids=lambda c: c[0])
def test_a_narrow_terminal_is_not_overrun(queued, command):
    (queued.work / SHOT.name).write_bytes(SHOT.read_bytes())
    master, slave = pty.openpty()
    environment = {**os.environ, "RUSHES_HOME": str(queued.home), "PYTHONPATH": str(ROOT), "COLUMNS": "40"}
    run = subprocess.Popen(
        [sys.executable, "-P", "-m", "appliance", *command], cwd=queued.work, env=environment, stdout=slave
    )
    os.close(slave)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the last writer has closed the terminal
        while piece := os.read(master, 4096):
            shown += piece
    os.close(master)
    assert run.wait() == 0 and b"12C" in shown
    assert all(cells(line) <= 40 for line in shown.decode().splitlines()), shown.decode()


def test_a_quote_estimates_models_that_are_not_installed_and_says_so(rushes):
    page = rushes("quote", SHOT, "--model", "wan2.2-t2v-a14b", "--on", "RTX 3060 12GB", "--ram", "32")
    assert page.returncode == 0, page.stderr
    assert "wan2.2-t2v-a14b is not installed" in page.stdout and "blocks stay" in page.stdout
    assert "of main memory" in page.stdout and "text-only" in page.stdout
    wrong = rushes("quote", SHOT, "--model", "wan9")
    assert wrong.returncode == 2 and "wan2.1-t2v-1.3b" in wrong.stderr


def test_the_board_and_a_quote_say_when_the_queue_will_be_done(queued):
    assert "2 takes to go, none of them quoted" in queued("board").stdout
    with Library.open(queued.home / "library.db") as library:
        library.queue(from_plain({"scene": "13", "setup": "A", "seed": 7}), predicted_seconds=3600.0)
    for verb in ("board", "takes"):
        assert "3 takes to go: done in about 1 h 00 min" in queued(verb).stdout
    page = queued("quote", SHOT).stdout
    assert "4 takes to go: done in about 1 h 00 min" in page and "2 not quoted, including this one" in page


def test_a_quote_for_another_gpu_says_that_it_is_one(rushes):
    page = rushes("quote", SHOT, "--on", "rtx 3060 (12 gb)", "--ram", "32")
    assert page.returncode == 0, page.stderr
    words = "another machine, estimated from the datasheet of NVIDIA GeForce RTX 3060 12GB"
    assert words in page.stdout and "29 GiB of 32 GiB RAM" in page.stdout
    assert "from the datasheet alone" in page.stdout and "on cuda:0" in page.stdout
    (document,) = json.loads(rushes("quote", SHOT, "--on", "RTX 3060 12GB", "--json").stdout)
    assert document["on"]["gpus"][0]["uuid"] == "datasheet" and not document["quote"]["measured"]
    assert document["quote"]["device"] == "cuda:0"
    (here,) = json.loads(rushes("quote", SHOT, "--json").stdout)
    assert here["on"] is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--on", "RTX 3060"), "RTX 3060 8GB, RTX 3060 12GB"),
        (("--on", "GTX 1080"), "the nearest are"),
        (("--ram", "32"), "without --on"),
        (("--on", "L4", "--ram", "0"), "ram is 0"),
        (("--on", "L4", "--ram", "much"), "--ram"),
        (("--on", "L4", "--device", "cpu"), "device is 'cpu'"),
    ],
)
def test_a_quote_for_an_unknown_machine_is_bad_input(rushes, arguments, words):
    run = rushes("quote", SHOT, *arguments)
    assert run.returncode == 2 and run.stdout == "" and words in run.stderr and run.stderr.count("\n") == 1


def test_doctor_finds_damaged_weights(rushes):
    (rushes.work / "model.safetensors").write_bytes(b"PK")
    doctor = rushes("doctor", "--json", RUSHES_WEIGHTS=str(rushes.work / "model.safetensors"))
    assert doctor.returncode == 1
    assert [check["name"] for check in json.loads(doctor.stdout)["checks"] if not check["ok"]] == ["weights"]


def test_debug_shows_the_traceback(rushes):
    rushes.home.mkdir()
    (rushes.home / "library.db").write_bytes(b"no database at all" * 40)
    for arguments in (("--debug", "takes"), ("takes", "--debug")):
        run = rushes(*arguments)
        assert run.returncode == 1 and "Traceback" in run.stderr


@pytest.mark.parametrize(
    "arguments",
    [("shot", SHOT), (), ("takes", "--limit", "0"), ("shoot",), ("shoot", SHOT, "--seed", "-1"), ("take",)],
)
def test_a_wrong_command_exits_2_and_names_the_help(rushes, arguments):
    assert "--help" in refused(rushes(*arguments), 2)


def test_the_nearest_verb_is_offered(rushes):
    assert "rushes shoot" in rushes("shot", SHOT).stderr


def test_a_reader_that_closes_the_pipe_is_no_failure(queued):
    environment = {**os.environ, "RUSHES_HOME": str(queued.home), "PYTHONPATH": str(ROOT)}
    run = subprocess.Popen(
        [sys.executable, "-P", "-m", "appliance", "takes"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    run.stdout.close()
    assert run.wait() == 0
    assert run.stderr.read() == b""


def test_interrupted_is_130_and_leaves_nothing_half_written(rushes):
    shot = rushes.work / "long.toml"
    shot.write_text("[time]\nduration_s = 30\n")
    environment = {**os.environ, "RUSHES_HOME": str(rushes.home), "PYTHONPATH": str(ROOT)}
    run = subprocess.Popen(
        [sys.executable, "-P", "-m", "appliance", "preview", "long.toml"],
        cwd=rushes.work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while not (rushes.work / "long.previs.mp4").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=30)
    assert (run.returncode, out, err) == (130, "", "rushes: interrupted\n")
    assert [path.name for path in rushes.work.iterdir()] == ["long.toml"]


def test_doctor_checks_everything_and_says_so(rushes):
    doctor = rushes("doctor")
    assert doctor.returncode == 0 and doctor.stdout.endswith("This machine can shoot.\n")
    assert "this machine\n" in doctor.stdout and "  processor " in doctor.stdout and "  memory " in doctor.stdout
    document = json.loads(rushes("doctor", "--json").stdout)
    assert document["machine"]["store_read_bytes_s"] > 0 and "libx264" in document["machine"]["encoders"]
    names = [check["name"] for check in document["checks"]]
    checks = ["python", "device", "torch", "kernels", "weights", "encoder", "disk", "sqlite", "library", "daemon"]
    assert names == checks


def test_models_are_listed_from_their_headers_alone(rushes):
    document = json.loads(rushes("models", "--json").stdout)
    assert document["shipped"]["card"] == "previs" and document["shipped"]["parameters"] > 1e6
    assert [card["name"] for card in document["known"] if card["ships"]] == ["previs"]
    assert "licence" in rushes("models").stdout
