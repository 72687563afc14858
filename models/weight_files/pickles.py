"""Convert PyTorch pickles to safetensors, without this process ever reading the pickle. Torch-free.

A pickle is a program. A child process (models/weight_files/pickle_child.py) reads it with torch's weights-only loader,
which loads tensors and plain containers and refuses to call anything else. In case that loader has a hole, the child
has no network, may write to one new folder only, may start no program, and has limited memory, time and file sizes
(models/weight_files/sandbox.py). Its result is a safetensors file, which is checked like any untrusted one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.atomic_write import replace
from models.errors import BadInput, RushesError
from models.weight_files.file_kind import kind_of
from models.weight_files.safetensors_header import read_header, table_of

ROOT = Path(__file__).resolve().parents[2]  # the folder that holds our packages
START_SECONDS, BYTES_A_SECOND = 180, 10_000_000  # for a slow disk and a slow machine; after that it is taken to hang
REPORT, WEIGHTS, MAX_REPORT_BYTES = "report.json", "weights.safetensors", 2**20
KEPT_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "LANG")  # nothing else: no secrets
WAY_OUT = "use the same weights as safetensors or GGUF"


@dataclass(frozen=True, slots=True)
class Converted:
    """A pickle's tensors as a safetensors file."""

    path: Path
    left_out: tuple[str, ...]  # names of entries that were not tensors
    unguarded: tuple[str, ...]  # protections that this system lacks, for people: "network access was not blocked"


def convert(path: Path, out: Path) -> Converted:
    """Write the tensors of `path` to `out`, whole or not at all.

    Raises BadInput when the pickle needs anything but tensors, RushesError for errors of the disk or the system.
    """
    if kind_of(path) != "pickle":
        raise BadInput(f"{path} is not a pickle: it can be opened as it is")
    size = path.stat().st_size
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    except OSError as error:
        raise RushesError(f"cannot write in {out.parent}: {(error.strerror or str(error)).lower()}") from error
    try:
        ended = _run_child(path.resolve(), folder.resolve(), START_SECONDS + size // BYTES_A_SECOND)
        report = _report(path, folder / REPORT, ended)
        _plain_file(folder / WEIGHTS)
        read_header(folder / WEIGHTS, WAY_OUT)
        replace(folder / WEIGHTS, out)
    except OSError as error:
        raise RushesError(f"{path} could not be converted: {(error.strerror or str(error)).lower()}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Converted(out, _texts(report.get("left_out")), _texts(report.get("unguarded")))


def _run_child(path: Path, folder: Path, seconds: int) -> str:
    """Run the child to its end; returns how it ended, for people. Its output is discarded: it may be the pickle's."""
    environment = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ} | {
        "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(folder), "TMPDIR": str(folder),
        "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
        "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",
    }  # fmt: skip
    command = [sys.executable, "-P", "-s", "-m", "models.weight_files.pickle_child", str(path), str(folder)]
    child = subprocess.Popen(
        command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        status = child.wait(seconds)
    except subprocess.TimeoutExpired:
        return f"it took more than {seconds} seconds"
    finally:
        with contextlib.suppress(ProcessLookupError):  # and whatever it started
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    return f"it was killed by signal {-status}" if status < 0 else f"it ended with exit code {status}"


def _report(path: Path, file: Path, ended: str) -> dict[str, Any]:
    """The child's report. Raises BadInput when it refused the file or did not finish."""
    try:
        _plain_file(file)
        with open(file, "rb") as opened:
            report = table_of(opened.read(MAX_REPORT_BYTES))
    except (OSError, ValueError):
        raise BadInput(
            f"{path} could not be read: the process that reads pickles failed ({ended}); {WAY_OUT}"
        ) from None
    if "refused" in report:
        raise BadInput(f"{path} was not converted: {_texts([report['refused']])[0]}; {WAY_OUT}")
    return report


def _plain_file(path: Path) -> None:
    """Raises OSError for a link or a pipe, which the child never needs to create."""
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise OSError(f"{path.name} is not a file")


def _texts(found: Any) -> tuple[str, ...]:
    """Texts of the child, each cut to one printable line."""
    return tuple(ascii(text)[1:-1][:160] for text in found[:100]) if isinstance(found, list) else ()
