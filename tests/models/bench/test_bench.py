"""The benchmark covers all parts, and compares int8 with the same weights in bf16 and in diffusers."""

from __future__ import annotations

import json
import math

import pytest
import torch

from kernels.bench.report import NOT_FINITE, Goal
from models.bench import __main__ as bench
from models.bench.__main__ import SMALL, Scene
from models.bench.baselines import diffusers_network, random_weights
from models.dit.wan import Transformer
from models.geometry import Geometry
from models.loading.quantize import load_quantized, quantize

CPU = torch.device("cpu")
WAYS = {"sdpa", "int8_f32", "int8_f16", "int8_fp8_f16"}


@pytest.fixture(scope="module")
def dry(python, tmp_path_factory):
    """The document of a dry run, as people start it."""
    out = tmp_path_factory.mktemp("measured") / "document.json"
    run = python("-m", "models.bench", "--dry-run", "--out", out, OMP_NUM_THREADS="1")
    assert run.returncode == 0, run.stderr
    document = json.loads(run.stdout.strip().split("\n")[-1])
    assert document == json.loads(out.read_text())
    return document


def test_a_dry_run_covers_blocks_and_forwards_with_every_attention(dry):
    assert {(row["scene"], row["part"], row["way"]) for row in dry["rows"]} == {
        (scene.name, part, way)
        for scene in bench.TINY
        for part in (("block", "forward") if scene.whole else ("block",))
        for way in WAYS
    }
    assert dry["failed"] == 0 and dry["goals"]["met"] == dry["goals"]["missed"] == 0


def test_a_dry_run_gives_finite_numbers(dry):
    for row in dry["rows"]:
        figures = [row["ms"], row["tops"], row["weights_bytes"], *row["reached"].values()]
        assert all(math.isfinite(figure) and figure > 0 for figure in figures), row
        assert {"bf16"} <= set(row["baselines"])


def test_int8_blocks_meet_the_goal_for_rounding(dry):
    """The goal for real sizes, already at these."""
    errors = [row["rms"] for row in dry["rows"] if row["part"] == "block"]
    assert errors and max(errors) <= bench.ROUNDING.bound


def test_the_networks_compared_compute_the_same():
    """Ours in bf16 and diffusers', of one state dict; and weights under which that is no accident."""
    pytest.importorskip("diffusers")
    state = {name: tensor for part in random_weights(SMALL, CPU) for name, tensor in part.items()}
    ours = load_quantized(SMALL, state, torch.bfloat16)
    inputs = torch.randn(1, 16, 3, 8, 12), torch.tensor([500.0]), torch.randn(1, SMALL.text_len, SMALL.text_dim)
    with torch.inference_mode():
        expected = ours(*inputs)
        theirs = bench.run_diffusers(diffusers_network(SMALL, ours.state_dict()), inputs)
        ours.blocks[0].self_attn.norm_q.weight.fill_(0.0)
        assert bench.relative(theirs, expected) < 0.02 < bench.relative(ours(*inputs), expected)


def test_random_weights_are_complete_and_the_same_again():
    parts = list(random_weights(SMALL, CPU))
    state = {name: tensor for part in parts for name, tensor in part.items()}
    assert state.keys() == Transformer(SMALL).state_dict().keys()
    assert sum(len(part) for part in parts) == len(state)
    again = {name: tensor for part in random_weights(SMALL, CPU) for name, tensor in part.items()}
    assert all(torch.equal(state[name], again[name]) for name in state)
    whole, by_part = quantize(state, SMALL), {}
    for part in parts:
        by_part |= quantize(part, SMALL)
    assert whole.keys() == by_part.keys()
    assert all(torch.equal(whole[name], by_part[name]) for name in whole)


def test_a_row_holds_ours_against_the_others():
    """Ours takes 2 ms for a film of 72 tokens, a baseline 5, another cannot run; the worst block is reported."""
    scene = Scene("small", SMALL, Geometry(9, 64, 96), True, (Goal("slow", 2.5), Goal("broken", 1.0)))
    figures = {"ms": 2.0, "weights_bytes": 10, "work_bytes": None, "rms": 0.02}
    found = {"int8 sdpa": figures, "slow": {"ms": 5.0}, "broken": {"cannot": "no room"}}
    whole = bench.row_of(scene, "forward", "sdpa", found, [0.01, 0.015])
    assert whole["reached"] == {"slow": 2.5, "rms": 0.02} and whole["goals"] == scene.goals
    assert set(whole["baselines"]) == {"slow", "broken"}
    assert whole["tops"] == pytest.approx(bench.flops(SMALL, scene.geometry) / 0.002 / 1e12)
    block = bench.row_of(scene, "block", "sdpa", found, [0.01, 0.015])
    assert block["rms"] == block["reached"]["rms"] == 0.015 and block["goals"] == (bench.ROUNDING,)
    assert block["tops"] == pytest.approx(whole["tops"] / SMALL.layers)


@pytest.mark.parametrize("errors", [[0.01, math.nan], [math.nan, 0.01]])
def test_a_block_with_one_result_that_is_not_finite_has_failed(errors):
    found = {"int8 sdpa": {"ms": 2.0, "weights_bytes": 10, "work_bytes": None}, "slow": {"ms": 5.0}}
    row = bench.row_of(bench.TINY[1], "block", "sdpa", found, errors)
    assert row["failed"] == NOT_FINITE and "FAILED" in bench.line(row) and not row["reached"]


def test_a_network_that_gives_nans_fails_and_the_document_is_written(monkeypatch, capsys):
    """As an attention kernel did on a card: its rows say so, and the others are measured."""
    run = bench.run_ours

    def broken(network, way, inputs):
        return run(network, way, inputs) * (math.nan if way == "int8_f16" else 1)

    monkeypatch.setattr(bench, "run_ours", broken)
    asked = ["--dry-run", "--no-compile", "--only", "tiny", "--attention", "sdpa", "int8_f16"]
    assert bench.main(asked) == 1
    printed = capsys.readouterr().out.strip().split("\n")
    failed = {(row["part"], row["way"]): row.get("failed") for row in json.loads(printed[-1])["rows"]}
    assert failed[("forward", "int8_f16")] == NOT_FINITE
    assert failed[("forward", "sdpa")] is failed[("block", "sdpa")] is None
    assert any(line.endswith("FAILED: " + NOT_FINITE) for line in printed)


def test_a_scene_that_fails_is_a_row(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """As a card that is too small would make it: the next scene is still measured, and the exit status tells."""
    networks = bench.networks

    def small(scene, device):
        if scene.whole:
            raise torch.OutOfMemoryError("out of memory\nand much more")
        return networks(scene, device)

    monkeypatch.setattr(bench, "networks", small)
    assert bench.main(["--dry-run", "--attention", "sdpa"]) == 1
    document = json.loads(capsys.readouterr().out.strip().split("\n")[-1])
    assert [row.get("failed") for row in document["rows"]] == ["OutOfMemoryError: out of memory", None]


def test_without_room_for_bf16_the_int8_network_is_still_measured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bench, "has_room", lambda scene, device: False)
    (row,) = bench.measured(bench.TINY[1], ["int8_f32"], False, CPU)
    assert row["ms"] > 0 and row["baselines"] == {"bf16": {"cannot": "no room for its weights next to the int8 ones"}}
    assert "rms" not in row and row["reached"] == {}
