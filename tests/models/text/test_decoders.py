"""Decoders held against what must be true of them, without a reference implementation."""

import dataclasses
import functools
import itertools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from models import gpt2, llama
from models.config import ModelError
from models.gpt2 import GPT2Config
from models.llama import LlamaConfig, RopeScaling
from objectives.losses import cross_entropy
from tests.models.text.decoders import BASE, BATCH, LANGUAGE, LENGTH, LLAMA, ids, variables_of
from training.parallel import Parallel, logical_axes

# ── Shapes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def count_of(model: nn.Module) -> int:
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32)))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize(
    ("variant", "count"),
    [
        ("small", 124_439_808),
        ("medium", 354_823_168),
        ("large", 774_030_080),
        ("xl", 1_557_611_200),
        ("distil", 81_912_576),
    ],
)
def test_parameter_counts_of_gpt2(variant, count):
    config = GPT2Config.variant(variant)
    assert count_of(gpt2.GPT2LMHeadModel(config)) == count_of(gpt2.GPT2Model(config)) == count


LLAMAS = {
    "llama_7b": (6_738_415_616, 6_607_343_616),
    "llama_13b": (13_015_864_320, 12_852_024_320),
    "llama_33b": (32_528_943_616, 32_315_951_616),
    "llama_65b": (65_285_660_672, 65_023_516_672),
    "llama2_7b": (6_738_415_616, 6_607_343_616),
    "llama2_13b": (13_015_864_320, 12_852_024_320),
    "llama2_70b": (68_976_648_192, 68_714_504_192),
    "llama3_8b": (8_030_261_248, 7_504_924_672),
    "llama3_70b": (70_553_706_496, 69_503_033_344),
    "llama3_1_8b": (8_030_261_248, 7_504_924_672),
    "llama3_1_70b": (70_553_706_496, 69_503_033_344),
    "llama3_2_1b": (1_235_814_400, 1_235_814_400),
    "llama3_2_3b": (3_212_749_824, 3_212_749_824),
    "tinyllama": (1_100_048_384, 1_034_512_384),
    "smollm2_135m": (134_515_008, 134_515_008),
    "smollm2_360m": (361_821_120, 361_821_120),
    "smollm2_1_7b": (1_711_376_384, 1_711_376_384),
}


@pytest.mark.parametrize("variant", LlamaConfig.variants)
def test_parameter_counts_of_llama(variant):
    """With and without the head of the language model."""
    config = LlamaConfig.variant(variant)
    assert (count_of(llama.LlamaForCausalLM(config)), count_of(llama.LlamaModel(config))) == LLAMAS[variant]


@pytest.mark.parametrize("kind", [GPT2Config, LlamaConfig])
def test_config_to_json_and_back(kind):
    for variant in kind.variants:
        config = kind.variant(variant, labels=("no", "perhaps", "yes"))
        assert kind.from_json(json.loads(json.dumps(config.to_json()))) == config
    several = dataclasses.replace(LLAMA, eos_token_id=(2, 7))
    assert LlamaConfig.from_json(json.loads(json.dumps(several.to_json()))) == several


@pytest.mark.slow_but_first
@pytest.mark.parametrize("model", LANGUAGE.values(), ids=LANGUAGE)
def test_every_parameter_has_logical_axes_for_all_its_dimensions(model):
    boxed = model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))
    boxes = jax.tree.leaves(boxed, is_leaf=lambda x: isinstance(x, nn.Partitioned))
    assert all(isinstance(box, nn.Partitioned) and len(box.names) == box.value.ndim for box in boxes)


@pytest.mark.parametrize(
    ("model", "batch", "length"),
    [
        (gpt2.GPT2LMHeadModel(GPT2Config.small()), 2, 256),
        (gpt2.GPT2LMHeadModel(GPT2Config.small()), 1, 1024),
        (llama.LlamaForCausalLM(LlamaConfig.smollm2_135m()), 2, 256),
        (llama.LlamaForCausalLM(LlamaConfig.smollm2_135m()), 1, 2048),
        (llama.LlamaForCausalLM(LlamaConfig.llama3_8b(num_hidden_layers=2)), 1, 1024),
        (llama.LlamaForCausalLM(LlamaConfig.smollm2_135m(head_dim=128)), 2, 256),
    ],
    ids=["gpt2", "gpt2, long", "smollm2", "smollm2, long", "llama3, 2 layers", "wide heads"],
)
def test_our_flops_are_xlas_within_three_percent(model, batch, length):
    """XLA counts the program as lowered: nothing is compiled, and other operations than matrix products are in it."""
    tokens = jax.ShapeDtypeStruct((batch, length), jnp.int32)
    shapes = nn.unbox(jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))))
    counted = jax.jit(lambda v, x: model.apply(v, x).logits).lower(shapes, tokens).cost_analysis()["flops"]
    assert 0.97 < model.forward_flops({"input_ids": (batch, length)}) / counted < 1.0


# ── Settings that change no number ───────────────────────────────────────────────────────────────────────────────────


