#!/usr/bin/env bash
# One would guess: ids of annotations are ids: a perfect detection scores an AP of 1 whatever they are.
# What happens: an annotation whose id is 0 counts as missed, since the evaluation keeps matches as ids and takes 0 for none. With
# one object the AP of a perfect detection is 0.
# Whom it hurts: whoever writes annotations by enumerate(): one object of the data set is never found, and on small sets
# AP is far off.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check pycocotools==2.0.11 numpy==2.4.6
"$place/venv/bin/python" - <<'PYTHON'
import contextlib
import io
from importlib.metadata import version

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def average_precision(first: int) -> float:
    boxes = [[10, 10, 50, 50], [80, 10, 50, 50]]
    truth = COCO()
    truth.dataset = {
        "images": [{"id": 1, "width": 200, "height": 200}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {"id": first + n, "image_id": 1, "category_id": 1, "bbox": box, "area": 2500, "iscrowd": 0}
            for n, box in enumerate(boxes)
        ],
    }
    truth.createIndex()
    found = [{"image_id": 1, "category_id": 1, "bbox": box, "score": 0.9} for box in boxes]
    evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
    evaluation.evaluate(), evaluation.accumulate(), evaluation.summarize()
    return float(evaluation.stats[0])


with contextlib.redirect_stdout(io.StringIO()):
    seen = {f"ids from {first}": round(average_precision(first), 3) for first in (0, 1)}
print("pycocotools", version("pycocotools"), "AP of two objects, both detected exactly:", seen)
assert seen["ids from 1"] == 1.0 and seen["ids from 0"] < 0.6, "this has changed"
PYTHON
