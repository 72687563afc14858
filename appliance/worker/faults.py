"""What an error means for the take: bad input, disk, memory, or a fault of the device."""

from __future__ import annotations

import errno
import json

from appliance.safe_text import one_line
from appliance.worker.protocol import Order
from models.errors import BadInput, RushesError

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


_NO_ROOM = ("can't allocate memory", "can't start new thread")


def kind_of(error: BaseException) -> str:
    """What the daemon is to do about an error: "bad_input", "failed", "disk", "memory" or "fault"."""
    import torch

    if isinstance(error, BadInput):
        return "bad_input"
    causes = [error, *_causes(error)]
    if any(isinstance(cause, OSError) and cause.errno in _DISK for cause in causes):
        return "disk"
    if isinstance(error, RushesError):
        return "failed"
    if any(isinstance(cause, (MemoryError, torch.OutOfMemoryError)) for cause in causes):
        return "memory"
    # Neither torch's allocator on the CPU nor a thread without room for its stack has a class of its own for this.
    if isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_ROOM):
        return "memory"
    return "fault"


def place_of(error: BaseException, order: Order) -> str:
    """Where an error happened, as far as memory goes: the GPU that rendered, or the machine itself."""
    import torch

    on_gpu = any(isinstance(cause, torch.OutOfMemoryError) for cause in [error, *_causes(error)])
    return json.loads(order["plan"])["device"] if on_gpu else "cpu"


def sentence(error: BaseException) -> str:
    """One line for people. RushesErrors are that already."""
    if isinstance(error, RushesError):
        return one_line(str(error), limit=1000)
    if kind_of(error) == "memory":
        return "the machine ran out of memory: end other programs, or ask for a shorter or smaller shot"
    return one_line(f"the renderer failed ({type(error).__name__}: {error})", limit=600)


def _causes(error: BaseException) -> list[BaseException]:
    causes: list[BaseException] = []
    cause = error.__cause__
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__
    return causes
