"""BERT against live `transformers`: every parameter perturbed, padding on both sides, segments, f32.

Outputs, hidden states, attentions, losses and the gradient of every parameter agree to 1e-5 of the largest value compared.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import bert, hub
from objectives import AnswerSpan, Classification, MaskedLM, NextSentence, Sum
from objectives.losses import IGNORED
from tests.parity.reference import difference, differences, perturbed, round_trip, tensors, torch, transformers

BATCH, LENGTH, VOCABULARY, LABELS = 4, 24, 99, 5
HEADS = [
    "BertModel",
    "BertForPreTraining",
    "BertForMaskedLM",
    "BertForNextSentencePrediction",
    "BertForSequenceClassification",
    "BertForTokenClassification",
    "BertForQuestionAnswering",
    "BertForMultipleChoice",
]


def reference(head: str, hidden_act: str = "gelu", tied: bool = True):
    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=40,
        hidden_act=hidden_act,
        tie_word_embeddings=tied,
        num_labels=2 if head == "BertForQuestionAnswering" else LABELS,  # start and end
        attn_implementation="eager",
    )
    return perturbed(head, config)


def inputs(head: str = "BertModel") -> dict[str, jax.Array]:
    """Padding on the right, on the left, and none; two segments; positions of their own in the last row. For a choice, the
    rows two by two."""
    rng = np.random.default_rng(0)
    mask = np.ones((BATCH, LENGTH), np.int32)
    mask[1, 15:] = 0
    mask[2, :6] = 0
    positions = np.tile(np.arange(LENGTH, dtype=np.int32), (BATCH, 1))
    positions[2] = np.maximum(positions[2] - 6, 0)
    positions[3] = positions[3][::-1] + 9
    arrays = {
        "input_ids": rng.integers(5, VOCABULARY, (BATCH, LENGTH)),
        "attention_mask": mask,
        "token_type_ids": (np.arange(LENGTH) >= 10)[None].repeat(BATCH, 0),
        "position_ids": positions,
    }
    shape = (BATCH // 2, 2, LENGTH) if head.endswith("MultipleChoice") else (BATCH, LENGTH)
    return {name: jnp.asarray(value, jnp.int32).reshape(shape) for name, value in arrays.items()}


def targets(head: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    tokens = np.where(rng.random((BATCH, LENGTH)) < 0.3, rng.integers(5, VOCABULARY, (BATCH, LENGTH)), IGNORED)
    tokens[:, 8] = 7
    follows = np.array([0, 1, 1, 0])
    return {
        "BertModel": {},
        "BertForPreTraining": {"labels": tokens, "next_sentence_label": follows},
        "BertForMaskedLM": {"labels": tokens},
        "BertForNextSentencePrediction": {"labels": follows},
        "BertForSequenceClassification": {"labels": rng.integers(0, LABELS, BATCH)},
        "BertForTokenClassification": {"labels": np.where(tokens == IGNORED, IGNORED, tokens % LABELS)},
        "BertForQuestionAnswering": {
            "start_positions": rng.integers(0, 10, BATCH),
            "end_positions": rng.integers(10, 20, BATCH),
        },
        "BertForMultipleChoice": {"labels": np.array([1, 0])},
    }[head]


def our_loss(head: str, outputs, labels):
    """The loss as our objectives give it (sums and weights, divided once)."""

    def mean(pair):
        return pair[0] / pair[1]

    labels = {name: jnp.asarray(value) for name, value in labels.items()}
    if head == "BertForPreTraining":
        return sum(map(mean, Sum(MaskedLM(), NextSentence()).loss(outputs, labels).values()))
    if head == "BertForMaskedLM":
        return mean(MaskedLM().loss(outputs, labels)["masked_lm_loss"])
    if head == "BertForNextSentencePrediction":
        return mean(NextSentence().loss(outputs, {"next_sentence_label": labels["labels"]})["next_sentence_loss"])
    if head == "BertForQuestionAnswering":
        return mean(AnswerSpan().loss(outputs, labels)["span_loss"])
    if head == "BertModel":
        return jnp.sin(outputs["last_hidden_state"]).mean() + outputs["pooler_output"].mean()
    return mean(Classification().loss(outputs, labels)["classification_loss"])


@pytest.mark.parametrize(
    ("head", "hidden_act", "tied"),
    [
        *((head, hidden_act, True) for head in HEADS for hidden_act in ("gelu", "gelu_new")),
        ("BertForPreTraining", "quick_gelu", False),
    ],
)
def test_outputs_losses_and_gradients(head, hidden_act, tied, tmp_path, record_property):
    labels = targets(head)

    def their_loss(outputs):
        return torch.sin(outputs.last_hidden_state).mean() + outputs.pooler_output.mean()

    worst, outputs = differences(
        reference(head, hidden_act, tied),
        tmp_path,
        inputs(head),
        their_loss if head == "BertModel" else labels,
        lambda outputs: our_loss(head, outputs, labels),
    )
    assert outputs - {"last_hidden_state", "pooler_output"} <= set(worst)
    record_property("worst", max(worst.values()))
    over = {name: error for name, error in worst.items() if error > 1e-5}
    assert not over, over


@pytest.mark.parametrize("head", ["BertForPreTraining", "BertForMaskedLM"])
def test_masked_positions_are_the_full_projection_gathered(head, tmp_path):
    reference(head).save_pretrained(tmp_path)
    model, variables = hub.load(tmp_path)
    positions = jnp.array([[1, 5, 9], [0, 0, 3], [23, 7, 8], [2, 3, 4]])
    name = "prediction_logits" if head == "BertForPreTraining" else "logits"
    full = model.apply(variables, **inputs())[name]
    some = model.apply(variables, **inputs(), masked_positions=positions)[name]
    np.testing.assert_allclose(some, jnp.take_along_axis(full, positions[..., None], axis=1), atol=2e-6)


@pytest.mark.parametrize("head", HEADS)
def test_round_trip_has_no_missing_and_no_unexpected_key(head, tmp_path):
    round_trip(reference(head), tmp_path)


def test_round_trip_of_a_head_of_its_own(tmp_path):
    """But for the bias that nobody reads, which is written as the one that is."""
    theirs = reference("BertForMaskedLM", tied=False)
    with torch.no_grad():
        theirs.cls.predictions.bias.copy_(theirs.cls.predictions.decoder.bias)
    round_trip(theirs, tmp_path)


@pytest.mark.parametrize("head", HEADS[:-1])  # choices have no labels, but a head of the same name
def test_a_body_loaded_under_another_head_is_exported_whole(head, tmp_path):
    """The labels of the file it came from must not shape a head that has none."""
    reference("BertForSequenceClassification").save_pretrained(tmp_path / "theirs")
    model, variables = hub.load(tmp_path / "theirs", architecture=head, initialize=jax.random.key(0))
    hub.save(tmp_path / "ours", model, variables)
    again, info = getattr(transformers, head).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    expected = again.eval()(**tensors(inputs(head)))
    found = model.apply(variables, **inputs(head))
    assert all(difference(found[name], expected[name]) < 1e-5 for name in found if name in expected)


@pytest.mark.parametrize("form", ["sharded", "bfloat16", "gamma and beta", "with aliases"])
def test_other_forms_of_the_same_folder(form, tmp_path):
    theirs = reference("BertForPreTraining")
    if form == "sharded":
        theirs.save_pretrained(tmp_path, max_shard_size="20KB")
        assert len(list(tmp_path.glob("*.safetensors"))) > 2
    elif form == "bfloat16":
        theirs = theirs.to(torch.bfloat16)
        theirs.save_pretrained(tmp_path)
        theirs = theirs.float()
    else:
        from safetensors.torch import save_file

        theirs.save_pretrained(tmp_path)
        state = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
        if form == "gamma and beta":
            state = {
                name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
                for name, tensor in state.items()
            }
        save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    model, variables = hub.load(tmp_path)
    expected = theirs(**tensors(inputs()))
    outputs = model.apply(variables, **inputs())
    assert difference(outputs.prediction_logits, expected.prediction_logits) < 1e-5


def test_bfloat16_compute_is_close(tmp_path):
    theirs = reference("BertForPreTraining")
    theirs.save_pretrained(tmp_path)
    model, variables = hub.load(tmp_path, dtype="bfloat16")
    outputs = model.apply(variables, **inputs())
    assert outputs.prediction_logits.dtype == jnp.bfloat16
    exact = type(model)(dataclasses.replace(model.config, dtype="float32")).apply(variables, **inputs())
    error = np.abs(np.asarray(outputs.prediction_logits, np.float32) - exact.prediction_logits).max()
    assert 0 < error / np.abs(exact.prediction_logits).max() < 0.05


def test_every_head_is_compared():
    ours = {name for name in vars(bert) if name.startswith("Bert") and ("For" in name or name == "BertModel")}
    assert ours == set(HEADS)
