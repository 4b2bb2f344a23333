#!/usr/bin/env bash
# One would guess: Orbax notices a damaged checkpoint: its storage (OCDBT) has checksums.
# What happens: some flipped bits in the stored numbers come back as other numbers, without an error; others are noticed by the
# decompression alone.
# Whom it hurts: whoever resumes after a disk or a copy went wrong: the run goes on from a parameter of 1e30, or from one that is
# slightly off, which nobody sees.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 orbax-checkpoint==0.12.8
JAX_PLATFORMS=cpu "$place/venv/bin/python" - "$place" <<'PYTHON'
import collections
import logging
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp

logging.disable(logging.ERROR)
place = Path(sys.argv[1])
state = {"kernel": np.random.default_rng(0).normal(size=(512, 512)).astype(np.float32)}
with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(place / "whole", state)
    checkpointer.wait_until_finished()
    files = sorted((p for p in (place / "whole").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    largest = files[-1].relative_to(place / "whole")
    silent, noticed = 0, collections.Counter()
    for part in range(1, 32):
        shutil.rmtree(place / "damaged", ignore_errors=True)
        shutil.copytree(place / "whole", place / "damaged")
        content = bytearray((place / "damaged" / largest).read_bytes())
        content[len(content) * part // 32] ^= 1
        (place / "damaged" / largest).write_bytes(content)
        try:
            read = checkpointer.restore(place / "damaged", state)["kernel"]
            silent += not np.array_equal(np.asarray(read), state["kernel"])
        except Exception as error:
            noticed[type(error).__name__] += 1
print("orbax-checkpoint", version("orbax-checkpoint"), "jax", version("jax"))
print(f"a byte of {largest} with one bit flipped, at 31 places: other numbers without an error at {silent}, {dict(noticed)}")
assert silent >= 1, "this has changed"
PYTHON
