"""`flax_model.msgpack`, which the Flax classes of `transformers` (until 4.57) wrote: read, never written.

Those trees have the published names, with `/` for `.`; only the last part and the layout are Flax's own. So one rule
serves every architecture, and its name table does the rest.
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax.serialization import msgpack_restore
from flax.traverse_util import flatten_dict

from models.config import ModelError
from models.hub import files

INDEX, SINGLE = "flax_model.msgpack.index.json", "flax_model.msgpack"

LEAVES = {"kernel": "weight", "embedding": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
"""What Flax calls a parameter or a statistic → what it is published as; other names are the same."""


@dataclasses.dataclass(frozen=True)
class FlaxTensors:
    """The tensors of an opened file under their published names, read as those of a safetensors file are."""

    tensors: Mapping[str, np.ndarray]

    def get_tensor(self, name: str) -> np.ndarray:
        return self.tensors[name]


def alone(folder: Path) -> bool:
    """Whether the folder has a Flax tree and no safetensors, which come first."""
    there = (folder / SINGLE).is_file() or (folder / INDEX).is_file()
    return there and not (folder / files.INDEX).exists() and not any(folder.glob("[!.]*.safetensors"))


def tensors(folder: Path) -> dict[str, FlaxTensors]:
    """{published name: handle} of all arrays in a folder, for `files.read`."""
    handles: dict[str, FlaxTensors] = {}
    for path in files.indexed(folder, SINGLE, INDEX):
        try:
            tree = msgpack_restore(path.read_bytes())
            flat = flatten_dict(tree)
        except Exception as error:  # msgpack and Flax raise whatever the bytes lead them to
            raise ModelError(f"{path} is no whole Flax checkpoint ({error}): fetch or write it again") from None
        one = FlaxTensors(dict(published(path_in_tree, value) for path_in_tree, value in flat.items()))
        handles |= dict.fromkeys(one.tensors, one)
    return handles


def published(path: tuple[str, ...], value: Any) -> tuple[str, np.ndarray]:
    """A leaf of a Flax tree under its published name and in the published layout.

    Kernels are (in, out) or (*space, in, out) in Flax and (out, in) or (out, in, *space) as published; that of GPT-2's
    `Conv1D`, which is published as (in, out), is (out, in) in Flax: it is turned as well. Modules of a list that is no list of
    Flax's are numbered behind its name: `layer/layer_0` is `layer.0`, in ResNet's basic blocks.
    """
    if path[0] in ("params", "batch_stats"):
        path = path[1:]
    *modules, leaf = path
    modules = [
        re.sub(rf"^{re.escape(before)}_(\d+)$", r"\1", name)
        for before, name in zip(["", *modules], modules, strict=False)
    ]
    value = np.asarray(value)
    if leaf == "kernel" and value.ndim >= 2:
        space = range(value.ndim - 2)
        value = value.transpose(value.ndim - 1, value.ndim - 2, *space)
    return ".".join([*modules, LEAVES.get(leaf, leaf)]), value
