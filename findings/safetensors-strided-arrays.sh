#!/usr/bin/env bash
# One would guess: safetensors.numpy.save_file writes the array that it is given, transposed views included (or refuses them).
# What happens: of an array that is not contiguous the memory is written as it lies, under the shape of the view: what is read
# back has the right shape and other numbers in it. No error, no warning.
# Whom it hurts: whoever exports Flax kernels, (in, out), as PyTorch's weights, (out, in), by `.T`: the folder opens and the model
# talks nonsense. `np.ascontiguousarray` is the cure.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6
"$place/venv/bin/python" - "$place" <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from safetensors.numpy import load_file, save_file

kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
save_file({"weight": kernel.T, "every other": kernel.reshape(-1)[::2]}, f"{sys.argv[1]}/x.safetensors")
read = load_file(f"{sys.argv[1]}/x.safetensors")
print("safetensors", version("safetensors"), "numpy", version("numpy"))
print("written:\n", kernel.T, "\nread:\n", read["weight"])
print("written:", kernel.reshape(-1)[::2], "read:", read["every other"])
assert read["weight"].shape == (3, 2) and not np.array_equal(read["weight"], kernel.T), "this has changed"
PYTHON
