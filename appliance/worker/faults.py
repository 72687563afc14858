"""What an error means for the take: bad input, disk, memory, or a fault of the device."""

from __future__ import annotations

import errno
import json

import torch

from appliance.safe_text import one_line
from appliance.worker.protocol import FailureKind, FilmOrder, RenderOrder
from models.errors import BadInput, RushesError

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
# Neither torch's CPU allocator nor a thread without room for its stack raises a class of its own.
_OUT_OF_MEMORY = ("can't allocate memory", "can't start new thread")
# A full GPU under its other names: the CUDA runtime (torch.AcceleratorError is a RuntimeError), cuBLAS, cuDNN, Triton.
_GPU_OUT_OF_MEMORY = (
    "CUDA error: out of memory", "CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED",
    "Triton Error [CUDA]: out of memory",
)  # fmt: skip


def kind_of(error: BaseException) -> FailureKind:
    """What the daemon is to do about an error."""
    if isinstance(error, BadInput):
        return FailureKind.BAD_INPUT
    causes = [error, *_causes(error)]
    if any(isinstance(cause, OSError) and cause.errno in _DISK for cause in causes):
        return FailureKind.DISK
    if isinstance(error, RushesError):
        return FailureKind.FAILED
    if any(isinstance(cause, MemoryError) or _gpu_is_full(cause) for cause in causes):
        return FailureKind.MEMORY
    if isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY):
        return FailureKind.MEMORY
    return FailureKind.FAULT


def device_of(error: BaseException, order: RenderOrder | FilmOrder) -> str:
    """The device whose memory ran out: the plan's GPU, or "cpu"."""
    on_gpu = any(map(_gpu_is_full, [error, *_causes(error)]))
    return json.loads(order.plan)["device"] if on_gpu else "cpu"


def _gpu_is_full(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _GPU_OUT_OF_MEMORY)


def sentence(error: BaseException) -> str:
    """An error in one line for people. RushesErrors are that already."""
    if isinstance(error, RushesError):
        return one_line(str(error), limit=1000)
    if kind_of(error) is FailureKind.MEMORY:
        return "the machine ran out of memory: end other programs, or ask for a shorter or smaller shot"
    return one_line(f"the worker failed ({type(error).__name__}: {error})", limit=600)


def _causes(error: BaseException) -> list[BaseException]:
    causes: list[BaseException] = []
    cause = error.__cause__
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__
    return causes
