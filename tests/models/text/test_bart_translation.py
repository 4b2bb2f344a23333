"""BART with a source encoder: BART behind another front end, padding unseen, saved and loaded, begun with a BART's parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from models import hub
from models.bart import BartConfig, BartForConditionalGeneration
from models.bart_translation import BartTranslationConfig, BartTranslationForConditionalGeneration, BartTranslationModel
from models.encoder_decoder.model import EncoderDecoderModel
from tests.models.small_configs import BART

CONFIG = BartTranslationConfig(
    **BART, source_vocab_size=90, source_layers=2, source_attention_heads=2, source_ffn_dim=20, init_std=0.3
)


class Words(BartTranslationModel):
    """With words in the place of what the source encoder makes."""

    def front_end(self, inputs, attention_mask, call):
        super().front_end(inputs, attention_mask, call)
        return EncoderDecoderModel.front_end(self, inputs, attention_mask, call)


class OfWords(BartTranslationForConditionalGeneration):
    base = Words


@pytest.fixture(scope="module")
def given():
    random = np.random.default_rng(0)
    ids, targets = (jnp.asarray(random.integers(5, 60, (2, size)), jnp.int32) for size in (7, 5))
    model = BartTranslationForConditionalGeneration(CONFIG)
    return model, model.init(jax.random.key(0), ids, decoder_input_ids=targets), ids, targets


@pytest.mark.slow
def test_behind_the_source_encoder_it_is_bart(given):
    _, variables, ids, targets = given
    inner = {name: x for name, x in variables["params"]["model"].items() if name != "source"}
    params = {**variables["params"], "model": inner}
    bart = BartForConditionalGeneration(BartConfig(**BART, init_std=0.3))
    expected = bart.apply({"params": params}, ids, decoder_input_ids=targets).logits
    found = OfWords(CONFIG).apply(variables, ids, decoder_input_ids=targets).logits
    np.testing.assert_array_equal(found, expected)
    assert jnp.abs(given[0].apply(variables, ids, decoder_input_ids=targets).logits - expected).max() > 0.01


def test_the_source_encoder_has_words_of_its_own_and_does_not_see_padding(given):
    model, variables, ids, targets = given
    assert variables["params"]["model"]["source"]["words"]["embedding"].value.shape == (90, 16)
    mask = jnp.ones_like(ids)
    expected = model.apply(variables, ids, mask, targets).logits
    longer, mask = jnp.pad(ids, ((0, 0), (0, 3)), constant_values=77), jnp.pad(mask, ((0, 0), (0, 3)))
    np.testing.assert_allclose(model.apply(variables, longer, mask, targets).logits, expected, atol=1e-5)
    cache = model.apply(variables, longer, mask, room=5, method="encode")
    decoded = model.apply(variables, decoder_input_ids=targets, past_key_values=cache).logits
    np.testing.assert_allclose(decoded, expected, atol=1e-5)


def test_a_folder_holds_all_of_it(given, tmp_path):
    model, variables, ids, targets = given
    hub.save(tmp_path / "model", model, variables)
    again, read = hub.load(tmp_path / "model")
    assert again == model
    np.testing.assert_array_equal(
        again.apply(read, ids, decoder_input_ids=targets).logits,
        model.apply(variables, ids, decoder_input_ids=targets).logits,
    )


@pytest.mark.slow
def test_gradients_reach_the_source_encoder(given):
    model, variables, ids, targets = given
    gradients = jax.grad(lambda v: jnp.square(model.apply(v, ids, decoder_input_ids=targets).logits).mean())(variables)
    flat = flatten_dict(gradients["params"]["model"]["source"], sep="/")
    assert all(float(jnp.abs(jax.tree.leaves(x)[0]).max()) > 0 for name, x in flat.items() if "key/bias" not in name)
