"""GPUs by what NVML answered: errors, constants and names are the real library's, the answers are written out here.

A board is a table of query -> answer; a query that is not in it is one that the board does not support.
"""

from dataclasses import replace
from types import SimpleNamespace

import pynvml
import pytest

from appliance.machine.device import Device
from appliance.machine.nvml import find_gpus

MIB, GIB = 2**20, 2**30
HOST = Device("box", "a CPU", 8, (), 64 * GIB, 48 * GIB, None, torch="2.13.0")


class Answers:
    """NVML on a machine with these boards. An answer that is an NVMLError is raised."""

    NVMLError = pynvml.NVMLError

    def __init__(self, *boards, init=None):
        self.boards = boards
        self.machine = {
            "nvmlInit": init, "nvmlShutdown": None, "nvmlDeviceGetCount": len(boards),
            "nvmlSystemGetDriverVersion": "570.86.15", "nvmlSystemGetCudaDriverVersion_v2": 12080,
        }  # fmt: skip

    def __getattr__(self, name):
        if not name.startswith("nvml") or name == "nvmlMemory_v2":
            return getattr(pynvml, name)
        return lambda *args: self.answer(name, *args)

    def answer(self, name, *args):
        if name in self.machine:
            found = self.machine[name]
        elif name == "nvmlDeviceGetHandleByIndex":
            found = self.boards[args[0]]
        elif name == "nvmlDeviceGetMigDeviceHandleByIndex":
            parts = args[0]["parts"]
            found = parts[args[1]] if args[1] < len(parts) else failure("NOT_FOUND")
        else:
            board, *rest = args
            key = (name.removeprefix("nvmlDeviceGet"), *rest)
            found = board.get(key if rest else key[0], failure("NOT_SUPPORTED"))
        if isinstance(found, pynvml.NVMLError):
            raise found
        return found


def failure(name):
    return pynvml.NVMLError(getattr(pynvml, f"NVML_ERROR_{name}"))


def memory(total, free, reserved=0):
    facts = SimpleNamespace(total=total, free=free, used=total - free - reserved, reserved=reserved)
    return {"MemoryInfo": facts, ("MemoryInfo", pynvml.nvmlMemory_v2): facts}


def process(pid, held):
    return SimpleNamespace(pid=pid, usedGpuMemory=held)


CLOCK_SM, CLOCK_MEM = (("MaxClockInfo", clock) for clock in (pynvml.NVML_CLOCK_SM, pynvml.NVML_CLOCK_MEM))
RTX_3060 = {
    "UUID": "GPU-3060aaaa-1", "Name": "NVIDIA GeForce RTX 3060", "CudaComputeCapability": [8, 6], "NumGpuCores": 3584,
    CLOCK_SM: 2100, CLOCK_MEM: 7501, "MemoryBusWidth": 192,
    "CurrPcieLinkGeneration": 1, "MaxPcieLinkGeneration": 4, "CurrPcieLinkWidth": 8, "MaxPcieLinkWidth": 16,
    "EnforcedPowerLimit": 170000, "PowerManagementDefaultLimit": 170000, "PowerUsage": 14230,
    ("Temperature", pynvml.NVML_TEMPERATURE_GPU): 41,
    ("TemperatureThreshold", pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN): 95,
    "PerformanceState": 8, "MigMode": failure("NOT_SUPPORTED"),
    "ComputeRunningProcesses": [process(4242, 3 * GIB), process(7, None)],
    "GraphicsRunningProcesses": [process(1200, 300 * MIB), process(4242, 3 * GIB)],
    **memory(12288 * MIB, 8400 * MIB, 210 * MIB),
}  # fmt: skip
A100 = {
    "UUID": "GPU-a100bbbb-2", "Name": "NVIDIA A100-SXM4-40GB", "CudaComputeCapability": [8, 0], "NumGpuCores": 6912,
    CLOCK_SM: 1410, CLOCK_MEM: 1215, "MemoryBusWidth": 5120, "EccMode": [1, 1], "MigMode": [0, 0],
    **memory(40960 * MIB, 40338 * MIB, 600 * MIB),
}  # fmt: skip


