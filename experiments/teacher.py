"""The teacher of an experiment: read, and checked against the student before anything is compiled."""

import dataclasses
import functools
import hashlib
from pathlib import Path
from typing import ClassVar

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import unflatten_dict
from jaxtyping import PyTree

from data.text.tokenizer_settings import tokenizer_file
from experiments.experiment import Experiment, ExperimentError
from experiments.initial import place_of
from models import hub
from models.student_teacher import StudentTeacher, check_pair, check_settings, initial_params
from objectives import Objective


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A model that others learn from.

    Attributes:
        folder: of the published checkpoint.
        variables: on the host; `None` where steps are compiled and not run.
        digest: of the variables, by which a run knows its teacher again.
    """

    folder: Path
    model: nn.Module
    variables: dict[str, PyTree] | None = None
    digest: str = ""
    flag: ClassVar[str] = "--teacher"

    @property
    def params(self) -> PyTree | None:
        return None if self.variables is None else self.variables["params"]

    @property
    def name(self) -> str:
        return str(self.folder)

    @functools.cached_property
    def tokenizer(self) -> Path | None:
        """The file that its tokens are read from, if there is one."""
        return tokenizer_file(self.folder)


def open_teacher(experiment: Experiment, outlined: bool, attention: str = "auto") -> Teacher:
    """The teacher that `experiment` names, computing in the dtype of the student.

    Args:
        outlined: read no parameters.
        attention: what computes it (see `ModelConfig`).
    """
    name, settings = str(experiment.teacher), experiment.model
    place = place_of(name)
    if not Path(place).expanduser().exists() and (place.startswith((".", "/", "~")) or place.count("/") > 1):
        raise ExperimentError(
            f"there is no teacher in {place}: `lacuna train` makes one, as the `model` folder of its run; `lacuna train"
            " experiments/bert/pretrain.py` that of the small DistilBERT, and `lacuna train"
            " experiments/gpt2/pretrain.py` that of the small DistilGPT-2"
        )
    changes = dict(dtype=settings.dtype, param_dtype=settings.param_dtype, scan_layers=settings.scan_layers)
    changes["attention"] = attention
    if outlined:
        return Teacher(hub.checkpoint_folder(place, only="config.json"), hub.outline(place, **changes))
    model, variables = hub.load(place, **changes)
    variables = jax.device_get(variables)
    return Teacher(hub.checkpoint_folder(place), model, variables, digest(*variables.values()))


def digest(*trees: PyTree) -> str:
    """A checksum of arrays and of their names."""
    digest = hashlib.sha256()
    for path, value in (leaf for tree in trees for leaf in jax.tree_util.tree_leaves_with_path(tree)):
        digest.update(f"{jax.tree_util.keystr(path)} {value.dtype} {value.shape}".encode())
        digest.update(np.ascontiguousarray(value).data.cast("B"))
    return digest.hexdigest()


def with_teacher(experiment: Experiment, student: nn.Module, teacher: Teacher | None) -> nn.Module:
    """`student`, joined with its teacher where the objective asks what that says.

    Raises one of the project's errors where there is none, or the two do not fit, or nothing is asked of it.
    """
    objective = experiment.objective
    if teacher is None:
        if asks(objective, "teacher_logits"):
            raise ExperimentError(f"{objective!r} asks for a teacher: name the folder of one with --teacher")
        return student
    joined = asks(objective, "teacher_logits")
    check_pair(student, teacher.model, hidden=asks(objective, "teacher_hidden"))
    if experiment.initial_layers is not None:
        shapes = unflatten_dict(hub.shapes_of(teacher.model), sep="/")
        check_settings(student, teacher.model)
        jax.eval_shape(lambda params: initial_params(student, teacher.model, params, experiment.initial_layers), shapes)
    elif not joined:
        raise ExperimentError(
            f"teacher={experiment.teacher!r} has nothing to do: {objective!r} does not ask it, and no initial_layers are"
            " taken from it"
        )
    return StudentTeacher(student, teacher.model) if joined else student


def asks(objective: Objective, output: str) -> bool:
    return any(output in names for names in objective.asks)
