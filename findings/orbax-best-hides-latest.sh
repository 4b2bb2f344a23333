#!/usr/bin/env bash
# One would guess: a CheckpointManager told to keep the best N checkpoints still keeps the newest, from which a run goes on.
# What happens: with best_fn, max_to_keep counts the best alone: after steps 0 to 4 of which the first two were best, those two are
# left and latest_step() is 1. A run that resumes does steps 2 to 4 again. AnyPreservationPolicy([LatestN(1), BestN(n=2)]) keeps both.
# Whom it hurts: whoever keeps the best checkpoints of a run that may be preempted, on metrics that do not improve each time.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 orbax-checkpoint==0.12.8
JAX_PLATFORMS=cpu "$place/venv/bin/python" - "$place" <<'PYTHON'
import logging
import sys
from importlib.metadata import version

import numpy as np
import orbax.checkpoint as ocp

logging.disable(logging.ERROR)
options = ocp.CheckpointManagerOptions(
    max_to_keep=2, best_fn=lambda metrics: metrics["loss"], best_mode="min", enable_async_checkpointing=False
)
with ocp.CheckpointManager(f"{sys.argv[1]}/run", options=options) as manager:
    for step, loss in enumerate([1.0, 1.1, 1.2, 1.3, 1.4]):
        manager.save(step, args=ocp.args.StandardSave({"x": np.ones(3)}), metrics={"loss": loss})
    left, latest = list(manager.all_steps()), manager.latest_step()
print("orbax-checkpoint", version("orbax-checkpoint"), "steps left", left, "latest_step()", latest)
assert left == [0, 1] and latest == 1, "this has changed"
PYTHON
