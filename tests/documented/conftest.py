"""A fresh copy of the repository, with the data that its documentation speaks of beside it."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from data.wikipedia_dump.wikipedia_dump_dataset_builder import sample
from tests.documented.commands import ROOT
from tests.experiments.conftest import environment  # noqa: F401


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """What `git clone` would give of this tree, with `my_texts`, `my_pictures`, a picture and a dump of Wikipedia."""
    from pydoc_data.topics import topics

    from PIL import Image
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("clone") / "lacuna"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    (folder / "my_texts").mkdir()
    for name, text in sorted(topics.items())[:40]:
        (folder / "my_texts" / f"{name}.txt").write_text(text)
    digits = load_digits()
    for number, (picture, label) in enumerate(zip(digits.images[:200], digits.target[:200], strict=True)):
        place = folder / "my_pictures" / f"digit-{label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((picture * 15.9).astype(np.uint8)).resize((32, 32)).save(place / f"{number}.png")
    for name, text in sorted(topics.items())[:60]:
        place = folder / "my_classes" / ("names" if name[0] < "g" else "others")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{name}.txt").write_text(text)
    shutil.copyfile(next((folder / "my_pictures").rglob("*.png")), folder / "cat.jpg")
    shutil.copyfile(sample(), folder / "enwiki-latest-pages-articles.xml.bz2")
    words = {"one": "uno", "two": "dos", "three": "tres", "four": "cuatro", "five": "cinco", "six": "seis"}
    sums = [
        (f"{a} and {b} and {c}", f"{words[a]} y {words[b]} y {words[c]}") for a in words for b in words for c in words
    ]
    (folder / "bible.tsv").write_text("en\tes\n" + "".join(f"{en}\t{es}\n" for en, es in sums))
    return folder


@pytest.fixture(scope="module")
def in_clone(environment, clone) -> dict[str, str]:  # noqa: F811
    """The environment of its commands."""
    return {**environment, "PYTHONPATH": str(clone), "PATH": os.environ["PATH"], "COLUMNS": "100"}
