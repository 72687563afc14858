"""The doctor's check of kernels: nothing is needed without a GPU; with one, how they are launched."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.machine.datasheets import named
from appliance.machine.device import Device
from appliance.machine.probe import probe
from appliance.operations import doctor as checks
from kernels.toolchain import driver


@pytest.fixture
def with_gpu() -> Device:
    """This machine, with a GPU added and a CUDA build of torch."""
    return replace(probe(), gpus=(named("RTX 3060 12GB"),), no_gpu=None, torch="2.13.0+cu130")


def test_without_a_gpu_no_kernel_is_needed(with_gpu) -> None:
    found = checks.kernels_of(replace(with_gpu, gpus=(), no_gpu="no NVIDIA driver is installed"))
    assert found.ok and found.found.startswith("not needed")
    found = checks.kernels_of(replace(with_gpu, torch="2.13.0+cpu"))
    assert found.ok and found.found == "not used: torch 2.13.0+cpu renders on the CPU"


@pytest.mark.skipif(driver.driver_source() is None, reason="Triton is not installed")
def test_with_a_gpu_the_driver_is_named(with_gpu, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path))
    expected = driver.launcher_source(tmp_path / "kernels")
    found = checks.kernels_of(with_gpu)
    assert (found.ok, found.found, found.remedy) == (expected.kind != "none", expected.text, expected.remedy)


@pytest.mark.skipif(driver.driver_source() is None, reason="Triton is not installed")
def test_a_machine_that_cannot_launch_has_a_remedy(with_gpu, tmp_path, monkeypatch) -> None:
    if driver.launcher_source(tmp_path / "kernels").kind == "prebuilt":
        pytest.skip("this Triton and Python have a module that ships")
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    found = checks.kernels_of(with_gpu)
    assert not found.ok and found.found.startswith("none: ")
    assert "python3-dev" in found.remedy and str(tmp_path / "kernels") in found.remedy
