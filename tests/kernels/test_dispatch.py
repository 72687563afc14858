"""The dispatch table: total, monotone, and right about GPUs that differ only by name."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from kernels import dispatch, ops
from kernels.dispatch import TABLE, choice_for, choose
from kernels.rowwise import reference

NAMES = ["NVIDIA GeForce RTX 4090", "NVIDIA RTX A6000", "NVIDIA H200", ""]


@pytest.mark.parametrize(
    ("capability", "name", "attention", "fast", "linear"),
    [
        ((7, 5), "Tesla T4", "sdpa", "sdpa", "int_mm"),
        ((7, 5), "NVIDIA GeForce RTX 2060", "sdpa", "sdpa", "int_mm"),
        ((8, 0), "NVIDIA A100-SXM4-80GB", "sdpa", "int8_f32", "triton"),
        ((8, 6), "NVIDIA GeForce RTX 3060", "int8_f16", "int8_f16", "triton"),
        ((8, 6), "NVIDIA GeForce RTX 3080 Laptop GPU", "int8_f16", "int8_f16", "triton"),
        ((8, 6), "NVIDIA RTX A6000", "int8_f32", "int8_f32", "triton"),
        ((8, 9), "NVIDIA GeForce RTX 4090", "int8_f16", "int8_fp8_f16", "triton"),
        ((8, 9), "NVIDIA L40S", "int8_f32", "int8_fp8_f16", "triton"),
        ((9, 0), "NVIDIA H200", "sdpa", "sdpa", "triton"),
        ((10, 0), "NVIDIA B200", "sdpa", "sdpa", "triton"),
        ((12, 0), "NVIDIA GeForce RTX 5090", "int8_f16", "int8_fp8_f16", "triton"),
        ((12, 0), "NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "int8_f32", "int8_fp8_f16", "triton"),
        ((6, 1), "NVIDIA GeForce GTX 1080", "sdpa", "sdpa", "torch"),
    ],
)
def test_known_gpus(capability: tuple[int, int], name: str, attention: str, fast: str, linear: str) -> None:
    choice = choice_for(capability, name)
    assert (choice.attention, choice.fast_attention, choice.linear) == (attention, fast, linear)


@pytest.mark.parametrize(
    ("unknown", "as_known"),
    [
        ((8, 7), (8, 6)),
        ((10, 3), (10, 0)),
        ((11, 0), (10, 0)),
        ((12, 1), (12, 0)),
        ((15, 0), (12, 0)),
        ((7, 0), (5, 2)),
    ],
)
def test_a_gpu_not_in_the_table_is_treated_as_the_nearest_below(unknown, as_known) -> None:
    differing = [name for name in NAMES if choice_for(unknown, name) != choice_for(as_known, name)]
    assert not differing


def test_every_row_is_the_choice_of_some_device() -> None:
    reached = {
        choice_for(row.capability, name) for row in TABLE for name in ("", "GeForce", dispatch.BF16_INSTRUCTIONS)
    }
    assert reached == {row.choice for row in TABLE}


def test_no_row_uses_what_its_gpus_cannot_do() -> None:
    for row in TABLE:
        capability, choice = row.capability, row.choice
        assert choice.attention in get_args(dispatch.Attention) and choice.fast_attention in get_args(
            dispatch.Attention
        )
        assert choice.linear in get_args(dispatch.Linear) and choice.norms in get_args(dispatch.Norms)
        if capability is None or capability < (8, 0):  # Triton has no tensor-core products there
            assert choice.attention == choice.fast_attention == "sdpa" and choice.linear != "triton"
            assert choice.dtype != torch.bfloat16 or capability is None
        if "fp8" in choice.attention + choice.fast_attention:
            assert capability is not None and capability >= (8, 9)
        assert choice.note and "\n" not in choice.note


def test_the_cpu_has_a_row() -> None:
    choice = choose(torch.device("cpu"))
    assert (choice.attention, choice.linear, choice.norms) == ("sdpa", "torch", "torch")
    assert choice.dtype == (torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32)
    assert choose(torch.device("cpu")) is choice
    assert choice_for(None, "").dtype == torch.float32


def test_choosing_loads_neither_triton_nor_a_driver(python) -> None:
    code = "import sys, torch; from kernels import dispatch; dispatch.choose(torch.device('cpu')); "
    code += "print('triton' in sys.modules, torch.cuda.is_initialized())"
    ran = python("-c", code)
    assert ran.stdout == "False False\n", ran.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_that_triton_does_not_support_the_reference_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    from kernels.rowwise import quantize as quant_rows

    monkeypatch.setattr(ops, "choose", lambda device: choice_for((6, 1), "NVIDIA GeForce GTX 1080"))
    monkeypatch.setattr(quant_rows, "launch", None)
    x = torch.randn(5, 300)
    q, scale = ops.quant_rows(x.cuda())
    expected, expected_scale = reference.quant_rows(x)
    assert torch.equal(q.cpu(), expected) and torch.equal(scale.cpu(), expected_scale)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_this_gpu() -> None:
    expected = choice_for(torch.cuda.get_device_capability(), torch.cuda.get_device_name())
    assert choose(torch.device("cuda")) == choose(torch.device("cuda", torch.cuda.current_device())) == expected
