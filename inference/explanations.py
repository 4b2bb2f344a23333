"""Where in a picture a model sees what it says.

Attention rollout: Abnar, Zuidema, "Quantifying Attention Flow in Transformers", 2020, arXiv 2005.00928, section 3, for models
whose attentions go from all patches to all patches. Grad-CAM: Selvaraju et al., 2016, arXiv 1610.02391, equations 1 and 2,
for all others, on the last feature map that the class rests on.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange, reduce
from jax.extend.core import ClosedJaxpr, Var, jaxpr_as_fun
from jaxtyping import Array, Float
from PIL import Image

from models.config import ModelError

SPECIAL = 2
"""Most tokens of a model that are no patches: that of the class, and that of a teacher's answer."""

COLOURS = "inferno"
"""A colour map of matplotlib."""


def explain(
    model: nn.Module, variables: Mapping[str, Any], pixel_values: Float[np.ndarray, "height width 3"], label: int
) -> Float[np.ndarray, "rows columns"]:
    """How much each part of the picture counts, from 0 to 1: by attention where the model gives any, else for `label`.

    Raises:
        ModelError: the model has neither attentions nor feature maps.
    """
    values = jnp.asarray(pixel_values)[None]
    if "output_attentions" in model.settings:
        attentions = model.apply(variables, pixel_values=values, output_attentions=True).get("attentions")
        layers = [] if attentions is None else [np.asarray(layer, np.float64) for layer in attentions]
        if layers and len({layer.shape for layer in layers}) == 1 and layers[0].shape[-1] == layers[0].shape[-2]:
            return attention_rollout(np.stack(layers)[:, 0], pixel_values.shape[:2])
    return class_evidence(model, variables, values, label)


def attention_rollout(
    attentions: Float[np.ndarray, "layers heads queries keys"], size: tuple[int, int]
) -> Float[np.ndarray, "rows columns"]:
    """How much of each patch flows into the first token (into all, where there is none but patches), through all layers.

    A layer passes on half of what it gets, by its residual, and half by its attention, averaged over heads.

    Args:
        size: (height, width) of the picture, to tell rows from columns.
    """
    tokens = attentions.shape[-1]
    flow = np.eye(tokens)
    for attention in attentions.mean(axis=1):
        mixed = (attention + np.eye(tokens)) / 2
        flow = mixed / mixed.sum(axis=-1, keepdims=True) @ flow
    special, rows, columns = layout(tokens, size)
    counts = (flow[0] if special else flow.mean(axis=0))[special:]
    return scaled(rearrange(counts, "(rows columns) -> rows columns", rows=rows, columns=columns))


def layout(tokens: int, size: tuple[int, int]) -> tuple[int, int, int]:
    """How many tokens stand before those of the patches, and how many rows and columns these have.

    Raises:
        ModelError: they cover no picture of this shape.
    """
    height, width = size
    for special in range(SPECIAL + 1):
        rows = round(math.sqrt(max(tokens - special, 0) * height / width))
        columns = round(rows * width / height)
        if rows and rows * columns == tokens - special:
            return special, rows, columns
    raise ModelError(f"{tokens} tokens are no rows and columns of a picture of {height} × {width} pixels")


def class_evidence(
    model: nn.Module, variables: Mapping[str, Any], pixel_values: Float[Array, "1 height width 3"], label: int
) -> Float[np.ndarray, "rows columns"]:
    """What speaks for a label in each place of the last feature map (or of the last tokens) that its logit is made from.

    ReLU of the features, each weighted by the mean over places of the derivative of the logit.

    Raises:
        ModelError: among its outputs there is none.
    """
    size = pixel_values.shape[1:3]
    more = {"output_hidden_states": True} if "output_hidden_states" in model.settings else {}

    def run(values: Array) -> tuple[Array, list[Array]]:
        outputs = model.apply(variables, pixel_values=values, **more)
        states = [*outputs.get("hidden_states", ()), outputs.get("last_hidden_state")]
        return outputs["logits"][0, label].astype(jnp.float32), [state for state in states if _is_map(state, size)]

    program = jax.make_jaxpr(run)(pixel_values)
    logit, *maps = program.jaxpr.outvars
    for chosen in reversed(maps):
        found = _from(program, chosen, logit, pixel_values)
        if found is not None:
            features, gradient = (_places(np.asarray(x, np.float64)[0], size) for x in found)
            weights = reduce(gradient, "rows columns features -> features", "mean")
            return scaled(np.maximum(features @ weights, 0))
    raise ModelError(f"{type(model).__name__} gives neither attentions nor feature maps to explain its answer with")


def _from(program: ClosedJaxpr, chosen: Var, logit: Var, values: Array) -> tuple[Array, Array] | None:
    """The variable `chosen` and the derivative of `logit` by it, `None` where it is not made from it.

    The program is cut in two behind the equation that gives the variable.
    """
    equations = program.jaxpr.eqns
    cut = next((place + 1 for place, equation in enumerate(equations) if chosen in equation.outvars), len(equations))
    made = {variable for equation in equations[cut:] for variable in equation.outvars}
    used = dict.fromkeys(x for equation in equations[cut:] for x in equation.invars if isinstance(x, Var))
    between = [variable for variable in used if variable not in made]
    if chosen not in between or logit not in made:
        return None
    head = program.jaxpr.replace(eqns=equations[:cut], outvars=between, debug_info=None)
    tail = program.jaxpr.replace(constvars=[], invars=between, eqns=equations[cut:], outvars=[logit], debug_info=None)
    states = jaxpr_as_fun(ClosedJaxpr(head, program.consts))(values)
    place = between.index(chosen)
    gradient = jax.grad(lambda *states: jaxpr_as_fun(ClosedJaxpr(tail, []))(*states)[0], argnums=place)(*states)
    return states[place], gradient


def _places(features: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Features (rows, columns, features) of a map, or of tokens (tokens, features)."""
    if features.ndim == 3:
        return features
    special, rows, columns = layout(len(features), size)
    return rearrange(features[special:], "(rows columns) features -> rows columns features", rows=rows, columns=columns)


def _is_map(output: Any, size: tuple[int, int]) -> bool:
    """Whether it is a feature map (1, rows, columns, features) or tokens (1, tokens, features) of more than one place."""
    if not isinstance(output, jax.Array) or not jnp.issubdtype(output.dtype, jnp.floating):
        return False
    if output.ndim == 4:
        return output.shape[1] * output.shape[2] > 1
    if output.ndim != 3 or output.shape[1] < 4:
        return False
    try:
        layout(output.shape[1], size)
    except ModelError:
        return False
    return True


def scaled(counts: np.ndarray) -> np.ndarray:
    """From 0 to 1, so that the largest is 1."""
    return counts / max(counts.max(), np.finfo(counts.dtype).tiny)


def illustrated(pixels: np.ndarray, counts: np.ndarray, file: str | Path) -> None:
    """Save the picture as the model saw it, and beside it with bright colours where it counts.

    Raises:
        ModelError: the file cannot be written.
    """
    import matplotlib

    height, width, _ = pixels.shape
    heat = Image.fromarray(counts.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    colours = matplotlib.colormaps[COLOURS](np.clip(np.asarray(heat), 0, 1))[..., :3] * 255
    both = np.concatenate([pixels, np.round((pixels + colours) / 2).astype(np.uint8)], axis=1)
    try:
        Image.fromarray(both).save(file)
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot write the picture {file}: {error}") from None
