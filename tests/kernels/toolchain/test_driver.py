"""Launching without a compiler: the module that Triton compiles is made ahead of time, kept, found, and loaded.

There is no GPU here, so nothing is launched. What stands for the driver is a library of its name that has the functions
the module asks for: enough for the loader, and for Triton's own code to import the module and take its parts.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from appliance import paths
from appliance import processes as process
from kernels.toolchain import driver

pytest.importorskip("triton")

needs_compiler = pytest.mark.skipif(driver.find_compiler() is None, reason="no C compiler, or no Python.h")
COMPILERS = [
    pytest.param(name, marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not installed"))
    for name in ("gcc", "clang", "tcc")
]


def undefined(module: Path) -> list[str]:
    """The functions of the CUDA driver that a module asks the loader for."""
    listed = subprocess.run(["nm", "-D", "--undefined-only", module], capture_output=True, text=True, check=True).stdout
    return [name for line in listed.splitlines() if (name := line.split()[-1]).startswith("cu")]


def stand_in(module: Path, folder: Path) -> Path:
    """A folder with a libcuda.so.1 whose functions do nothing."""
    folder.mkdir()
    source = "\n".join(f"int {name}(void) {{ return 0; }}" for name in undefined(module))
    command = ["gcc", "-shared", "-fPIC", "-w", "-Wl,-soname,libcuda.so.1", "-xc", "-", "-o", folder / "libcuda.so.1"]
    subprocess.run(command, input=source, text=True, check=True)
    return folder


@pytest.fixture(scope="module", autouse=True)
def nothing_shipped(tmp_path_factory):
    """A Rushes that ships no modules: with some Tritons it ships the one that fits, and nothing would be made."""
    empty = tmp_path_factory.mktemp("shipped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUSHES_PREBUILT", str(empty))
        patch.setattr(driver, "SHIPPED", empty)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory, python, nothing_shipped) -> Path:
    """A folder as `python -m kernels.toolchain.prebuild` makes it, with two kernels for one card."""
    folder = tmp_path_factory.mktemp("prebuilt") / "first"
    done = python("-m", "kernels.toolchain.prebuild", folder, "--capability", "86", "--only", "quant_rows 256")
    assert done.returncode == 0, done.stderr
    module, kernels = done.stdout.splitlines()
    assert Path(module).parent == folder and kernels.endswith("for compute capability 8.6")
    return folder


ASK = """
import sys
from pathlib import Path
started = []
sys.addaudithook(lambda event, arguments: started.append(Path(arguments[0]).name) if event == "subprocess.Popen" else 0)
from kernels import driver
driver.prepare(Path(sys.argv[1]))
from triton.backends.nvidia.driver import CudaUtils
utils = CudaUtils()
print(utils.load_binary.__name__, utils.get_device_properties.__name__)
print(set(started) - {"file"})  # Triton asks it what kind of machine this is
"""


@needs_compiler
@pytest.mark.skipif(shutil.which("gcc") is None, reason="the stand-in needs gcc")
def test_triton_loads_the_prebuilt_module_and_starts_no_compiler(made, tmp_path, python) -> None:
    module = next(made.glob("cuda_utils-*"))
    libraries = stand_in(module, tmp_path / "lib")
    done = python("-c", ASK, made, PATH="", LD_LIBRARY_PATH=str(libraries), TRITON_CACHE_DIR=str(tmp_path / "cache"))
    assert done.stdout == "load_binary get_device_properties\nset()\n", done.stderr


@needs_compiler
@pytest.mark.skipif(shutil.which("gcc") is None, reason="the stand-in needs gcc")
@pytest.mark.parametrize("compiler", COMPILERS)
def test_each_compiler_makes_a_module_that_triton_loads(compiler: str, made, tmp_path, python) -> None:
    libraries = stand_in(next(made.glob("cuda_utils-*")), tmp_path / "lib")
    fresh, cache = tmp_path / "fresh", tmp_path / "cache"
    environment = {"CC": compiler, "LD_LIBRARY_PATH": str(libraries), "TRITON_CACHE_DIR": str(cache)}
    done = python("-c", ASK, fresh, **environment)
    assert done.stdout.startswith("load_binary get_device_properties\n"), done.stderr
    assert [path.name for path in fresh.iterdir()] == [next(made.glob("cuda_utils-*")).name]  # kept, and no litter


def test_without_either_it_says_what_to_do(tmp_path, python) -> None:
    done = python("-c", ASK, tmp_path / "none", PATH="", CC="", TRITON_CACHE_DIR=str(tmp_path / "cache"))
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last.startswith("RuntimeError: no kernel can be launched (")
    assert "python3-dev" in last and "kernels.toolchain.prebuild" in last and str(tmp_path / "none") in last


@needs_compiler
def test_the_way_is_told_from_files(made, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    assert driver.way(made).kind == "prebuilt" and str(made) in driver.way(made).words
    with_compiler = driver.way(tmp_path)
    assert with_compiler.kind == "compiler" and with_compiler.words.endswith("when first needed")
    monkeypatch.setenv("PATH", "")
    assert driver.way(made).kind == "prebuilt"
    none = driver.way(tmp_path)
    assert none.kind == "none" and "no C compiler is on the path" in none.words and str(tmp_path) in none.remedy


@needs_compiler
def test_a_module_that_the_loader_refuses_is_made_again(made, tmp_path) -> None:
    source = driver.driver_source()
    assert source is not None
    whole = driver.kept("cuda_utils", source, made)
    assert whole is not None
    broken = tmp_path / whole.name
    broken.write_bytes(whole.read_bytes()[:3000])
    assert driver.kept("cuda_utils", source, tmp_path) is None
    include = str(source.parent / "include")
    assert driver.provide(tmp_path, "cuda_utils", str(source), "", [], [include], []) == str(broken)
    assert driver.kept("cuda_utils", source, tmp_path) == broken


def test_the_name_tells_the_source_and_the_python(tmp_path) -> None:
    first, second = tmp_path / "a.c", tmp_path / "b.c"
    first.write_text("int a;")
    second.write_text("int b;")
    names = [driver.module_name("cuda_utils", source) for source in (first, second)]
    assert names[0] != names[1] and all(name.endswith(sysconfig.get_config_var("EXT_SUFFIX")) for name in names)


FIND = """
import sys
from pathlib import Path
from kernels import driver
if sys.argv[2] == "settled":
    driver.settle(Path(sys.argv[1]))
