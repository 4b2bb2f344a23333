"""The benchmark of generation, tried on tiny models: both sides write, and one program reads and one writes."""

import json

from experiments.benchmarks import generation
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
