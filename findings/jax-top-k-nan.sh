#!/usr/bin/env bash
# One would guess: jax.lax.top_k treats all NaNs alike: first, as argmax and sort do, or last.
# What happens: it compares by total order of the bits: a NaN without sign comes first, one with sign last. 0/0 and inf - inf, as x86
# computes them, have the sign: top_k hides such a NaN behind every number where argmax would show it.
# Whom it hurts: whoever looks whether a beam search or a router met a NaN by looking at what it chose.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
[ "$(uname -m)" = x86_64 ] || { echo "of x86 processors"; exit 0; }
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2
JAX_PLATFORMS=cpu "$place/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np

computed = jax.jit(lambda x: x - x)(jnp.array(np.inf, jnp.float32))
written = jnp.array(np.nan, jnp.float32)
seen = {}
for name, nan in (("inf - inf", computed), ("np.nan", written)):
    values = jnp.stack([jnp.float32(1), nan, jnp.float32(2)])
    seen[name] = bool(jnp.signbit(nan)), int(jax.lax.top_k(values, 1)[1][0]), int(values.argmax())
print("jax", version("jax"), "(sign, place by top_k, place by argmax) of [1, NaN, 2]:", seen)
assert seen == {"inf - inf": (True, 2, 1), "np.nan": (False, 1, 1)}, "this has changed"
PYTHON
