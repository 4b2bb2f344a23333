"""BART, mBART, Marian and the Transformer held against what must be true of them, without a reference implementation."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from jax.sharding import AbstractMesh

from models import bart, hub, marian, mbart, transformer
from tests.models.text.encoder_decoders import BART, GENERATORS, SOURCE, TARGET, ids, variables_of, with_config
from training.parallel import RULES, Parallel, logical_axes

# ── Shapes ───────────────────────────────────────────────────────────────────────────────────────────────────────────

PUBLISHED_COUNTS = [
    (bart.BartModel, "base", 139_420_416),
    (bart.BartModel, "large", 406_291_456),
    (bart.BartModel, "large_cnn", 406_290_432),
    (bart.BartModel, "large_xsum", 406_290_432),
    (bart.BartForConditionalGeneration, "base", 139_420_416),
    (bart.BartForConditionalGeneration, "large", 406_291_456),
    (bart.BartForSequenceClassification, "base", 140_013_315),
    (bart.BartForSequenceClassification, "large", 407_344_131),
    (bart.BartForSequenceClassification, "large_cnn", 407_343_107),
    (mbart.MBartForConditionalGeneration, "large_cc25", 610_851_840),
    (mbart.MBartForConditionalGeneration, "large_50", 610_879_488),
    (marian.MarianMTModel, "opus", 73_886_208),
    # The paper's table 3 says 65 and 213 million.
    (transformer.TransformerForConditionalGeneration, "base", 63_082_496),
    (transformer.TransformerForConditionalGeneration, "big", 214_245_376),
]


@pytest.mark.parametrize(("architecture", "variant", "count"), PUBLISHED_COUNTS)
def test_parameter_counts_of_the_published_variants(architecture, variant, count):
    """Without `final_logits_bias`, which is published with the weights but not trained."""
    config = hub.config_class(hub_type(architecture)).variant(variant)
    flat = hub.shapes_of(architecture(config))
    assert sum(leaf.size for path, leaf in flat.items() if path != "final_logits_bias") == count


def hub_type(architecture: type[nn.Module]) -> str:
    return architecture.__module__.removeprefix("models.")


@pytest.mark.slow_but_first
@pytest.mark.parametrize("model", GENERATORS.values(), ids=GENERATORS)
def test_every_parameter_has_logical_axes_for_all_its_dimensions(model):
    boxed = model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))
    boxes = jax.tree.leaves(boxed, is_leaf=lambda x: isinstance(x, nn.Partitioned))
    assert all(isinstance(box, nn.Partitioned) and len(box.names) == box.value.ndim for box in boxes)
    for side, layers in (("encoder", 2), ("decoder", 3)):
        stacked = flatten_dict(nn.unbox(boxed)["params"]["model"][side]["layers"])
        assert all(leaf.shape[0] == layers for leaf in stacked.values())


@pytest.mark.slow_but_first
@pytest.mark.parametrize("name", GENERATORS)
def test_initial_values(name):
    """N(0, σ²), the row of padding 0; the Transformer's own: Glorot's in linear layers, N(0, 1 / d_model) in embeddings."""
    config = GENERATORS[name].config
    flat = flatten_dict(variables_of(GENERATORS[name])["params"], sep="/")
    own = name == "transformer"
    for path, value in flat.items():
        if path.endswith("bias"):
            assert not value.any(), path
        elif path.endswith("scale"):
            assert (value == 1).all(), path
        elif path.endswith("kernel"):
            expected = np.sqrt(2 / sum(value.shape[1:])) if own else config.init_std
            assert abs(value.std() / expected - 1) < 0.06, path
            assert not np.array_equal(value[0], value[1]), path
    words = np.asarray(flat["model/shared/embedding"])
    assert not words[config.pad_token_id].any() and words[0].any()
    assert abs(words.std() / (config.d_model**-0.5 if own else config.init_std) - 1) < 0.06


@pytest.mark.slow_but_first
@pytest.mark.parametrize("model", GENERATORS.values(), ids=GENERATORS)
@pytest.mark.parametrize("targets", [TARGET, None])
def test_forward_flops_are_those_of_the_equations(model, targets):
    """Of each token 8 H² (query, key, value, output), 4 H·I (feed-forward) and 4 H·length (attention) in a layer, in the decoder
    as much again for what it reads, and 2 H·V for its scores."""
    shapes = {"input_ids": (4, SOURCE), **({} if targets is None else {"decoder_input_ids": (4, targets)})}
    config, source, target = model.config, SOURCE, targets or SOURCE
    hidden = config.d_model
    read = source * (8 * hidden**2 + 4 * hidden * config.encoder_ffn_dim + 4 * hidden * source)
    written = target * (8 * hidden**2 + 4 * hidden * config.decoder_ffn_dim + 4 * hidden * target)
    between = 4 * hidden**2 * (target + source) + 4 * hidden * target * source
    layers = config.encoder_layers * read + config.decoder_layers * (written + between)
    assert model.forward_flops(shapes) == 4 * (layers + 2 * hidden * config.vocab_size * target)


# ── Settings that change no number ───────────────────────────────────────────────────────────────────────────────────


def outputs_and_gradients(model: nn.Module, **settings) -> dict[str, jax.Array]:
    variables, model = variables_of(model), with_config(model, **settings)
    mask = jnp.ones((4, SOURCE), jnp.int32).at[1, 5:].set(0)

    def loss(params):
        outputs = model.apply(
            {"params": params},
            ids(),
            mask,
            ids(TARGET, seed=1),
            dropout_keys=jax.random.split(jax.random.key(5), 4),
            output_hidden_states=True,
            output_attentions=True,
        )
        return jnp.sin(outputs.logits).sum(), outputs

    (_, outputs), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
    return flatten_dict({"outputs": dict(outputs), "gradients": gradients}, sep="/")


@pytest.fixture(scope="module")
def plain():
    return {name: outputs_and_gradients(GENERATORS[name], scan_layers=False) for name in ("bart", "mbart")}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bart", "mbart"])
@pytest.mark.parametrize(("scan_layers", "remat"), [(True, "none"), (False, "full"), (True, "dots")])
def test_scan_and_remat_change_no_number(plain, name, scan_layers, remat):
    found = outputs_and_gradients(GENERATORS[name], scan_layers=scan_layers, remat=remat)
    assert set(found) == set(plain[name])
    for path, value in found.items():
        scale = max(1.0, float(np.abs(plain[name][path]).max()))
        np.testing.assert_allclose(value, plain[name][path], rtol=0, atol=1e-5 * scale, err_msg=path)


@pytest.mark.slow
def test_final_logits_bias_is_added_but_not_trained():
    variables = variables_of(BART)
    params = {**variables["params"], "final_logits_bias": jnp.arange(60.0)}
    changed = BART.apply({"params": params}, ids()).logits - BART.apply(variables, ids()).logits
    np.testing.assert_allclose(changed, np.broadcast_to(np.arange(60.0), changed.shape), atol=1e-4)
    gradient = jax.grad(lambda params: jnp.sin(BART.apply({"params": params}, ids()).logits).sum())(params)
    assert not gradient["final_logits_bias"].any() and gradient["model"]["shared"]["embedding"].any()


@pytest.mark.slow_but_first
@pytest.mark.parametrize("layout", [dict(fsdp=2, tensor=2), dict(tensor=2), dict(fsdp=4)], ids=str)
def test_a_mesh_changes_no_number(layout, plain):
    """`plain` on four devices, laid out by the rules that training has."""
    boxed = jax.eval_shape(lambda: BART.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32)))
    spread = Parallel("jit", **layout).spread(logical_axes(boxed))
    variables = spread.put(jax.device_get(variables_of(BART)))
    divided = [x for x in jax.tree.leaves(variables) if not x.is_fully_replicated]
    assert len(divided) > 20
    inputs = [ids(), jnp.ones((4, SOURCE), jnp.int32).at[1, 5:].set(0), ids(TARGET, seed=1)]
    keys = jax.random.split(jax.random.key(5), 4)

    def loss(variables, batch):
        outputs = BART.apply(variables, *(x[0] for x in batch.values()), dropout_keys=keys)
        return jnp.sin(outputs.logits).sum(), outputs.logits

    batch = spread.put_batch({str(i): np.asarray(x)[None] for i, x in enumerate(inputs)})
    step = spread.compile(jax.value_and_grad(loss, has_aux=True), donate=False)
    (_, logits), gradients = step(variables, batch)
    found = flatten_dict({"outputs": {"logits": logits}, "gradients": gradients["params"]}, sep="/")
    for path, value in found.items():
        scale = max(1.0, float(np.abs(plain["bart"][path]).max()))
        np.testing.assert_allclose(value, plain["bart"][path], rtol=0, atol=1e-5 * scale, err_msg=path)


@pytest.mark.parametrize(("architecture", "variant"), [row[:2] for row in PUBLISHED_COUNTS[-5:]])
def test_every_matrix_is_divided_over_a_pod(architecture, variant):
    """On data 2 × fsdp 2 × tensor 2 a chip holds a quarter of each matrix, and vectors whole or halved."""
    config = hub.config_class(hub_type(architecture)).variant(variant)
    mesh = AbstractMesh((2, 2, 2), ("data", "fsdp", "tensor"))
    model = architecture(dataclasses.replace(config, vocab_size=config.vocab_size + config.vocab_size % 2))
    boxed = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32)))
    shardings = nn.logical_to_mesh_sharding(logical_axes(boxed), mesh, RULES)
    for (path, leaf), sharding in zip(
        jax.tree_util.tree_leaves_with_path(nn.unbox(boxed)), jax.tree.leaves(shardings), strict=True
    ):
        divided = leaf.size // int(np.prod(sharding.shard_shape(leaf.shape)))
        name = jax.tree_util.keystr(path)
        if "kernel" in name or "shared" in name:
            assert divided == 4, name
        elif "position" in name:
            assert divided == 2, name


# ── Dropout ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_dropout_goes_with_the_example_not_with_its_row():
    variables, keys = variables_of(BART), jax.random.split(jax.random.key(1), 4)
    order = np.array([2, 0, 3, 1])
    apply = jax.jit(lambda rows, keys: BART.apply(variables, rows, dropout_keys=keys).logits)
    straight, permuted, alone = apply(ids(), keys), apply(ids()[order], keys[order]), apply(ids()[1:2], keys[1:2])
    np.testing.assert_allclose(permuted, straight[order], rtol=0, atol=1e-4)
    np.testing.assert_allclose(alone[0], straight[1], rtol=0, atol=1e-4)
    assert np.abs(apply(ids(), keys[order]) - straight).max() > 1e-2


@pytest.mark.slow_but_first
@pytest.mark.parametrize("only", ["dropout", "attention_dropout", "activation_dropout", "classifier_dropout"])
def test_each_dropout_acts_and_only_with_keys(only):
    off = dict(dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, classifier_dropout=0.0)
    still = bart.BartForSequenceClassification(dataclasses.replace(BART.config, **off))
    noisy = with_config(still, **{only: 0.5})
    variables, keys = variables_of(still), jax.random.split(jax.random.key(1), 4)
    expected = still.apply(variables, ids()).logits
    np.testing.assert_array_equal(noisy.apply(variables, ids()).logits, expected)
    np.testing.assert_array_equal(still.apply(variables, ids(), dropout_keys=keys).logits, expected)
    assert np.abs(noisy.apply(variables, ids(), dropout_keys=keys).logits - expected).max() > 1e-3


def test_encoder_and_decoder_drop_different_places():
    """The embeddings of the same text with the same positions would be dropped alike if the key did not know the side."""
    model = bart.BartModel(dataclasses.replace(BART.config, dropout=0.5))
    outputs = model.apply(
        variables_of(model),
        ids(),
        decoder_input_ids=ids(),
        dropout_keys=jax.random.split(jax.random.key(0), 4),
        output_hidden_states=True,
    )
    zeros = [np.asarray(outputs[f"{side}_hidden_states"][0] == 0) for side in ("encoder", "decoder")]
    assert all(0.4 < x.mean() < 0.6 for x in zeros) and 0.4 < (zeros[0] != zeros[1]).mean() < 0.6
