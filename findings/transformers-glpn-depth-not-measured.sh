#!/usr/bin/env bash
# One would guess: the loss of GLPN leaves out pixels whose depth was not measured, however a map marks them; its mask (labels > 0)
# does so for 0, negatives and NaN.
# What happens: an infinite depth, which is how some sensors and renderers mark the sky, passes the mask: the loss is NaN, and so is
# the gradient of every parameter. A batch without any measured pixel, as a crop of the sky of a KITTI picture is, has the mean of
# nothing: the loss is NaN there, too, the gradients are 0.
# Whom it hurts: whoever trains on depth with holes: one such crop makes the whole model NaN, without an error.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.24.0 torch==2.13.0
HF_HUB_OFFLINE=1 "$place/venv/bin/python" - 2>/dev/null <<'PYTHON'
from importlib.metadata import version

import torch
from transformers import GLPNConfig, GLPNForDepthEstimation

torch.manual_seed(0)
shape = dict(hidden_sizes=[8, 8, 8, 8], num_attention_heads=[1, 1, 1, 1], depths=[1, 1, 1, 1], decoder_hidden_size=8)
model = GLPNForDepthEstimation(GLPNConfig(**shape)).eval()
pictures, measured = torch.rand(1, 3, 32, 32), torch.full((1, 32, 32), 2.0)
found = {}
for name, value, rows in (("0", 0.0, 8), ("nan", torch.nan, 8), ("inf", torch.inf, 8), ("0 everywhere", 0.0, 32)):
    depth = measured.clone()
    depth[:, :rows] = value
    model.zero_grad()
    loss = model(pixel_values=pictures, labels=depth).loss
    loss.backward()
    broken = [not torch.isfinite(x.grad).all() for x in model.parameters() if x.grad is not None]
    found[name] = (round(loss.item(), 3), f"{sum(broken)} of {len(broken)} gradients are not finite")
print("transformers", version("transformers"), "depth not measured, marked as:", found)
broken = [said.startswith("142") for _, said in found.values()]
assert [str(loss) == "nan" for loss, _ in found.values()] == [False, False, True, True], "this has changed"
assert broken == [False, False, True, False], "this has changed"
PYTHON