def outputs_and_gradients(name: str, **settings):
    variables = variables_of(LANGUAGE[name])
    model = type(LANGUAGE[name])(dataclasses.replace(LANGUAGE[name].config, **settings))
    mask = jnp.ones((BATCH, LENGTH), jnp.int32).at[1, 7:].set(0)

    def loss(params):
        outputs = model.apply(
            {"params": params},
            ids(),
            mask,
            dropout_keys=jax.random.split(jax.random.key(5), BATCH),
            output_hidden_states=True,
            output_attentions=True,
        )
        cache = model.config.empty_cache(BATCH, LENGTH)
        cached = model.apply({"params": params}, ids(), mask, past_key_values=cache)
        outputs = {**outputs, "cached": cached.logits, "keys": cached.past_key_values.keys}
        return jnp.sin(outputs["logits"]).sum() + jnp.cos(outputs["cached"]).sum(), outputs

    (_, outputs), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
    return flatten_dict({"outputs": outputs, "gradients": gradients}, sep="/")


@pytest.fixture(scope="module")
def plain():
    return functools.cache(outputs_and_gradients)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize(("scan_layers", "remat"), [(True, "none"), (True, "dots"), (False, "full"), (True, "full")])
def test_scan_and_remat_change_no_number(plain, name, scan_layers, remat):
    found = outputs_and_gradients(name, scan_layers=scan_layers, remat=remat)
    assert set(found) == set(plain(name))
    for path, value in found.items():
        scale = max(1.0, float(np.abs(plain(name)[path]).max()))
        np.testing.assert_allclose(value, plain(name)[path], rtol=0, atol=3e-6 * scale, err_msg=path)


@pytest.mark.slow
@pytest.mark.parametrize("name", LANGUAGE)
@pytest.mark.parametrize(
    ("heads", "parallel"),
    [
        (2, Parallel("jit", fsdp=2, tensor=2)),
        (2, Parallel("jit", tensor=4)),
        (1, Parallel("jit", tensor=4)),
        (4, Parallel("jit", tensor=4)),
    ],
)
def test_chips_that_share_products_give_the_same_gradients(name, heads, parallel):
    """Also where there are fewer heads of keys than chips: a head is then cut, and its scores are added up."""
    if name == "gpt2":
        if heads != 2:
            pytest.skip("GPT-2's heads are not grouped")
        model = LANGUAGE[name]
    else:
        model = llama.LlamaForCausalLM(dataclasses.replace(LANGUAGE[name].config, num_key_value_heads=heads))
    boxed = model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))["params"]
    spread = parallel.spread(logical_axes(jax.eval_shape(lambda: boxed)))

    def step(params, batch):
        def loss(params):
            amount, weight = cross_entropy(model.apply({"params": params}, batch["ids"][0]).logits, batch["ids"][0])
            return amount / weight

        return params, jax.grad(loss)(params)

    params = nn.unbox(boxed)
    _, expected = jax.jit(step)(params, {"ids": ids()[None]})
    state = spread.put(jax.device_get(params))
    assert any(
        not x.is_fully_replicated for x in jax.tree.leaves(state["model" if "model" in state else "transformer"])
    )
    found = spread.compile(step, donate=False)(state, spread.put_batch({"ids": np.asarray(ids()[None])}))[1]
    for path, value in flatten_dict(expected, sep="/").items():
        other = flatten_dict(found, sep="/")[path]
        np.testing.assert_allclose(other, value, rtol=0, atol=3e-6 * max(1.0, float(np.abs(value).max())), err_msg=path)


def test_dropout_of_llama_is_that_of_attention_and_only_with_keys():
    model = LANGUAGE["llama"]
    still = llama.LlamaForCausalLM(dataclasses.replace(LLAMA, attention_dropout=0.0))
    variables, keys = variables_of(model), jax.random.split(jax.random.key(1), BATCH)
    expected = model.apply(variables, ids()).logits
    np.testing.assert_array_equal(still.apply(variables, ids(), dropout_keys=keys).logits, expected)
    assert np.abs(model.apply(variables, ids(), dropout_keys=keys).logits - expected).max() > 1e-3


# ── What sees what ───────────────────────────────────────────────────────────────────────────────────────────────────


def influence(model: nn.Module, **inputs) -> np.ndarray:
    """(length, length): the largest derivative of the vector at place t by the embedding at place s."""
    params = variables_of(model)["params"]

    def hidden(vectors):
        """The n-th token is the n-th row of the table."""
        changed = {**params, "word_embeddings": {"embedding": vectors}}
        return model.apply({"params": changed}, jnp.arange(LENGTH)[None], **inputs).last_hidden_state[0]

    jacobian = jax.jit(jax.jacobian(hidden))(params["word_embeddings"]["embedding"])
    assert not jacobian[:, :, LENGTH:].any()
    return np.abs(jacobian[:, :, :LENGTH]).max(axis=(1, 3))


