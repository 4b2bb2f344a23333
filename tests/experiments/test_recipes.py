"""Every recipe of the repository can be made, and the small image models fit their data and objectives."""

import sys
from pathlib import Path

import pytest

from experiments import experiment
from experiments.assemble import assemble
from experiments.experiment import experiments_of, load

ROOT = Path(__file__).parents[2]
RECIPES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "experiments").glob("*/*.py"))
RECIPES = [path for path in RECIPES if "/benchmarks/" not in path and "-> Experiment" in (ROOT / path).read_text()]


def test_the_recipes_are_found():
    assert len(RECIPES) > 14


@pytest.mark.parametrize("path", RECIPES)
def test_every_variant_can_be_made(path):
    first = load(path)
    module = next(m for name, m in sys.modules.items() if name.startswith("experiment_") and m.__file__.endswith(path))
    made = [variant() for variant in experiments_of(module, module.__name__).values()]
    assert made[0] == first and len({one.name for one in made}) == len(made)
    assert all(isinstance(one, experiment.Experiment) for one in made)


@pytest.mark.parametrize("name", ["vit", "vit:masked_digits", "convnext", "cvt", "levit", "resnet"])
def test_small_image_models_fit_their_data(name):
    folder, _, variant = name.partition(":")
    recipe = load(f"experiments/{folder}/pretrain.py:{variant}".rstrip(":"))
    parts = assemble(recipe, data=recipe.data.outline(recipe.vocabulary_size))
    assert len(parts.losses) == 1 and parts.work(0)[0] == recipe.batch_size
