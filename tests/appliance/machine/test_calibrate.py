"""`rushes doctor --calibrate` measures this machine in a child process; later quotes are made from what it found."""

import json

import pytest

from appliance.cli import main as cli
from appliance.library.library import Library
from appliance.library.machines import measured_rates
from appliance.machine import calibrate
from appliance.machine.probe import probe
from appliance.processes import machine_name
from models.errors import RushesError


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path))
    return tmp_path


def test_what_is_measured_is_kept_and_quoted_from(home, capsys):
    shot = home / "shot.json"
    shot.write_text(json.dumps({"scene": "12", "setup": "C", "seed": 1, "time": {"duration_s": 1.0}}))

    def quoted():
        assert cli.main(["quote", str(shot), "--device", "cpu", "--json"]) == 0
        return json.loads(capsys.readouterr().out)[0]["quote"]

    assert not quoted()["measured"]
    assert cli.main(["doctor", "--calibrate", "--json"]) in (0, 1)
    found = json.loads(capsys.readouterr().out)["rates"]["cpu"]
    assert found["rates"]["flops_int8"] > 1e8 and found["rates"]["copy_bytes_s"] > 1e8
    assert found["rates"]["upload_bytes_s"] is None and found["rates"]["disk_bytes_s"] > 1e5
    assert found["block"]["seconds"] > 0 and all("measure again at rest" in words for words in found["troubles"])
    with Library.open() as library:
        rates = measured_rates(library, machine_name())["cpu"]
    assert rates.flops_int8 == found["rates"]["flops_int8"] and rates.upload_bytes_s is None
    if not probe().gpus:
        assert quoted()["measured"]


def test_figures_of_a_busy_machine_say_so():
    assert calibrate.busy_words(0.4, 8) == calibrate.busy_words(4.0, 8) == []
    assert calibrate.busy_words(7.9, 2) == ["8 other programs worked on 2 cores: measure again at rest"]
    assert calibrate.busy_words(1.0, 1) == ["1 other program worked on 1 core: measure again at rest"]


def test_a_place_that_cannot_be_measured_is_one_line():
    with pytest.raises(RushesError, match=r"cuda:77 could not be measured: .*cuda:77") as refused:
        calibrate.measured("cuda:77", 1)
    assert "\n" not in str(refused.value)


def test_the_page_says_every_figure_and_every_trouble():
    document = {
        "rates": {"flops_int8": 2.5e14, "flops_bf16": 8e10, "copy_bytes_s": 9.1e11, "disk_bytes_s": 2.4e9},
        "block": {"card": "previs", "seconds": 0.0123}, "troubles": ["upload_bytes_s: no memory"],
    }  # fmt: skip
    assert calibrate.rows({"cuda:0": document}) == [
        ("cuda:0", "250,000 GFLOP/s in int8, 80.0 GFLOP/s in 16 bits, 910 GB/s copied, 2.4 GB/s from the disk, "
         "one block of previs in 12.3 ms\nupload_bytes_s: no memory")
    ]  # fmt: skip
