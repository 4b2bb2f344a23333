"""What every model config has in common: published JSON in and out, named variants, execution settings."""

import dataclasses
import difflib
import functools
import numbers
import operator
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax.numpy as jnp

from models.kernels.platform import ATTENTION


class ModelError(ValueError):
    """A config, a model or a published checkpoint that cannot be used, explained in one sentence."""


def nearest(name: str, known: list[str]) -> str:
    """`'did you mean X? '`-ending of an error about an unknown `name`, with the known names."""
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return (f"did you mean {match[0]!r}? " if match else "") + f"known: {', '.join(known)}"


def hashable(value: Any) -> Any:
    """A value from JSON, its lists as tuples."""
    return tuple(map(hashable, value)) if isinstance(value, list) else value


PROBLEMS = ("regression", "single_label_classification", "multi_label_classification")
"""What a classifier may be for: a number, one label of several, or any of several."""


def alias(field: str) -> property:
    """A field of a config by another name: what a base class or a shared layer calls it."""
    return property(operator.attrgetter(field))


class Variant:
    """A published variant of a config, called as a constructor: with `base = Variant(hidden_size=768)` in its class,
    `BertConfig.base(**changes)` is the config of these fields and other `changes`.

    Args:
        parent: a variant whose fields hold where this one does not set them.
    """

    def __init__(self, parent: "Variant | None" = None, /, **fields: Any):
        self.fields = {**(parent.fields if parent else {}), **fields}

    def __get__(self, instance: Any, config: type) -> Callable[..., Any]:
        return functools.partial(config, **self.fields)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Base of all configs. Fields named as in the published `config.json`; those up to `attention` say how
    to run, not what.

    Attributes:
        dtype: compute dtype; softmax, norms and losses accumulate in float32 whatever it is.
        param_dtype: dtype of the parameters.
        remat: what the backward pass computes again instead of keeping: `none`, `dots` (all but the results of linear
            layers: attention is computed again), `full` (all but a layer's input).
        scan_layers: one compiled layer run L times instead of L copies. The parameters look the same either way.
        attention: `reference`, which writes scores down; `kernel`, which does not (`models/kernels/pallas_attention.py` says for
            what); `auto`, the kernel on the TPUs that it is compiled for. What is outside its limits takes the reference.
        problem_type: what a classifier's scores are, one of `PROBLEMS`; by the number of labels where `None`.

    What an architecture is, rather than a shape of it:

        aliases: other names that a `config.json` may have for a field → the field's (`attribute_map` of `transformers`).
        begins_as: type and class of the published checkpoints that it may begin with, where they are of another type; what they
            lack is initialised.
        published_labels: how many labels a classifier has whose `config.json` neither names nor counts them.
        attention_kernel: whether its attention may be computed by the kernel.
    """

    model_type: ClassVar[str]
    aliases: ClassVar[Mapping[str, str]] = types.MappingProxyType({})
    begins_as: ClassVar[tuple[str, str] | None] = None
    published_labels: ClassVar[int] = 2
    attention_kernel: ClassVar[bool] = True
    variants: ClassVar[tuple[str, ...]] = ()
    execution: ClassVar[tuple[str, ...]] = ("dtype", "param_dtype", "remat", "scan_layers", "attention")

    # What stands for fields that a class lacks. Without annotations they are no fields and keep no place in the order.
    vocab_size = hidden_size = num_attention_heads = hidden_act = layer_norm_eps = image_size = None
    source_vocab_size = None
    bos_token_id = eos_token_id = pad_token_id = decoder_start_token_id = None
    labels = ()
    freeze_batch_norm = False

    dtype: str = "float32"
    param_dtype: str = "float32"
    remat: str = "none"
    scan_layers: bool = False
    attention: str = "auto"
    problem_type: str | None = None

    def __post_init__(self) -> None:
        for name, dtype in (("dtype", self.dtype), ("param_dtype", self.param_dtype)):
            if dtype not in ("float32", "bfloat16", "float16", "float64"):
                raise ModelError(f"{name}={dtype!r}: expected float32, bfloat16, float16 or float64")
        if self.remat not in ("none", "dots", "full"):
            raise ModelError(f"remat={self.remat!r}: expected none, dots or full")
        if self.attention not in ATTENTION:
            raise ModelError(f"attention={self.attention!r}: expected {', '.join(ATTENTION)}")
        if self.attention == "kernel" and not self.attention_kernel:
            raise ModelError(
                f"attention='kernel': {self.model_type} has none, expected reference or auto, which is that here"
            )
        if self.problem_type not in (None, *PROBLEMS):
            raise ModelError(f"problem_type={self.problem_type!r}: expected {', '.join(PROBLEMS)} or nothing")
        for field in dataclasses.fields(self):
            self._check(field.name, vars(self)[field.name], field.default)

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
        number = numbers.Integral if whole else numbers.Real
        if isinstance(value, bool) or not isinstance(value, number) or not value >= least:
            raise ModelError(f"{name}={value!r}: expected a {'whole ' * whole}number of at least {least}")

    def check_divides(self, whole: str, parts: str) -> None:
        """Raise unless the field called `whole` divides into as many as the one called `parts` says."""
        if vars(self)[whole] % vars(self)[parts]:
            raise ModelError(f"{whole}={vars(self)[whole]} does not divide into {parts}={vars(self)[parts]}")

    @property
    def compute_dtype(self) -> jnp.dtype:
        return jnp.dtype(self.dtype)

    @property
    def longest_input(self) -> int | None:
        """Most tokens that the model has positions for; `None` where any number will do."""
        return None

    @classmethod
    def variant(cls, name: str, **changes: Any) -> "ModelConfig":
        """The published variant called `name` (`BertConfig.variant("base")` is `BertConfig.base()`)."""
        if name not in cls.variants:
            raise ModelError(f"unknown variant {name!r} of {cls.model_type}: {nearest(name, list(cls.variants))}")
        return getattr(cls, name)(**changes)

    @classmethod
    def from_json(cls, published: Mapping[str, Any], **changes: Any) -> "ModelConfig":
        """From a published `config.json`. What it leaves out is what `transformers` takes it to be, which for labels need
        not be the default of this class; keys that this code has no use for are ignored.

        Raises:
            ModelError: a field is null that must have a value, or stands there under two names and two values.
        """
        fields = {field.name: field for field in dataclasses.fields(cls) if field.name not in cls.execution}
        known = {name: hashable(value) for name, value in cls.by_field(published).items() if name in fields}
        for name, value in known.items():
            if value is None and type(None) not in typing.get_args(fields[name].type):
                raise ModelError(f"{name} is null: expected a value such as {fields[name].default!r}")
        if "labels" in fields:
            known["labels"] = cls.labels_of(published)
        return cls(**{**known, **changes})

    @classmethod
    def by_field(cls, published: Mapping[str, Any]) -> dict[str, Any]:
        """`published` with what stands under another name of a field moved to the field's."""
        renamed = {name: value for name, value in published.items() if name not in cls.aliases}
        for alias, name in cls.aliases.items():
            if alias not in published:
                continue
            if renamed.setdefault(name, published[alias]) != published[alias]:
                raise ModelError(
                    f"{alias}={published[alias]!r} and {name}={renamed[name]!r} are two names of one field: leave one out"
                )
        return renamed

    @classmethod
    def labels_of(cls, published: Mapping[str, Any]) -> tuple[str, ...]:
        """Names of a classifier's outputs: those of `id2label`; else `num_labels` numbered ones, or `published_labels`."""
        named = published.get("id2label")
        if named:
            names = {int(number): name for number, name in named.items()}
            return tuple(names[number] for number in sorted(names))
        count = published.get("num_labels")
        count = cls.published_labels if count is None else count
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ModelError(f"num_labels={count!r}: expected a whole number of at least 1")
        return tuple(f"LABEL_{number}" for number in range(count))

    def to_json(self) -> dict[str, Any]:
        """As a published `config.json`, without the execution settings."""
        fields = {name: value for name, value in dataclasses.asdict(self).items() if name not in self.execution}
        if self.problem_type is None:
            del fields["problem_type"]
        if "labels" in fields:
            labels = fields.pop("labels")
            fields["id2label"] = {str(number): name for number, name in enumerate(labels)}
            fields["label2id"] = {name: number for number, name in enumerate(labels)}
        return {"model_type": self.model_type, **fields}
