"""DETR against live `transformers`: every parameter and every statistic perturbed, pictures of two sizes in one batch, f32.

`transformers` with `auxiliary_loss=True` is another network than the paper's (its decoder goes on with the norm of each layer's
output), so outputs of layers before the last are held against the norm and the heads applied to the states of its plain model.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import hub
from objectives.images.set_prediction import SetPrediction
from objectives.losses import IGNORED
from tests.parity.images.comparisons import perturbed_statistics
from tests.parity.reference import difference, gradient_differences, round_trip, torch, transformers

HEADS = ["DetrModel", "DetrForObjectDetection", "DetrForSegmentation"]
SHAPE = dict(
    use_timm_backbone=False,
    d_model=32,
    encoder_layers=2,
    decoder_layers=3,
    encoder_attention_heads=8,
    decoder_attention_heads=4,
    encoder_ffn_dim=48,
    decoder_ffn_dim=40,
    num_queries=7,
    num_labels=5,
)
STAGES = ["stage1", "stage2", "stage3", "stage4"]
OUTPUTS = {
    "DetrModel": {"last_hidden_state", "encoder_last_hidden_state"},
    "DetrForObjectDetection": {"logits", "pred_boxes"},
    "DetrForSegmentation": {"logits", "pred_boxes", "pred_masks"},
}
TUPLES = (
    "encoder_hidden_states",
    "decoder_hidden_states",
    "encoder_attentions",
    "decoder_attentions",
    "cross_attentions",
)


def config(**changes):
    backbone = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 12, 16, 24], depths=[1, 2, 1, 1], out_features=STAGES
    )
    return transformers.DetrConfig(backbone_config=backbone, attn_implementation="eager", **{**SHAPE, **changes})


@functools.cache
def reference(head: str):
    """Its backbone's batch norms are buffers; that of the test are gradients of all other parameters."""
    model = perturbed_statistics(head, config())
    generator = torch.Generator().manual_seed(2)
    for name, buffer in model.named_buffers():
        if name.endswith((".weight", ".bias")):
            buffer.add_(torch.randn(buffer.shape, generator=generator) * 0.1)
    return model.requires_grad_(True)


def pictures() -> tuple[np.ndarray, np.ndarray]:
    """Of 72 × 100 pixels, the second one 50 × 61 in the same canvas."""
    values = np.random.default_rng(0).normal(size=(2, 72, 100, 3)).astype(np.float32)
    mask = np.ones((2, 72, 100), np.int32)
    mask[1, 50:], mask[1, :, 61:] = 0, 0
    return (values * mask[..., None]).astype(np.float32), mask


def objects(count: int = 4) -> dict[str, np.ndarray]:
    """Of the first picture three, of the second one, padded to `count`, with masks."""
    rng = np.random.default_rng(1)
    labels = np.full((2, count), IGNORED, np.int32)
    labels[0, :3], labels[1, 0] = [1, 4, 1], 2
    boxes = np.concatenate([rng.random((2, count, 2)) * 0.6 + 0.2, rng.random((2, count, 2)) * 0.3 + 0.1], -1)
    masks = (rng.random((2, count, 72, 100)) < 0.3).astype(np.uint8)
    there = labels != IGNORED
    boxes, masks = boxes * there[..., None], masks * there[..., None, None]
    return {"class_labels": labels, "boxes": boxes.astype(np.float32), "mask_labels": masks.astype(np.uint8)}


def their_labels(given: dict[str, np.ndarray]) -> list[dict]:
    rows = []
    for labels, boxes, masks in zip(given["class_labels"], given["boxes"], given["mask_labels"], strict=True):
        there = labels != IGNORED
        rows.append(
            dict(
                class_labels=torch.tensor(labels[there], dtype=torch.long),
                boxes=torch.tensor(boxes[there]),
                masks=torch.tensor(masks[there], dtype=torch.float32),
            )
        )
    return rows


def run_theirs(model, **more):
    values, mask = pictures()
    images = torch.tensor(values.transpose(0, 3, 1, 2).copy())
    return model(pixel_values=images, pixel_mask=torch.tensor(mask).long(), **more)


def ours(head: str, folder):
    reference(head).save_pretrained(folder)
    return hub.load(folder)


def plain_loss(outputs) -> object:
    """Of the model without heads, in either library."""
    sine = torch.sin if isinstance(outputs["last_hidden_state"], torch.Tensor) else jnp.sin
    return sine(outputs["last_hidden_state"]).mean() + sine(outputs["encoder_last_hidden_state"]).mean()


