"""What every model config has in common: published JSON in and out, named variants, execution settings."""

import dataclasses
import difflib
import numbers
from typing import Any, ClassVar

import jax.numpy as jnp


class ModelError(ValueError):
    """A config, a model or a published checkpoint that cannot be used, said in one sentence."""


def nearest(name: str, known: list[str]) -> str:
    """`'did you mean X? '`-ending of an error about an unknown `name`, with the known names."""
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return (f"did you mean {match[0]!r}? " if match else "") + f"known: {', '.join(known)}"


def hashable(value: Any) -> Any:
    """A value from JSON, its lists as tuples."""
    return tuple(map(hashable, value)) if isinstance(value, list) else value


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Base of all configs. Fields named as in the published `config.json`; the four below say how to run, not what.

    Attributes:
        dtype: compute dtype; softmax, norms and losses accumulate in float32 whatever it is.
        param_dtype: dtype of the parameters.
        remat: what the backward pass computes again instead of keeping: `none`, `dots` (all but the results of linear
            layers: attention scores are computed again), `full` (all but a layer's input).
        scan_layers: one compiled layer run L times instead of L copies. The parameters look the same either way.
    """

    model_type: ClassVar[str]
    variants: ClassVar[tuple[str, ...]] = ()
    execution: ClassVar[tuple[str, ...]] = ("dtype", "param_dtype", "remat", "scan_layers")

    dtype: str = "float32"
    param_dtype: str = "float32"
    remat: str = "none"
    scan_layers: bool = False

    def __post_init__(self) -> None:
        for name in ("dtype", "param_dtype"):
            if getattr(self, name) not in ("float32", "bfloat16", "float16", "float64"):
                raise ModelError(f"{name}={getattr(self, name)!r}: expected float32, bfloat16, float16 or float64")
        if self.remat not in ("none", "dots", "full"):
            raise ModelError(f"remat={self.remat!r}: expected none, dots or full")
        for field in dataclasses.fields(self):
            self._check(field.name, getattr(self, field.name), field.default)

    def _check(self, name: str, value: Any, default: Any) -> None:
        """Raise unless `value` is a number like `default`: whole where it is whole, positive where it is positive.

        The id of a special token may also be 0, `None` (there is none) or a tuple of several.
        """
        if name.endswith("_token_id"):
            for one in value if isinstance(value, tuple) else (value,):
                if one is not None and (isinstance(one, bool) or not isinstance(one, numbers.Integral) or one < 0):
                    raise ModelError(f"{name}={value!r}: expected a whole number of at least 0")
            return
        if isinstance(default, bool) or not isinstance(default, int | float):
            return
        whole = isinstance(default, int)
        least = 1 if whole and default > 0 else 0
        kind = numbers.Integral if whole else numbers.Real
        if isinstance(value, bool) or not isinstance(value, kind) or not value >= least:
            raise ModelError(f"{name}={value!r}: expected a {'whole ' * whole}number of at least {least}")

    @property
    def compute_dtype(self) -> jnp.dtype:
        return jnp.dtype(self.dtype)

    @property
    def longest_input(self) -> int | None:
        """Most tokens that the model has positions for; `None` where any number will do."""
        return None

    def forward_flops(self, shapes: dict[str, tuple[int, ...]]) -> int:
        """Floating-point operations of one forward pass on inputs of these shapes, `{name: (batch, ...)}`."""
        raise NotImplementedError(f"{type(self).__name__} has no FLOP formula")

    @classmethod
    def variant(cls, name: str, **changes: Any) -> "ModelConfig":
        """The published variant called `name` (`BertConfig.variant("base")` is `BertConfig.base()`)."""
        if name not in cls.variants:
            raise ModelError(f"unknown variant {name!r} of {cls.model_type}: {nearest(name, list(cls.variants))}")
        return getattr(cls, name)(**changes)

    @classmethod
    def from_json(cls, published: dict[str, Any], **changes: Any) -> "ModelConfig":
        """From a published `config.json`; keys that this code has no use for are ignored."""
        names = {field.name for field in dataclasses.fields(cls)} - set(cls.execution)
        known = {name: hashable(value) for name, value in published.items() if name in names and value is not None}
        if "labels" in names and published.get("id2label"):
            labels = {int(number): name for number, name in published["id2label"].items()}
            known["labels"] = tuple(labels[number] for number in sorted(labels))
        return cls(**{**known, **changes})

    def to_json(self) -> dict[str, Any]:
        """As a published `config.json`, without the execution settings."""
        fields = {name: value for name, value in dataclasses.asdict(self).items() if name not in self.execution}
        if "labels" in fields:
            labels = fields.pop("labels")
            fields["id2label"] = {str(number): name for number, name in enumerate(labels)}
            fields["label2id"] = {name: number for number, name in enumerate(labels)}
        return {"model_type": self.model_type, **fields}
