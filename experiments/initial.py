"""Where a run starts from: a published checkpoint, whose settings and tokens the run then has."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from tokenizers import Tokenizer

from data.contract import Source
from data.text.tokenizer_files import difference, load
from data.text.tokenizer_settings import tokenizer_file
from experiments.experiment import Experiment, ExperimentError
from models import hub
from models.backbone import BackboneConfig, WithBackbone
from models.config import ModelConfig, ModelError

CHOICES = re.compile(r".*drop.*|labels|image_size|mask_ratio|norm_pix_loss|freeze_batch_norm")
"""Fields that say how a model is trained and on what, and not what its parameters mean: they are the experiment's."""
RECORD = "initial_model.json"
"""What a run's folder keeps of the checkpoint that it started from, which may be gone when the run goes on."""
SAMPLES, SAMPLE = 64, 1 << 16
"""How much of a file its digest is of: so many pieces of so many bytes, evenly spread, the first and the last among them."""


@dataclasses.dataclass(frozen=True)
class Initial:
    """A checkpoint that a run starts from.

    Attributes:
        name: as the experiment names it.
        folder: where it lies; `None` where it is gone, and a run that started from it goes on.
        config: its own.
        digest: of its config and of samples of its parameters, by which a run knows it again.
        tokenizer: the file that its tokens are read from, if there is one.
    """

    name: str
    folder: Path | None
    config: ModelConfig
    digest: str
    tokenizer: Path | None
    flag: ClassVar[str] = "--initial-model"

    def adopted_by(self, experiment: Experiment, say: Callable[[str], None] = lambda message: None) -> Experiment:
        """`experiment` with the settings of the checkpoint: all but `CHOICES` and how it is executed. One of a backbone gives
        that of the model its shape.

        An id of a special token may be set otherwise: it is no matter of the parameters.

        Raises:
            ExperimentError: the checkpoint is of another architecture, or the command line contradicts it.
        """
        model, asked = experiment.model, vars(experiment.model)
        if isinstance(model, WithBackbone) and isinstance(self.config, BackboneConfig):
            return dataclasses.replace(experiment, model=model.on(self.config))
        self._check_type(model)
        other = {
            name: value
            for name, value in vars(self.config).items()
            if name in asked
            and name not in model.execution
            and not CHOICES.fullmatch(name)
            and not (name.endswith("_token_id") and name in experiment.set_of_model)
            and asked[name] != value
        }
        wrong = [
            f"{name} is {value} and --model.{name.replace('_', '-')} says {asked[name]}"
            for name, value in other.items()
            if name in experiment.set_of_model
        ]
        if wrong:
            raise ExperimentError(
                f"--initial-model {self.name} has other settings than the flags: its {', its '.join(wrong)}; leave these"
                " flags out, and the checkpoint's are taken"
            )
        if other:
            values = ", ".join(f"{name} {value} (not {asked[name]})" for name, value in other.items())
            say(f"settings of {self.name}: {values}")
        return dataclasses.replace(experiment, model=dataclasses.replace(model, **other))

    def _check_type(self, model: ModelConfig) -> None:
        may_be = model.model_type if model.begins_as is None else model.begins_as[0]
        if type(model) is not type(self.config) and self.config.model_type != may_be:
            raise ExperimentError(
                f"--initial-model {self.name} holds a {self.config.model_type}, and the experiment trains a"
                f" {model.model_type}: take an experiment of experiments/{self.config.model_type}, or another checkpoint"
            )

    @property
    def record(self) -> dict[str, Any]:
        """As JSON, for the folder of a run."""
        return {"initial_model": self.name, "digest": self.digest, "config": self.config.to_json()}


def place_of(name: str) -> str:
    """A checkpoint that an experiment names: of the folder of a run, its model."""
    exported = Path(name).expanduser() / "model"
    return str(exported) if (exported / "config.json").exists() else name


def open_initial(experiment: Experiment, outlined: bool = False) -> Initial:
    """The checkpoint that `experiment` starts from; where it is gone, what its run's folder keeps of it.

    Args:
        outlined: read its config alone.
    """
    name, kept = str(experiment.initial_model), experiment.run_folder / RECORD
    place = place_of(name)
    try:
        folder = hub.checkpoint_folder(place, only="config.json")
        config = hub.read_config(folder, {})[1]
        if outlined:
            return Initial(name, folder, config, "", None)
        folder = hub.checkpoint_folder(place)
        return Initial(name, folder, config, digest(folder), tokenizer_file(folder))
    except ModelError:
        if Path(place).expanduser().exists() or not kept.exists():
            raise
    try:
        record = json.loads(kept.read_text(encoding="utf-8"))
        published = record["config"]
        config = hub.config_class(published["model_type"]).from_json(published)
        known, before = record["digest"], record["initial_model"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExperimentError(f"{kept} is damaged ({error}), and there is no {name}") from None
    if before != name:
        raise ExperimentError(
            f"there is no {name}, and the run in {experiment.run_folder} did not start from it, but from {before}"
        )
    return Initial(name, None, config, known, tokenizer_file(experiment.run_folder))


def digest(folder: Path) -> str:
    """A checksum of a checkpoint's config and of samples of its tensors, whatever its path is."""
    known = hashlib.sha256((folder / "config.json").read_bytes())
    for path in sorted((*folder.glob("*.safetensors"), *folder.glob("*.msgpack"))):
        size = path.stat().st_size
        known.update(f"{path.name} {size}".encode())
        with open(path, "rb") as file:
            for number in range(SAMPLES):
                file.seek(max(0, size - SAMPLE) * number // (SAMPLES - 1))
                known.update(file.read(SAMPLE))
    return known.hexdigest()


def with_published_tokens(source: Source, *checkpoints: Any) -> Source:
    """`source` with the tokenizer of the first of the checkpoints that are not `None`, where it names none itself.

    Raises:
        ExperimentError: that one has no tokenizer; what its ids mean is then known to nobody.
    """
    named = next((checkpoint for checkpoint in checkpoints if checkpoint is not None), None)
    if named is None or not source.trains_tokenizer:
        return source
    if named.tokenizer is None:
        raise ExperimentError(
            f"{named.flag} {named.name} has no tokenizer beside its parameters: set --data.tokenizer to the one that it was"
            " trained with"
        )
    return source.read_with(named.tokenizer)


def check_published_tokens(tokenizer: Tokenizer | None, *checkpoints: Any) -> None:
    """Raise where one of the checkpoints that are not `None` reads other ids than `tokenizer` writes."""
    for checkpoint in checkpoints:
        if tokenizer is None or checkpoint is None or checkpoint.tokenizer is None:
            continue
        differs = difference(load(checkpoint.tokenizer), tokenizer)
        if differs is not None:
            raise ExperimentError(
                f"{checkpoint.flag} {checkpoint.name} reads other tokens than the data are written in: {differs}; leave"
                f" --data.tokenizer empty, or set it to {checkpoint.tokenizer}"
            )
