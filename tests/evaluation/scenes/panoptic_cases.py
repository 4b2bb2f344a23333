"""Drawn panoptic segmentations, and what panopticapi says of them, recorded by

pip install panopticapi-lite==0.2.0 && python -m tests.evaluation.scenes.panoptic_cases
"""

import json
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

CLASSES, THINGS, PICTURES = 6, (0, 1, 2), 40

RECORDED = {
    "All": {"pq": 0.3428369150851689, "sq": 0.6990449146107633, "rq": 0.4845982887649554},
    "Things": {"pq": 0.307247647219326, "sq": 0.6986381103360834, "rq": 0.43338576671910006},
    "Stuff": {"pq": 0.37842618295101177, "sq": 0.6994517188854433, "rq": 0.5358108108108108},
}


class Case(NamedTuple):
    """Maps of ids, the labels of the ids, and the ids of crowds."""

    right: np.ndarray
    there: dict[int, int]
    guessed: np.ndarray
    found: dict[int, int]
    crowd: set[int]


def drawn() -> list[Case]:
    """Rectangles over one another; found moved, left out, of another class, or invented."""
    draw, cases = np.random.default_rng(0), []
    for _ in range(PICTURES):
        right, guessed = np.zeros((24, 32), np.int64), np.zeros((24, 32), np.int64)
        there, found, crowd = {}, {}, set()
        for number in range(int(draw.integers(1, 7))):
            one, other = 1 + 1_000 * number, 2 + 90_000 * number
            top, left = draw.integers(0, 18, 2)
            high, wide = draw.integers(4, 14, 2)
            right[top : top + high, left : left + wide] = one
            there[one] = int(draw.integers(CLASSES))
            if draw.random() < 0.15:
                crowd.add(one)
            if draw.random() < 0.8:
                down, across = draw.integers(-2, 3, 2)
                rows = slice(max(top + down, 0), max(top + down + high, 1))
                guessed[rows, max(left + across, 0) : max(left + across + wide, 1)] = other
                found[other] = there[one] if draw.random() < 0.8 else int(draw.integers(CLASSES))
        if draw.random() < 0.5:
            guessed[20:, :9], found[5] = 5, int(draw.integers(CLASSES))
        there = {one: label for one, label in there.items() if (right == one).any()}
        found = {one: label for one, label in found.items() if (guessed == one).any()}
        cases.append(Case(right, there, guessed, found, crowd & set(there)))
    return cases


def official() -> dict:
    """What panopticapi says."""
    from panopticapi.evaluation import pq_compute
    from panopticapi.utils import id2rgb
    from PIL import Image

    categories = [{"id": label, "name": str(label), "isthing": int(label in THINGS)} for label in range(CLASSES)]
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for side in ("right", "guessed"):
            place, annotations = Path(folder) / side, []
            place.mkdir()
            for number, case in enumerate(drawn()):
                numbers, labels = (case.right, case.there) if side == "right" else (case.guessed, case.found)
                Image.fromarray(id2rgb(numbers)).save(place / f"{number}.png")
                info = [
                    {
                        "id": one,
                        "category_id": label,
                        "iscrowd": int(side == "right" and one in case.crowd),
                        "area": int((numbers == one).sum()),
                    }
                    for one, label in labels.items()
                ]
                annotations.append({"image_id": number, "file_name": f"{number}.png", "segments_info": info})
            files[side] = str(Path(folder) / f"{side}.json")
            images = [{"id": number, "file_name": f"{number}.png"} for number in range(PICTURES)]
            told = {"images": images, "annotations": annotations, "categories": categories}
            Path(files[side]).write_text(json.dumps(told))
        return pq_compute(files["right"], files["guessed"], str(Path(folder) / "right"), str(Path(folder) / "guessed"))


if __name__ == "__main__":
    result = official()
    print({part: {name: result[part][name] for name in ("pq", "sq", "rq")} for part in ("All", "Things", "Stuff")})
