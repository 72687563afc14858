"""How Triton gets the C module that launches its kernels, also on a machine without a C compiler. torch-free.

Triton brings its own compiler for kernels. The few functions that hand a kernel to the GPU's driver are C, though, and
are compiled against Python's headers when the first kernel is launched (up to Triton 3.6, one more file for each
kernel signature). Here each such file is compiled once and cached, under a name made of the hash of its text and of the
Python it was compiled for, so that a machine without a compiler can be given it:

    cuda_utils-9b1c24e07f3a5d68.cpython-312-x86_64-linux-gnu.so

It is looked for in the installation's folder, then among those that ship with Rushes ($RUSHES_PREBUILT, else
kernels/prebuilt: the Triton that torch's CUDA build pins, for Linux on x86-64). Where none fits, a compiler on the path
builds it: gcc, clang, or tcc, which is one small package. `python -m kernels.toolchain.prebuild` builds it ahead of
time, and the compiled kernels with it.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shlex
import shutil
import struct
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

SHIPPED = Path(os.environ.get("RUSHES_PREBUILT") or Path(__file__).parents[1] / "prebuilt")
LIBCUDA = "libcuda.so.1"
COMPILERS = ("gcc", "clang", "tcc")


@dataclass(frozen=True, slots=True)
class LauncherSource:
    """Where this machine's launcher module comes from, as a line for people, and the remedy where there is none."""

    kind: Literal["prebuilt", "compiler", "none"]
    text: str
    remedy: str = ""


def launcher_source(folder: Path) -> LauncherSource:
    """Where Triton will get its module after `prepare` with the same folder. Only looks at files."""
    source = driver_source()
    if source is None:
        return LauncherSource("none", "none: Triton is not installed", "install Triton, or render on the CPU")
    module = find_module("cuda_utils", source, folder)
    # Up to 3.6 every signature needs its own module: those built together with this one are assumed to be all.
    if module and (_one_launcher(source) or any(module.parent.glob(f"__triton_launcher-*{_suffix()}"))):
        return LauncherSource("prebuilt", f"prebuilt for {_versions()}, in {module.parent}")
    if compiler := find_compiler():
        return LauncherSource("compiler", f"compiled by {Path(compiler[0]).name} when first needed")
    missing = "no C compiler is on the path" if _has_headers() else "Python's C headers are missing"
    return LauncherSource(
        "none",
        f"none: {missing}, and nothing is prebuilt for {_versions()}",
        "install a compiler and Python's headers (Debian, Ubuntu: tcc python3-dev), or run "
        f"`python -m kernels.toolchain.prebuild FOLDER` on a machine that has them and copy FOLDER to {folder}",
    )


def default_folder() -> Path:
    """$RUSHES_KERNELS, which the appliance sets to its installation's folder; else in the user's cache."""
    if chosen := os.environ.get("RUSHES_KERNELS"):
        return Path(chosen).absolute()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache).absolute() if cache else Path.home() / ".cache") / "rushes" / "kernels"


def prepare(folder: Path | None = None) -> None:
    """Make Triton take its modules from here and cache compiled kernels in `folder`. Call before the first launch.

    Later calls change nothing. This alone imports Triton (where it is installed), without its GPU driver.
    """
    if driver_source() is None:
        return
    folder = folder or default_folder()
    os.environ.setdefault("TRITON_CACHE_DIR", str(folder / "cache"))
    # Triton asks ldconfig where libcuda is, to link with it, and gives up where ldconfig does not know. Our module only
    # names the library, and the dynamic loader finds it as it does for torch.
    os.environ.setdefault("TRITON_LIBCUDA_PATH", str(folder))
    relocate_cache(Path(os.environ["TRITON_CACHE_DIR"]))
    from triton import knobs  # torch

    knobs.build.impl = partial(provide_module, folder)


def provide_module(
    folder: Path, name: str, source: str, source_folder: str, library_folders: Sequence[str],
    include_folders: Sequence[str], libraries: Sequence[str],
) -> str:  # fmt: skip
    """The shared object of a C file: cached, or compiled now. Triton calls this with its own signature."""
    module = find_module(name, Path(source), folder)
    return str(module or build_module(name, Path(source), folder, include_folders))


def find_module(name: str, source: Path, folder: Path) -> Path | None:
    """The module of a C file that is built already and that this machine can load, libcuda aside; else None."""
    file = module_name(name, source)
    return next((where / file for where in (folder, SHIPPED) if _loads(where / file)), None)


