"""The kernel benchmark runs every operation and judges its goals by the figures."""

from __future__ import annotations

import functools
import json
import math
import time
from functools import partial
from types import ModuleType

import pytest
import torch

from kernels import ops
from kernels.attention import reference as reference_attention
from kernels.bench import __main__ as bench
from kernels.bench import baselines, report, timing
from kernels.bench import cases as bench_cases
from kernels.bench.harness import Case, Shape, against_reference
from kernels.bench.report import Goal
from kernels.rowwise import reference

CPU = torch.device("cpu")
OPS = {name for name, value in vars(ops).items() if hasattr(value, "__wrapped__")}
SMALL = Shape(48, 2, 256, (2, 3, 4), CPU)


@pytest.fixture(scope="module")
def dry(python, tmp_path_factory):
    """A dry run from the command line: the printed document, the written one, and the output."""
    out = tmp_path_factory.mktemp("measured")
    run = python("-m", "kernels.bench", "--dry-run", "--out", out, OMP_NUM_THREADS="1")
    assert run.returncode == 0, run.stderr
    (written,) = out.iterdir()
    return json.loads(run.stdout.strip().split("\n")[-1]), json.loads(written.read_text()), run.stdout


def test_a_dry_run_measures_every_operation(dry):
    document, written, printed = dry
    assert document == written
    assert {row["op"] for row in document["rows"]} == OPS != set()
    assert document["failed"] == 0 and not document["not_begun"]
    assert printed.startswith("DRY RUN")


def test_a_dry_run_gives_finite_numbers_and_meets_no_goal(dry):
    document, _, _ = dry
    for row in document["rows"]:
        figures = [row["ms"], row["gb_s"], *row["reached"].values(), *document["limits"].values()]
        assert all(math.isfinite(figure) and figure > 0 for figure in figures), row
        assert row["error"] == 0.0, "on the CPU an operation is its reference"
        assert {goal["met"] for goal in row["goals"]} == {None}
    assert document["goals"]["met"] == document["goals"]["missed"] == 0


def test_no_operation_lacks_a_benchmark():
    assert set(bench_cases.CASES) == OPS


def test_a_goal_is_met_where_its_bound_is_reached():
    fast, small = Goal("eager", 3.0), Goal("error", 0.03, at_most=True)
    assert fast.judge(3.0) == {"goal": "eager", "at_least": 3.0, "reached": 3.0, "met": True}
    assert fast.judge(2.9)["met"] is False
    assert fast.judge(None)["met"] is None
    assert fast.judge(9.0, dry_run=True)["met"] is None
    assert small.judge(0.03) == {"goal": "error", "at_most": 0.03, "reached": 0.03, "met": True}
    assert small.judge(0.031)["met"] is False


def test_a_case_is_compared_with_limits_and_baselines(monkeypatch: pytest.MonkeyPatch):
    """Ours takes 2 ms for 4 GB and 6 TOP, on a GPU that copies 5 TB/s and multiplies 10 TOP/ms in int8."""
    ours, slow, broken = (lambda: None), (lambda: None), (lambda: None)
    took = {ours: 0.002, slow: 0.007}

    def seconds(run, device):
        if run is broken:
            raise RuntimeError("no library for this GPU\nand much more")
        return took[run]

    monkeypatch.setattr(timing, "seconds", seconds)
    case = Case(
        "variant", "1x1", ours, lambda: 0.01, 4 * 10**9, 6 * 10**12, {"slow": slow, "broken": broken, "left": slow}
    )
    row: dict = {"baselines": {}}
    bench.measure(case, row, {"copy": 5e12, "bf16": 5e15, "int8": 1e16, "mixed": 6e15}, ("left",), CPU)
    assert row["ms"] == 2.0 and row["gb_s"] == 2000.0 and row["tops"] == 3000.0
    assert row["reached"] == pytest.approx({"bf16": 0.6, "int8": 0.3, "mixed": 0.5, "slow": 3.5})
    assert row["baselines"]["slow"] == {"ms": 7.0}
    assert row["baselines"]["broken"] == {"cannot": "RuntimeError: no library for this GPU"}
    assert "left" not in row["baselines"]


def test_a_result_that_is_not_finite_is_a_failure_without_a_time():
    row: dict = {"baselines": {}}
    bench.measure(Case("", "1x1", print, lambda: math.nan, 1), row, {}, (), CPU)
    assert row["error"] is None and "not finite" in row["failed"] and "ms" not in row


