#!/usr/bin/env bash
# One would guess: softmax_cross_entropy_with_integer_labels gives something finite for a label outside of the classes (to be
# masked by `where` afterwards), or that -1, too, is out of range.
# What happens: -100, which marks a place that is not asked, gives NaN; -1 silently means the last class. The gradient at a label
# of -100 is finite, softmax(logits), so that a loss masked by multiplication is NaN while training goes on from a wrong gradient.
# Whom it hurts: whoever brings labels from `transformers`' data collators, which write -100, and multiplies by a mask.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 optax==0.2.8
JAX_PLATFORMS=cpu "$place/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import jax
import jax.numpy as jnp
import optax

logits = jnp.array([0.5, 1.0, 2.0])
loss = optax.softmax_cross_entropy_with_integer_labels
ignored, gradient = jax.value_and_grad(lambda x: loss(x, jnp.array(-100)))(logits)
last = loss(logits, jnp.array(-1)), loss(logits, jnp.array(2))
masked = (loss(jnp.stack([logits, logits]), jnp.array([2, -100])) * jnp.array([1.0, 0.0])).sum()
print("jax", version("jax"), "optax", version("optax"))
print("label -100: loss", ignored, "gradient", gradient, "softmax", jax.nn.softmax(logits))
print("label -1 and label 2 of three classes:", *last)
print("sum of [label 2, label -100] times the mask [1, 0]:", masked)
assert jnp.isnan(ignored) and jnp.allclose(gradient, jax.nn.softmax(logits)) and last[0] == last[1], "this has changed"
assert jnp.isnan(masked), "this has changed"
PYTHON
