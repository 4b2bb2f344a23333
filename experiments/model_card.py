"""The `README.md` of an exported folder: what the model was made of and how good it is, as a model card of the Hugging Face hub.

Mitchell et al., "Model Cards for Model Reporting", 2018, arXiv 1810.03993.
"""

import importlib.metadata
import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub.utils import yaml_dump

from evaluation.evaluation import HELD_OUT
from evaluation.text_metric import TextMetric
from experiments.assembly.assembly import Assembly
from experiments.experiment import describe
from inference import tasks

NAME = "README.md"


def model_card(assembly: Assembly, measures: Mapping[str, Mapping[str, Any]], **about: Any) -> str:
    """The card of a run's model.

    Args:
        measures: `held_out`, `intervals` and `evaluations`, as `experiments.finish.measured` gives them.
        about: what else there is to say of the run, by name: `steps`, `command`, …
    """
    experiment = assembly.experiment
    head = yaml_dump(front_matter(assembly, measures), sort_keys=False)
    rows = ["| evaluation | figure | value | 95 % interval |", "|---|---|--:|--:|"]
    for name, figure, value, interval in figures(measures):
        span = "" if interval is None else "{:.4g} to {:.4g}".format(*interval)
        rows.append(f"| {name.replace('_', ' ')} | {figure.replace('_', ' ')} | {value:.4g} | {span} |")
    signed = [
        f"{', '.join(metric.figures)}: `{metric.signature}`"
        for evaluation in experiment.evaluations
        for metric in evaluation.metrics
        if isinstance(metric, TextMetric) and metric.signature
    ]
    trained, held_out = assembly.data.counts
    facts = {
        "architecture": type(assembly.student).__name__,
        "objective": repr(experiment.objective),
        "data": f"{experiment.data.source}: {trained:,} {experiment.data.documents} to train on, {held_out:,} held out",
        "digest of the examples": assembly.data.fingerprint,
        "begun with": experiment.initial_model or f"fresh parameters, seed {experiment.seed}",
        **{name: x for name, x in about.items() if x},
        "batch": f"{experiment.batch_size} examples",
        "optimizer": json.dumps(describe(experiment.optimizer)),
        "code": commit(),
    }
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    parts = [
        f"---\n{head}---\n# {experiment.name}",
        "\n".join(rows),
        "\n".join(dict.fromkeys(signed)),
        "\n".join(lines),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def front_matter(assembly: Assembly, measures: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The head of the card, which the hub reads."""
    experiment = assembly.experiment
    task = task_of(assembly)
    head: dict[str, Any] = {"library_name": "transformers", "tags": ["jax", "lacuna"]}
    if experiment.initial_model is not None and not Path(experiment.initial_model).expanduser().exists():
        head["base_model"] = experiment.initial_model
    if task is None:
        return head
    source = {"name": experiment.data.source, "type": experiment.data.source}
    metrics = [
        {"type": figure, "value": round(value, 6), "name": f"{figure} ({name})"}
        for name, figure, value, _ in figures(measures)
    ]
    results = [{"task": {"type": task}, "dataset": source, "metrics": metrics}]
    return {**head, "pipeline_tag": task, "model-index": [{"name": experiment.name, "results": results}]}


def task_of(assembly: Assembly) -> str | None:
    """The task of a pipeline: that which is evaluated, or the first that fits; `None` where there is none."""
    asked = (evaluation.task.name for evaluation in assembly.experiment.evaluations if evaluation.task is not None)
    fitting = (task.name for task in tasks.that_fit(assembly.student))
    return next(asked, None) or next(fitting, None)


def figures(measures: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, float, tuple[float, float] | None]]:
    """Each figure: of which evaluation, its name, its value and its interval, where it has one."""
    found = {HELD_OUT: (measures["held_out"], measures.get("intervals", {}))}
    for name, values in measures.get("evaluations", {}).items():
        found[name] = ({key: x for key, x in values.items() if key != "intervals"}, values["intervals"])
    for name, (values, intervals) in found.items():
        for figure, value in values.items():
            yield name, figure, value, intervals.get(figure)


def commit() -> str:
    """The version of this code, and its commit where it lies in a repository."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        version = importlib.metadata.version("lacuna-jax")
    except importlib.metadata.PackageNotFoundError:
        version = "not installed"
    return f"lacuna-jax {version}" + (f", commit {found.stdout.strip()}" if found.returncode == 0 else "")
