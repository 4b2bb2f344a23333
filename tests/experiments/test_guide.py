"""The guide to objectives is run as it stands: from its one file to a training curve."""

import re
from pathlib import Path

import numpy as np
import pytest

from tests.experiments.training_runs.test_runs import lacuna, python_m
from training.metrics import read_metrics

GUIDE = Path(__file__).parents[2] / "docs" / "extending.md"


@pytest.fixture(scope="module")
def paper(tmp_path_factory) -> Path:
    """A folder of somebody else's, with the guide's file in it."""
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert len(code.splitlines()) <= 40
    folder = tmp_path_factory.mktemp("paper")
    (folder / "my_paper").mkdir()
    (folder / "my_paper" / "experiment.py").write_text(code)
    return folder


def run(paper: Path, texts: Path, environment: dict[str, str], verb: str, *flags: str):
    fields = ["--data.source", str(texts), "--model.vocab-size", "512", "--batch-size", "8", "--folder", "run", *flags]
    return lacuna([*python_m(verb), "my_paper/experiment.py", *fields], environment, cwd=paper)


def test_explains_what_the_guide_promises(paper, texts, environment):
    shown = run(paper, texts, environment, "explain")
    assert shown.returncode == 0, shown.stderr
    rows = re.findall(r"│\s+(\d+) │ (\S+)\s+│.*│ (\S*)\s+│\s+([01]) │", shown.stdout)
    asked = [number for number, (_, _, label, _) in enumerate(rows) if label]
    assert asked and all("[MASK]" in (rows[n + 1][1], rows[n - 1][1]) for n in asked)
    assert not any(rows[n][1] == "[MASK]" for n in asked)


@pytest.mark.slow
def test_trains_to_a_curve_that_falls(paper, texts, environment):
    flags = ("--steps", "60", "--evaluate-every", "30", "--evaluation-examples", "16", "--checkpoint-every", "60")
    done = run(paper, texts, environment, "train", *flags)
    assert done.returncode == 0, done.stderr
    lines = [line for line in read_metrics(paper / "run" / "metrics.jsonl") if line["split"] == "train"]
    losses = np.array([line["span_boundary_loss"] for line in lines])
    assert len(losses) == 60 and losses[-10:].mean() < losses[:10].mean() - 0.3
    assert "span boundary loss" in (paper / "run" / "report.html").read_text()


def test_a_model_that_does_not_fit_is_refused_by_name(paper, texts, environment):
    refused = run(paper, texts, environment, "train", "--architecture", "BertModel")
    assert refused.returncode == 2
    assert "feeds 'masked_positions', which BertModel does not take" in refused.stderr