def part(number, mebibytes, instances, sms, total, compute=None):
    """A slice. `instances` compute slices of the GPU; `compute` of them in this one."""
    shape = SimpleNamespace(
        multiprocessorCount=sms, gpuInstanceSliceCount=instances, computeInstanceSliceCount=compute or instances,
        memorySizeMB=mebibytes,
    )  # fmt: skip
    return {
        "UUID": f"MIG-{number}{number}{number}-55", "Name": "NVIDIA A100-SXM4-40GB", "Attributes_v2": shape,
        "GpuInstanceId": 10 + number, "ComputeInstanceId": 0,
        "ComputeRunningProcesses": [process(90 + number, GIB)], **memory(total, total - GIB),
    }  # fmt: skip


CUT = A100 | {
    "MigMode": [1, 1], "MaxMigDeviceCount": 7,
    "parts": [part(1, 19968, 3, 42, 19968 * MIB), part(2, 4864, 1, 14, 4864 * MIB)],
}  # fmt: skip


def gpus(*boards, wanted=None):
    return find_gpus(HOST, Answers(*boards), wanted)


def test_every_fact_of_a_card():
    device = gpus(RTX_3060)
    (gpu,) = device.gpus
    assert (device.driver, device.cuda, device.no_gpu, device.unusable) == ("570.86.15", "12.8", None, ())
    assert (gpu.index, gpu.uuid, gpu.name, gpu.capability) == (0, "GPU-3060aaaa-1", "NVIDIA GeForce RTX 3060", (8, 6))
    assert (gpu.total_bytes, gpu.free_bytes, gpu.reserved_bytes) == (12 * GIB, 8400 * MIB, 210 * MIB)
    assert (gpu.sm_count, gpu.sm_clock_mhz, gpu.mem_clock_mhz, gpu.bus_width_bits) == (28, 2100, 7501, 192)
    assert gpu.bandwidth_bytes_s == pytest.approx(360e9, rel=1e-3)  # the datasheet's
    assert (gpu.pcie_gen, gpu.pcie_width, gpu.pcie_gen_max, gpu.pcie_width_max) == (1, 8, 4, 16)
    assert (gpu.power_limit_w, gpu.power_default_w, gpu.power_draw_w) == (170, 170, 14.23)
    assert (gpu.temperature_c, gpu.temperature_slow_c, gpu.performance_state) == (41, 95, 8)
    assert (gpu.ecc, gpu.mig, gpu.unified) == (None, None, False)


def test_another_process_holds_memory_whether_it_computes_or_draws():
    assert gpus(RTX_3060).gpus[0].processes == ((4242, 3 * GIB), (1200, 300 * MIB), (7, None))


def test_memory_as_an_older_driver_tells_it():
    old = RTX_3060 | {("MemoryInfo", pynvml.nvmlMemory_v2): failure("FUNCTION_NOT_FOUND")}
    (gpu,) = gpus(old).gpus
    assert (gpu.total_bytes, gpu.free_bytes, gpu.reserved_bytes) == (12 * GIB, 8400 * MIB, None)


@pytest.mark.parametrize("board", [RTX_3060, A100], ids=["3060", "A100"])
def test_whatever_is_not_supported_is_none_and_nothing_else_changes(board):
    """Each query taken away in turn: one field turns None (or falls back), none raises."""
    (whole,) = gpus(board).gpus
    for query in board:
        if query in ("MemoryInfo", ("MemoryInfo", pynvml.nvmlMemory_v2)):
            continue  # a fact of its own, below
        for error in ("NOT_SUPPORTED", "UNKNOWN", "NO_PERMISSION"):
            (gpu,) = gpus(board | {query: failure(error)}).gpus
            fields = [name for name in gpu.__dataclass_fields__ if getattr(gpu, name) != getattr(whole, name)]
            known = {getattr(gpu, name) for name in fields if name not in ("name", "uuid", "processes")}
            assert known <= {None}, (query, error, fields)


