"""The host, on machines written out as their files."""

import av
import numpy as np
import pytest

from appliance.machine.host import container, cpu_facts, disk_free_bytes, h264_encoders, in_wsl


def put(root, path, text=""):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_free_disk_is_asked_of_the_nearest_folder_that_exists(tmp_path):
    assert disk_free_bytes(tmp_path / "not" / "yet" / "there") == pytest.approx(disk_free_bytes(tmp_path), rel=0.2)


@pytest.mark.parametrize(
    ("release", "windows"),
    [
        ("5.15.167.4-microsoft-standard-WSL2\n", True),
        ("4.4.0-19041-Microsoft\n", True),
        ("6.8.0-45-generic\n", False),
    ],
)
def test_wsl_is_known_by_its_kernel(tmp_path, release, windows):
    put(tmp_path, "proc/sys/kernel/osrelease", release)
    assert in_wsl(tmp_path) is windows


def test_no_proc_is_no_wsl(tmp_path):
    assert in_wsl(tmp_path) is False


@pytest.mark.parametrize(
    ("path", "text", "name"),
    [
        (".dockerenv", "", "docker"),
        ("run/.containerenv", 'engine="podman-5.2.2"', "podman"),
        (".singularity.d", "", "apptainer"),
        ("var/run/secrets/kubernetes.io", "", "kubernetes"),
        ("run/systemd/container", "systemd-nspawn\n", "systemd-nspawn"),
        ("proc/self/cgroup", "12:memory:/kubepods/besteffort/pod1/2\n", "kubernetes"),
        ("proc/1/cgroup", "4:memory:/docker/0123abcd\n", "docker"),
        ("proc/self/cgroup", "0::/user.slice/libpod-12.scope\n", "podman"),
        ("proc/self/cgroup", "0::/user.slice\n", None),
    ],
)
def test_containers_are_known_by_what_they_leave(tmp_path, path, text, name):
    put(tmp_path, path, text)
    assert container(tmp_path, {}) == name


def test_a_container_may_say_so_in_the_environment(tmp_path):
    assert container(tmp_path, {"container": "lxc"}) == "lxc"
    put(tmp_path, ".dockerenv")
    assert container(tmp_path, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}) == "kubernetes"
    assert container(tmp_path, {}) == "docker"


@pytest.mark.parametrize(
    ("text", "name", "flags"),
    [
        (
            "processor : 0\nmodel name : AMD Ryzen 9 9950X\nflags : fpu avx2 avx512f avx512_vnni avx512_bf16\n\n"
            "processor : 1\nmodel name : another\nflags : fpu\n",
            "AMD Ryzen 9 9950X", ("avx2", "avx512f", "avx512_vnni", "avx512_bf16"),
        ),
        ("model name: Xeon\nflags: amx_tile amx_int8 amx_bf16 avx2\n", "Xeon", ("avx2", "amx_int8", "amx_bf16")),
        ("processor: 0\nFeatures: fp asimd asimddp i8mm bf16 sve\n", None, ("asimddp", "i8mm", "bf16")),
        ("", None, ()),
    ],
)  # fmt: skip
def test_a_cpu_and_those_of_its_features_that_matter(tmp_path, text, name, flags):
    put(tmp_path, "cpuinfo", text)
    found, found_flags = cpu_facts(tmp_path / "cpuinfo")
    assert found_flags == flags and found and name in (None, found)


def test_the_encoders_of_this_av():
    assert h264_encoders()[0] == "libx264" and "h264" not in h264_encoders()


def test_every_encoder_that_is_listed_encodes(tmp_path):
    """PyAV carries the encoders of NVIDIA, Intel and AMD wherever it is installed; without the hardware they fail."""
    for name in h264_encoders():
        with av.open(str(tmp_path / f"{name}.mp4"), "w") as film:
            stream = film.add_stream(name, rate=25)
            stream.width, stream.height, stream.pix_fmt = 256, 256, "yuv420p"
            frame = av.VideoFrame.from_ndarray(np.zeros((384, 256), np.uint8), "yuv420p")
            film.mux([*stream.encode(frame), *stream.encode(None)])
        with av.open(str(tmp_path / f"{name}.mp4")) as film:
            assert len(list(film.decode(video=0))) == 1