def test_a_failure_is_a_row_and_the_rest_still_runs(monkeypatch: pytest.MonkeyPatch):
    def broken(shape):
        yield Case("first", "1x1", print, partial(divmod, 1, 0), 1)
        yield Case("second", "1x1", lambda: None, lambda: 0.0, 1)
        raise RuntimeError("no room")

    monkeypatch.setitem(bench_cases.CASES, "gate_res", broken)
    rows = list(bench.measured("gate_res", SMALL, {"copy": 1e9}, ()))
    assert ["failed" in row for row in rows] == [True, False, True]
    assert rows[0]["failed"].startswith("ZeroDivisionError") and rows[2]["failed"] == "RuntimeError: no room"
    assert all(f"FAILED: {row['failed']}" in bench.table_line(row) for row in [rows[0], rows[2]])


def test_the_error_compares_the_last_rows_and_what_is_written():
    y, res, gate = SMALL.normal(6, 48), SMALL.wide(6, 48), SMALL.wide(1, 48)
    before, few = res.clone(), (y[-2:], res[-2:], gate)
    assert against_reference(ops.gate_res, (y, res, gate), few, writes=1) == 0.0
    assert torch.equal(res, before), "the case's own tensors stay as they are"
    assert against_reference(ops.gate_res, (y, res, gate), (y[:2], res[-2:], gate), writes=1) > 0.1


def test_nan_in_any_result_makes_the_error_nan():
    def plain(x):
        return torch.ones(3), torch.ones(3)

    @functools.wraps(plain)
    def op(x):
        return 1 + x, torch.full((3,), math.nan)

    assert math.isnan(against_reference(op, (torch.ones(3),), (torch.ones(3),)))


@pytest.mark.parametrize("name", ["ln_mod_quant", "gate_res_norm_quant", "rmsnorm_rope", "quant_queries"])
def test_the_expressions_for_torch_compile_equal_the_references(name):
    """The same numbers, but for those that another order of sums rounds to the next level."""
    given = next(bench_cases.CASES[name](SMALL)).ours.args  # type: ignore[attr-defined]
    modules: tuple[ModuleType, ...] = (reference, reference_attention)
    expected_op = next(getattr(module, name) for module in modules if hasattr(module, name))
    for position, part in enumerate(_call(getattr(baselines, name), given)):
        expected = _call(expected_op, given)[position]
        assert part.shape == expected.shape and part.dtype == expected.dtype
        assert float((part.float() - expected.float()).norm() / expected.float().norm()) < 2e-3


def _call(function, given):
    made = function(*(part.clone() if isinstance(part, torch.Tensor) else part for part in given))
    return (made,) if isinstance(made, torch.Tensor) else made


def test_non_finite_figures_do_not_lose_the_document(tmp_path):
    """A row with a NaN has failed, an infinite limit is null, and all other figures are written."""
    document = report.begin("kernels", CPU, False) | {"limits": {"copy": math.inf, "bf16": 2.0}}
    bad = {"rms": [0.5, math.nan], "reached": {"slow": math.nan, "quick": 2.0}, "goals": (Goal("slow", 1.0),)}
    report.add(document, bad)
    report.add(document, {"ms": 1.0, "reached": {"slow": 3.0}, "goals": (Goal("slow", 1.0),)})
    assert report.conclude(document, tmp_path / "document.json") == 1
    written = json.loads((tmp_path / "document.json").read_text(), parse_constant=pytest.fail)
    assert written["limits"] == {"copy": None, "bf16": 2.0} and written["failed"] == 1
    first, second = written["rows"]
    assert first["failed"] == report.NOT_FINITE and first["rms"] == [0.5, None]
    assert first["reached"] == {"slow": None, "quick": 2.0} and first["goals"][0]["met"] is None
    assert "failed" not in second and second["goals"][0]["met"] is True


def test_wall_time_includes_the_work():
    assert 0.01 <= timing.wall_seconds(lambda: time.sleep(0.01), CPU, 0.05) < 0.1


def test_the_first_call_is_not_counted():
    pauses = iter([0.3, *[0.001] * 1000])
    assert timing.wall_seconds(lambda: time.sleep(next(pauses)), CPU, 0.02) < 0.1


def test_a_file_is_named_after_what_was_measured():
    facts = {
        "benchmark": "kernels",
        "dry_run": False,
        "gpu": "NVIDIA H200",
        "torch": "2.11.0+cu130",
        "date": "2026-03-01",
    }
    assert report.name_of(facts) == "kernels-nvidia-h200-torch2.11.0-2026-03-01.json"


def test_a_run_may_end_early_and_says_what_it_left_out(capsys: pytest.CaptureFixture[str]):
    assert bench.main(["--dry-run", "--only", "gate", "--limit", "0"]) == 0
    document = json.loads(capsys.readouterr().out.strip().split("\n")[-1])
    assert document["rows"] == []
    assert document["not_begun"] == ["gate_res_norm_quant 120x256", "gate_res 120x256"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stopped:
        bench.main([])
    assert stopped.value.code == 1 and "no CUDA device is here" in capsys.readouterr().err
