"""Mask2Former against live `transformers`: every parameter and every statistic perturbed, on a Swin and on a ResNet, f32.

All outputs, the matching, each term of the loss at the same points, the total and the gradient of every parameter agree to 1e-4
of the largest value compared.
"""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import hub
from models.mask2former import Mask2FormerConfig
from objectives.images.mask_prediction import MaskPrediction, evenly
from objectives.images.matching import match
from objectives.losses import IGNORED
from objectives.objective import ratio
from tests.parity.images.comparisons import perturbed_statistics
from tests.parity.reference import difference, gradient_differences, round_trip, torch, transformers

pytest.importorskip("scipy")
HEADS = ["Mask2FormerModel", "Mask2FormerForUniversalSegmentation"]
STAGES = ["stage1", "stage2", "stage3", "stage4"]
POINTS, QUERIES, LABELS = 64, 10, 5
BACKBONES = {
    "swin": lambda: transformers.SwinConfig(
        image_size=64, embed_dim=8, depths=[1, 1, 2, 1], num_heads=[1, 2, 2, 4], window_size=4, out_features=STAGES
    ),
    "resnet": lambda: transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 2, 1], out_features=STAGES
    ),
}
OBJECTIVE = MaskPrediction(num_points=POINTS)


def reference(head: str, backbone: str, **changes):
    shape = dict(feature_size=32, mask_feature_size=32, hidden_dim=32, num_attention_heads=4, num_queries=QUERIES)
    shape |= dict(encoder_feedforward_dim=48, dim_feedforward=64, encoder_layers=2, decoder_layers=5)
    config = transformers.Mask2FormerConfig(
        **{**shape, **changes}, backbone_config=BACKBONES[backbone](), num_labels=LABELS, train_num_points=POINTS
    )
    return perturbed_statistics(head, config)


def pictures() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, 64, 96, 3)).astype(np.float32)


def asked() -> dict[str, np.ndarray]:
    """Two objects in the first picture, one in the second, and room for four."""
    masks = np.zeros((2, 4, 64, 96), np.uint8)
    masks[0, 0, :20, :20] = masks[0, 1, 30:, 30:] = masks[1, 0, 10:50, 10:50] = 1
    labels = np.array([[1, 2, IGNORED, IGNORED], [3, IGNORED, IGNORED, IGNORED]])
    keys = jax.random.split(jax.random.key(5), 2)
    return dict(mask_labels=masks, class_labels=labels, points_key=np.asarray(jax.random.key_data(keys)))


class SamePoints:
    """What `torch.rand` gives their loss: the points that ours draws, in the order in which theirs asks for them.

    Attributes:
        matched: what their matcher found, output by output, the last one's first.
    """

    def __init__(self, model, batch):
        self.asked, self.batch = OBJECTIVE.asked(jax.tree.map(jnp.asarray, batch)), batch
        self.outputs = [model.config.decoder_layers - 1, *range(model.config.decoder_layers - 1)]
        self.matched, self.calls = [], 0
        model.criterion.matcher.register_forward_hook(lambda module, given, found: self.matched.append(found))

    def __call__(self, *shape, device=None):
        images = len(self.asked.key)
        output, call = divmod(self.calls, images + 2)
        self.calls += 1
        keys = [OBJECTIVE.keys(key, self.outputs[output]) for key in self.asked.key]
        if call < images:
            drawn = jax.random.uniform(keys[call][0], (1, POINTS, 2))
        else:
            objects, part = self.batch["class_labels"].shape[1], 1 + call - images
            each = [evenly(its[part], objects, shape[1]) for its in keys]
            drawn = jnp.concatenate([x[target.numpy()] for x, (_, target) in zip(each, self.matched[-1], strict=True)])
        assert drawn.shape == shape
        return torch.tensor(np.asarray(drawn))


def channels_last(x: torch.Tensor) -> np.ndarray:
    return x.detach().numpy().transpose(0, 2, 3, 1)


def outputs_differ(ours, theirs) -> dict[str, float]:
    """{what: difference} of all outputs but those of each layer."""
    found = {
        name: difference(ours[name], getattr(theirs, name))
        for name in ("class_queries_logits", "masks_queries_logits", "transformer_decoder_last_hidden_state")
    }
    for name in ("pixel_decoder_last_hidden_state", "encoder_last_hidden_state"):
        found[name] = difference(ours[name], channels_last(getattr(theirs, name)))
    for level, x in enumerate(theirs.pixel_decoder_hidden_states):
        found[f"level {level}"] = difference(ours["pixel_decoder_hidden_states"][level], channels_last(x))
    for layer, its in enumerate(theirs.auxiliary_logits):
        for name, x in its.items():
            found[f"{name} {layer}"] = difference(ours[f"auxiliary_{name}"][:, layer], x)
    return found


