"""Marian against live `transformers`: every parameter perturbed, padding on both sides, with and without a cache, f32.

Outputs, hidden states, attentions, losses and the gradient of every parameter agree to 1e-5 of the largest value compared.
"""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from models import hub, marian
from models.encoder_decoder.stacks import sinusoids
from tests.parity.reference import round_trip
from tests.parity.text.encoder_decoders import TARGET, compare, compare_decoding, reference

modeling_marian = pytest.importorskip("transformers.models.marian.modeling_marian")

SETTINGS = dict(activation_function="swish", scale_embedding=True, num_labels=2)


@pytest.mark.parametrize(("source", "target"), [("right", "right"), ("left", "right"), ("right", "left")])
def test_outputs_losses_and_gradients(source, target, tmp_path):
    compare("MarianMTModel", tmp_path, source, target, **SETTINGS)


@pytest.mark.parametrize("pieces", [(6, 1, 1, TARGET - 8), (1,) * TARGET])
def test_a_cache_changes_no_number(pieces, tmp_path):
    compare_decoding("MarianMTModel", tmp_path, pieces, "right", **SETTINGS)


def test_round_trip_has_no_missing_and_no_unexpected_key(tmp_path):
    round_trip(reference("MarianMTModel", **SETTINGS), tmp_path)


def test_older_files_hold_the_sinusoids_too(tmp_path):
    theirs = reference("MarianMTModel", **SETTINGS)
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    positions = {name: x.numpy() for name, x in theirs.state_dict().items() if "embed_positions" in name}
    assert len(positions) == 2
    save_file({**load_file(path), **positions}, path, metadata={"format": "pt"})
    _, variables = hub.load(tmp_path)
    np.testing.assert_array_equal(
        variables["params"]["model"]["shared"]["embedding"], theirs.model.shared.weight.detach()
    )


def test_sinusoids_are_those_of_transformers_at_every_position():
    theirs = modeling_marian.MarianSinusoidalPositionalEmbedding(512, 512).create_weight()
    np.testing.assert_allclose(sinusoids(512, 512, marian.MarianConfig.interleaved), theirs, rtol=0, atol=1e-7)
