"""BERT held against what must be true of it, without a reference implementation."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from scipy.stats import binom, truncnorm

from models import bert
from models.bert import BertConfig
from models.config import ModelError
from models.layers.dropout import dropout, dropout_bits

SMALL = BertConfig(
    vocab_size=60,
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=64,
    max_position_embeddings=20,
    initializer_range=0.2,
    labels=("a", "b", "c"),
)
CASED = 28_996


def variables_of(model: nn.Module) -> dict:
    return nn.unbox(model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32)))


def ids(rows: int = 4, length: int = 12, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).integers(5, SMALL.vocab_size, (rows, length)), jnp.int32)


# ── Shapes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("head", "variant", "changes", "count"),
    [
        ("BertModel", "tiny", {}, 4_385_920),
        ("BertModel", "mini", {}, 11_170_560),
        ("BertModel", "small", {}, 28_763_648),
        ("BertModel", "medium", {}, 41_373_184),
        ("BertModel", "base", {}, 109_482_240),
        ("BertModel", "base", {"vocab_size": CASED}, 108_310_272),
        ("BertModel", "large", {}, 335_141_888),
        ("BertModel", "large", {"vocab_size": CASED}, 333_579_264),
        ("no pooler", "base", {}, 108_891_648),
        ("no pooler", "large", {}, 334_092_288),
        ("BertForPreTraining", "tiny", {}, 4_433_468),
        ("BertForPreTraining", "mini", {}, 11_267_900),
        ("BertForPreTraining", "small", {}, 29_058_876),
        ("BertForPreTraining", "medium", {}, 41_668_412),
        ("BertForPreTraining", "base", {}, 110_106_428),
        ("BertForPreTraining", "base", {"vocab_size": CASED}, 108_932_934),
        ("BertForPreTraining", "large", {}, 336_226_108),
        ("BertForPreTraining", "large", {"vocab_size": CASED}, 334_661_958),
        ("BertForMaskedLM", "tiny", {}, 4_416_698),
        ("BertForMaskedLM", "mini", {}, 11_201_594),
        ("BertForMaskedLM", "small", {}, 28_795_194),
        ("BertForMaskedLM", "medium", {}, 41_404_730),
        ("BertForMaskedLM", "base", {}, 109_514_298),
        ("BertForMaskedLM", "base", {"vocab_size": CASED}, 108_340_804),
        ("BertForMaskedLM", "large", {}, 335_174_458),
        ("BertForMaskedLM", "large", {"vocab_size": CASED}, 333_610_308),
        ("BertForSequenceClassification", "base", {}, 109_483_778),
        ("BertForSequenceClassification", "large", {}, 335_143_938),
        ("BertForQuestionAnswering", "base", {}, 108_893_186),
        ("BertForQuestionAnswering", "large", {}, 334_094_338),
    ],
)
def test_parameter_counts_of_the_published_variants(head, variant, changes, count):
    config = BertConfig.variant(variant, **changes)
    model = bert.BertModel(config, add_pooling_layer=False) if head == "no pooler" else getattr(bert, head)(config)
    shapes = jax.eval_shape(lambda: variables_of(model))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count


def test_every_parameter_has_logical_axes_for_all_its_dimensions():
    boxed = bert.BertForPreTraining(SMALL).init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))
    boxes = jax.tree.leaves(boxed, is_leaf=lambda x: isinstance(x, nn.Partitioned))
    assert all(isinstance(box, nn.Partitioned) and len(box.names) == box.value.ndim for box in boxes)
    layers = flatten_dict(nn.unbox(boxed)["params"]["bert"]["layers"])
    assert all(leaf.shape[0] == SMALL.num_hidden_layers for leaf in layers.values())


def test_initial_values():
    """N(0, σ²) cut at ±2σ for weights, each layer its own; 0 for biases, 1 for the scales of norms."""
    flat = flatten_dict(variables_of(bert.BertForPreTraining(SMALL))["params"], sep="/")
    for path, value in flat.items():
        if path.endswith("bias"):
            assert not value.any(), path
        elif path.endswith("scale"):
            assert (value == 1).all(), path
        else:
            assert np.abs(value).max() <= 2 * SMALL.initializer_range, path
    kernel = np.asarray(flat["bert/layers/up/kernel"])
    assert abs(kernel.std() - truncnorm(-2, 2).std() * SMALL.initializer_range) < 0.005
    assert not np.array_equal(kernel[0], kernel[1])


# ── Settings that change no number ───────────────────────────────────────────────────────────────────────────────────


def outputs_and_gradients(**settings):
    model = bert.BertForPreTraining(dataclasses.replace(SMALL, **settings))
    variables = variables_of(bert.BertForPreTraining(SMALL))
    mask = jnp.ones((4, 12), jnp.int32).at[1, 7:].set(0)

    def loss(params):
        outputs = model.apply(
            {"params": params},
            ids(),
            mask,
            dropout_keys=jax.random.split(jax.random.key(5), 4),
            output_hidden_states=True,
            output_attentions=True,
        )
        return jnp.sin(outputs.prediction_logits).sum() + outputs.seq_relationship_logits.sum(), outputs

    (_, outputs), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
    return flatten_dict({"outputs": dict(outputs), "gradients": gradients}, sep="/")


@pytest.fixture(scope="module")
def plain():
    return outputs_and_gradients()


@pytest.mark.slow_but_first
@pytest.mark.parametrize("scan_layers", [False, True])
@pytest.mark.parametrize("remat", ["none", "dots", "full"])
def test_scan_and_remat_change_no_number(plain, scan_layers, remat):
    if not scan_layers and remat == "none":
        pytest.skip("this is what the others are compared with")
    found = outputs_and_gradients(scan_layers=scan_layers, remat=remat)
    assert set(found) == set(plain)
    for name, value in found.items():
        scale = max(1.0, float(np.abs(plain[name]).max()))
        np.testing.assert_allclose(value, plain[name], rtol=0, atol=3e-6 * scale, err_msg=name)


def test_remat_keeps_less_for_the_backward_pass():
    def kept(remat: str) -> int:
        model = bert.BertForMaskedLM(dataclasses.replace(SMALL, remat=remat, scan_layers=True))
        variables = variables_of(model)
        _, pull = jax.eval_shape(lambda v: jax.vjp(lambda v: model.apply(v, ids()).logits, v), variables)
        return sum(leaf.size for leaf in jax.tree.leaves(pull))

    assert kept("full") < kept("dots") < kept("none")


# ── Dropout ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_dropout_rate_is_within_binomial_bounds_and_keeps_the_mean():
    keys, rate = jax.random.split(jax.random.key(0), 16), 0.3
    dropped = np.asarray(dropout(jnp.ones((16, 40, 50)), rate, keys))
    low, high = binom.interval(1 - 1e-6, 40 * 50, rate)
    zeros = (dropped == 0).sum(axis=(1, 2))
    assert (low <= zeros).all() and (zeros <= high).all()
    np.testing.assert_allclose(dropped[dropped != 0], 1 / (1 - rate), rtol=1e-6)
    low, high = binom.interval(1 - 1e-6, 16, rate)
    places = (dropped == 0).sum(axis=0)
    assert low <= places.min() and places.max() <= high


def test_dropout_bits_are_fair_and_uncorrelated_between_keys_and_neighbours():
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(jnp.arange(8))
    bits = np.asarray(dropout_bits(keys, (64, 64)))
    flips = ((bits[..., None] >> np.arange(32, dtype=np.uint32)) & 1).reshape(8, 64, 64, 32).astype(np.float64) - 0.5
    count = 64 * 64
    assert np.abs(flips.mean(axis=(1, 2))).max() < 5 * 0.5 / np.sqrt(count)
    between = np.einsum("ixyb,jxyb->ijb", flips, flips) / (0.25 * count)
    assert np.abs(between - np.eye(8)[..., None]).max() < 6 / np.sqrt(count)
    for neighbour in (np.roll(flips, 1, axis=1), np.roll(flips, 1, axis=2)):
        assert np.abs((flips * neighbour).mean(axis=(1, 2)) / 0.25).max() < 6 / np.sqrt(count)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("head", ["BertForPreTraining", "BertForSequenceClassification", "BertForTokenClassification"])
def test_dropout_goes_with_the_example_not_with_its_row(head):
    model = getattr(bert, head)(SMALL)
    variables, keys = variables_of(model), jax.random.split(jax.random.key(1), 4)
    order = np.array([2, 0, 3, 1])
    apply = jax.jit(lambda rows, keys: model.apply(variables, rows, dropout_keys=keys))
    straight, permuted = apply(ids(), keys), apply(ids()[order], keys[order])
    alone = apply(ids()[1:2], keys[1:2])
    for name in straight:
        np.testing.assert_allclose(permuted[name], straight[name][order], rtol=0, atol=1e-5)
        np.testing.assert_allclose(alone[name][0], straight[name][1], rtol=0, atol=1e-5)
    other = apply(ids(), keys[order])
    assert any(np.abs(other[name] - straight[name]).max() > 1e-2 for name in straight)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("only", ["hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"])
def test_each_dropout_acts_and_only_with_keys(only):
    off = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, classifier_dropout=0.0)
    still = bert.BertForSequenceClassification(dataclasses.replace(SMALL, **off))
    noisy = bert.BertForSequenceClassification(dataclasses.replace(SMALL, **{**off, only: 0.5}))
    variables, keys = variables_of(still), jax.random.split(jax.random.key(1), 4)
    expected = still.apply(variables, ids()).logits
    np.testing.assert_array_equal(noisy.apply(variables, ids()).logits, expected)
    np.testing.assert_array_equal(still.apply(variables, ids(), dropout_keys=keys).logits, expected)
    assert np.abs(noisy.apply(variables, ids(), dropout_keys=keys).logits - expected).max() > 1e-3


def test_layers_drop_different_places():
    """Two layers with the same weights and inputs would drop alike if the key did not know the layer."""
    layer = bert.BertLayer(dataclasses.replace(SMALL, hidden_dropout_prob=0.5))
    hidden, keys = jnp.ones((2, 6, SMALL.hidden_size)), jax.random.split(jax.random.key(0), 2)
    variables = layer.init(jax.random.key(0), hidden, jnp.array(0), (None, keys))
    first, second = (layer.apply(variables, hidden, jnp.array(index), (None, keys))[0] for index in (0, 1))
    assert np.abs(first - second).max() > 1e-2


# ── What sees what ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow_but_first
@pytest.mark.parametrize("padded", [slice(8, 12), slice(0, 5)], ids=["right", "left"])
def test_padded_places_influence_no_other(padded):
    model = bert.BertForMaskedLM(SMALL)
    variables, tokens = variables_of(model), ids()
    mask = jnp.ones_like(tokens).at[:, padded].set(0)
    others = jnp.where(mask == 1, tokens, ids(seed=1))
    types = 1 - mask
    one = model.apply(variables, tokens, mask).logits[mask == 1]
    two = model.apply(variables, others, mask, types).logits[mask == 1]
    np.testing.assert_array_equal(one, two)
    assert np.abs(one - model.apply(variables, others).logits[mask == 1]).max() > 1e-2


def test_padding_to_another_length_changes_nothing():
    model = bert.BertForMaskedLM(SMALL)
    variables, tokens = variables_of(model), ids()
    longer = jnp.pad(tokens, ((0, 0), (0, 6)))
    mask = jnp.pad(jnp.ones_like(tokens), ((0, 0), (0, 6)))
    short, long = model.apply(variables, tokens).logits, model.apply(variables, longer, mask).logits
    np.testing.assert_allclose(long[:, :12], short, rtol=0, atol=1e-5)


def test_every_place_sees_every_other():
    model = bert.BertModel(dataclasses.replace(SMALL, vocab_size=12))
    params = variables_of(model)["params"]

    def hidden(vectors):
        """The n-th token is the n-th row of the table."""
        changed = {**params, "word_embeddings": {"embedding": vectors}}
        return model.apply({"params": changed}, jnp.arange(12)[None]).last_hidden_state[0]

    jacobian = jax.jit(jax.jacobian(hidden))(params["word_embeddings"]["embedding"])
    assert (np.abs(jacobian).max(axis=(1, 3)) > 0).all()


def test_a_text_longer_than_the_positions_is_refused():
    with pytest.raises(ModelError, match="21 tokens do not fit"):
        bert.BertModel(SMALL).init(jax.random.key(0), jnp.zeros((1, 21), jnp.int32))


# ── Config ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("variant", BertConfig.variants)
def test_config_to_json_and_back(variant):
    config = BertConfig.variant(variant, labels=("neg", "neutral", "pos"), classifier_dropout=0.2)
    published = config.to_json()
    assert published["id2label"] == {"0": "neg", "1": "neutral", "2": "pos"}
    assert not set(published) & set(BertConfig.execution)
    assert BertConfig.from_json(published) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 30}, "does not divide into num_attention_heads=4"),
        ({"hidden_act": "gelo"}, "unknown activation 'gelo': did you mean 'gelu'"),
        ({"dtype": "bf16"}, "dtype='bf16': expected"),
        ({"remat": "all"}, "remat='all': expected"),
        ({"num_hidden_layers": 0}, "num_hidden_layers=0: expected a whole number of at least 1"),
        ({"vocab_size": True}, "vocab_size=True: expected a whole number"),
        ({"hidden_dropout_prob": -0.1}, "hidden_dropout_prob=-0.1: expected a number of at least 0"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ModelError, match=message):
        dataclasses.replace(SMALL, **changes)


@pytest.mark.parametrize(
    "published", [{"is_decoder": True}, {"add_cross_attention": True}, {"position_embedding_type": "relative_key"}]
)
def test_published_variants_that_would_give_other_numbers_are_refused(published):
    with pytest.raises(ModelError, match=next(iter(published))):
        BertConfig.from_json({**SMALL.to_json(), **published})
