"""Measured rates of a device: plausible, complete, and null with a reason where they cannot be measured."""

from __future__ import annotations

import json

import pytest
import torch

from models.bench.device_rates import Sizes, copy_rate, float_rate, int8_rate, main, measure

SMALL = Sizes(copy_bytes=2**20, rows=64, inputs=128, outputs=96, seconds=0.01)
CPU = torch.device("cpu")


def test_rates_count_what_is_moved_and_multiplied():
    """Twice the work at about the same rate: the figures are rates and no times."""
    for rate, larger in ((copy_rate, Sizes(2**24, 64, 128, 96, 0.05)), (float_rate, Sizes(2**20, 512, 128, 96, 0.05))):
        assert 0.02 < rate(CPU, SMALL) / rate(CPU, larger) < 50
    assert int8_rate(CPU, SMALL) > 1e6


def test_a_document_with_every_figure():
    found = measure(CPU, SMALL)
    assert found["troubles"] == [] and found["device"] == "cpu"
    rates = found["rates"]
    assert set(rates) == {"copy_bytes_s", "flops_int8", "flops_bf16", "upload_bytes_s"}
    assert rates.pop("upload_bytes_s") is None  # nothing is uploaded to a processor
    assert all(rate > 1e6 for rate in rates.values())
    assert found["block"]["seconds"] > 0 and found["block"]["tokens"] == 9 * 8 * 14


def test_a_figure_that_cannot_be_measured_is_null_with_a_reason():
    found = measure(CPU, Sizes(2**60, 64, 128, 96, 0.01))
    assert found["rates"]["copy_bytes_s"] is None and found["rates"]["flops_int8"] is not None
    assert [trouble.partition(":")[0] for trouble in found["troubles"]] == ["copy_bytes_s"]
    json.dumps(found)


def test_a_missing_device_is_reported_in_one_line(capsys):
    assert main(["--device", "moon"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "moon" in said.err


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_every_figure_of_a_gpu():
    found = measure(torch.device("cuda:0"))
    assert found["troubles"] == [] and all(found["rates"].values())
