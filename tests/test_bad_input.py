"""What people get wrong, for real: one clear line, the right exit code, nothing half-written, the library intact.

Every command runs as it does for a person, in an installation where one take is queued. A `torch` that refuses to be
imported comes first on its path: nobody waits seconds for a machine to notice a wrong number.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.daemon.instance import daemon_pid
from appliance.direction.shot import from_plain
from appliance.library.library import Library

ROOT = Path(__file__).resolve().parents[1]
SHOT = ROOT / "appliance" / "examples" / "mara_crosses.toml"
PACKAGE = ROOT / "models" / "weights" / "previs.safetensors"
UNSHARE = ["unshare", "--user", "--map-root-user", "--mount"]
AS_ANYBODY = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]  # root that obeys permissions


ONE_AFTER_ANOTHER = """
import contextlib, io, json, os, sys
from appliance.cli.main import main
done = []
for arguments, environment in json.load(sys.stdin):
    os.environ.update(environment)
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main(arguments)
    done.append((arguments, code, out.getvalue(), err.getvalue()))
json.dump(done, sys.stdout)
"""


class Installation:
    """A working folder, an installation with one take in its queue, and the command line in them."""

    def __init__(self, folder: Path) -> None:
        self.work, self.home = folder / "work", folder / "home"
        self.work.mkdir()
        self.queue()
        poison = folder / "poison"
        poison.mkdir()
        (poison / "torch.py").write_text("raise SystemExit('torch was loaded')")
        self.environment = {
            **os.environ, "RUSHES_HOME": str(self.home), "PYTHONPATH": f"{poison}:{ROOT}", "CUDA_VISIBLE_DEVICES": "",
        }  # fmt: skip

    def queue(self) -> None:
        with Library.open(self.home / "library.db") as library:
            library.queue(from_plain({"scene": "12", "setup": "C", "text": {"action": "Mara waits"}}))

    def rushes(self, *arguments: object, before: tuple[str, ...] = (), **environment: str):
        return subprocess.run(
            [*before, sys.executable, "-P", "-m", "appliance", *map(str, arguments)], cwd=self.work,
            env=self.environment | environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    def one_after_another(self, *commands: tuple) -> list[subprocess.CompletedProcess]:
        """Commands in one process, which saves its start for each; a last argument that is a dict is environment."""
        lines = [([str(each) for each in command if not isinstance(each, dict)], command[-1]) for command in commands]
        text = json.dumps([(arguments, last if isinstance(last, dict) else {}) for arguments, last in lines])
        done = subprocess.run(
            [sys.executable, "-P", "-c", ONE_AFTER_ANOTHER], cwd=self.work, env=self.environment, input=text,
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        return [subprocess.CompletedProcess(*each) for each in json.loads(done.stdout)]

    def files(self) -> list[Path]:
        return sorted([*self.work.rglob("*"), *self.home.rglob("*.mp4"), *self.home.rglob("*.part")])

    def whole(self) -> bool:
        """The library is sound, and holds the one take that was there."""
        with Library.open(self.home / "library.db") as library:
            return library.faults() == [] and [take.slate for take in library.takes()] == ["12C T1"]


@pytest.fixture
def installation(tmp_path):
    return Installation(tmp_path)


def refused(run, code, *words):
    """One line that holds the words, and nothing else."""
    assert run.returncode == code, run.stdout + run.stderr
    assert run.stderr.startswith("rushes: ") and run.stderr.count("\n") == 1 and run.stderr.endswith("\n"), run.stderr
    assert run.stdout == "" and run.stderr[:-1].isprintable()
    for word in words:
        assert word in run.stderr


SHOTS = {
    "a key in the wrong table": ("focal = 35", "focal is not a field", "lens.focal_mm"),
    "a key misspelt": ("[lens]\nfocal_m = 35", "lens.focal_m is not a field", "focal_mm"),
    "a move as a key": ("pan = 20", '[[moves]] with type = "pan"'),
    "frames for seconds": ("[time]\nframes = 0", "time.frames", "time.duration_s"),
    "a pan of 4000 degrees": (
        '[[moves]]\ntype = "pan"\namount_deg = 4000',
        "moves[0].amount_deg is 4000",
        "-360 to 360",
    ),
    "no time at all": ("[time]\nduration_s = 0", "time.duration_s is 0", "0.5 to 30 s"),
    "not a number": ("[lens]\nfocal_mm = nan", "lens.focal_mm is nan", "12 to 200 mm"),
    "no end": ("[lens]\nfocal_mm = inf", "lens.focal_mm is inf", "the most is 200"),
    "an absurd picture": ("[format]\nwidth = 100000", "format.width is 100000", "64 to 1920 pixels"),
    "a number of a thousand digits": ("seed = " + "9" * 1000, "seed", "30 digits"),
    "text for a number": ('[lens]\nfocal_mm = "35"', 'lens.focal_mm is "35"', "without quotes"),
    "a subject that nobody is": ('[frame]\nsubject = "jonas"\n[[subjects]]\nid = "mara"', '"jonas"', "mara"),
    "half a file": ('scene = "1', "not valid TOML", "line 1", "does not end on this line"),
    "nested without end": (f"x = {'[' * 5000}", "nested too deeply"),
    "nothing": ("", "it is empty", "rushes example"),
    "nothing but space": ("\n \n", "it is empty"),
    "zeros": ("\0" * 3000, "byte 0", "is it a shot file?"),
    "something binary": ("\xff\xfe\x00\x89PNG", "byte 0", "is it a shot file?"),
    "more than a shot": ("#" * (1 << 20) + "\n", "larger than 1 MiB"),
    "a value that commands the terminal": ('scene = "\\u001b]0;owned\\u0007"', "scene is"),
    "a key that commands the terminal": ('"\\u009b31m\\u202e" = 1', "is not a field"),
}


def test_shots_that_are_wrong(installation):
    files = {name: installation.work / f"{number}.toml" for number, name in enumerate(SHOTS)}
    for name, path in files.items():
        path.write_bytes(SHOTS[name][0].encode("latin-1"))
    runs = installation.one_after_another(*(("shoot", SHOT, path.name) for path in files.values()))
    for (name, path), run in zip(files.items(), runs, strict=True):
        refused(run, 2, f"{path.name}: ", *SHOTS[name][1:])
    assert installation.files() == sorted(files.values()) and installation.whole()


COMMANDS = {
    "no such file": (("shoot", SHOT, "nope.toml"), 2, "nope.toml: there is no such file", "rushes example"),
    "a folder": (("shoot", SHOT, "."), 2, "it is a folder"),
    "a name too long": (("shoot", SHOT, "x" * 5000), 2, "too long"),
    "a GPU that is not here": (("shoot", SHOT, "--device", "cuda:0"), 1, "cuda:0", "no GPU", "leave the device out"),
    "a device that nobody knows": (("shoot", SHOT, "--device", "warp"), 2, "'warp'", "cpu, gpu or cuda:N"),
    "a preview over the shot itself": (("preview", SHOT, "--out", SHOT), 2, "mara_crosses.toml", ".mp4"),
    "a preview into no folder": (("preview", SHOT, "--out", "nowhere/a.mp4"), 2, "nowhere is not a folder"),
    "an example into no folder": (("example", "whisper", "--out", "nowhere/a.toml"), 2, "nowhere is not a folder"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_wrong(installation, name):
    arguments, code, *words = COMMANDS[name]
    refused(installation.rushes(*arguments), code, *words)
    assert installation.files() == [] and installation.whole()


def test_a_shot_that_no_machine_holds_says_what_would_fit(installation):
    shot = installation.work / "big.toml"
    shot.write_text("[time]\nduration_s = 30\n[format]\nwidth = 1920\nheight = 1088\n")
    refused(installation.rushes("shoot", "big.toml"), 1, "big.toml: ", "time.duration_s = ", "format.width = ")
    assert installation.files() == [shot] and installation.whole()


def package(metadata=None) -> bytes:
    """A safetensors file of one small tensor."""
    header = {"__metadata__": metadata or {}, "a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(16)


WEIGHTS = {
    "missing": (None, "RUSHES_WEIGHTS"),
    "empty": (b"", "not a safetensors file"),
    "a zip": (b"PK\x03\x04" * 100, "not a safetensors file"),
    "cut off in its header": ((4096).to_bytes(8, "little") + b"{", "RUSHES_WEIGHTS"),
    "cut off in its data": (package()[:-1], "cut off"),
    "of another program": (package(), "format is 'none'", "rushes.package/1"),
    "of another format": (package({"format": "rushes.package/99"}), "format is 'rushes.package/99'"),
}


@pytest.mark.parametrize("command", [("shoot", SHOT), ("retake", "1")], ids=lambda c: c[0])
def test_weights_that_are_wrong(installation, command):
    files = {name: installation.work / f"{number}.safetensors" for number, name in enumerate(WEIGHTS)}
    for name, path in files.items():
        if (content := WEIGHTS[name][0]) is not None:
            path.write_bytes(content)
    before = installation.files()
    runs = installation.one_after_another(*((*command, {"RUSHES_WEIGHTS": str(path)}) for path in files.values()))
    for (name, path), run in zip(files.items(), runs, strict=True):
        refused(run, 2, str(path), *WEIGHTS[name][1:])
    assert installation.files() == before and installation.whole()


def test_weights_with_one_changed_byte_fail_the_take_and_leave_no_film(tmp_path):
    """Only a render reads all of a package, so this one is seen there; its daemon ends with the test."""
    installation = Installation(tmp_path)
    shutil.rmtree(installation.home)
    weights = tmp_path / "model.safetensors"
    shutil.copyfile(PACKAGE, weights)
    with open(weights, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read()[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    try:
        run = installation.rushes("shoot", SHOT, "--json", RUSHES_WEIGHTS=str(weights), PYTHONPATH=str(ROOT))
        assert run.returncode == 1
        (take,) = json.loads(run.stdout)
        assert take["status"] == "failed" and str(weights) in take["error"] and "damaged" in take["error"]
        assert take["files"] == {} and installation.files() == []
    finally:
        if pid := daemon_pid(installation.home / "daemon.lock"):
            os.kill(pid, signal.SIGTERM)


def a_file(home: Path) -> None:
    home.write_text("a file")


def no_database(home: Path) -> None:
    home.mkdir()
    (home / "library.db").write_bytes(b"my precious notes" * 400)


def a_damaged_database(home: Path) -> None:
    with Library.open(home / "library.db") as library:
        library.checkpoint()
    with open(home / "library.db", "r+b") as file:
        file.seek(100)  # the header is right, the first page is not
        file.write(b"\xa5" * 4000)


def a_folder_for_a_database(home: Path) -> None:
    (home / "library.db").mkdir(parents=True)


BROKEN_HOMES = {
    a_file: ("a file has the name of its folder", "RUSHES_HOME"),
    no_database: ("is not a Rushes library", "RUSHES_HOME"),
    a_damaged_database: ("damaged", "backup"),
    a_folder_for_a_database: ("a folder has that name",),
}


@pytest.mark.parametrize("make", BROKEN_HOMES)
@pytest.mark.parametrize("command", [("takes",), ("shoot", SHOT), ("serve", "--until-idle")], ids=lambda c: c[0])
def test_a_home_that_is_no_installation(installation, tmp_path, make, command):
    home = tmp_path / "other"
    make(home)
    before = {path: path.is_file() and path.read_bytes() for path in (home, *home.rglob("*"))}
    run = installation.rushes(*command, RUSHES_HOME=str(home))
    refused(run, 1, str(home), *(BROKEN_HOMES[make] if command[0] != "serve" else ()))
    after = {path: path.is_file() and path.read_bytes() for path in (home, *home.rglob("*"))}
    assert {path: after[path] for path in before} == before
    assert {path.name for path in after.keys() - before.keys()} <= {"daemon.lock"}


def may(command: list[str]) -> bool:
    return (
        shutil.which(command[0]) is not None and not subprocess.run([*command, "true"], capture_output=True).returncode
    )


@pytest.mark.skipif(os.geteuid() == 0 and not may(AS_ANYBODY), reason="root here cannot give up its right to write")
def test_without_permission(installation):
    anybody = tuple(AS_ANYBODY) if os.geteuid() == 0 else ()
    secret = installation.work / "secret.toml"
    shutil.copyfile(SHOT, secret)
    secret.chmod(0o200)
    (installation.home / "library.db").chmod(0o440)
    before = installation.files()
    try:
        for folder in (installation.home, installation.work):
            folder.chmod(0o550)
        for command, code, words in (
            (("takes",), 1, ("library.db", "permission", "RUSHES_HOME")),
            (("shoot", SHOT), 1, ("library.db", "permission", "RUSHES_HOME")),
            (("serve", "--until-idle"), 1, ("library.db", "permission", "RUSHES_HOME")),
            (("quote", "secret.toml"), 2, ("secret.toml", "permission denied")),
            (("example", "whisper"), 1, ("whisper.toml", "permission denied", "--out")),
        ):
            refused(installation.rushes(*command, before=anybody), code, *words)
        new = str(installation.home / "new")
        refused(installation.rushes("shoot", SHOT, before=anybody, RUSHES_HOME=new), 1, new, "permission denied")
        assert installation.rushes("doctor", before=anybody).returncode == 1
    finally:
        for folder in (installation.home, installation.work):
            folder.chmod(0o770)
        (installation.home / "library.db").chmod(0o660)
    assert installation.files() == before and installation.whole()


FULL = """
mount -t tmpfs -o size=2m none "$RUSHES_HOME" && cp library.db "$RUSHES_HOME" || exit 9
dd if=/dev/zero of="$RUSHES_HOME/ballast" bs=4k 2>/dev/null
for command in "takes" "shoot $SHOT" "example whisper --out $RUSHES_HOME/a.toml"; do
    "$PYTHON" -P -m appliance $command
    echo "$?" >&2
done
rm "$RUSHES_HOME/ballast" && ls -A "$RUSHES_HOME"
"$PYTHON" -P -m appliance take 1
"""


@pytest.mark.skipif(not may(UNSHARE), reason="needs unshare(1) and user namespaces to mount a small disk")
def test_a_full_disk(installation):
    shutil.copyfile(installation.home / "library.db", installation.work / "library.db")
    environment = installation.environment | {"PYTHON": sys.executable, "SHOT": str(SHOT)}
    run = subprocess.run(
        [*UNSHARE, "sh", "-c", FULL],
        cwd=installation.work,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = run.stderr.splitlines()
    assert len(lines) == 6 and lines[1::2] == ["1"] * 3, run.stderr
    for line, name in zip(lines[::2], ("library.db", "library.db", "a.toml"), strict=True):
        assert line.startswith("rushes: ") and name in line and "free some space" in line
    assert set(run.stdout.split("12C T1  queued")[0].split()) <= {"library.db", "library.db-shm", "library.db-wal"}
    assert "Mara waits" in run.stdout, "the library is whole once there is room again"