def row(*values: int) -> jax.Array:
    return jnp.array([values], jnp.int32)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("model", BASE.values(), ids=BASE)
def test_a_place_sees_itself_and_all_before_and_nothing_behind(model):
    found = influence(model)
    seen = np.tril(np.ones((LENGTH, LENGTH), bool))
    assert (found[seen] > 0).all() and (found[~seen] == 0).all()


@pytest.mark.parametrize("model", BASE.values(), ids=BASE)
def test_a_prefix_is_read_in_both_directions(model):
    found = influence(model, prefix_mask=row(1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0))
    seen = np.tril(np.ones((LENGTH, LENGTH), bool))
    seen[:, :5] = True
    assert (found[seen] > 0).all() and (found[~seen] == 0).all()


@pytest.mark.slow_but_first
@pytest.mark.parametrize("model", BASE.values(), ids=BASE)
def test_packed_documents_do_not_see_each_other(model):
    segments = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 2])
    found = influence(model, segment_ids=jnp.asarray(segments)[None])
    seen = np.tril(segments[:, None] == segments[None])
    assert (found[seen] > 0).all() and (found[~seen] == 0).all()


@pytest.mark.slow_but_first
@pytest.mark.parametrize("model", BASE.values(), ids=BASE)
@pytest.mark.parametrize("padded", [slice(8, 12), slice(0, 5)], ids=["right", "left"])
def test_padding_is_not_seen(model, padded):
    mask = jnp.ones((1, LENGTH), jnp.int32).at[:, padded].set(0)
    found = influence(model, attention_mask=mask)
    real = np.asarray(mask[0]) > 0
    seen = np.tril(np.ones((LENGTH, LENGTH), bool)) & real[None]
    assert (found[real][seen[real]] > 0).all() and (found[real][~seen[real]] == 0).all()


@pytest.mark.slow_but_first
@pytest.mark.parametrize("name", LANGUAGE)
def test_packed_documents_are_what_they_are_alone(name):
    """With segment ids and positions that begin anew; values and the gradients of the parameters."""
    model, lengths = LANGUAGE[name], (5, 1, 6)
    tokens, starts = ids(1), np.cumsum([0, *lengths])
    segments = jnp.asarray(np.repeat(np.arange(3), lengths))[None]
    positions = jnp.asarray(np.concatenate([np.arange(n) for n in lengths]))[None]

    def packed(params):
        logits = model.apply({"params": params}, tokens, segment_ids=segments, position_ids=positions).logits
        return jnp.sin(logits).sum(), logits

    def alone(params):
        logits = [model.apply({"params": params}, tokens[:, a:b]).logits for a, b in itertools.pairwise(starts)]
        logits = jnp.concatenate(logits, axis=1)
        return jnp.sin(logits).sum(), logits

    params = variables_of(model)["params"]
    found, expected = (jax.jit(jax.grad(f, has_aux=True))(params) for f in (packed, alone))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * max(1.0, float(np.abs(other).max())))
    unaware = model.apply({"params": params}, tokens, position_ids=positions).logits
    assert np.abs(unaware - found[1]).max() > 1e-2


@pytest.mark.slow_but_first
@pytest.mark.parametrize("name", LANGUAGE)
def test_left_padding_with_positions_from_the_first_token_changes_nothing(name):
    model = LANGUAGE[name]
    variables, tokens = variables_of(model), ids()
    mask = jnp.pad(jnp.ones_like(tokens), ((0, 0), (5, 0)))
    padded = model.apply(
        variables, jnp.pad(tokens, ((0, 0), (5, 0))), mask, jnp.maximum(jnp.cumsum(mask, axis=1) - 1, 0)
    )
    np.testing.assert_allclose(padded.logits[:, 5:], model.apply(variables, tokens).logits, rtol=0, atol=2e-5)


# ── What cannot be ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 30}, "hidden_size=30 does not divide into num_attention_heads=4"),
        ({"num_key_value_heads": 3}, "do not divide into groups for num_key_value_heads=3"),
        ({"num_key_value_heads": 0}, "num_key_value_heads=0: expected a whole number of at least 1"),
        ({"head_dim": 7}, "heads of 7 features: rotary positions want an even number"),
        ({"hidden_act": "swoosh"}, "unknown activation 'swoosh'"),
    ],
)
def test_a_llama_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ModelError, match=message):
        dataclasses.replace(LLAMA, **changes)


def test_a_text_longer_than_the_learned_positions_is_refused():
    with pytest.raises(ModelError, match="41 tokens do not fit a model with n_positions=40"):
        BASE["gpt2"].init(jax.random.key(0), jnp.zeros((1, 41), jnp.int32))
    BASE["llama"].apply(variables_of(BASE["llama"]), jnp.zeros((1, 41), jnp.int32))
    rooms = {None: 40, RopeScaling("linear", 4.0): 160, RopeScaling("llama3", 8.0, 1.0, 4.0, 5): 40}
    for scaling, room in rooms.items():
        assert dataclasses.replace(LLAMA, rope_scaling=scaling).longest_input == room
