"""The language of name tables: how a published tensor and a parameter of ours correspond."""

import dataclasses
import fnmatch
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from models.config import ModelConfig

Transform = Callable[[np.ndarray], np.ndarray]


def same(x: np.ndarray) -> np.ndarray:
    return x


def transposed(x: np.ndarray) -> np.ndarray:
    """A linear layer's weight: (out, in) as published, (in, out) here."""
    return x.T


def to_hwio(x: np.ndarray) -> np.ndarray:
    """A convolution's weight as it is here."""
    return x.transpose(2, 3, 1, 0)


def to_oihw(x: np.ndarray) -> np.ndarray:
    """A convolution's weight as it is published."""
    return x.transpose(3, 2, 0, 1)


@dataclasses.dataclass(frozen=True)
class Name:
    """One parameter under its two names. `{layer}` in the published one runs over the first axis of ours.

    Attributes:
        published: as in a `transformers` state dict.
        ours: path in the parameter tree, joined by `/`; of a batch norm's running statistics, in the tree of these.
        transform: published → ours.
        inverse: ours → published; `transform` again where that is its own inverse.
        layers: (first, step) of the published numbers of the layers that are stacked.
    """

    published: str
    ours: str
    transform: Transform = same
    inverse: Transform | None = None
    layers: tuple[int, int] = (0, 1)

    @property
    def layered(self) -> bool:
        return "{layer}" in self.published

    def of_layer(self, index: int) -> str:
        """The published name of what stands at `index` on the first axis of ours."""
        first, step = self.layers
        return self.published.format(layer=first + step * index)

    def publish(self, x: np.ndarray) -> np.ndarray:
        """A parameter of ours (of one layer) as it is published."""
        return (self.inverse or self.transform)(x)


@dataclasses.dataclass(frozen=True)
class NameTable:
    """All names of an architecture's models, whichever of them a model has.

    Attributes:
        names: the parameters.
        prefix: (published, ours) name of the base model in the models with a head; a base model alone has neither.
        renamed: parts of tensors' names in other files → what stands there today.
        aliases: published tensors that are tied to another one (value) in models without a parameter of that name: either
            may be there, or both and equal.
        ignored: patterns (`fnmatch`) of published tensors that are no parameters.
        optional: tensor of a part that a base model may lack → attributes of the class without it.
        zeros: tensors that older files lack, all of them 0 then; they are no head of a model.
        of_shape: further names, which a config decides.
        copies: published tensors that nobody reads, and that must be there → the tensor that they are written as.
        untied: aliases that are tensors of their own where a file has them and they differ, whatever its config says →
            changes to the config.
        written: (name, config, all names of a model) → what a tensor is called in a file where that depends on the model; with
            `renamed` it is read again.
        constants: (config, whether it is a base model) → tensors that are no parameters and must be in a file.
        counted: whether files hold, beside running statistics, how many batches these are of: not where they are frozen.
    """

    names: tuple[Name, ...]
    prefix: tuple[str, str]
    renamed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    optional: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    zeros: tuple[str, ...] = ()
    untied: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    copies: Mapping[str, str] = dataclasses.field(default_factory=dict)
    of_shape: Callable[[ModelConfig], tuple[Name, ...]] = lambda config: ()
    counted: bool = True
    constants: Callable[[ModelConfig, bool], Mapping[str, np.ndarray]] = lambda config, base: {}
    written: Callable[[str, ModelConfig, Iterable[str]], str] = lambda name, config, names: name

    def extended(self, *names: Name) -> "NameTable":
        """This table with more names."""
        return dataclasses.replace(self, names=(*self.names, *names))

    def of(self, parameters: Iterable[str]) -> "NameTable":
        """This table for the model that has these parameters: what it has untied is no alias, and copies it has of its own."""
        had = {name.published for name in self.by_ours(parameters).values()}
        aliases = {alias: name for alias, name in self.aliases.items() if alias not in had}
        copies = {copy: name for copy, name in self.copies.items() if name in had and copy not in had}
        return dataclasses.replace(self, aliases=aliases, copies=copies)

    def is_base(self, parameters: Iterable[str]) -> bool:
        """Whether the model that has these parameters is the base model, not one with a head."""
        return not any(path.startswith(self.prefix[1]) for path in parameters)

    def by_ours(self, parameters: Iterable[str]) -> dict[str, Name]:
        """{path of ours: name} for the model that has these parameters, without the prefix where it is the base model."""
        parameters = set(parameters)
        published, ours = self.prefix
        base = self.is_base(parameters)
        names = {}
        for name in self.names:
            if base and name.ours.startswith(ours):
                name = dataclasses.replace(
                    name, published=name.published.removeprefix(published), ours=name.ours.removeprefix(ours)
                )
            if name.ours in parameters:
                names[name.ours] = name
        unnamed = sorted(parameters - set(names))
        if unnamed:
            raise KeyError(f"the name table has no published name for {', '.join(unnamed)}")
        return names

    def today(self, published: str, base: bool) -> str:
        """A published name as it is today, with the prefix of a model with a head, or without that of a base model."""
        for old, new in self.renamed.items():
            published = published.replace(old, new)
        unprefixed = published.removeprefix(self.prefix[0])
        if base:
            return unprefixed
        return self.prefix[0] + unprefixed if self.in_base(published) else published

    def is_ignored(self, published: str, base: bool) -> bool:
        """Whether a tensor, called as it is today, is none that a model wants: one tied to another, or no parameter."""
        patterns = (
            self.today(pattern, base)
            for pattern in (*self.aliases, *self.copies, *self.ignored, "*.num_batches_tracked")
        )
        return any(fnmatch.fnmatchcase(published, pattern) for pattern in patterns)

    def in_base(self, published: str) -> bool:
        """Whether a tensor of this name, with or without the prefix, is the base model's."""
        prefix = self.prefix[0]
        parts = {
            name.published.removeprefix(prefix).split(".")[0]
            for name in self.names
            if name.published.startswith(prefix)
        }
        return published.startswith(prefix) or published.split(".")[0] in parts


def linear(published: str, ours: str) -> tuple[Name, Name]:
    """Weight and bias of a linear layer."""
    return (Name(f"{published}.weight", f"{ours}/kernel", transposed), Name(f"{published}.bias", f"{ours}/bias"))


def norm(published: str, ours: str) -> tuple[Name, Name]:
    """Scale and bias of a layer norm."""
    return Name(f"{published}.weight", f"{ours}/scale"), Name(f"{published}.bias", f"{ours}/bias")


def convolution(published: str, ours: str) -> tuple[Name, Name]:
    """Kernel and bias of a convolution: (out, in, height, width) as published, (height, width, in, out) here."""
    return Name(f"{published}.weight", f"{ours}/kernel", to_hwio, to_oihw), Name(f"{published}.bias", f"{ours}/bias")


def batch_norm(published: str, ours: str) -> tuple[Name, ...]:
    """Scale, bias and running statistics of a batch norm."""
    return (
        *norm(published, ours),
        Name(f"{published}.running_mean", f"{ours}/mean"),
        Name(f"{published}.running_var", f"{ours}/var"),
    )


def table_of(published: str, ours: str) -> Name:
    """An embedding table."""
    return Name(f"{published}.weight", f"{ours}/embedding")
