"""The numbers of a run to Weights & Biases, which is an extra: `pip install 'lacuna-jax[wandb]'`."""

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.metrics import read_metrics
from training.parallel import TrainingError


class WeightsAndBiases:
    """A writer of `MetricsLog`. With `WANDB_MODE=offline` in the environment it writes files for `wandb sync`.

    A run that goes on does so under the same id, kept in `folder/wandb/id`. Lines of `folder/metrics.jsonl` up to `step`
    that a crash kept from being sent are sent now; steps that it repeats, equal to the bit, are not sent again.
    """

    def __init__(self, project: str, folder: Path, name: str, config: Mapping[str, Any], step: int = 0):
        try:
            import wandb
        except ImportError as error:
            raise TrainingError(
                "--wandb needs Weights & Biases, which is not installed: pip install 'lacuna-jax[wandb]'"
            ) from error
        identity = folder / "wandb" / "id"
        if not identity.exists():
            identity.parent.mkdir(parents=True, exist_ok=True)
            written = identity.with_name(f".id.{os.getpid()}")
            written.write_text(uuid.uuid4().hex)
            os.replace(written, identity)
        settings = wandb.Settings(silent=True)
        try:
            self.run = wandb.init(
                project=project,
                id=identity.read_text(),
                name=name,
                config=dict(config),
                dir=folder,
                resume="allow",
                settings=settings,
            )
        except wandb.Error as error:
            raise TrainingError(f"--wandb {project}: {str(error).splitlines()[0]}") from error
        self.sent = self.run.step
        for line in read_metrics(folder / "metrics.jsonl", lambda *_: None):  # `JsonLines` reports
            if line["step"] <= step:
                values = {name: value for name, value in line.items() if name not in ("step", "split", "time")}
                self.write(line["step"], line["split"], values, line.get("time", {}))

    def write(self, step: int, split: str, values: Mapping[str, float | int], time: Mapping[str, float]) -> None:
        if step >= self.sent:
            self.run.log({f"{split}/{name}": value for name, value in {**values, **time}.items()}, step=step)

    def close(self) -> None:
        self.run.finish()
