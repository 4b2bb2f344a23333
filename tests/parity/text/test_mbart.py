"""mBART against live `transformers`: every parameter perturbed, padding on both sides, with and without a cache, f32.

Outputs, hidden states, attentions, losses and the gradient of every parameter agree to 1e-5 of the largest value compared.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from models import mbart
from tests.parity.reference import round_trip, torch
from tests.parity.text.encoder_decoders import TARGET, compare, compare_decoding, compare_defaults, reference

modeling_mbart = pytest.importorskip("transformers.models.mbart.modeling_mbart")

HEADS = ["MBartModel", "MBartForConditionalGeneration", "MBartForSequenceClassification", "MBartForQuestionAnswering"]
PADDINGS = [("right", "right"), ("right", "left"), ("left", "right")]
"""Of the text that is read, and of the one that is written."""


@pytest.mark.parametrize(
    ("head", "source", "target"),
    [
        ("MBartModel", "left", "left"),
        *(("MBartForConditionalGeneration", *paddings) for paddings in PADDINGS),
        ("MBartForSequenceClassification", "right", "right"),
        ("MBartForQuestionAnswering", "left", "none"),
    ],
)
def test_outputs_losses_and_gradients(head, source, target, tmp_path):
    compare(head, tmp_path, source, target)


@pytest.mark.parametrize("scale_embedding", [False, True])
def test_without_decoder_input_ids(scale_embedding, tmp_path):
    compare_defaults("MBartForConditionalGeneration", tmp_path, scale_embedding=scale_embedding)


def test_labels_shifted_right():
    """Labels that are not asked become padding; the decoder's input begins with the last token, the language."""
    labels = np.random.default_rng(0).integers(3, 99, (4, 9))
    labels[1, 6:], labels[2, 3:], labels[3, 1:] = -100, 1, -100
    expected = modeling_mbart.shift_tokens_right(torch.tensor(labels), 1)
    np.testing.assert_array_equal(mbart.wrap_tokens_right(jnp.asarray(labels), 1), expected)


@pytest.mark.parametrize("target", ["right", "left"])
@pytest.mark.parametrize("pieces", [(6, 1, 1, TARGET - 8), (1,) * TARGET])
def test_a_cache_changes_no_number(pieces, target, tmp_path):
    compare_decoding("MBartForConditionalGeneration", tmp_path, pieces, target)


@pytest.mark.parametrize("head", HEADS)
def test_round_trip_has_no_missing_and_no_unexpected_key(head, tmp_path):
    round_trip(reference(head), tmp_path)


def test_every_head_is_compared():
    ours = {name for name in vars(mbart) if name.startswith("MBart") and ("For" in name or name.endswith("Model"))}
    assert ours == set(HEADS)
