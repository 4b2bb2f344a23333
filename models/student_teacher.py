"""A student and its teacher as one model: both read the same, and what the teacher says is what the student is to say.

Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv 1503.02531; a student that begins with
layers of its teacher: Sanh et al., "DistilBERT", 2019, arXiv 1910.01108, section 3.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, PyTree

from models import hub
from models.config import ModelConfig, ModelError
from models.layers.axes import axes_of, is_stacked
from models.layers.dropout import Keys
from models.layers.norm import BatchAxes
from models.model import Model
from models.outputs import ModelOutput

FROZEN = "frozen"
"""The collection with the variables of the teacher (`as_teacher`); those of the student are as if it were alone."""


class StudentTeacher(Model):
    """Any two models of this repository that speak of the same tokens or classes, which are run with the student's variables
    and those of its teacher, `apply({"params": …, **as_teacher(…)}, …)`.

    Outputs: the student's, with `hidden` (batch, length, hidden), its last layer; `teacher_logits` (batch, places,
    vocabulary) or (batch, classes) and `teacher_hidden` (batch, length, hidden) of the teacher, which runs without dropout
    and with the running statistics of its batch norms, and which no gradient reaches. Without the teacher's parameters, as
    in `init`, there are the student's outputs alone.
    """

    student: Model
    teacher: Model

    def setup(self) -> None:
        nn.share_scope(self, self.student)

    @property
    def config(self) -> ModelConfig:
        return self.student.config

    @property
    def members(self) -> tuple[Model, Model]:
        return self.student, self.teacher

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the arrays that either takes; each gets those that it takes itself."""
        return tuple(dict.fromkeys(name for model in self.members for name in model.inputs))

    @property
    def batch_statistics(self) -> bool:
        return self.student.batch_statistics

    def __call__(self, *, dropout_keys: Keys = None, batch_axes: BatchAxes = None, **arrays: Array) -> ModelOutput:
        def taken(model: Model) -> dict[str, Array]:
            return {name: value for name, value in arrays.items() if name in model.inputs}

        settings = {"batch_axes": batch_axes} if self.batch_statistics else {}
        student = self.student(**taken(self.student), dropout_keys=dropout_keys, **settings)
        outputs = {"hidden": student.get("last_hidden_state"), **student}
        if self.has_variable(FROZEN, "teacher"):
            variables = {"params": jax.lax.stop_gradient(self.get_variable(FROZEN, "teacher"))}
            if self.has_variable(FROZEN, "teacher_statistics"):
                variables["batch_stats"] = self.get_variable(FROZEN, "teacher_statistics")
            taught = self.teacher.clone(parent=None).apply(variables, **taken(self.teacher))
            outputs["teacher_logits"] = taught.get("prediction_logits", taught.get("logits"))
            outputs["teacher_hidden"] = taught.get("last_hidden_state")
        return ModelOutput(**outputs)


def as_teacher(variables: Mapping[str, PyTree]) -> dict[str, PyTree]:
    """The variables of a model that teaches, as `StudentTeacher` finds them."""
    frozen = {"teacher": variables["params"]}
    if "batch_stats" in variables:
        frozen["teacher_statistics"] = variables["batch_stats"]
    return {FROZEN: frozen}


def check_pair(student: Model, teacher: Model, hidden: bool) -> None:
    """Raise `ModelError` where the two cannot be held against one another.

    Args:
        hidden: whether their hidden states are, too.
    """
    names = f"{type(student).__name__} and its teacher {type(teacher).__name__}"
    one, other = student.config, teacher.config
    if one.vocab_size != other.vocab_size:
        raise ModelError(f"{names} have different vocabularies: vocab_size {one.vocab_size} and {other.vocab_size}")
    if one.vocab_size is None and len(one.labels) != len(other.labels):
        raise ModelError(f"{names} distinguish different classes: {len(one.labels)} and {len(other.labels)} labels")
    if hidden and one.hidden_size != other.hidden_size:
        raise ModelError(
            f"{names} have hidden states of different widths, {one.hidden_size} and {other.hidden_size}, which have no cosine:"
            " make them equal, or set the objective's cosine_weight to 0"
        )


FREE = re.compile(r".*(drop|init|layers?$).*|.*_token_id|labels|image_size")
"""Fields of a config that a student may have otherwise and yet begin as layers of its teacher."""


def check_settings(student: Model, teacher: Model) -> None:
    """Raise `ModelError` where the parameters of a teacher would mean something else in a student."""
    one, other = student.config, teacher.config
    mine, its = (vars(config) | shapeless(config) for config in (one, other))
    wrong = [
        f"{name} {mine[name]} and {its[name]}"
        for name in sorted(mine.keys() & its.keys())
        if name not in one.execution and not FREE.fullmatch(name)
        if mine[name] != its[name] and None not in (mine[name], its[name])
    ]
    if wrong:
        raise ModelError(
            f"{type(student).__name__} begins as layers of its teacher {type(teacher).__name__} and has other settings:"
            f" {', '.join(wrong)}; set the student's to the teacher's"
        )


def shapeless(config: ModelConfig) -> dict[str, Any]:
    """Settings that no shape shows, by the names that configs of several classes have for them."""
    return dict(
        num_attention_heads=config.num_attention_heads,
        hidden_act=config.hidden_act,
        layer_norm_eps=config.layer_norm_eps,
    )


def initial_params(student: Model, teacher: Model, params: PyTree, layers: Sequence[int]) -> PyTree:
    """Parameters of a student that begins as these layers of its teacher, with its embeddings and its head.

    Args:
        params: the teacher's.
        layers: for each layer of the student the teacher's, counted from 0.

    Raises:
        ModelError: a layer that the teacher lacks, or a parameter of the student that the teacher has not, or in another
            shape.
    """
    wanted = hub.shapes_of(student)
    there = {without_base(path, teacher): value for path, value in flatten_dict(params, sep="/").items()}
    stacked = {without_base(path, teacher) for path in stacked_paths(teacher)}
    counts = {value.shape[0] for path, value in there.items() if path in stacked}
    if not counts:
        raise ModelError(f"initial_layers={tuple(layers)}: the teacher {type(teacher).__name__} has no stack of layers")
    if not layers or not all(0 <= layer < min(counts) for layer in layers):
        raise ModelError(
            f"initial_layers={tuple(layers)}: the teacher {type(teacher).__name__} has layers 0 to {min(counts) - 1}"
        )
    taken: dict[str, Any] = {}
    for path, shape in wanted.items():
        value = there.get(without_base(path, student))
        if value is not None and without_base(path, student) in stacked:
            value = value[jnp.asarray(layers)]
        if value is None or value.shape != shape.shape:
            problem = "has none" if value is None else f"has it as {value.shape}"
            raise ModelError(
                f"initial_layers={tuple(layers)}: {type(student).__name__} wants {path} {shape.shape},"
                f" and its teacher {type(teacher).__name__} {problem}"
            )
        taken[path] = value.astype(shape.dtype)
    return unflatten_dict(taken, sep="/")


def stacked_paths(model: Model) -> set[str]:
    """Paths of the parameters that hold one array for each layer of a stack: their first logical axis is `layers`."""
    return {path for path, names in axes_of(model.boxed_shapes()["params"]).items() if is_stacked(names)}


def without_base(path: str, model: Model) -> str:
    """The path of a parameter without the name that the base model has in the models with a head."""
    return path.removeprefix(hub.name_table(model.config.model_type).prefix[1])
