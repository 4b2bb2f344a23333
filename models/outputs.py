"""What a model takes and returns: named arrays, under the names that `transformers` gives them."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def model_inputs(model: nn.Module) -> tuple[str, ...]:
    """The names of the arrays that `model` takes: its property `inputs`, or else what stands in its signature."""
    if hasattr(model, "inputs"):
        return model.inputs
    parameters = inspect.signature(type(model).__call__).parameters.values()
    return tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self")


def blank_inputs(model: nn.Module) -> dict[str, jax.Array]:
    """Zeros of the kind that `model` takes: what `init` wants to see, parameters depending on nothing else.

    An image (1, height, width, channels) of the config's `image_size`, of 64 pixels where it names none; or two tokens, of
    each of two `choices` where the model compares some, and as many for a decoder that reads an encoder.
    """
    if "pixel_values" in model_inputs(model):
        size = getattr(model.config, "image_size", 64)
        height, width = size if isinstance(size, tuple) else (size, size)
        return {"pixel_values": jnp.zeros((1, height, width, model.config.num_channels))}
    ids = jnp.zeros((1, 2, 2) if getattr(model, "choices", False) else (1, 2), jnp.int32)
    return {name: ids for name in ("input_ids", "decoder_input_ids") if name in model_inputs(model)}


@jax.tree_util.register_pytree_with_keys_class
class ModelOutput(Mapping):
    """Named outputs, read as attributes or as a mapping; outputs that are `None` are left out.

    >>> out = ModelOutput(logits=1, attentions=None)
    >>> out.logits, list(out)
    (1, ['logits'])
    """

    def __init__(self, **outputs: Any):
        self.__dict__["_outputs"] = {name: value for name, value in outputs.items() if value is not None}

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_outputs"][name]
        except KeyError:
            raise AttributeError(f"this model has no output {name!r}; it has: {', '.join(self)}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("model outputs are read-only")

    def __getitem__(self, name: str) -> Any:
        return self.__dict__["_outputs"][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dict__["_outputs"])

    def __len__(self) -> int:
        return len(self.__dict__["_outputs"])

    def __repr__(self) -> str:
        return f"ModelOutput({', '.join(f'{name}={value!r}' for name, value in self.items())})"

    def tree_flatten_with_keys(self):
        return [(jax.tree_util.GetAttrKey(name), value) for name, value in self.items()], tuple(self)

    @classmethod
    def tree_unflatten(cls, names, values):
        output = cls()
        output.__dict__["_outputs"] = dict(zip(names, values, strict=True))
        return output
