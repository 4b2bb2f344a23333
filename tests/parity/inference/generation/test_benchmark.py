"""The benchmarks of generation and of fine-tuning, tried on little: both sides write, and one program reads and one writes; both
train on the same texts."""

import json

from experiments.benchmarks import generation, tuning
from tests.parity.reference import torch

assert torch


def test_both_sides_write(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmark", "--cases", "tiny", "tiny beams", "--rounds", "2"])
    generation.main()
    results = json.loads(capsys.readouterr().out.splitlines()[-1])["results"]
    assert set(results) == {"tiny", "tiny beams"}
    for result in results.values():
        assert result["programs"] == 2 and min(result.values()) > 0
        assert abs(result["ratio"] - result["ours"] / result["torch"]) < 1e-9


def test_both_sides_fine_tune(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmark", "--recipes", "tags", "--rounds", "1", "--steps", "1"])
    tuning.main()
    (result,) = json.loads(capsys.readouterr().out.splitlines()[-1])["results"].values()
    assert result["ratio"] > 0 and result["tokens"] > 0 and result["padding"] < 0.15
