"""Every `Flax…` class of transformers 4.57 that docs/from-flax.md names, on a folder that it wrote (`FLAX_PYTHON`)."""

import json
import os
from pathlib import Path

import pytest

from experiments.campaigns.from_flax import FORMS, INSTEAD, compared_with, written

PAGE = Path(__file__).parents[3] / "docs" / "from-flax.md"


def test_each_class_gives_the_numbers_that_its_flax_class_gave(tmp_path):
    python = os.environ.get("FLAX_PYTHON")
    if python is None:
        pytest.skip("FLAX_PYTHON names no interpreter with transformers 4.57")
    about = json.loads((written(python, tmp_path) / "classes.json").read_text())
    assert not about["failed"]
    names = [name for names in about["classes"].values() for name in names]
    for name in names:
        assert f"`{name}`" in PAGE.read_text()
        for folder in (tmp_path / f"{name}{form}" for form in FORMS):
            if folder.is_dir() and name not in INSTEAD:
                model, difference, compared = compared_with(folder)
                assert model == name.removeprefix("Flax") and compared
                assert difference < 1e-5, name
    assert len(names) > 40
