"""Little of the batches that the recipes of fine-tuning train on is padding, at the lengths that sentences have."""

import re
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import pytest

from data.forms import PairForm
from data.ragged import Buckets
from experiments.experiment import load
from tests.experiments.recipes.test_recipes import RECIPES, variants

SENTENCES = [sentence for _, text in sorted(topics.items()) for sentence in re.split(r"(?<=[.:])\s+", text)]
TUNING = ("answer", "choose", "classify", "glue", "summarise", "tag", "translate")


def lengths(limits: tuple[int, ...]) -> np.ndarray:
    """Sizes of texts, or of pairs, as the longer sentences of Python's documentation have them, the median a third of the limit;
    of a pair the second is some tenths longer or shorter."""
    sizes = np.array([len(re.findall(r"\w+|[^\w\s]", sentence)) for sentence in SENTENCES if sentence])
    sizes = np.tile(sizes[sizes >= 8], 16)
    random = np.random.default_rng(0)
    sides = [
        sizes / np.median(sizes) * limit / 3 * np.exp(random.normal(0, 0.15 * n, len(sizes)))
        for n, limit in enumerate(limits)
    ]
    return np.clip(np.stack(sides, axis=1), 3, limits).astype(np.int64)


@pytest.mark.parametrize(
    "reference",
    [each for file in RECIPES if Path(file).stem in TUNING for each in variants(file) if not each.endswith(":genres")],
)
def test_less_than_15_percent_is_padding(reference):
    """But for passages by genre, which are all as long as the model reads."""
    recipe = load(reference)
    for phase in range(len(recipe.phases)):
        form = recipe.form(phase)
        sizes = lengths(form.lengths)
        buckets = Buckets.of(sizes, form.buckets, form.together)
        assert len(buckets.lengths) <= 16 and len(form.lengths) == (2 if isinstance(form, PairForm) else 1)
        batches = buckets.order(0, 0)[: len(sizes) // form.together * form.together].reshape(-1, form.together)
        places = sum(form.together * sum(buckets.holding(batch)) for batch in batches)
        assert 1 - sizes[batches].sum() / places < 0.15, buckets.lengths
