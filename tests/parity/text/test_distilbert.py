"""DistilBERT against live `transformers`: every parameter perturbed, padding on both sides, positions of their own, f32.

Outputs, hidden states, attentions, losses and the gradient of every parameter agree to 1e-5 of the largest value compared.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import distilbert, hub
from tests.parity.reference import difference, differences, perturbed, round_trip, tensors, torch, transformers
from tests.parity.text import test_bert

HEADS = [
    "DistilBertModel",
    "DistilBertForMaskedLM",
    "DistilBertForSequenceClassification",
    "DistilBertForTokenClassification",
    "DistilBertForQuestionAnswering",
    "DistilBertForMultipleChoice",
]


def reference(head: str, **changes):
    config = transformers.DistilBertConfig(
        vocab_size=test_bert.VOCABULARY,
        dim=32,
        n_layers=3,
        n_heads=4,
        hidden_dim=64,
        max_position_embeddings=40,
        num_labels=2 if head.endswith("QuestionAnswering") else test_bert.LABELS,  # start and end
        attn_implementation="eager",
        **changes,
    )
    return perturbed(head, config)


def inputs(head: str = "DistilBertModel") -> dict[str, jax.Array]:
    """BERT's, without the segments; for a choice without positions, which `transformers` forgets to flatten (5.24)."""
    left = {"token_type_ids"} | ({"position_ids"} if head.endswith("MultipleChoice") else set())
    return {name: value for name, value in test_bert.inputs(head).items() if name not in left}


@pytest.mark.parametrize("head", HEADS)
def test_outputs_losses_and_gradients(head, tmp_path, record_property):
    of_bert = head.removeprefix("Distil")
    labels = test_bert.targets(of_bert)

    def our_loss(outputs):
        if head == "DistilBertModel":
            return jnp.sin(outputs["last_hidden_state"]).mean()
        return test_bert.our_loss(of_bert, outputs, labels)

    def their_loss(outputs):
        return torch.sin(outputs.last_hidden_state).mean()

    worst, outputs = differences(
        reference(head), tmp_path, inputs(head), their_loss if head == "DistilBertModel" else labels, our_loss
    )
    assert outputs - {"last_hidden_state"} <= set(worst) and {"hidden_states", "attentions"} <= set(worst)
    record_property("worst", max(worst.values()))
    over = {name: error for name, error in worst.items() if error > 1e-5}
    assert not over, over


def test_a_head_of_its_own(tmp_path):
    head, labels = "DistilBertForMaskedLM", test_bert.targets("BertForMaskedLM")
    theirs = reference(head, tie_word_embeddings=False, activation="relu")
    worst, _ = differences(
        theirs,
        tmp_path / "loaded",
        inputs(),
        labels,
        lambda outputs: test_bert.our_loss("BertForMaskedLM", outputs, labels),
    )
    over = {name: error for name, error in worst.items() if error > 1e-5}
    assert not over, over
    round_trip(theirs, tmp_path)


def test_masked_positions_are_the_full_projection_gathered(tmp_path):
    reference("DistilBertForMaskedLM").save_pretrained(tmp_path)
    model, variables = hub.load(tmp_path)
    positions = jnp.array([[1, 5, 9], [0, 0, 3], [23, 7, 8], [2, 3, 4]])
    full = model.apply(variables, **inputs()).logits
    some = model.apply(variables, **inputs(), masked_positions=positions).logits
    np.testing.assert_allclose(some, jnp.take_along_axis(full, positions[..., None], axis=1), atol=2e-6)


@pytest.mark.parametrize("head", HEADS)
def test_round_trip_has_no_missing_and_no_unexpected_key(head, tmp_path):
    round_trip(reference(head), tmp_path)


@pytest.mark.parametrize("head", HEADS[:-1])  # choices have no labels, but a head of the same name
def test_a_body_loaded_under_another_head_is_exported_whole(head, tmp_path):
    """The labels of the file it came from must not shape a head that has none."""
    reference("DistilBertForSequenceClassification").save_pretrained(tmp_path / "theirs")
    model, variables = hub.load(tmp_path / "theirs", architecture=head, initialize=jax.random.key(0))
    hub.save(tmp_path / "ours", model, variables)
    again, info = getattr(transformers, head).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    expected = again.eval()(**tensors(inputs(head)))
    found = model.apply(variables, **inputs(head))
    assert all(difference(found[name], expected[name]) < 1e-5 for name in found if name in expected)


def test_every_head_is_compared():
    ours = {name for name in vars(distilbert) if name.startswith("DistilBert") and ("For" in name or "Model" in name)}
    assert ours == set(HEADS)
