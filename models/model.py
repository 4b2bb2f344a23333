"""What every model is: a Flax module that says which arrays it takes, how much of them, and what is particular about it."""

import abc
import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.interpreters.partial_eval import dce_jaxpr
from jaxtyping import Array

from models.config import ModelError
from models.layers.axes import is_stacked, stack_of
from models.layers.dropout import Keys, fold_in
from models.outputs import ModelOutput

TOKENS = ("input_ids", "decoder_input_ids")
"""Inputs that `init` wants, each (batch, length); it does without masks, types and positions."""
FLOATS = ("pixel_values", "input_features", "input_values", "noise", "gumbel_noise", "gumbel_temperature")
DTYPES = {**dict.fromkeys(FLOATS, jnp.float32), "sampling_key": jnp.uint32}
"""Of the inputs that are no int32."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CallSettings:
    """What a Transformer is called with beside its inputs, each a keyword of the call.

    Attributes:
        dropout_keys: a key per example; `None` turns dropout off.
        output_hidden_states: whether the outputs have `hidden_states`.
        output_attentions: whether they have the probabilities of attention.
        unprojected: whether scores of a vocabulary that are many may stand among the outputs as `VocabularyScores`.
    """

    dropout_keys: Keys = None
    output_hidden_states: bool = False
    output_attentions: bool = False
    unprojected: bool = False

    def folded(self, number: int) -> "CallSettings":
        """The same with other keys of dropout, for part `number` of a model."""
        return dataclasses.replace(self, dropout_keys=fold_in(self.dropout_keys, number))

    def asked(
        self, embedded: Array, states: Array, attentions: Array | None, last: Array | None = None
    ) -> dict[str, Array | None]:
        """`hidden_states` (layers + 1, batch, …), `embedded` first, and `attentions`, where asked for.

        Args:
            states: what each layer gives, stacked.
            last: stands for the last of them, where something follows the layers.
        """
        parts = [embedded[None], states] if last is None else [embedded[None], states[:-1], last[None]]
        return dict(
            hidden_states=jnp.concatenate(parts) if self.output_hidden_states else None,
            attentions=attentions if self.output_attentions else None,
        )


class Model(nn.Module, abc.ABC):
    """Base of all models. A subclass has a field `config` and writes `__call__`, whose positional arguments are its inputs.

    Attributes:
        causal: whether an output at a place depends on nothing behind it.
        batch_statistics: whether it normalises by statistics of the whole batch in training, and so takes `batch_axes`.
        generates: whether `logits` are those of the next token, and it takes `past_key_values`.
        labelled: whether `config.labels` name its logits; false of a head with outputs of other meaning, whose published
            config leaves the labels out, since `transformers` would shape the head by them; `None` without such a head.
        choices: whether it compares several texts of each example, its inputs being (batch, choices, length).
        joined: of a model that is published in parts: makes model and variables of what a function loads of each.
    """

    causal: ClassVar[bool] = False
    batch_statistics: ClassVar[bool] = False
    generates: ClassVar[bool] = False
    labelled: ClassVar[bool | None] = None
    choices: ClassVar[bool] = False
    joined: ClassVar[Callable | None] = None

    @abc.abstractmethod
    def __call__(self, *inputs: jax.Array, **settings: Any) -> ModelOutput:
        """The outputs, by name."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the arrays that it takes."""
        parameters = inspect.signature(type(self).__call__).parameters.values()
        return tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self")

    @property
    def settings(self) -> tuple[str, ...]:
        """The names of what a call takes beside its inputs; of a `**settings`, those of `CallSettings`."""
        parameters = inspect.signature(type(self).__call__).parameters.values()
        grouped = [field.name for field in dataclasses.fields(CallSettings)]
        named = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        return (*named, *(grouped if any(p.kind is p.VAR_KEYWORD for p in parameters) else ()))

    @property
    def members(self) -> tuple["Model", ...]:
        """The models that it consists of, the one that is trained first."""
        return (self,)

    @nn.nowrap
    def blank(self) -> dict[str, jax.Array]:
        """Zeros to initialise with, on which no parameter depends: an image (1, height, width, channels), of 64 pixels where
        the config names no size; or two tokens, of each of two choices where it compares some."""
        if "pixel_values" in self.inputs:
            size = self.config.image_size or 64
            height, width = size if isinstance(size, tuple) else (size, size)
            return {"pixel_values": jnp.zeros((1, height, width, self.config.num_channels))}
        ids = jnp.zeros((1, 2, 2) if self.choices else (1, 2), jnp.int32)
        return {name: ids for name in TOKENS if name in self.inputs}

    @nn.nowrap
    def boxed_shapes(self) -> dict[str, Any]:
        """Shapes and dtypes of all variables, with their logical axes."""
        return _boxed_shapes(self, jax.config.jax_enable_x64)

    @nn.nowrap
    def longest(self, name: str = "input_ids") -> int | None:
        """Most places that there are positions for in an input; `None` where any number will do."""
        return self.config.longest_input if name in TOKENS else None

    @nn.nowrap
    def depth(self, path: str) -> int | tuple[int, ...]:
        """How far the parameter at a path is from the input, for rates that fall from layer to layer: 0 before the stack of L
        layers, 1 to L in it (a number for each layer), L + 1 behind it.

        Raises:
            ModelError: there are several stacks.
        """
        return depths(self)[path]

    @nn.nowrap
    def forward_flops(self, shapes: Mapping[str, tuple[int, ...]]) -> int:
        """Floating-point operations of the matrix products and convolutions of one forward pass, head included: 2 per
        multiply-add. What is masked or beyond an edge counts in full.

        Args:
            shapes: of inputs by name; the model takes those that it knows.
        """
        return _forward_flops(self, tuple(sorted((name, shapes[name]) for name in shapes if name in self.inputs)))

    @nn.nowrap
    def at_image_size(self, variables: Mapping[str, Any], image_size: Any) -> tuple["Model", Mapping[str, Any]]:
        """The model for images of another size, and its variables."""
        return self.clone(config=dataclasses.replace(self.config, image_size=image_size)), variables

    @nn.nowrap
    def published(self, variables: Mapping[str, Any]) -> dict[str, tuple["Model", Mapping[str, Any]]]:
        """{folder inside the checkpoint's: model and variables} of all that is published of it; for most, the model as it is."""
        return {"": (self, variables)}