from kernels.toolchain.compile_only import AbsentGpu
from kernels.toolchain.launches import GRIDS, cases
gpu = AbsentGpu(86)
print({k.cached for grid in GRIDS for case in cases(86, grid) if "quant_rows 256" in case.name
       for k in gpu.compiled_by(case.launch)})
"""


@needs_compiler
def test_a_moved_cache_is_found_again_by_another_process(made, tmp_path, python) -> None:
    """A literal card of capability 8.6 stands for the GPU; what is found is found by Triton's own key."""
    moved = tmp_path / "second"
    shutil.copytree(made / "cache", moved)
    made.joinpath("cache").rename(tmp_path / "gone")
    try:
        for settled in ("settled", "again"):
            done = python("-c", FIND, moved, settled, PATH="", TRITON_CACHE_DIR=str(moved))
            assert done.stdout == "{True}\n", done.stderr
    finally:
        (tmp_path / "gone").rename(made / "cache")


@needs_compiler
def test_a_moved_cache_that_is_not_settled_is_missed(made, tmp_path, python) -> None:
    """What `settle` is for: Triton notes absolute paths."""
    moved = tmp_path / "second"
    shutil.copytree(made / "cache", moved)
    made.joinpath("cache").rename(tmp_path / "gone")
    try:
        done = python("-c", FIND, moved, "left", TRITON_CACHE_DIR=str(moved))
        assert "False" in done.stdout, done.stderr
    finally:
        (tmp_path / "gone").rename(made / "cache")


def test_the_house_says_where_it_is_kept(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "house"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(process.KERNELS, raising=False)
    assert driver.default_folder() == tmp_path / "cache" / "rushes" / "kernels"
    monkeypatch.setenv(process.KERNELS, process.environment()[process.KERNELS])
    assert driver.default_folder() == tmp_path / "house" / "kernels" == paths.kernels()


def test_half_a_note_is_dropped(tmp_path) -> None:
    entry = tmp_path / "KEY"
    entry.mkdir()
    whole, half = entry / "__grp__one.json", entry / "__grp__two.json"
    whole.write_text(json.dumps({"child_paths": {"one.cubin": "/elsewhere/KEY/one.cubin"}}))
    half.write_text('{"child_paths": {"two')
    driver.settle(tmp_path)
    assert json.loads(whole.read_text()) == {"child_paths": {"one.cubin": str(entry / "one.cubin")}}
    assert sorted(path.name for path in entry.iterdir()) == ["__grp__one.json"]


def test_the_doctor_loads_neither_torch_nor_triton(python, tmp_path) -> None:
    code = "import sys; from pathlib import Path; from kernels.toolchain.driver import way; way(Path(sys.argv[1]));"
    done = python("-c", code + "print({'torch', 'triton', 'numpy'} & set(sys.modules))", tmp_path)
    assert done.stdout == "set()\n", done.stderr


SHIPPED = sorted(driver.SHIPPED.glob("*.so"))


@pytest.mark.skipif(
    sys.platform != "linux" or os.uname().machine != "x86_64", reason="modules for Linux on x86-64 ship"
)
@pytest.mark.parametrize("module", SHIPPED, ids=lambda path: path.name)
def test_shipped_modules_are_whole(module: Path) -> None:
    """They ask for libcuda by name and for no newer C library than torch itself does (glibc 2.28)."""
    told = subprocess.run(["readelf", "-dV", module], capture_output=True, text=True, check=True).stdout
    assert "[libcuda.so.1]" in told
    versions = {
        tuple(map(int, word.strip("()").split("_")[1].split("."))) for word in told.split() if "GLIBC_2" in word
    }
    assert versions and max(versions) <= (2, 28)
    assert undefined(module)
    assert b"PyInit_cuda_utils" in module.read_bytes()


def test_a_module_ships_for_each_python_that_could_be_tried() -> None:
    """Of one text: the driver's C file in the Triton that torch's CUDA build pins."""
    name, pythons = {path.name.split(".")[0] for path in SHIPPED}, [path.name.split(".")[1] for path in SHIPPED]
    assert len(name) == 1 and pythons == [f"cpython-3{minor}-x86_64-linux-gnu" for minor in (11, 12, 13)]
