"""Whether two finished runs are equal to the bit."""

import json
import re
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from experiments.model_card import NAME
from training.checkpoints import Checkpoints
from training.metrics import read_metrics

TIMES = ("seconds", "peak_flops", "peak_source")
"""Entries of a result that are measured again by each life."""


def differences(one: Path, other: Path) -> list[str]:
    """What of two finished runs is not equal to the bit."""
    found = []
    lines = []
    for folder in (one, other):
        all_lines = read_metrics(folder / "metrics.jsonl")
        lines.append([{name: value for name, value in line.items() if name != "time"} for line in all_lines])
    if not all("digest" in line for line in lines[0] if line["split"] == "train"):
        found.append("there is no digest of the examples to compare")
    if lines[0] != lines[1]:
        steps = [a["step"] for a, b in zip(*lines, strict=False) if a != b]
        found.append(f"metrics differ: {len(lines[0])} and {len(lines[1])} lines, first at step {steps[:1]}")
    states = [final_state(folder) for folder in (one, other)]
    if states[0].keys() != states[1].keys():
        found.append("the states have other arrays")
    else:
        found += [name for name in states[0] if states[0][name].tobytes() != states[1][name].tobytes()]
    return found


def end_differences(one: Path, other: Path) -> list[str]:
    """What of the model, the report and the result of two finished runs differs, but for the times."""
    found, ends = [], []
    for folder in (one, other):
        model = {
            str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("model/**/*") if path.is_file()
        }
        if (card := f"model/{NAME}") in model:
            model[card] = re.sub(rb"(?m)^- command: .*$", b"", model[card])
        result = json.loads((folder / "result.json").read_text())
        page = (folder / "report.html").read_text().replace(str(folder), "")
        ends.append(
            {
                **model,
                "result.json": {name: value for name, value in result.items() if name not in TIMES},
                "report.html": re.sub("<h2>The run</h2>.*?<details>", "", page, flags=re.DOTALL),
            }
        )
        left = [path.name for path in folder.iterdir() if path.name.startswith(".")]
        found += [f"{name} was left behind in {folder}" for name in left]
    names = sorted({*ends[0], *ends[1]})
    return found + [name for name in names if ends[0].get(name) != ends[1].get(name)]


def final_state(folder: Path) -> dict[str, np.ndarray]:
    """Every array of the last checkpoint by name: step, parameters, moments."""
    checkpoints = Checkpoints(folder / "checkpoints")
    step = checkpoints.steps()[-1]
    damage = checkpoints.damage(step)
    if damage is not None:
        raise ValueError(f"checkpoint of step {step} in {folder}: {damage}")
    checkpoints.close()
    path = checkpoints.folder / str(step) / "state"
    reader = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
    arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), reader.metadata(path).item_metadata.tree)
    state = reader.restore(path, args=ocp.args.PyTreeRestore(restore_args=arrays))
    return {jax.tree_util.keystr(path): x for path, x in jax.tree_util.tree_leaves_with_path(state)}
