#!/usr/bin/env bash
# One would guess: in a panoptic segmentation no two segments that are not fused share an id.
# What happens: with label_ids_to_fuse, transformers counts on from the id of the class that it met again: the next segment gets the
# id of another one. Of sky, dog, sky, car the car has the dog's id, 2, and both are one region of the map.
# Whom it hurts: whoever fuses stuff, as panoptic quality wants it, with MaskFormer, Mask2Former, OneFormer or DETR.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.24.0 torch==2.13.0 pillow scipy
HF_HUB_OFFLINE=1 "$place/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import torch
from transformers.models.mask2former.image_processing_pil_mask2former import compute_segments

SKY, DOG, CAR = 0, 1, 2
labels = torch.tensor([SKY, DOG, SKY, CAR])
masks = torch.eye(4)[:, None].expand(4, 4, 4).clone()  # a column of the picture each
_, segments = compute_segments(masks, torch.ones(4), labels, label_ids_to_fuse={SKY})
found = [(segment["label_id"], segment["id"]) for segment in segments]
print("transformers", version("transformers"), "(class, id):", found)
assert found == [(SKY, 1), (DOG, 2), (SKY, 1), (CAR, 2)], "this has changed"
PYTHON
