"""What a machine says of itself, on this one and on others written out as their files."""

import ctypes

import pynvml
import pytest

from appliance import device
from appliance.device import Gpu, cgroup_memory, cores, probe, visible

MIB, GIB = 2**20, 2**30


def test_this_machine():
    here = probe()
    assert here.cores >= 1 and here.ram_total_bytes >= here.ram_free_bytes > 0
    assert here.disk_free_bytes is None or here.disk_free_bytes > 0
    assert here.torch is None or here.torch.startswith("2.")
    assert f"{here.cores} CPU cores" in here.words and "\n" not in here.words
    assert here.gpus or here.no_gpu in here.words


def test_free_disk_is_asked_of_the_nearest_folder_that_exists(tmp_path):
    assert device.disk_free_bytes(tmp_path / "not" / "yet" / "there") == pytest.approx(
        device.disk_free_bytes(tmp_path), rel=0.2
    )


def group(root, path, **files):
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def member(tmp_path, text):
    (tmp_path / "self").write_text(text)
    return tmp_path / "self"


def test_a_container_of_version_2_limits_memory_and_its_page_cache_counts_as_free(tmp_path):
    root = tmp_path / "cgroup"
    group(root, "", memory__stat="inactive_file 0")
    group(root, "house", memory__max=8 * GIB, memory__current=5 * GIB, memory__stat=f"anon 1\ninactive_file {2 * GIB}")
    group(root, "house/rushes", memory__max="max", memory__current=GIB)
    membership = member(tmp_path, "0::/house/rushes\n")
    assert cgroup_memory(root, membership) == (8 * GIB, 5 * GIB)
    group(root, "house/rushes", memory__max=4 * GIB, memory__current=GIB)
    assert cgroup_memory(root, membership) == (4 * GIB, 3 * GIB)


def test_a_container_of_version_1(tmp_path):
    root = tmp_path / "cgroup"
    group(
        root, "memory/box", memory__limit_in_bytes=2 * GIB, memory__usage_in_bytes=GIB,
        memory__stat=f"total_inactive_file {512 * MIB}",
    )  # fmt: skip
    group(root, "memory", memory__limit_in_bytes=9223372036854771712, memory__usage_in_bytes=GIB)
    membership = member(tmp_path, "4:memory:/box\n1:cpu:/box\n0::/\n")
    assert cgroup_memory(root, membership) == (2 * GIB, GIB + 512 * MIB)


def test_no_container_no_limit(tmp_path):
    assert cgroup_memory(tmp_path, tmp_path / "none") is None
    (tmp_path / "memory.max").write_text("max\n")
    assert cgroup_memory(tmp_path, member(tmp_path, "0::/\n")) is None


def test_a_quota_of_cpu_time_counts_as_cores(tmp_path):
    membership = member(tmp_path, "0::/box\n")
    group(tmp_path, "box", cpu__max="50000 100000")
    assert cores(tmp_path, membership) == 1
    group(tmp_path, "box", cpu__max="max 100000")
    assert cores(tmp_path, membership) == cores(tmp_path, tmp_path / "none") >= 1


GPUS = [Gpu(n, f"GPU-{name}", f"card {n}", (8, 9), 24 * GIB, 20 * GIB) for n, name in enumerate(("aa1", "ab2", "cc3"))]


@pytest.mark.parametrize(
    ("wanted", "indexes"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("2,0", [2, 0]),
        ("GPU-cc3", [2]),
        ("GPU-ab", [1]),
        ("GPU-a", []),  # two begin so: CUDA takes neither
        ("1,9,0", [1]),  # CUDA stops at the first that is wrong
        ("0,0", [0]),
        ("-1", []),
        ("NoDevFiles", []),
    ],
)
def test_the_order_is_the_one_cuda_sees(wanted, indexes):
    assert [gpu.index for gpu in visible(GPUS, wanted)] == indexes


def test_no_driver_is_an_answer_and_not_an_error(monkeypatch):
    def absent():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", absent)
    here = probe()
    assert here.gpus == () and here.no_gpu == "no NVIDIA driver is installed" and "no GPU" in here.words


def test_what_a_gpu_does_not_answer_is_none(monkeypatch):
    """A driver whose GPU answers little: a part that shares the host's memory."""

    def unsupported(*_args):
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    for name in ("nvmlDeviceGetMemoryInfo", "nvmlDeviceGetCudaComputeCapability", "nvmlDeviceGetUUID"):
        monkeypatch.setattr(pynvml, name, unsupported)
    answers = {
        "nvmlInit": None, "nvmlShutdown": None, "nvmlDeviceGetCount": 1, "nvmlDeviceGetName": "Orin",
        "nvmlDeviceGetHandleByIndex": ctypes.c_void_p(1), "nvmlSystemGetDriverVersion": b"570.86.15",
        "nvmlSystemGetCudaDriverVersion_v2": 12080,
    }  # fmt: skip
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, lambda *_args, answer=answer: answer)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    here = probe()
    (gpu,) = here.gpus
    assert (gpu.name, gpu.uuid, gpu.capability) == ("Orin", "", None)
    assert (gpu.total_bytes, gpu.free_bytes) == (here.ram_total_bytes, here.ram_free_bytes)
    assert (here.driver, here.cuda, here.no_gpu) == ("570.86.15", "12.8", None)
    assert "cuda:0 Orin" in here.words
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert probe().gpus == () and probe().no_gpu == "CUDA_VISIBLE_DEVICES hides it"


@pytest.mark.parametrize(
    ("build", "usable"), [("2.13.0", True), ("2.13.0+cu130", True), ("2.13.0+cpu", False), (None, False)]
)
def test_whether_torch_can_use_a_gpu_is_known_from_its_version(build, usable):
    here = device.Device("box", "a CPU", 2, (), GIB, GIB, None, tuple(GPUS[:1]), torch=build)
    assert here.torch_has_cuda is usable and ("cannot use it" in here.words) is not usable


@pytest.mark.gpu
def test_nvml_and_torch_agree_on_which_card_is_which(monkeypatch):
    import torch

    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    for place, gpu in enumerate(probe().gpus):
        properties = torch.cuda.get_device_properties(place)
        assert gpu.uuid == f"GPU-{properties.uuid}" and gpu.capability == (properties.major, properties.minor)
