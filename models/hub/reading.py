"""From the tensors of a folder to parameters: which there are, under which names, and in which shapes."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from models.config import ModelError
from models.hub import files
from models.hub.names import NameTable

FLOATS = ("float64", "float32", "float16", "bfloat16")
"""What a published parameter may be; quantised ones mean nothing without their scales."""

LAYER = re.compile(r"(?<=\.)\d+(?=\.)")
"""The number of a layer in a published name."""


@dataclasses.dataclass(frozen=True)
class Read:
    """What came of reading a model's parameters from a folder.

    Attributes:
        parameters: by path.
        missing: published tensors that the model wants and the folder lacks.
        misshapen: those of another shape or dtype, each with both shapes.
        left_out: tensors that the model has no use for, as of another head.
        unexpected: tensors that belong to no model here.
        heads: those of `misshapen` that are no base model's.
    """

    parameters: dict[str, Array]
    missing: list[str]
    misshapen: list[str]
    left_out: list[str] = dataclasses.field(default_factory=list)
    unexpected: list[str] = dataclasses.field(default_factory=list)
    heads: list[str] = dataclasses.field(default_factory=list)

    def without_heads(self) -> "Read":
        """The same with misshapen heads taken as missing, as where they are for other labels."""
        misshapen = [name for name in self.misshapen if name not in self.heads]
        return dataclasses.replace(self, misshapen=misshapen, missing=self.missing + self.heads)

    def with_unused(self, there: set[str], used: set[str], table: NameTable, base: bool, chosen: bool) -> "Read":
        """The same with the tensors that are `there` and were not read put into `left_out` or `unexpected`.

        A layer is left out where the model has no such layers, and unexpected where it has fewer.
        """
        extra = {name for name in there - used if not table.is_ignored(name, base)}
        stacks = {LAYER.sub("{layer}", name) for name in used}
        known = {table.today(name.published, base) for name in table.names} - stacks

        def is_known(name: str) -> bool:
            return name in known or LAYER.sub("{layer}", name) in known

        left_out = sorted(name for name in extra if is_known(name) or (chosen and not table.in_base(name)))
        return dataclasses.replace(self, left_out=left_out, unexpected=sorted(extra - set(left_out)))


def read_parameters(
    handles: Mapping[str, Any], there: Mapping[str, str], table: NameTable, shapes: Mapping[str, jax.ShapeDtypeStruct]
) -> tuple[Read, set[str]]:
    """The parameters of these `shapes`, and the published tensors that were wanted for them."""
    parameters, missing, misshapen, used = {}, [], [], set()
    for path, name in table.by_ours(shapes).items():
        shape, layered = shapes[path], name.layered
        parts = [name.of_layer(i) for i in range(shape.shape[0])] if layered else [name.published]
        used |= set(parts)
        absent = [part for part in parts if part not in there]
        if absent:
            if name.published in table.zeros:
                parameters[path] = jnp.zeros(shape.shape, shape.dtype)
            else:
                missing += absent
            continue
        arrays = [name.transform(files.read(handles, there[part])) for part in parts]
        expected = shape.shape[1:] if layered else shape.shape
        wrong = [
            f"{part} {x.dtype}{list(x.shape)} for {shape.dtype}{list(expected)}"
            for part, x in zip(parts, arrays, strict=True)
            if x.shape != expected or x.dtype.name not in FLOATS
        ]
        misshapen += wrong
        if not wrong:
            parameters[path] = jnp.asarray(np.stack(arrays) if layered else arrays[0], shape.dtype)
    heads = [name for name in misshapen if not table.in_base(name.partition(" ")[0])]
    return Read(parameters, missing, misshapen, heads=heads), used


def refuse_untied(
    folder: Path, handles: Mapping[str, Any], there: Mapping[str, str], table: NameTable, used: set[str], base: bool
) -> None:
    """Raise where the base model or a head in use has two tensors that ours ties, and they differ."""
    heads = [name for name in used if not table.in_base(name) and name not in table.zeros]
    for alias, name in table.aliases.items():
        of_base, alias, name = table.in_base(alias), table.today(alias, base), table.today(name, base)
        part = alias.rsplit(".", 2)[0]
        in_use = any(wanted.startswith(part) for wanted in heads) or not heads  # a head may be nothing but the alias
        if (of_base or (in_use and not base)) and differ(handles, there, alias, name):
            raise ModelError(f"{folder}: {alias} differs from {name}, and the config ties them")


def differ(handles: Mapping[str, Any], there: Mapping[str, str], one: str, other: str) -> bool:
    """Whether a folder holds two tensors of these names, and other numbers in them."""
    if one not in there or other not in there or there[one] == there[other]:
        return False
    return not np.array_equal(files.read(handles, there[one]), files.read(handles, there[other]))


def published_names(folder: Path, names: Iterable[str], table: NameTable, base: bool) -> dict[str, str]:
    """{name of today: name in the files} of all tensors; one that is there only under an alias has its own name too."""
    there: dict[str, str] = {}
    for name in names:
        today = table.today(name, base)
        if today in there:
            raise ModelError(f"{folder} holds {today} twice: as {there[today]} and as {name}")
        there[today] = name
    for alias, name in table.aliases.items():
        if table.today(alias, base) in there:
            there.setdefault(table.today(name, base), there[table.today(alias, base)])
    return there
