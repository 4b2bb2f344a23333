"""What a model returns: named arrays, under the names that `transformers` gives them."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax


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
