"""LeViT against live `transformers`: every parameter and every statistic perturbed, evaluation and training, f32.

Outputs, hidden states, loss, the gradient of every parameter and the running statistics afterwards agree to 1e-5 of the
largest value compared. In training batch norms divide by the spread of few numbers: there outputs agree to 1e-4 and
gradients to 5e-4, when torch's own float32 is 2e-5 and 1.5e-4 away from its float64.
"""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from models import hub
from models.levit import LevitConfig
from objectives.losses import cross_entropy
from tests.parity.images.comparisons import image_differences, perturbed_statistics
from tests.parity.reference import difference, round_trip, torch, transformers

BATCH, LABELS = 6, 7
HEADS = ["LevitModel", "LevitForImageClassification", "LevitForImageClassificationWithTeacher"]
CHANGES = {
    "published": {"depths": [2, 1, 2]},
    "others": {
        "image_size": 80,
        "num_channels": 1,
        "depths": [1, 2, 1],
        "key_dim": [8, 4, 16],
        "attention_ratio": [2, 3, 1],
        "mlp_ratio": [2, 1, 3],
    },
}


def reference(head: str, changes: str = "published"):
    """A config of its own: a model adds to that which it is made from. It is perturbed before it looks up any bias."""
    shape = dict(image_size=112, hidden_sizes=[32, 48, 64], num_attention_heads=[2, 3, 4], key_dim=[8, 8, 8])
    return perturbed_statistics(head, transformers.LevitConfig(**{**shape, **CHANGES[changes]}, num_labels=LABELS))


def images(changes: str = "published") -> np.ndarray:
    size, channels = CHANGES[changes].get("image_size", 112), CHANGES[changes].get("num_channels", 3)
    return np.random.default_rng(0).normal(size=(BATCH, size, size, channels)).astype(np.float32)


def loss_of(head: str):
    """(ours, theirs, labels)."""
    if head == "LevitForImageClassification":

        def ours(outputs):
            amount, weight = cross_entropy(outputs["logits"], jnp.arange(BATCH))
            return amount / weight

        return ours, None, np.arange(BATCH)
    of_base = head == "LevitModel"
    names = ("last_hidden_state", "pooler_output") if of_base else ("cls_logits", "distillation_logits")

    def squares(outputs):
        return sum((i * outputs[name] ** 2).mean() for i, name in enumerate(names, start=1))

    return squares, squares, None


@pytest.mark.parametrize(
    ("head", "changes", "training"),
    [
        ("LevitModel", "published", False),
        ("LevitForImageClassification", "published", True),
        ("LevitForImageClassification", "others", True),
        ("LevitForImageClassificationWithTeacher", "published", False),
    ],
)
def test_outputs_losses_gradients_and_statistics(head, changes, training, tmp_path):
    our_loss, their_loss, labels = loss_of(head)
    found, outputs = image_differences(
        reference(head, changes).train(training),
        tmp_path,
        images(changes),
        labels,
        our_loss,
        their_loss,
        inputs={"batch_axes": () if training else None},
        scan_layers=True,
    )
    wanted = {"LevitModel": {"pooler_output", "last_hidden_state"}, HEADS[1]: {"logits"}}
    teacher = {"logits", "cls_logits", "distillation_logits"}
    assert {"hidden_states", "loss"} | wanted.get(head, teacher) <= set(found)
    assert len(outputs.hidden_states) == 4
    most = {True: 5e-4, False: 1e-4} if training else {True: 1e-5, False: 1e-5}
    over = {name: error for name, error in found.items() if error > most[name.startswith("gradient")]}
    assert not over, over


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("changes", CHANGES)
def test_round_trip_has_no_missing_and_no_unexpected_key(head, changes, tmp_path):
    round_trip(reference(head, changes), tmp_path)


def test_a_drop_path_rate_of_a_fraction_goes_where_transformers_does_not_trip_over_it(tmp_path):
    theirs = reference(HEADS[1])
    theirs.save_pretrained(tmp_path / "theirs")
    model, variables = hub.load(tmp_path / "theirs", drop_path_rate=0.1)
    hub.save(tmp_path / "ours", model, variables)
    again = transformers.LevitForImageClassification.from_pretrained(tmp_path / "ours")
    assert again.config.drop_path_rate == 0
    pixels = torch.tensor(images().transpose(0, 3, 1, 2).copy())
    assert difference(again.eval()(pixels).logits.detach(), theirs(pixels).logits) == 0
    assert hub.load(tmp_path / "ours")[0].config == model.config


def test_one_head_can_be_taken_of_two(tmp_path):
    theirs = reference("LevitForImageClassificationWithTeacher")
    theirs.save_pretrained(tmp_path)
    model, variables = hub.load(tmp_path, architecture="LevitForImageClassification")
    expected = theirs(torch.tensor(images().transpose(0, 3, 1, 2).copy())).cls_logits
    assert difference(model.apply(variables, jnp.asarray(images())).logits, expected) < 1e-5


def test_the_default_config_is_theirs():
    theirs = transformers.LevitConfig(num_labels=1000).to_dict()
    assert LevitConfig.from_json(theirs) == LevitConfig.levit_128()
    assert transformers.LevitConfig(**json.loads(json.dumps(LevitConfig.levit_128().to_json()))).to_dict() == theirs


@pytest.mark.parametrize("variant", LevitConfig.variants)
def test_published_shapes_are_those_of_transformers(variant):
    """Counted on no device: every name of ours is one of theirs, in the same shape."""
    config = LevitConfig.variant(variant)
    published = transformers.LevitConfig(**json.loads(json.dumps(config.to_json())))
    with torch.device("meta"):
        theirs = transformers.LevitForImageClassificationWithTeacher(published)
    expected = {name: tuple(x.shape) for name, x in theirs.state_dict().items() if "num_batches" not in name}
    model = hub.model_class("levit", HEADS[2])(config)
    found, shapes = {}, hub.shapes_of(model)
    for path, name in hub.names_of(config).by_ours(shapes).items():
        shape = shapes[path].shape
        for layer in range(shape[0]) if name.layered else [None]:
            of_one = np.empty(shape if layer is None else shape[1:], np.float16)
            found[name.published if layer is None else name.of_layer(layer)] = name.publish(of_one).shape
    assert found == expected


def test_every_head_is_compared():
    assert set(hub.model_classes("levit")) == set(HEADS)
