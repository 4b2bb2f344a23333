"""BART against live `transformers`: every parameter perturbed, padding on both sides, with and without a cache, f32.

Outputs, hidden states, attentions, losses and the gradient of every parameter agree to 1e-5 of the largest value compared.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from models import bart
from models.encoder_decoder.inputs import shift_tokens_right
from tests.parity.reference import round_trip, torch
from tests.parity.text.encoder_decoders import TARGET, compare, compare_decoding, compare_defaults, reference

modeling_bart = pytest.importorskip("transformers.models.bart.modeling_bart")

HEADS = ["BartModel", "BartForConditionalGeneration", "BartForSequenceClassification", "BartForQuestionAnswering"]
PADDINGS = [("right", "right"), ("right", "left"), ("left", "right")]
"""Of the text that is read, and of the one that is written."""


@pytest.mark.parametrize(
    ("head", "source", "target"),
    [
        ("BartModel", "left", "left"),
        *(("BartForConditionalGeneration", *paddings) for paddings in PADDINGS),
        ("BartForSequenceClassification", "right", "right"),
        ("BartForQuestionAnswering", "left", "none"),
    ],
)
def test_outputs_losses_and_gradients(head, source, target, tmp_path):
    compare(head, tmp_path, source, target)


@pytest.mark.parametrize("scale_embedding", [False, True])
def test_without_decoder_input_ids(scale_embedding, tmp_path):
    compare_defaults("BartForConditionalGeneration", tmp_path, scale_embedding=scale_embedding)


def test_labels_shifted_right():
    """Labels that are not asked become padding; the decoder's input begins with the start token."""
    labels = np.random.default_rng(0).integers(3, 99, (4, 9))
    labels[1, 6:], labels[2, 3:], labels[3, 1:] = -100, 1, -100
    expected = modeling_bart.shift_tokens_right(torch.tensor(labels), 1, 2)
    np.testing.assert_array_equal(shift_tokens_right(jnp.asarray(labels), 1, 2), expected)


@pytest.mark.parametrize("target", ["right", "left"])
@pytest.mark.parametrize("pieces", [(6, 1, 1, TARGET - 8), (1,) * TARGET])
def test_a_cache_changes_no_number(pieces, target, tmp_path):
    compare_decoding("BartForConditionalGeneration", tmp_path, pieces, target)


@pytest.mark.parametrize("head", HEADS)
def test_round_trip_has_no_missing_and_no_unexpected_key(head, tmp_path):
    round_trip(reference(head), tmp_path)


def test_every_head_is_compared():
    ours = {name for name in vars(bart) if name.startswith("Bart") and ("For" in name or name.endswith("Model"))}
    assert ours == set(HEADS)