def test_a_board_that_answers_nothing_but_its_memory():
    (gpu,) = gpus(memory(GIB, GIB)).gpus
    assert (gpu.name, gpu.uuid, gpu.capability, gpu.sm_count, gpu.processes) == ("NVIDIA GPU", "", None, None, ())


def test_a_name_that_is_no_text():
    bad = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
    answers = Answers(RTX_3060)
    answers.__dict__["nvmlDeviceGetName"] = lambda _handle: (_ for _ in ()).throw(bad)
    assert find_gpus(HOST, answers, None).gpus[0].name == "NVIDIA GPU"


def test_a_gpu_that_shares_the_machines_memory():
    """Orin and its kin answer "not supported": their memory is the machine's."""
    orin = {"Name": b"Orin", "CudaComputeCapability": [8, 7], "NumGpuCores": 2048}
    device = gpus(orin)
    (gpu,) = device.gpus
    assert (gpu.total_bytes, gpu.free_bytes, gpu.unified) == (64 * GIB, 48 * GIB, True)
    assert (gpu.name, gpu.uuid, gpu.sm_count) == ("Orin", "", 16) and "cuda:0 Orin" in device.words


def test_memory_that_may_not_be_asked_for_is_unknown_and_not_the_machines():
    denied = RTX_3060 | {name: failure("NO_PERMISSION") for name in memory(1, 1)}
    (gpu,) = gpus(denied).gpus
    assert (gpu.total_bytes, gpu.free_bytes, gpu.unified) == (None, None, False)
    assert "memory unknown" in gpus(denied).words


@pytest.mark.parametrize(
    ("init", "words"),
    [
        ("LIBRARY_NOT_FOUND", "no NVIDIA driver is installed"),
        ("DRIVER_NOT_LOADED", "modprobe nvidia"),
        ("LIB_RM_VERSION_MISMATCH", "restart the machine"),
        ("UNKNOWN", "the NVIDIA driver reports: Unknown Error"),
    ],
)
def test_no_driver_or_a_dead_one_is_an_answer(init, words):
    device = find_gpus(HOST, Answers(RTX_3060, init=failure(init)), None)
    assert device == replace(HOST, no_gpu=device.no_gpu) and words in device.no_gpu


def test_a_driver_that_finds_no_gpu():
    assert gpus().gpus == () and gpus().no_gpu == "the driver finds none" and gpus().driver == "570.86.15"


@pytest.mark.parametrize("where", ["handle", "memory"])
def test_a_gpu_that_fell_off_the_bus_is_told_and_the_others_work(where):
    lost = failure("GPU_IS_LOST")
    if where == "memory":
        lost = RTX_3060 | {name: failure("GPU_IS_LOST") for name in memory(1, 1)}
    device = gpus(lost, A100)
    assert [gpu.index for gpu in device.gpus] == [1] and device.no_gpu is None
    assert len(device.unusable) == 1 and "GPU 0 does not answer" in device.unusable[0]
    alone = gpus(lost)
    assert alone.gpus == () and alone.no_gpu == alone.unusable[0]


def test_a_gpu_that_this_user_may_not_open():
    assert "may not open" in gpus(failure("NO_PERMISSION")).no_gpu


THREE = [RTX_3060 | {"UUID": f"GPU-{uuid}"} for uuid in ("aa1", "ab2", "cc3")]