@functools.lru_cache(maxsize=8)
def depths(model: Model) -> dict[str, int | tuple[int, ...]]:
    """See `Model.depth`. What stands before the stack is what a forward pass meets before it."""
    met: dict[str, Any] = {}

    def init() -> None:
        met.update(flatten_dict(model.init(jax.random.key(0), **model.blank())["params"], sep="/"))

    jax.eval_shape(init)
    axes = {path: box.names for path, box in met.items()}
    stacks = {stack_of(path, axes): met[path].value.shape[0] for path in met if is_stacked(axes[path])}
    if len(stacks) > 1:
        raise ModelError(
            f"layer_decay: {type(model).__name__} has several stacks of layers ({', '.join(sorted(stacks))}), and no method"
            " `depth` says how they follow one another: set layer_decay to 1, or give it one"
        )
    count, reached, numbers = max(stacks.values(), default=0), False, {}
    for path in met:
        reached |= is_stacked(axes[path])
        numbers[path] = tuple(range(1, count + 1)) if is_stacked(axes[path]) else (count + 1) * reached
    return numbers


@functools.lru_cache(maxsize=32)
def _boxed_shapes(model: Model, wide: bool) -> dict[str, Any]:
    """Traced once a model: many ask."""
    return jax.eval_shape(lambda: model.init(jax.random.key(0), **model.blank()))


@functools.lru_cache(maxsize=32)
def _forward_flops(model: Model, shapes: tuple[tuple[str, tuple[int, ...]], ...]) -> int:
    inputs = {name: jax.ShapeDtypeStruct(shape, DTYPES.get(name, jnp.int32)) for name, shape in shapes}
    variables = nn.unbox(model.boxed_shapes())
    program = jax.make_jaxpr(lambda variables, inputs: model.apply(variables, **inputs))(variables, inputs)
    return products(program.jaxpr)


def products(program: Jaxpr) -> int:
    """2 per multiply-add of the matrix products and convolutions that a program needs. A loop counts as often as it runs; of
    several versions, as platforms have them, the last counts, which is the default."""
    needed, _ = dce_jaxpr(program, [True] * len(program.outvars))
    total = 0
    for equation in needed.eqns:
        params, name = equation.params, equation.primitive.name
        if name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += 2 * equation.outvars[0].aval.size * math.prod(left[axis] for axis in contracted)
        elif name == "conv_general_dilated":
            kernel, features = equation.invars[1].aval, params["dimension_numbers"].rhs_spec[0]
            total += 2 * equation.outvars[0].aval.size * kernel.size // kernel.shape[features]
        if name == "pallas_call":  # by its own formula: its program is that of one block
            total += params["cost_estimate"].flops
            continue
        inner = params["branches"][-1:] if name == "cond" else params.values()
        inner = [x.jaxpr if isinstance(x, ClosedJaxpr) else x for x in inner if isinstance(x, ClosedJaxpr | Jaxpr)]
        total += params.get("length", 1) * sum(map(products, inner))
    return total
