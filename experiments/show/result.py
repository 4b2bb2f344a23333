"""The summary that `lacuna train` prints at the end."""

import json
import shlex
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from evaluation.baselines import comparison
from inference import tasks
from models import hub


def print_result(result: dict[str, Any], folder: Path, reference: str) -> None:
    """Prints the metrics, the run's files, and commands to try next."""
    table = Table(
        title=f"{result['name']}: held-out {result['corpus']['of']} after {result.get('model_step', result['steps']):,} steps"
    )
    for column in ("", "model", "baseline", "what the baseline is"):
        table.add_column(column, justify="left" if column in ("", "what the baseline is") else "right")
    for row in comparison(
        result["held_out"], result["baselines"], result.get("units", {}), result.get("intervals", {})
    ):
        table.add_row(*row)
    out = Console(soft_wrap=True, highlight=False)
    out.print(table)
    out.print(f"{result['seconds']:.0f} s of training on {result['machine']['processor']}")
    config = json.loads((folder / "model" / "config.json").read_text())
    exported, opens = config["architectures"][0], "transformers: {}.from_pretrained"
    if config["model_type"] in ("transformer", "bart_translation"):  # which they have no class for
        opens = "models.hub.load"
    for name, what in (
        ("report.html", "curves, baselines, guesses"),
        ("model/", f"opens with {opens.format(exported)}"),
        ("checkpoints/", f"newest and best (step {result['best_step']})"),
        ("metrics.jsonl", "every step"),
        ("tensorboard/", "the same for TensorBoard"),
    ):
        out.print(f"  {folder / name}  {what}")
    out.print("try next:")
    settings = folder / "model" / "tokenizer_config.json"
    mask = json.loads(settings.read_text()).get("mask_token") if settings.exists() else None
    for task in tasks.that_fit(hub.outline(folder / "model")):
        if "[MASK]" not in task.example or mask is not None:
            asked = task.example.format(model=shlex.quote(str(folder / "model"))).replace("[MASK]", mask or "")
            out.print(f"  {asked}", markup=False)
    for verb in ("evaluate", "explain", "bench"):
        out.print(f"  lacuna {verb} {reference}", markup=False)
