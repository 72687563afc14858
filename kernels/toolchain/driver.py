"""How Triton gets the C module that launches its kernels, also on a box without a compiler. Loads nothing heavy.

Triton brings its own compiler for kernels. The few functions that hand a kernel to the GPU's driver are C, though, and
are compiled against Python's headers when the first kernel is launched (up to Triton 3.6, one more file for each
kernel's signature). Here each such file is compiled once and kept, under a name made of its text and of the Python it
was compiled for, so that a machine without a compiler can be given it:

    cuda_utils-9b1c24e07f3a5d68.cpython-312-x86_64-linux-gnu.so

Looked for in the house's folder, then among those that ship with Rushes ($RUSHES_PREBUILT, else kernels/prebuilt: what
torch's CUDA build pins, for Linux on x86-64). Where none fits, a compiler on the path makes it: gcc, clang, or tcc,
which is one small package. `python -m kernels.toolchain.prebuild` makes it ahead of time, and the compiled kernels with
it.
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
class Way:
    """How this machine gets the module, in words for people; and what to do where it does not."""

    kind: Literal["prebuilt", "compiler", "none"]
    words: str
    remedy: str = ""


def way(folder: Path) -> Way:
    """What Triton will come to after `prepare` with the same folder, found out by looking at files."""
    source = driver_source()
    if source is None:
        return Way("none", "none: Triton is not installed", "install Triton, or render on the CPU")
    module = kept("cuda_utils", source, folder)
    # Up to 3.6 every signature needs its own: those that were made with the module are taken for all.
    if module and (_one_launcher(source) or any(module.parent.glob(f"__triton_launcher-*{_suffix()}"))):
        return Way("prebuilt", f"prebuilt for {_who()}, in {module.parent}")
    if compiler := find_compiler():
        return Way("compiler", f"compiled by {Path(compiler[0]).name} when first needed")
    missing = "no C compiler is on the path" if _has_headers() else "Python's C headers are missing"
    return Way(
        "none",
        f"none: {missing}, and nothing is prebuilt for {_who()}",
        "install a compiler and Python's headers (Debian, Ubuntu: tcc python3-dev), or bring the folder that "
        f"`python -m kernels.toolchain.prebuild FOLDER` makes where they are to {folder}",
    )


def default_folder() -> Path:
    """$RUSHES_KERNELS, which the appliance sets to its house's; else in the user's cache."""
    if chosen := os.environ.get("RUSHES_KERNELS"):
        return Path(chosen).absolute()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache).absolute() if cache else Path.home() / ".cache") / "rushes" / "kernels"


def prepare(folder: Path | None = None) -> None:
    """Tells Triton to take its modules from here, and to keep compiled kernels in `folder`. Before the first launch.

    Later calls change nothing. Only here is Triton loaded, where it is installed, and not its driver.
    """
    if driver_source() is None:
        return
    folder = folder or default_folder()
    os.environ.setdefault("TRITON_CACHE_DIR", str(folder / "cache"))
    # Triton asks ldconfig where libcuda is, to link with it, and gives up where ldconfig does not know. The module
    # names the library, and the loader finds it as it does for torch.
    os.environ.setdefault("TRITON_LIBCUDA_PATH", str(folder))
    settle(Path(os.environ["TRITON_CACHE_DIR"]))
    from triton import knobs  # torch

    knobs.build.impl = partial(provide, folder)


def provide(
    folder: Path, name: str, source: str, source_folder: str, library_folders: Sequence[str],
    include_folders: Sequence[str], libraries: Sequence[str],
) -> str:  # fmt: skip
    """The shared object of a C file, as Triton asks for it: kept, or compiled now. Called by Triton."""
    module = kept(name, Path(source), folder)
    return str(module or build(name, Path(source), folder, include_folders))


def kept(name: str, source: Path, folder: Path) -> Path | None:
    """The module of a C file that is here already and that this machine can load, were libcuda here."""
    file = module_name(name, source)
    return next((place / file for place in (folder, SHIPPED) if _loads(place / file)), None)


def module_name(name: str, source: Path) -> str:
    return f"{name}-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}{_suffix()}"


def build(name: str, source: Path, folder: Path, include_folders: Sequence[str]) -> Path:
    """Compiles a C file of Triton's into the folder. Needs no libcuda: an empty library stands for it when linking."""
    compiler = find_compiler()
    if compiler is None:
        found = way(folder)
        raise RuntimeError(f"no kernel can be launched ({found.words.removeprefix('none: ')}): {found.remedy}")
    target = folder / module_name(name, source)
    folder.mkdir(parents=True, exist_ok=True)
    includes = [f"-I{path}" for path in (*include_folders, _headers())]
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        nothing, stub, module = (Path(scratch) / file for file in ("nothing.c", "libcuda.so", "module.so"))
        nothing.write_text("int nothing;\n")
        _run([*compiler, "-shared", "-fPIC", f"-Wl,-soname={LIBCUDA}", str(nothing), "-o", str(stub)])
        if "tcc" not in Path(compiler[0]).name:  # tcc always names every library, and has no such options
            compiler = [*compiler, "-O2", "-s", "-Wno-psabi", "-Wl,--no-as-needed"]
        _run([*compiler, "-shared", "-fPIC", str(source), str(stub), *includes, "-o", str(module)])
        os.replace(module, target)
    return target


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise RuntimeError(f"{command[0]} could not compile Triton's driver module: {said[0]}")


def find_compiler() -> list[str] | None:
    """$CC, or the first of those on the path; None where there is none, or where Python's headers are missing."""
    if not _has_headers():
        return None
    named = shlex.split(os.environ.get("CC", ""))
    for command in [named] if named else [[name] for name in COMPILERS]:
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
    """Whether the module launches every kernel: since Triton 3.7."""
    return "__triton_launcher" not in source.with_suffix(".py").read_text()


def _who() -> str:
    return f"Python {sys.version_info.major}.{sys.version_info.minor} and Triton {version('triton')}"


def _suffix() -> str:
    return str(sysconfig.get_config_var("EXT_SUFFIX"))


def _loads(module: Path) -> bool:
    """Whether the loader takes it. Where libcuda is missing it takes nothing, and there nothing is launched either."""
    if not module.is_file() or not _is_whole(module):
        return False
    try:
        ctypes.CDLL(str(module))
    except OSError as error:
        return LIBCUDA in str(error)
    return True


def _is_whole(module: Path) -> bool:
    """Whether a shared object was copied to its end, where its section headers lie: the loader dies of half of one."""
    head = module.read_bytes()[:64]
    if len(head) < 64 or head[:5] != b"\x7fELF\x02":  # 64 bits
        return False
    offset, size, count = struct.unpack_from("<Q", head, 40)[0], *struct.unpack_from("<HH", head, 58)
    return offset + size * count <= module.stat().st_size


def settle(cache: Path) -> None:
    """Makes a cache of compiled kernels that was moved or copied here Triton's own: it notes where its files lie."""
    for note in cache.glob("*/__grp__*.json"):
        try:
            paths = json.loads(note.read_text())["child_paths"]
        except (ValueError, KeyError):
            note.unlink()  # half a file: Triton compiles that kernel again
            continue
        here = {name: str(note.parent / Path(path).name) for name, path in paths.items()}
        if here != paths:
            fresh = note.with_suffix(f".{os.getpid()}")
            fresh.write_text(json.dumps({"child_paths": here}))
            os.replace(fresh, note)
