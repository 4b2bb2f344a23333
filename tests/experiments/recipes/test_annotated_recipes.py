"""Published recipes of annotated texts: model, objective, data and metrics fit one another, without a look at the data."""

import jax
import pytest

from experiments.assembly.assemble import assemble
from experiments.assembly.evaluations import check_metric
from experiments.assembly.shapes import abstract_batch
from experiments.experiment import load

RECIPES = [
    "bert/tag.py:conll2003",
    "distilbert/tag.py:conll2003",
    "bert/answer.py:squad",
    "distilbert/answer.py:squad",
    "bart/answer.py:squad2",
    "bert/choose.py:swag",
]


@pytest.mark.parametrize("reference", RECIPES)
def test_parts_and_metrics_fit(reference):
    recipe = load(f"experiments/{reference}")
    parts = assemble(recipe, data=recipe.data.outline(recipe.vocabulary_size))
    assert len(parts.losses) == 1 and parts.work(0)[0] >= recipe.batch_size * recipe.form(0).length
    example = parts.data.training(parts.form(0), 0)[0]
    seen, _ = abstract_batch(parts.objective, example, 2)
    inputs = {name: seen[name] for name in parts.student.inputs if name in seen}
    outputs, _ = jax.eval_shape(lambda: parts.student.init_with_output(jax.random.key(0), **zeros(inputs)))
    for evaluation in recipe.evaluations:
        for metric in evaluation.metrics:
            check_metric(metric, outputs, seen, evaluation.name)
    figures = [
        figure for evaluation in recipe.evaluations for metric in evaluation.metrics for figure in metric.figures
    ]
    assert recipe.best.figure in figures and recipe.best.more_is_better


def zeros(shapes):
    return jax.tree.map(lambda shape: jax.numpy.zeros(shape.shape, shape.dtype), shapes)
