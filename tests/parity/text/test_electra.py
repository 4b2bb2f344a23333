"""ELECTRA against live `transformers`: every parameter perturbed, padding on both sides, segments, f32.

Outputs, hidden states, attentions, losses and the gradient of every parameter agree to 1e-5 of the largest value compared.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import electra, hub
from objectives import MaskedLM, ReplacedTokenDetection
from objectives.losses import IGNORED, cross_entropy
from tests.parity.reference import difference, differences, perturbed, round_trip, tensors, torch, transformers
from tests.parity.text.test_bert import BATCH, LABELS, LENGTH, VOCABULARY, inputs

HEADS = [
    "ElectraModel",
    "ElectraForPreTraining",
    "ElectraForMaskedLM",
    "ElectraForSequenceClassification",
    "ElectraForTokenClassification",
    "ElectraForQuestionAnswering",
    "ElectraForMultipleChoice",
]


def reference(head: str, embedding_size: int = 16, hidden_act: str = "gelu", **changes):
    config = transformers.ElectraConfig(
        vocab_size=VOCABULARY,
        embedding_size=embedding_size,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=40,
        hidden_act=hidden_act,
        num_labels=2 if head == "ElectraForQuestionAnswering" else LABELS,  # start and end
        attn_implementation="eager",
        **changes,
    )
    return perturbed(head, config)


def targets(head: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    tokens = np.where(rng.random((BATCH, LENGTH)) < 0.3, rng.integers(5, VOCABULARY, (BATCH, LENGTH)), IGNORED)
    tokens[:, 8] = 7
    return {
        "ElectraModel": {},
        "ElectraForPreTraining": {"labels": (tokens != IGNORED).astype(np.int64)},
        "ElectraForMaskedLM": {"labels": tokens},
        "ElectraForSequenceClassification": {"labels": rng.integers(0, LABELS, BATCH)},
        "ElectraForTokenClassification": {"labels": np.where(tokens == IGNORED, IGNORED, tokens % LABELS)},
        "ElectraForQuestionAnswering": {
            "start_positions": rng.integers(0, 10, BATCH),
            "end_positions": rng.integers(10, 20, BATCH),
        },
        "ElectraForMultipleChoice": {"labels": np.array([1, 0])},
    }[head]


def our_loss(head: str, outputs, labels):
    """The loss as our objectives give it (sums and weights, divided once)."""

    def mean(pair):
        return pair[0] / pair[1]

    labels = {name: jnp.asarray(value) for name, value in labels.items()}
    if head == "ElectraForPreTraining":
        logits = outputs["logits"]
        asked = {
            "generator_logits": jnp.zeros((BATCH, 1, VOCABULARY)),
            "discriminator_logits": logits,
            "replaced": labels["labels"],
        }
        batch = {"labels": jnp.zeros((BATCH, 1), jnp.int32), "attention_mask": inputs()["attention_mask"]}
        return mean(ReplacedTokenDetection(detection_weight=1.0).loss(asked, batch)["detection_loss"])
    if head == "ElectraForMaskedLM":
        return mean(MaskedLM().loss(outputs, labels)["masked_lm_loss"])
    if head == "ElectraForQuestionAnswering":
        start = mean(cross_entropy(outputs["start_logits"], labels["start_positions"]))
        return (start + mean(cross_entropy(outputs["end_logits"], labels["end_positions"]))) / 2
    if head == "ElectraModel":
        return jnp.sin(outputs["last_hidden_state"]).mean()
    return mean(cross_entropy(outputs["logits"], labels["labels"]))


@pytest.mark.parametrize(
    ("embedding_size", "hidden_act"), [(16, "gelu"), (32, "relu")], ids=["projected embeddings", "as wide, relu"]
)
@pytest.mark.parametrize("head", HEADS)
def test_outputs_losses_and_gradients(head, embedding_size, hidden_act, tmp_path, record_property):
    """The heads that have gelu whatever `hidden_act` is are told from those that do not by relu."""
    labels = targets(head)
    worst, outputs = differences(
        reference(head, embedding_size, hidden_act),
        tmp_path,
        inputs(head),
        (lambda outputs: torch.sin(outputs.last_hidden_state).mean()) if head == "ElectraModel" else labels,
        lambda outputs: our_loss(head, outputs, labels),
    )
    assert outputs - {"last_hidden_state"} <= set(worst)
    record_property("worst", max(worst.values()))
    over = {name: error for name, error in worst.items() if error > 1e-5}
    assert not over, over


@pytest.mark.parametrize(
    ("head", "changes"),
    [
        ("ElectraForMaskedLM", dict(tie_word_embeddings=False)),
        ("ElectraForMultipleChoice", dict(summary_type="mean", summary_activation="tanh")),
        ("ElectraForMultipleChoice", dict(summary_type="last", summary_use_proj=False, summary_activation="linear")),
    ],
    ids=["untied", "mean", "last"],
)
def test_settings(head, changes, tmp_path):
    labels = targets(head)
    worst, _ = differences(
        reference(head, **changes),
        tmp_path / "loaded",
        inputs(head),
        labels,
        lambda outputs: our_loss(head, outputs, labels),
    )
    over = {name: error for name, error in worst.items() if error > 1e-5}
    assert not over, over
    round_trip(reference(head, **changes), tmp_path)


def test_masked_positions_are_the_full_projection_gathered(tmp_path):
    reference("ElectraForMaskedLM").save_pretrained(tmp_path)
    model, variables = hub.load(tmp_path)
    positions = jnp.array([[1, 5, 9], [0, 0, 3], [23, 7, 8], [2, 3, 4]])
    full = model.apply(variables, **inputs()).logits
    some = model.apply(variables, **inputs(), masked_positions=positions).logits
    np.testing.assert_allclose(some, jnp.take_along_axis(full, positions[..., None], axis=1), atol=2e-6)


@pytest.mark.parametrize("embedding_size", [16, 32])
@pytest.mark.parametrize("head", HEADS)
def test_round_trip_has_no_missing_and_no_unexpected_key(head, embedding_size, tmp_path):
    round_trip(reference(head, embedding_size), tmp_path)


@pytest.mark.parametrize("head", HEADS)
def test_a_discriminator_loaded_under_another_head_is_exported_whole(head, tmp_path):
    """What fine-tuning begins with: the body of the published model, and a new head."""
    reference("ElectraForPreTraining").save_pretrained(tmp_path / "theirs")
    model, variables = hub.load(tmp_path / "theirs", architecture=head, initialize=jax.random.key(0))
    hub.save(tmp_path / "ours", model, variables)
    again, info = getattr(transformers, head).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    expected = again.eval()(**tensors(inputs(head)))
    found = model.apply(variables, **inputs(head))
    assert all(difference(found[name], expected[name]) < 1e-5 for name in found if name in expected)


def test_every_head_is_compared():
    ours = set(hub.model_classes("electra"))
    assert ours - {"ElectraForJointPreTraining"} == set(HEADS)


# ── Joint pretraining ────────────────────────────────────────────────────────────────────────────────────────────────


def joint_model(**changes):
    config = electra.ElectraConfig(
        vocab_size=VOCABULARY,
        embedding_size=16,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=40,
        generator_size=0.5,
        **changes,
    )
    model = electra.ElectraForJointPreTraining(config)
    leaves, tree = jax.tree.flatten({"params": hub.unflatten_dict(hub.shapes_of(model), sep="/")})
    rng = np.random.default_rng(2)
    return model, jax.tree.unflatten(tree, [jnp.asarray(rng.normal(size=x.shape) * 0.2, x.dtype) for x in leaves])


def joint_inputs() -> dict[str, jax.Array]:
    arrays = inputs()
    positions = jnp.array([[1, 5, 9], [2, 3, 0], [23, 7, 8], [4, 0, 0]])
    labels = jnp.take_along_axis(arrays["input_ids"], positions, axis=1)
    labels = labels.at[1, 2].set(IGNORED).at[3, 1:].set(IGNORED)
    keys = jax.random.key_data(jax.random.split(jax.random.key(1, impl="threefry2x32"), BATCH))
    return {**arrays, "masked_positions": positions, "labels": labels, "sampling_key": keys}


@pytest.mark.parametrize("scan_layers", [False, True])
def test_the_parts_of_the_joint_model_are_those_of_transformers(scan_layers, tmp_path):
    """Both folders opened by transformers, run as the paper has it, give the outputs of the one pass here."""
    model, variables = joint_model(scan_layers=scan_layers)
    hub.save(tmp_path, model, variables)
    classes = {"": transformers.ElectraForPreTraining, "generator": transformers.ElectraForMaskedLM}
    theirs = {}
    for folder, kind in classes.items():
        theirs[folder], info = kind.from_pretrained(tmp_path / folder, output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
        assert theirs[folder].config.architectures == [kind.__name__]
    arrays = joint_inputs()
    outputs = jax.jit(lambda arrays: model.apply(variables, **arrays))(arrays)
    text = tensors({name: arrays[name] for name in inputs()})
    predicted = theirs["generator"].eval()(**text).logits.detach().numpy()
    positions = np.asarray(arrays["masked_positions"])
    assert difference(outputs.generator_logits, np.take_along_axis(predicted, positions[..., None], axis=1)) < 1e-5
    drawn = np.asarray(electra.sample(arrays["sampling_key"], outputs.generator_logits))
    seen, labels = np.array(arrays["input_ids"]), np.asarray(arrays["labels"])
    replaced = np.zeros(seen.shape, bool)
    for row, slot in zip(*np.nonzero(labels != IGNORED), strict=True):
        seen[row, positions[row, slot]] = drawn[row, slot]
        replaced[row, positions[row, slot]] = drawn[row, slot] != labels[row, slot]
    assert replaced.any()
    np.testing.assert_array_equal(outputs.replaced, replaced)
    judged = theirs[""].eval()(**{**text, "input_ids": torch.tensor(seen, dtype=torch.long)}).logits
    assert difference(outputs.discriminator_logits, judged) < 1e-5
