"""What an error means for the take, by the classes and texts that torch, CUDA and Triton really raise."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import torch

from appliance.worker.faults import device_of, kind_of, sentence
from appliance.worker.protocol import FailureKind, FilmOrder
from models.errors import BadInput, RushesError

ORDER = FilmOrder(1, "{}", json.dumps({"device": "cuda:1"}), Path("package"), Path("film"))
ACCELERATOR = getattr(torch, "AcceleratorError", RuntimeError)
GPU_IS_FULL = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 11.6 GiB"),
    ACCELERATOR(
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call"
    ),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("Triton Error [CUDA]: out of memory"),
)
MACHINE_IS_FULL = (
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] data. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("can't start new thread"),
)
FAULTS = (
    ACCELERATOR("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: unspecified launch failure"),
    RuntimeError("Triton Error [CUDA]: device kernel image is invalid"),
    ValueError("out of memory"),  # a text alone is no proof
    KeyError("x"),
)


@pytest.mark.parametrize("wrapped", [False, True])
def test_full_memory_is_recognised_under_every_name_and_on_its_device(wrapped):
    for errors, device in ((GPU_IS_FULL, "cuda:1"), (MACHINE_IS_FULL, "cpu")):
        for error in errors:
            raised = error
            if wrapped and device != "cpu":
                raised = RuntimeError("the decoder failed")
                raised.__cause__ = error
            assert kind_of(raised) is FailureKind.MEMORY, error
            assert device_of(raised, ORDER) == device, error
            assert "ran out of memory" in sentence(raised)


def test_other_faults_replace_the_worker():
    for error in FAULTS:
        assert kind_of(error) is FailureKind.FAULT, error


def test_errors_of_people_and_of_disks_keep_their_kind():
    assert kind_of(BadInput("no")) is FailureKind.BAD_INPUT
    assert kind_of(RushesError("no")) is FailureKind.FAILED
    full = RushesError("cannot write")
    full.__cause__ = OSError(errno.ENOSPC, "full")
    assert kind_of(full) is FailureKind.DISK and kind_of(OSError(errno.ENOENT, "gone")) is FailureKind.FAULT
