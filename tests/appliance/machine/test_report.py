"""What doctor tells of a machine: every fact that is known, and a remark only where something costs time or memory."""

import os
from dataclasses import replace

import pytest

from appliance.daemon import instance as house
from appliance.machine.datasheets import named, sheets
from appliance.machine.device import Device, Gpu
from appliance.machine.probe import probe
from appliance.machine.report import machine_rows, remarks
from appliance.operations.doctor import process_name

MIB, GIB = 2**20, 2**30
HOST = Device(
    "box", "AMD Ryzen 9", 16, ("avx512_vnni",), 64 * GIB, 48 * GIB, 900 * GIB, driver="570.86.15", cuda="12.8",
    torch="2.13.0", swap_free_bytes=8 * GIB, store_read_bytes_s=3.2e9, encoders=("libx264", "h264_nvenc"),
)  # fmt: skip
WELL = Gpu(
    0, "GPU-1", "NVIDIA GeForce RTX 3060", (8, 6), 12 * GIB, 11 * GIB, 200 * MIB, 28, 2100, 7501, 192, 360e9, 1,
    pcie_width=16, pcie_gen_max=4, pcie_width_max=16, power_limit_w=170, power_default_w=170, power_draw_w=14,
    temperature_c=41, temperature_slow_c=95, performance_state=8, processes=((1200, 300 * MIB),),
)  # fmt: skip


def noted(device, names=None):
    return remarks(device, lambda pid: (names or {}).get(pid, "blender"))


def about(gpu, **names):
    return [text for what, text in noted(replace(HOST, gpus=(gpu,)), names or None) if what == "cuda:0"]


def test_all_that_is_known_is_told():
    rows = dict(machine_rows(replace(HOST, gpus=(WELL,))))
    assert rows["processor"] == "AMD Ryzen 9, 16 cores (avx512_vnni)"
    assert rows["memory"] == "48 GiB of 64 GiB free, 8.0 GiB of swap free"
    assert rows["disk"] == "900 GiB free for takes, the model store reads 3.2 GB/s"
    assert rows["encoders"] == "libx264, h264_nvenc"
    assert rows["cuda:0"].split("\n") == [
        "NVIDIA GeForce RTX 3060, capability 8.6, driver 570.86.15, CUDA 12.8",
        "11 GiB of 12 GiB free, 200 MiB reserved by the driver, 360 GB/s over 192 bits",
        "28 multiprocessors at up to 2.10 GHz, at most 102 TOPS int8 by its datasheet",
        "PCIe 4.0 x16, 14 of 170 W, 41 °C",
    ]


def test_what_is_not_known_is_left_out():
    rows = dict(machine_rows(replace(HOST, gpus=(Gpu(0, "", "NVIDIA GPU", None, None, None),), driver=None, cuda=None)))
    assert rows["cuda:0"] == "NVIDIA GPU\nmemory unknown"
    bare = replace(HOST, disk_free_bytes=None, store_read_bytes_s=None, no_gpu="no NVIDIA driver is installed")
    assert dict(machine_rows(bare))["disk"] == "" and dict(machine_rows(bare))["no GPU"] == bare.no_gpu


def test_around_it():
    inside = dict(machine_rows(replace(HOST, wsl=True, container="docker", swap_free_bytes=0)))
    assert inside["system"] == "inside WSL, in a container (docker)" and inside["memory"].endswith("no swap")


def test_a_machine_that_is_well_is_not_remarked_on():
    assert noted(replace(HOST, gpus=(WELL,))) == [] and noted(HOST) == []


def test_no_gpu_of_the_table_is_remarked_on_as_it_ships():
    whole = {card.name: replace(card.gpu, free_bytes=card.gpu.total_bytes) for card in sheets()}
    assert not {name: words for name, gpu in whole.items() if (words := noted(replace(HOST, gpus=(gpu,))))}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"pcie_width": 8}, "8 of 16 PCIe lanes: streamed weights take 2 times as long"),
        ({"pcie_width": 4, "pcie_width_max": 4}, "4 of 16 PCIe lanes"),  # the slot has no more, the datasheet knows
        ({"pcie_gen_max": 3}, "its slot gives PCIe 3.0, the GPU has 4.0"),
        ({"pcie_gen": 2, "performance_state": 2}, "link runs at PCIe 2.0 of 4.0 under load"),
        ({"power_limit_w": 100}, "capped at 100 of 170 W"),
        ({"temperature_c": 93}, "slows down at 95"),
        ({"ecc": True, "total_bytes": 15 * GIB, "free_bytes": 15 * GIB}, "error correction takes 1.0 GiB"),
        ({"processes": ((4242, 3 * GIB),), "free_bytes": 8 * GIB}, "process 4242 (blender) holds 3.0 GiB"),
        ({"processes": ((7, None),), "free_bytes": 5 * GIB}, "6.8 GiB of its memory are held by processes that cannot"),
    ],
)
def test_what_costs_time_or_memory_is_one_remark(changed, words):
    found = about(replace(WELL, **changed))
    assert len(found) == 1 and words in found[0]


def test_an_idle_link_and_memory_that_corrects_itself_are_well():
    assert about(replace(WELL, pcie_gen=1, performance_state=8)) == []
    assert about(replace(named("H100"), free_bytes=named("H100").total_bytes, ecc=True)) == []


def test_our_own_renderer_is_nobody_else():
    busy = replace(WELL, processes=((50, 5 * GIB),), free_bytes=6 * GIB)
    assert len(remarks(replace(HOST, gpus=(busy,)), lambda pid: "python")) == 1
    assert remarks(replace(HOST, gpus=(busy,)), lambda pid: None) == []


@pytest.mark.parametrize(
    ("changed", "what", "words"),
    [
        ({"unusable": ("GPU 1 does not answer (GPU is lost): restart the machine",)}, "GPU", "restart"),
        ({"gpus": (WELL,), "torch": "2.13.0+cpu"}, "torch", "no CUDA"),
        ({"container": "docker", "driver": None}, "GPU", "--gpus all"),
        ({"wsl": True}, "memory", ".wslconfig"),
        ({"store_read_bytes_s": 120e6}, "disk", "0.1 GB/s"),
    ],
)
def test_the_host_has_its_remarks_too(changed, what, words):
    ((name, text),) = noted(replace(HOST, **changed))
    assert name == what and words in text


def test_processes_have_names_unless_they_are_ours_or_gone(monkeypatch):
    assert process_name(os.getpid()) not in (None, "", "?")
    assert process_name(2**22 + 1) == "?"
    monkeypatch.setattr(house, "daemon_pid", lambda: os.getppid())
    assert process_name(os.getpid()) is None


def test_this_machine_can_be_told():
    here = probe()
    assert all(isinstance(text, str) for _, text in machine_rows(here) + remarks(here, process_name))
