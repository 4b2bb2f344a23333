#!/usr/bin/env bash
# One would guess: optax.assignment.hungarian_algorithm returns its rows in ascending order, as scipy.optimize's
# linear_sum_assignment does, so that the columns alone say who is matched with whom.
# What happens: for most cost matrices that are not square the rows come in another order; only the pairs are right.
# Whom it hurts: whoever ports set prediction (DETR, Mask2Former) and indexes targets by the columns: boxes are then compared with
# others than they were matched with, and nothing looks wrong but the loss.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 optax==0.2.8 scipy==1.17.1
JAX_PLATFORMS=cpu "$place/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import jax.numpy as jnp
import numpy as np
import optax
from scipy.optimize import linear_sum_assignment

draw = np.random.default_rng(0)
unsorted = pairs = 0
for number in range(20):
    costs = draw.random((5, 3) if number % 2 else (3, 5)).astype(np.float32)
    rows, columns = map(np.asarray, optax.assignment.hungarian_algorithm(jnp.asarray(costs)))
    unsorted += not (np.diff(rows) > 0).all()
    pairs += sorted(zip(rows, columns)) == sorted(zip(*linear_sum_assignment(costs)))
    if number < 2:
        print(costs.shape, "rows", rows, "columns", columns, "scipy", *linear_sum_assignment(costs))
print("optax", version("optax"), f"rows out of order in {unsorted} of 20, the same pairs as scipy in {pairs} of 20")
assert unsorted > 10 and pairs == 20, "this has changed"
PYTHON