@pytest.mark.parametrize("head", HEADS)
def test_outputs_losses_and_gradients(head, tmp_path):
    theirs, (model, variables) = reference(head), ours(head, tmp_path)
    theirs.zero_grad()
    labelled = head != "DetrModel"
    more = dict(labels=their_labels(objects())) if labelled else {}
    expected = run_theirs(theirs, output_hidden_states=True, output_attentions=True, **more)
    objective = SetPrediction(auxiliary=False, masks=head == "DetrForSegmentation")
    values, mask = map(jnp.asarray, pictures())
    given = jax.tree.map(jnp.asarray, objects())

    def loss(params):
        outputs = model.apply(
            {**variables, "params": params}, values, mask, output_hidden_states=True, output_attentions=True
        )
        losses = objective.losses(objective.loss(outputs, given)) if labelled else {"": plain_loss(outputs)}
        return sum(losses.values()), (outputs, losses)

    (value, (outputs, losses)), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
    assert OUTPUTS[head] <= set(outputs) and set(TUPLES) <= set(outputs)
    found = {name: difference(outputs[name], getattr(expected, name)) for name in OUTPUTS[head]}
    for name in TUPLES:
        found[name] = difference(outputs[name], torch.stack(getattr(expected, name)))
    total = expected.loss if labelled else plain_loss(expected)
    found["loss"] = difference(value, total)
    if labelled:
        weights = dict(class_loss=("loss_ce", 1), box_loss=("loss_bbox", 5), giou_loss=("loss_giou", 2))
        weights |= dict(mask_loss=("loss_mask", 1), dice_loss=("loss_dice", 1)) if objective.masks else {}
        assert set(losses) == set(weights)
        for name, (its, weight) in weights.items():
            found[name] = difference(losses[name], weight * expected.loss_dict[its])
    total.backward()
    frozen = {name for name, _ in theirs.named_buffers()}
    gradients = gradient_differences(theirs, model, gradients)
    assert not {name for name, error in gradients.items() if name.split()[-1] in frozen and error}
    over = {name: error for name, error in (found | gradients).items() if error > 1e-4}
    assert not over, over


@pytest.mark.parametrize("head", HEADS)
def test_round_trip_has_no_missing_and_no_unexpected_key(head, tmp_path):
    round_trip(reference(head), tmp_path)


def test_layers_before_the_last_are_the_papers(tmp_path):
    theirs, (model, variables) = reference("DetrForObjectDetection"), ours("DetrForObjectDetection", tmp_path)
    found = model.apply(variables, *map(jnp.asarray, pictures()))
    with torch.no_grad():
        states = run_theirs(theirs, output_hidden_states=True).decoder_hidden_states
        normed = [theirs.model.decoder.layernorm(state) for state in states[1:-1]]
        logits = torch.stack([theirs.class_labels_classifier(state) for state in normed], 1)
        boxes = torch.stack([theirs.bbox_predictor(state).sigmoid() for state in normed], 1)
    assert found.auxiliary_logits.shape == (2, 2, 7, 6)
    assert difference(found.auxiliary_logits, logits) < 1e-4
    assert difference(found.auxiliary_boxes, boxes) < 1e-4

    other = transformers.DetrForObjectDetection(config(auxiliary_loss=True)).eval()
    other.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        assert difference(found.logits, run_theirs(other).logits) > 1e-2  # another network: see the top of this file


def test_matching_and_losses_of_every_layer(tmp_path):
    """The losses of `transformers` on our outputs, layer by layer, its auxiliary ones among them."""
    from transformers.loss.loss_for_object_detection import ForObjectDetectionLoss, HungarianMatcher

    model, variables = ours("DetrForObjectDetection", tmp_path)
    outputs = model.apply(variables, *map(jnp.asarray, pictures()))
    given, objective = jax.tree.map(jnp.asarray, objects()), SetPrediction()
    tensors = {name: torch.tensor(np.asarray(outputs[name])) for name in ("logits", "pred_boxes")}
    logits, boxes = (
        torch.tensor(np.concatenate([outputs[f"auxiliary_{name}"], outputs[last][:, None]], 1)).swapaxes(0, 1)
        for name, last in (("logits", "logits"), ("boxes", "pred_boxes"))
    )
    settings = config(auxiliary_loss=True)
    total, terms, _ = ForObjectDetectionLoss(
        tensors["logits"], their_labels(objects()), "cpu", tensors["pred_boxes"], settings, logits, boxes
    )
    losses = objective.losses(objective.loss(outputs, given))
    assert difference(sum(losses.values()), total) < 1e-4
    for name, (its, weight) in dict(
        class_loss=("loss_ce", 1), box_loss=("loss_bbox", 5), giou_loss=("loss_giou", 2)
    ).items():
        assert difference(losses[name], weight * terms[its]) < 1e-4
        before = sum(terms[f"{its}_{number}"] for number in range(2))
        assert difference(losses[f"auxiliary_{name}"], weight * before) < 1e-4
    assert difference(objective.metrics(outputs, given)["cardinality_error"][0] / 2, terms["cardinality_error"]) < 1e-6

    matcher = HungarianMatcher(class_cost=1, bbox_cost=5, giou_cost=2)
    of_layers = objective.matched(
        *(jnp.asarray(x.swapaxes(0, 1).numpy()) for x in (logits, boxes)),
        given["class_labels"],
        given["boxes"],
    )
    for layer in range(3):
        pairs = matcher({"logits": logits[layer], "pred_boxes": boxes[layer]}, their_labels(objects()))
        for row, (queries, its_objects) in enumerate(pairs):
            expected = np.full(4, -1)
            expected[its_objects.numpy()] = queries.numpy()
            np.testing.assert_array_equal(of_layers[row, layer], expected)


@pytest.mark.parametrize("empty", [[0], [0, 1]], ids=["one picture", "all"])
def test_pictures_without_objects(empty, tmp_path):
    theirs, (model, variables) = reference("DetrForObjectDetection"), ours("DetrForObjectDetection", tmp_path)
    given = objects()
    given["class_labels"][empty] = IGNORED
    given["boxes"][empty] = 0
    labels, given = their_labels(given), jax.tree.map(jnp.asarray, given)
    objective = SetPrediction(auxiliary=False)
    outputs = model.apply(variables, *map(jnp.asarray, pictures()))
    found = sum(objective.losses(objective.loss(outputs, given)).values())
    with torch.no_grad():
        assert difference(found, run_theirs(theirs, labels=labels).loss) < 1e-4


def test_every_head_is_compared():
    assert set(hub.model_classes("detr")) == set(HEADS)