@pytest.mark.parametrize(
    ("wanted", "indexes"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("2,0", [2, 0]),
        (" 1 , 2 ", [1, 2]),
        ("GPU-cc3", [2]),
        ("GPU-ab", [1]),
        ("GPU-a", []),  # two begin so: CUDA takes neither
        ("1,9,0", [1]),  # CUDA stops at the first that is wrong
        ("0,0", [0]),
        ("-1", []),
        ("NoDevFiles", []),
        ("MIG-GPU-aa1/1/0", []),
    ],
)
def test_the_order_is_the_one_cuda_sees(wanted, indexes):
    device = gpus(*THREE, wanted=wanted)
    assert [gpu.index for gpu in device.gpus] == indexes
    assert device.no_gpu == (None if indexes else "CUDA_VISIBLE_DEVICES hides it")


def test_a_slice_has_memory_processors_and_processes_of_its_own():
    device = gpus(CUT)
    (gpu,) = device.gpus  # CUDA shows one slice, and never its parent
    assert (gpu.uuid, gpu.mig, gpu.name) == ("MIG-111-55", "3g.20gb", "NVIDIA A100-SXM4-40GB MIG 3g.20gb")
    assert (gpu.total_bytes, gpu.free_bytes, gpu.sm_count) == (19968 * MIB, 18944 * MIB, 42)
    assert gpu.bandwidth_bytes_s == pytest.approx(1555e9 / 2, rel=1e-3)  # four of the eight memory slices
    assert (gpu.capability, gpu.ecc, gpu.processes) == ((8, 0), True, ((91, GIB),))
    assert len(device.unusable) == 1 and "MIG-222-55" in device.unusable[0]


@pytest.mark.parametrize(
    ("wanted", "seen"),
    [
        (None, "MIG-111-55"),
        ("0", "MIG-111-55"),
        ("MIG-222-55", "MIG-222-55"),
        ("MIG-2", "MIG-222-55"),
        ("MIG-222-55,MIG-111-55", "MIG-222-55"),
        ("MIG-GPU-a100bbbb-2/12/0", "MIG-222-55"),
        ("GPU-a100", "MIG-111-55"),
        ("MIG-", None),
        ("MIG-GPU-a100bbbb-2/13/0", None),
        ("1", None),
    ],
)
def test_slices_by_their_names(wanted, seen):
    device = gpus(CUT, wanted=wanted)
    assert [gpu.uuid for gpu in device.gpus] == ([seen] if seen else [])


def test_a_slice_beside_whole_gpus_hides_them_unless_they_are_asked_for():
    assert [gpu.uuid for gpu in gpus(RTX_3060, CUT).gpus] == ["MIG-111-55"]
    assert "NVIDIA GeForce RTX 3060" in " ".join(gpus(RTX_3060, CUT).unusable)
    assert [gpu.name for gpu in gpus(RTX_3060, CUT, wanted="0").gpus] == ["NVIDIA GeForce RTX 3060"]


def test_a_part_of_a_slice_and_the_name_that_newer_drivers_give():
    (gpu,) = gpus(CUT | {"parts": [part(1, 19968, 3, 14, 19968 * MIB, compute=1)]}).gpus
    assert gpu.mig == "1c.3g.20gb"
    named = part(1, 9984, 1, 16, 9984 * MIB) | {"Name": "NVIDIA H100 80GB HBM3 MIG 1g.10gb"}
    (gpu,) = gpus(CUT | {"parts": [named]}).gpus
    assert (gpu.mig, gpu.name) == ("1g.10gb", "NVIDIA H100 80GB HBM3 MIG 1g.10gb")


def test_mig_without_a_slice_is_no_gpu_and_says_what_to_do():
    device = gpus(CUT | {"parts": []})
    assert device.gpus == () and "MIG is on and has no slice" in device.no_gpu


def test_under_wsl_processes_hide_what_they_hold():
    wsl = RTX_3060 | {"ComputeRunningProcesses": [process(33, None)], "GraphicsRunningProcesses": []}
    assert gpus(wsl).gpus[0].processes == ((33, None),)


def test_the_library_is_closed_again_whatever_happens():
    answers, closed = Answers(RTX_3060), []
    answers.__dict__["nvmlShutdown"] = lambda: closed.append(True)
    find_gpus(HOST, answers, None)
    assert closed == [True]
