"""Launching without a compiler: the module that Triton compiles is built ahead of time, cached, found, and loaded.

There is no GPU here, so nothing is launched. A stand-in libcuda has the functions that the module imports: enough for
the dynamic loader, and for Triton to import the module.
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
    """The CUDA driver functions that a module imports."""
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
    """A Rushes without prebuilt modules: for some Triton versions it ships one, and nothing would be built."""
    empty = tmp_path_factory.mktemp("shipped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUSHES_PREBUILT", str(empty))
        patch.setattr(driver, "SHIPPED", empty)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory, python, nothing_shipped) -> Path:
    """A folder as `python -m kernels.toolchain.prebuild` makes it, with two kernels for one GPU."""
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
from kernels.toolchain import driver
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
    assert [path.name for path in fresh.iterdir()] == [
        next(made.glob("cuda_utils-*")).name
    ]  # cached, and nothing else left


def test_without_module_or_compiler_the_error_says_what_to_do(tmp_path, python) -> None:
    done = python("-c", ASK, tmp_path / "none", PATH="", CC="", TRITON_CACHE_DIR=str(tmp_path / "cache"))
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last.startswith("RuntimeError: no kernel can be launched (")
    assert "python3-dev" in last and "kernels.toolchain.prebuild" in last and str(tmp_path / "none") in last


@needs_compiler
def test_the_source_of_the_module_is_found_from_files(made, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    assert driver.launcher_source(made).kind == "prebuilt" and str(made) in driver.launcher_source(made).text
    with_compiler = driver.launcher_source(tmp_path)
    assert with_compiler.kind == "compiler" and with_compiler.text.endswith("when first needed")
    monkeypatch.setenv("PATH", "")
    assert driver.launcher_source(made).kind == "prebuilt"
    none = driver.launcher_source(tmp_path)
    assert none.kind == "none" and "no C compiler is on the path" in none.text and str(tmp_path) in none.remedy


@needs_compiler
def test_a_module_that_the_loader_refuses_is_built_again(made, tmp_path) -> None:
    source = driver.driver_source()
    assert source is not None
    complete = driver.find_module("cuda_utils", source, made)
    assert complete is not None
    broken = tmp_path / complete.name
    broken.write_bytes(complete.read_bytes()[:3000])
    assert driver.find_module("cuda_utils", source, tmp_path) is None
    include = str(source.parent / "include")
    assert driver.provide_module(tmp_path, "cuda_utils", str(source), "", [], [include], []) == str(broken)
    assert driver.find_module("cuda_utils", source, tmp_path) == broken


def test_the_file_name_depends_on_source_and_python(tmp_path) -> None:
    first, second = tmp_path / "a.c", tmp_path / "b.c"
    first.write_text("int a;")
    second.write_text("int b;")
    names = [driver.module_name("cuda_utils", source) for source in (first, second)]
    assert names[0] != names[1] and all(name.endswith(sysconfig.get_config_var("EXT_SUFFIX")) for name in names)


FIND = """
import sys
from pathlib import Path
from kernels.toolchain import driver
if sys.argv[2] == "relocate":
    driver.relocate_cache(Path(sys.argv[1]))
from kernels.toolchain.compile_only import CompileOnlyGpu
from kernels.toolchain.launches import GRIDS, cases
gpu = CompileOnlyGpu(86)
print({k.cached for grid in GRIDS for case in cases(86, grid) if "quant_rows 256" in case.name
       for k in gpu.compiled_by(case.launch)})
"""


@needs_compiler
def test_a_moved_cache_is_found_again_by_another_process(made, tmp_path, python) -> None:
    """A compile-only GPU of capability 8.6 stands for the real one; kernels are found by Triton's own key."""
    moved = tmp_path / "second"
    shutil.copytree(made / "cache", moved)
    made.joinpath("cache").rename(tmp_path / "gone")
    try:
        for action in ("relocate", "nothing"):
            done = python("-c", FIND, moved, action, PATH="", TRITON_CACHE_DIR=str(moved))
            assert done.stdout == "{True}\n", done.stderr
    finally:
        (tmp_path / "gone").rename(made / "cache")


@needs_compiler
def test_a_moved_cache_that_is_not_relocated_is_missed(made, tmp_path, python) -> None:
    """Why `relocate_cache` exists: Triton stores absolute paths."""
    moved = tmp_path / "second"
    shutil.copytree(made / "cache", moved)
    made.joinpath("cache").rename(tmp_path / "gone")
    try:
        done = python("-c", FIND, moved, "nothing", TRITON_CACHE_DIR=str(moved))
        assert "False" in done.stdout, done.stderr
    finally:
        (tmp_path / "gone").rename(made / "cache")


def test_the_folder_is_that_of_the_installation(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "installation"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(process.KERNELS, raising=False)
    assert driver.default_folder() == tmp_path / "cache" / "rushes" / "kernels"
    monkeypatch.setenv(process.KERNELS, process.environment()[process.KERNELS])
    assert driver.default_folder() == tmp_path / "installation" / "kernels" == paths.kernels()


def test_a_truncated_group_file_is_removed(tmp_path) -> None:
    entry = tmp_path / "KEY"
    entry.mkdir()
    complete, truncated = entry / "__grp__one.json", entry / "__grp__two.json"
    complete.write_text(json.dumps({"child_paths": {"one.cubin": "/elsewhere/KEY/one.cubin"}}))
    truncated.write_text('{"child_paths": {"two')
    driver.relocate_cache(tmp_path)
    assert json.loads(complete.read_text()) == {"child_paths": {"one.cubin": str(entry / "one.cubin")}}
    assert sorted(path.name for path in entry.iterdir()) == ["__grp__one.json"]


def test_the_doctor_loads_neither_torch_nor_triton(python, tmp_path) -> None:
    code = "import sys; from pathlib import Path; from kernels.toolchain import driver; "
    code += "driver.launcher_source(Path(sys.argv[1])); print({'torch', 'triton', 'numpy'} & set(sys.modules))"
    done = python("-c", code, tmp_path)
    assert done.stdout == "set()\n", done.stderr


SHIPPED = sorted(driver.SHIPPED.glob("*.so"))


@pytest.mark.skipif(
    sys.platform != "linux" or os.uname().machine != "x86_64", reason="modules for Linux on x86-64 ship"
)
@pytest.mark.parametrize("module", SHIPPED, ids=lambda path: path.name)
def test_shipped_modules_are_complete(module: Path) -> None:
    """They need libcuda by name, and no newer C library than torch itself (glibc 2.28)."""
    listed = subprocess.run(["readelf", "-dV", module], capture_output=True, text=True, check=True).stdout
    assert "[libcuda.so.1]" in listed
    versions = {
        tuple(map(int, word.strip("()").split("_")[1].split("."))) for word in listed.split() if "GLIBC_2" in word
    }
    assert versions and max(versions) <= (2, 28)
    assert undefined(module)
    assert b"PyInit_cuda_utils" in module.read_bytes()


def test_a_module_ships_for_each_supported_python() -> None:
    """All from one source: the driver's C file in the Triton that torch's CUDA build pins."""
    name, pythons = {path.name.split(".")[0] for path in SHIPPED}, [path.name.split(".")[1] for path in SHIPPED]
    assert len(name) == 1 and pythons == [f"cpython-3{minor}-x86_64-linux-gnu" for minor in (11, 12, 13)]
