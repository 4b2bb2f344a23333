"""A student and its teacher as one model: both read the same, and what the teacher says is what the student is to say.

Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv 1503.02531; a student that begins with
layers of its teacher: Sanh et al., "DistilBERT", 2019, arXiv 1910.01108, section 3.
"""

import dataclasses
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
from models.layers.dropout import Keys
from models.layers.norm import BatchAxes
from models.outputs import ModelOutput, blank_inputs, model_inputs

FROZEN = "frozen"
"""The collection with the variables of the teacher (`as_teacher`); those of the student are as if it were alone."""


class StudentTeacher(nn.Module):
    """Any two models of this repository that speak of the same tokens or classes, which are run with the student's variables
    and those of its teacher, `apply({"params": …, **as_teacher(…)}, …)`.

    Outputs: the student's, with `hidden` (batch, length, hidden), its last layer; `teacher_logits` (batch, places,
    vocabulary) or (batch, classes) and `teacher_hidden` (batch, length, hidden) of the teacher, which runs without dropout
    and with the running statistics of its batch norms, and which no gradient reaches. Without the teacher's parameters, as
    in `init`, there are the student's outputs alone.
    """

    student: nn.Module
    teacher: nn.Module

    def setup(self) -> None:
        nn.share_scope(self, self.student)

    @property
    def config(self) -> ModelConfig:
        return self.student.config

    @property
    def pair(self) -> tuple[nn.Module, nn.Module]:
        return self.student, self.teacher

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the arrays that either takes; each gets those that it takes itself."""
        return tuple(dict.fromkeys(name for model in self.pair for name in model_inputs(model)))

    @property
    def batch_statistics(self) -> bool:
        """Whether the student has batch norms."""
        return getattr(self.student, "batch_statistics", False)

    def __call__(self, *, dropout_keys: Keys = None, batch_axes: BatchAxes = None, **arrays: Array) -> ModelOutput:
        def taken(model: nn.Module) -> dict[str, Array]:
            return {name: value for name, value in arrays.items() if name in model_inputs(model)}

        settings = {"batch_axes": batch_axes} if self.batch_statistics else {}
        said = self.student(**taken(self.student), dropout_keys=dropout_keys, **settings)
        outputs = {"hidden": said.get("last_hidden_state"), **said}
        if self.has_variable(FROZEN, "teacher"):
            variables = {"params": jax.lax.stop_gradient(self.get_variable(FROZEN, "teacher"))}
            if self.has_variable(FROZEN, "teacher_statistics"):
                variables["batch_stats"] = self.get_variable(FROZEN, "teacher_statistics")
            heard = self.teacher.clone(parent=None).apply(variables, **taken(self.teacher))
            outputs["teacher_logits"] = heard.get("prediction_logits", heard.get("logits"))
            outputs["teacher_hidden"] = heard.get("last_hidden_state")
        return ModelOutput(**outputs)


def as_teacher(variables: Mapping[str, PyTree]) -> dict[str, PyTree]:
    """The variables of a model that teaches, as `StudentTeacher` finds them."""
    frozen = {"teacher": variables["params"]}
    if "batch_stats" in variables:
        frozen["teacher_statistics"] = variables["batch_stats"]
    return {FROZEN: frozen}


def check_pair(student: nn.Module, teacher: nn.Module, hidden: bool) -> None:
    """Raise `ModelError` where the two cannot be held against one another.

    Args:
        hidden: whether their hidden states are, too.
    """
    names = f"{type(student).__name__} and its teacher {type(teacher).__name__}"
    one, other = student.config, teacher.config
    vocabularies = [getattr(config, "vocab_size", None) for config in (one, other)]
    if vocabularies[0] != vocabularies[1]:
        raise ModelError(f"{names} have different vocabularies: vocab_size {vocabularies[0]} and {vocabularies[1]}")
    if vocabularies[0] is None and len(one.labels) != len(other.labels):
        raise ModelError(f"{names} tell different classes apart: {len(one.labels)} and {len(other.labels)} labels")
    if hidden and width(one) != width(other):
        raise ModelError(
            f"{names} have hidden states of different widths, {width(one)} and {width(other)}, which have no cosine:"
            " make them equal, or set the objective's cosine_weight to 0"
        )


def width(config: ModelConfig) -> int:
    """Features of a hidden state, which published configs call by many names."""
    names = ("hidden_size", "n_embd", "d_model", "dim")
    return next(getattr(config, name) for name in names if hasattr(config, name))


SHAPELESS = ("num_attention_heads", "hidden_act", "layer_norm_eps")
"""Settings that no shape shows, by the names that configs of several classes have for them."""
FREE = re.compile(r".*(drop|init|layers?$).*|.*_token_id|labels|image_size")
"""Fields of a config that a student may have otherwise and yet begin as layers of its teacher."""


def check_settings(student: nn.Module, teacher: nn.Module) -> None:
    """Raise `ModelError` where the parameters of a teacher would mean something else in a student."""
    one, other = student.config, teacher.config
    fields = {field.name for field in dataclasses.fields(one)} & {field.name for field in dataclasses.fields(other)}
    kept = {name for name in fields if name not in one.execution and not FREE.fullmatch(name)}
    names = sorted(kept | {name for name in SHAPELESS if hasattr(one, name) and hasattr(other, name)})
    wrong = [
        f"{name} {getattr(one, name)} and {getattr(other, name)}"
        for name in names
        if getattr(one, name) != getattr(other, name) and None not in (getattr(one, name), getattr(other, name))
    ]
    if wrong:
        raise ModelError(
            f"{type(student).__name__} begins as layers of its teacher {type(teacher).__name__} and has other settings:"
            f" {', '.join(wrong)}; set the student's to the teacher's"
        )


def initial_params(student: nn.Module, teacher: nn.Module, params: PyTree, layers: Sequence[int]) -> PyTree:
    """Parameters of a student that begins as these layers of its teacher, with its embeddings and its head.

    Args:
        params: the teacher's.
        layers: for each layer of the student the teacher's, counted from 0.

    Raises:
        ModelError: a layer that the teacher lacks, or a parameter of the student that the teacher has not, or in another
            shape.
    """
    wanted = hub.shapes_of(student)
    there = {bare(path, teacher): value for path, value in flatten_dict(params, sep="/").items()}
    stacked = {bare(path, teacher) for path in stacked_paths(teacher)}
    counts = {value.shape[0] for path, value in there.items() if path in stacked}
    if not counts:
        raise ModelError(f"initial_layers={tuple(layers)}: the teacher {type(teacher).__name__} has no stack of layers")
    if not layers or not all(0 <= layer < min(counts) for layer in layers):
        raise ModelError(
            f"initial_layers={tuple(layers)}: the teacher {type(teacher).__name__} has layers 0 to {min(counts) - 1}"
        )
    taken: dict[str, Any] = {}
    for path, shape in wanted.items():
        value = there.get(bare(path, student))
        if value is not None and bare(path, student) in stacked:
            value = value[jnp.asarray(layers)]
        if value is None or value.shape != shape.shape:
            found = "has none" if value is None else f"has it as {value.shape}"
            raise ModelError(
                f"initial_layers={tuple(layers)}: {type(student).__name__} wants {path} {shape.shape},"
                f" and its teacher {type(teacher).__name__} {found}"
            )
        taken[path] = value.astype(shape.dtype)
    return unflatten_dict(taken, sep="/")


def stacked_paths(model: nn.Module) -> set[str]:
    """Paths of the parameters that hold one array for each layer of a stack: their first logical axis is `layers`."""
    boxed = jax.eval_shape(lambda: model.init(jax.random.key(0), **blank_inputs(model)))["params"]
    return {
        path
        for path, value in flatten_dict(boxed, sep="/").items()
        if isinstance(value, nn.Partitioned) and value.names[:1] == ("layers",)
    }


def bare(path: str, model: nn.Module) -> str:
    """The path of a parameter without the name that the base model has in the models with a head."""
    return path.removeprefix(hub.name_table(model.config.model_type).prefix[1])
