"""A model of depth that begins with an encoder that was trained to classify: its layers, and a fresh decoder."""

import dataclasses

import flax.linen as nn
import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from experiments.assembly.assemble import assemble
from experiments.experiment import ExperimentError, load
from models import hub
from models.segformer import SegformerConfig, SegformerForImageClassification


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A published folder of another shape than the recipe's."""
    folder = tmp_path_factory.mktemp("classifier")
    shape = dict(hidden_sizes=(4, 4, 6, 8), num_attention_heads=(1, 1, 2, 2), depths=(1, 1, 1, 2))
    model = SegformerForImageClassification(SegformerConfig(**shape, labels=("a", "b", "c")))
    variables = jax.jit(lambda: nn.unbox(model.init(jax.random.key(0), **model.blank())))()
    hub.save(folder, model, variables)
    return folder, flatten_dict(variables["params"], sep="/")


def test_its_encoder_is_the_classifiers(classifier, tmp_path):
    folder, published = classifier
    recipe = load("experiments/glpn/pretrain.py")
    recipe = dataclasses.replace(recipe, initial_model=str(folder), folder=str(tmp_path))
    assembly = assemble(recipe, data=recipe.data.suited_to("glpn").outline(0))
    assert assembly.experiment.model.hidden_sizes == (4, 4, 6, 8) and assembly.experiment.model.depths == (1, 1, 1, 2)
    found = flatten_dict(assembly.published_variables()["params"], sep="/")
    taken = {path for path in found if path.startswith("encoder/")}
    assert taken == {path for path in published if path.startswith("encoder/")}
    for path in taken:
        np.testing.assert_array_equal(found[path], published[path], err_msg=path)
    assert found.keys() - taken and not any("classifier" in path for path in found)


def test_another_model_is_refused(classifier, tmp_path):
    recipe = load("experiments/cvt/pretrain.py")
    recipe = dataclasses.replace(recipe, initial_model=str(classifier[0]), folder=str(tmp_path))
    with pytest.raises(ExperimentError, match="holds a segformer, and the experiment trains a cvt"):
        assemble(recipe, data=recipe.data.outline(10))