def module_name(name: str, source: Path) -> str:
    """The file name of a C file's module: hash of the source, and this Python's ABI."""
    return f"{name}-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}{_suffix()}"


def build_module(name: str, source: Path, folder: Path, include_folders: Sequence[str]) -> Path:
    """Compile one of Triton's C files into the folder. Needs no libcuda: it is linked against an empty library.

    Raises RuntimeError where there is no compiler or it fails. The file appears complete or not at all.
    """
    compiler = find_compiler()
    if compiler is None:
        found = launcher_source(folder)
        raise RuntimeError(f"no kernel can be launched ({found.text.removeprefix('none: ')}): {found.remedy}")
    target = folder / module_name(name, source)
    folder.mkdir(parents=True, exist_ok=True)
    includes = [f"-I{path}" for path in (*include_folders, _headers())]
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        empty, stub, module = (Path(scratch) / file for file in ("empty.c", "libcuda.so", "module.so"))
        empty.write_text("int unused;\n")
        _run([*compiler, "-shared", "-fPIC", f"-Wl,-soname={LIBCUDA}", str(empty), "-o", str(stub)])
        if "tcc" not in Path(compiler[0]).name:  # tcc always records every library, and lacks these options
            compiler = [*compiler, "-O2", "-s", "-Wno-psabi", "-Wl,--no-as-needed"]
        _run([*compiler, "-shared", "-fPIC", str(source), str(stub), *includes, "-o", str(module)])
        _fsync(module)
        os.replace(module, target)
        _fsync(folder)
    return target


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        output = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise RuntimeError(f"{command[0]} could not compile Triton's driver module: {output[0]}")


def find_compiler() -> list[str] | None:
    """$CC, else the first of COMPILERS on the path; None where there is none or Python's headers are missing."""
    if not _has_headers():
        return None
    chosen = shlex.split(os.environ.get("CC", ""))
    for command in [chosen] if chosen else [[name] for name in COMPILERS]:
        if path := shutil.which(command[0]):
            return [path, *command[1:]]
    return None


def _has_headers() -> bool:
    return (_headers() / "Python.h").is_file()


def _headers() -> Path:
    scheme = sysconfig.get_default_scheme()
    # Debian's own scheme names a folder under /usr/local, where its headers are not.
    return Path(sysconfig.get_path("include", "posix_prefix" if scheme == "posix_local" else scheme))


def driver_source() -> Path | None:
    """Triton's C file; None where Triton is not installed."""
    spec = find_spec("triton")
    if spec is None or not spec.submodule_search_locations:
        return None
    source = Path(next(iter(spec.submodule_search_locations))) / "backends" / "nvidia" / "driver.c"
    return source if source.is_file() else None


def _one_launcher(source: Path) -> bool:
    """Whether one module launches every kernel: true since Triton 3.7."""
    return "__triton_launcher" not in source.with_suffix(".py").read_text()


def _versions() -> str:
    return f"Python {sys.version_info.major}.{sys.version_info.minor} and Triton {version('triton')}"


def _suffix() -> str:
    return str(sysconfig.get_config_var("EXT_SUFFIX"))


def _loads(module: Path) -> bool:
    """Whether the dynamic loader accepts it. Missing libcuda does not count: without it nothing is launched anyway."""
    if not module.is_file() or not _is_complete(module):
        return False
    try:
        ctypes.CDLL(str(module))
    except OSError as error:
        return LIBCUDA in str(error)
    return True


def _is_complete(module: Path) -> bool:
    """Whether a shared object has its section headers, which come last: the loader crashes on a truncated file."""
    head = module.read_bytes()[:64]
    if len(head) < 64 or head[:5] != b"\x7fELF\x02":  # 64 bits
        return False
    offset, size, count = struct.unpack_from("<Q", head, 40)[0], *struct.unpack_from("<HH", head, 58)
    return offset + size * count <= module.stat().st_size


def relocate_cache(cache: Path) -> None:
    """Correct the absolute paths in a Triton cache that was moved or copied here, so that Triton finds its kernels."""
    for group in cache.glob("*/__grp__*.json"):
        try:
            paths = json.loads(group.read_text())["child_paths"]
        except (ValueError, KeyError):
            group.unlink()  # truncated: Triton compiles that kernel again
            continue
        here = {name: str(group.parent / Path(path).name) for name, path in paths.items()}
        if here != paths:
            corrected = group.with_suffix(f".{os.getpid()}")
            corrected.write_text(json.dumps({"child_paths": here}))
            os.replace(corrected, group)