def terms_differ(outputs, batch, expected: dict[str, torch.Tensor]) -> dict[str, float]:
    """{term: difference} of what each output adds to the loss."""
    scores, masks = OBJECTIVE.predictions(outputs)
    terms = OBJECTIVE.terms(scores, masks, OBJECTIVE.asked(batch))
    objects = (batch["class_labels"] != IGNORED).sum()
    weights = objects + OBJECTIVE.no_object_weight * (2 * QUERIES - objects)
    parts = {
        "loss_cross_entropy": OBJECTIVE.class_weight * terms.classes.sum(axis=1) / weights,
        "loss_mask": OBJECTIVE.mask_weight * terms.masks.sum(axis=1) / objects,
        "loss_dice": OBJECTIVE.dice_weight * terms.dice.sum(axis=1) / objects,
    }
    last = len(scores) - 1
    found = {f"{name} {n}": difference(x[n], expected[f"{name}_{n}"]) for name, x in parts.items() for n in range(last)}
    return found | {name: difference(x[last], expected[name]) for name, x in parts.items()}


@pytest.mark.parametrize("backbone", BACKBONES)
def test_outputs_matching_losses_and_gradients(backbone, tmp_path, monkeypatch):
    theirs, batch = reference(HEADS[1], backbone), asked()
    theirs.save_pretrained(tmp_path)
    model, variables = hub.load(tmp_path, freeze_batch_norm=False)
    points, terms, rand = SamePoints(theirs, batch), {}, torch.rand
    counted = theirs.get_loss_dict
    monkeypatch.setattr(theirs, "get_loss_dict", lambda *args, **named: terms.update(counted(*args, **named)) or terms)
    monkeypatch.setattr(torch, "rand", points)
    there = batch["class_labels"] != IGNORED
    expected = theirs(
        pixel_values=torch.tensor(pictures().transpose(0, 3, 1, 2).copy()),
        mask_labels=[torch.tensor(x[y], dtype=torch.float32) for x, y in zip(batch["mask_labels"], there, strict=True)],
        class_labels=[torch.tensor(x[y]) for x, y in zip(batch["class_labels"], there, strict=True)],
        output_hidden_states=True,
        output_auxiliary_logits=True,
    )
    monkeypatch.setattr(torch, "rand", rand)

    def loss(params):
        outputs = model.apply({**variables, "params": params}, jnp.asarray(pictures()))
        losses = OBJECTIVE.loss(outputs, jax.tree.map(jnp.asarray, batch))
        return sum(ratio(*pair) for pair in losses.values()), outputs

    (value, outputs), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
    found = outputs_differ(outputs, expected) | terms_differ(outputs, jax.tree.map(jnp.asarray, batch), terms)
    found["loss"] = difference(value, expected.loss)
    expected.loss.backward()
    found |= gradient_differences(theirs, model, gradients)
    over = {name: error for name, error in found.items() if error > 1e-4}
    assert not over, over
    check_matching(outputs, batch, points)


def check_matching(outputs, batch, points: SamePoints) -> None:
    """Each output's queries are those that their matcher found."""
    scores, masks = OBJECTIVE.predictions(outputs)
    for number, matched in zip(points.outputs, points.matched, strict=True):
        for image, (queries, targets) in enumerate(matched):
            one = jax.tree.map(lambda x, image=image: x[image], points.asked)
            costs = OBJECTIVE.cost(scores[number, image], masks[number, image], one, number)
            ours = np.asarray(match(costs, one.valid))
            assert ours[targets.numpy()].tolist() == queries.tolist()
            assert (ours[batch["class_labels"][image] == IGNORED] == -1).all()


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("head", HEADS)
def test_round_trip_has_no_missing_and_no_unexpected_key(head, backbone, tmp_path):
    round_trip(reference(head, backbone), tmp_path)


def test_features_of_another_width_are_projected(tmp_path):
    theirs = reference(HEADS[1], "resnet", hidden_dim=48)
    round_trip(theirs, tmp_path)
    model, variables = hub.load(tmp_path / "ours")
    expected = theirs(torch.tensor(pictures().transpose(0, 3, 1, 2).copy())).masks_queries_logits
    assert difference(model.apply(variables, jnp.asarray(pictures())).masks_queries_logits, expected) < 1e-4


def test_names_in_memory_are_read_too(tmp_path):
    """`transformers` 5 has other names in memory than in files."""
    from safetensors.torch import save_file

    theirs = reference(HEADS[1], "swin")
    theirs.save_pretrained(tmp_path)
    _, expected = hub.load(tmp_path)
    state = theirs.state_dict()
    assert any(".encoder.swin." in name for name in state)
    save_file({name: x.contiguous() for name, x in state.items()}, tmp_path / "model.safetensors")
    _, found = hub.load(tmp_path)
    assert all(jax.tree.leaves(jax.tree.map(lambda x, y: bool((x == y).all()), found, expected)))
    older = {name: x.contiguous() for name, x in state.items() if "swin.layernorm" not in name}
    save_file(older, tmp_path / "model.safetensors")
    hub.load(tmp_path)


@pytest.mark.parametrize("variant", Mask2FormerConfig.variants)
def test_published_configs(variant):
    ours = Mask2FormerConfig.variant(variant)
    theirs = transformers.Mask2FormerConfig(**json.loads(json.dumps(ours.to_json())))
    assert Mask2FormerConfig.from_json(theirs.to_dict()) == dataclasses.replace(
        ours, backbone_config=type(ours.backbone_config).from_json(theirs.backbone_config.to_dict())
    )


def test_every_head_is_compared():
    assert set(hub.model_classes("mask2former")) == set(HEADS)
