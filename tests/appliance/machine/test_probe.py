"""What a machine says of itself: this one, and in words."""

import pytest

from appliance.machine import device
from appliance.machine.device import Gpu
from appliance.machine.probe import probe

GIB = 2**30
CARD = Gpu(0, "GPU-aa1", "card", (8, 9), 24 * GIB, 20 * GIB)


def test_this_machine():
    here = probe()
    assert here.cores >= 1 and here.ram_total_bytes >= here.ram_free_bytes > 0
    assert here.disk_free_bytes is None or here.disk_free_bytes > 0
    assert here.torch is None or here.torch.startswith("2.")
    assert f"{here.cores} CPU cores" in here.words and "\n" not in here.words
    assert here.gpus or here.no_gpu in here.words
    assert here.swap_free_bytes >= 0 and here.encoders == ()


def test_a_thorough_probe_measures_the_store_and_asks_for_encoders():
    here = probe(thorough=True)
    assert here.store_read_bytes_s > 1e6 and "libx264" in here.encoders
    assert probe().store_read_bytes_s == here.store_read_bytes_s  # remembered, not measured again


@pytest.mark.parametrize(
    ("build", "usable"), [("2.13.0", True), ("2.13.0+cu130", True), ("2.13.0+cpu", False), (None, False)]
)
def test_whether_torch_can_use_a_gpu_is_known_from_its_version(build, usable):
    here = device.Device("box", "a CPU", 2, (), GIB, GIB, None, (CARD,), torch=build)
    assert here.torch_has_cuda is usable and ("cannot use it" in here.words) is not usable


@pytest.mark.parametrize(
    ("link", "gigabytes"),
    [
        ({"pcie_gen": 1, "pcie_gen_max": 4, "pcie_width": 16, "pcie_width_max": 16}, 31.5),  # idle: it wakes up
        ({"pcie_gen": 3, "pcie_gen_max": 3, "pcie_width": 4, "pcie_width_max": 16}, 3.94),  # a riser: it stays so
        ({"pcie_gen": 5, "pcie_width": 16}, 63.0),
        ({"pcie_gen": 4}, None),
        ({"pcie_gen": 9, "pcie_width": 16}, None),
    ],
)
def test_what_a_link_carries(link, gigabytes):
    carried = Gpu(0, "", "card", None, None, None, **link).pcie_bytes_s
    assert carried == (None if gigabytes is None else pytest.approx(gigabytes * 1e9, rel=0.01))


@pytest.mark.gpu
def test_nvml_and_torch_agree_on_which_card_is_which(monkeypatch):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    seen = probe().gpus
    assert len(seen) == torch.cuda.device_count()
    for place, gpu in enumerate(seen):
        properties = torch.cuda.get_device_properties(place)
        assert gpu.uuid.removeprefix("GPU-").removeprefix("MIG-") == str(properties.uuid)
        assert gpu.capability == (properties.major, properties.minor)
        assert gpu.sm_count in (None, properties.multi_processor_count)
        assert gpu.total_bytes == pytest.approx(properties.total_memory, rel=0.03)
