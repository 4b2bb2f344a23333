"""BART, mBART, Marian and the Transformer held against what must be true of them, without a reference implementation."""

import dataclasses
import json
from collections.abc import Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.sharding import AbstractMesh
from safetensors.numpy import load_file, save_file

from models import bart, hub, marian, mbart, t5, transformer
from models.config import ModelError
from models.model import products
from training.parallel import RULES, Parallel, logical_axes

SHAPE = dict(
    vocab_size=60,
    d_model=32,
    encoder_layers=2,
    decoder_layers=3,
    encoder_attention_heads=4,
    decoder_attention_heads=2,
    encoder_ffn_dim=48,
    decoder_ffn_dim=40,
    max_position_embeddings=20,
    init_std=0.2,
    pad_token_id=1,
    eos_token_id=2,
    scan_layers=True,
)
GENERATORS = {
    "bart": bart.BartForConditionalGeneration(bart.BartConfig(**SHAPE)),
    "mbart": mbart.MBartForConditionalGeneration(mbart.MBartConfig(**SHAPE, scale_embedding=True)),
    "marian": marian.MarianMTModel(marian.MarianConfig(**SHAPE, decoder_start_token_id=2)),
    "transformer": transformer.TransformerForConditionalGeneration(transformer.TransformerConfig(**SHAPE)),
}
T5 = t5.T5Config(vocab_size=50, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_decoder_layers=3, num_heads=2)
BART = GENERATORS["bart"]
SOURCE, TARGET = 9, 6


def variables_of(model: nn.Module) -> dict:
    return nn.unbox(model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32)))


def with_config(model: nn.Module, **changes) -> nn.Module:
    return type(model)(dataclasses.replace(model.config, **changes))


def ids(length: int = SOURCE, rows: int = 4, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).integers(5, SHAPE["vocab_size"], (rows, length)), jnp.int32)


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


@pytest.mark.parametrize("model", GENERATORS.values(), ids=GENERATORS)
def test_every_parameter_has_logical_axes_for_all_its_dimensions(model):
    boxed = model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))
    boxes = jax.tree.leaves(boxed, is_leaf=lambda x: isinstance(x, nn.Partitioned))
    assert all(isinstance(box, nn.Partitioned) and len(box.names) == box.value.ndim for box in boxes)
    for side, layers in (("encoder", 2), ("decoder", 3)):
        stacked = flatten_dict(nn.unbox(boxed)["params"]["model"][side]["layers"])
        assert all(leaf.shape[0] == layers for leaf in stacked.values())


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


@pytest.mark.parametrize("name", ["bart", "mbart"])
@pytest.mark.parametrize(("scan_layers", "remat"), [(True, "none"), (False, "full"), (True, "dots")])
def test_scan_and_remat_change_no_number(plain, name, scan_layers, remat):
    found = outputs_and_gradients(GENERATORS[name], scan_layers=scan_layers, remat=remat)
    assert set(found) == set(plain[name])
    for path, value in found.items():
        scale = max(1.0, float(np.abs(plain[name][path]).max()))
        np.testing.assert_allclose(value, plain[name][path], rtol=0, atol=1e-5 * scale, err_msg=path)


def test_final_logits_bias_is_added_but_not_trained():
    variables = variables_of(BART)
    params = {**variables["params"], "final_logits_bias": jnp.arange(60.0)}
    changed = BART.apply({"params": params}, ids()).logits - BART.apply(variables, ids()).logits
    np.testing.assert_allclose(changed, np.broadcast_to(np.arange(60.0), changed.shape), atol=1e-4)
    gradient = jax.grad(lambda params: jnp.sin(BART.apply({"params": params}, ids()).logits).sum())(params)
    assert not gradient["final_logits_bias"].any() and gradient["model"]["shared"]["embedding"].any()


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


# ── What sees what ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["bart", "mbart", "transformer"])
def test_who_sees_whom(name):
    """By gradients: a written token depends on those before it and on every token read that is not masked, no others."""
    model = hub.model_class(name, {"bart": "Bart", "mbart": "MBart", "transformer": "Transformer"}[name] + "Model")(
        GENERATORS[name].config
    )
    params = variables_of(model)["params"]
    source, target = jnp.arange(10, 10 + SOURCE)[None], jnp.arange(30, 30 + TARGET)[None]
    mask = jnp.ones((1, SOURCE), jnp.int32).at[0, jnp.array([0, 7])].set(0)

    def hidden(table):
        """Of `last_hidden_state` a number per place that depends on all of its features."""
        outputs = model.apply({"params": {**params, "shared": {"embedding": table}}}, source, mask, target)
        return jnp.sin(3 * outputs.last_hidden_state[0]).sum(axis=-1)

    jacobian = np.abs(jax.jit(jax.jacobian(hidden))(params["shared"]["embedding"])).max(axis=2)
    np.testing.assert_array_equal(jacobian[:, 30 : 30 + TARGET] > 0, np.tri(TARGET, dtype=bool))
    read = np.broadcast_to(np.asarray(mask[0]) > 0, (TARGET, SOURCE))
    np.testing.assert_array_equal(jacobian[:, 10 : 10 + SOURCE] > 0, read)


@pytest.mark.parametrize("padded", [slice(6, None), slice(0, 3)], ids=["right", "left"])
def test_padded_places_influence_no_other(padded):
    variables = variables_of(BART)
    mask = jnp.ones((4, SOURCE), jnp.int32).at[:, padded].set(0)
    others = jnp.where(mask == 1, ids(), ids(seed=2))
    apply = jax.jit(lambda text, mask, target, written: BART.apply(variables, text, mask, target, written).logits)
    target = ids(SOURCE, seed=3)
    other_target = jnp.where(mask == 1, target, ids(seed=4))
    one = apply(ids(), mask, target, mask)[mask == 1]
    np.testing.assert_array_equal(apply(others, mask, other_target, mask)[mask == 1], one)
    assert np.abs(apply(others, jnp.ones_like(mask), target, mask)[mask == 1] - one).max() > 1e-2


def test_classification_reads_the_last_end_of_the_text():
    model = bart.BartForSequenceClassification(BART.config)
    variables = variables_of(model)
    text = ids().at[:, 8].set(2).at[1, 4].set(2).at[2, 8].set(1).at[2, 5].set(2)
    mask = (text != 1).astype(jnp.int32)
    logits = model.apply(variables, text, mask).logits
    alone = model.apply(variables, text[2:3, :6]).logits
    np.testing.assert_allclose(logits[2:3], model.apply(variables, text[2:3, :8], mask[2:3, :8]).logits, atol=1e-5)
    np.testing.assert_allclose(alone, model.apply(variables, text[2:3], mask[2:3].at[:, 6:].set(0)).logits, atol=1e-5)
    with pytest.raises(ModelError, match="input_ids is missing: BartForSequenceClassification looks for the end"):
        cache = model.apply(variables, text, room=SOURCE, method="encode")
        model.apply(variables, decoder_input_ids=text, past_key_values=cache)


# ── Decoding ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", GENERATORS)
def test_decoding_in_one_compiled_loop(name):
    """Each step one token on the cache that `encode` makes; and without a cache, all at once."""
    model, steps = GENERATORS[name], 8
    variables, text = variables_of(model), ids()
    mask = jnp.ones_like(text).at[2, 4:].set(0)
    written = ids(steps, seed=1)

    def step(cache, token):
        outputs = model.apply(variables, decoder_input_ids=token[:, None], past_key_values=cache)
        return outputs.past_key_values, outputs.logits[:, 0]

    cache = model.apply(variables, text, mask, room=steps, method="encode")
    assert int(cache.length) == 0 and cache.memory_keys.shape == (3, 4, 2, SOURCE, 16)
    cache, logits = jax.jit(lambda cache: jax.lax.scan(step, cache, written.T))(cache)
    assert int(cache.length) == steps
    np.testing.assert_allclose(logits.swapaxes(0, 1), model.apply(variables, text, mask, written).logits, atol=1e-5)


def sizes(program: Jaxpr) -> Iterator[int]:
    """Of all arrays in a program."""
    for equation in program.eqns:
        yield from (x.aval.size for x in (*equation.invars, *equation.outvars))
        for inner in jax.tree.leaves(equation.params, is_leaf=lambda x: isinstance(x, ClosedJaxpr | Jaxpr)):
            if isinstance(inner, ClosedJaxpr | Jaxpr):
                yield from sizes(inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner)


@pytest.mark.parametrize("model", [*GENERATORS.values(), t5.T5ForConditionalGeneration(T5)], ids=[*GENERATORS, "t5"])
def test_an_encoder_is_read_without_decoding(model):
    """Only keys and values of its output are made: no array is empty, and no product but 4 H·width·S in a decoder's layer."""
    program = jax.make_jaxpr(lambda v: model.apply(v, ids(), room=5, method="encode"))(variables_of(model)).jaxpr
    assert min(sizes(program)) > 0
    config = model.config
    width = config.num_heads * config.d_kv if isinstance(config, t5.T5Config) else config.d_model
    inner = config.d_ff if isinstance(config, t5.T5Config) else config.encoder_ffn_dim
    per_token = 8 * config.d_model * width + 4 * config.d_model * inner + 4 * width * SOURCE
    encoder = config.encoder_layers * SOURCE * per_token
    assert products(program) == 4 * (encoder + config.decoder_layers * 4 * config.d_model * width * SOURCE)


def test_what_cannot_be_decoded_is_refused():
    variables, text = variables_of(BART), ids()
    cache = BART.apply(variables, text, room=4, method="encode")
    for inputs, message in (
        ({}, "input_ids is missing"),
        ({"decoder_input_ids": text}, "input_ids is missing"),
        ({"past_key_values": cache}, "decoder_input_ids is missing: with past_key_values"),
        ({"input_ids": text, "past_key_values": cache}, "leave out input_ids and attention_mask"),
        ({"input_ids": ids(21)}, "21 tokens do not fit a model with max_position_embeddings=20"),
        ({"input_ids": text, "decoder_input_ids": ids(21)}, "21 tokens do not fit"),
    ):
        with pytest.raises(ModelError, match=message):
            BART.apply(variables, **inputs)
    with pytest.raises(ModelError, match="21 tokens do not fit"):
        BART.config.empty_cache(1, 21)
    with pytest.raises(ModelError, match="9 tokens at once do not fit a cache with room for 4: make it larger"):
        BART.apply(variables, decoder_input_ids=text, past_key_values=cache)


def test_sinusoids_have_no_end():
    model = GENERATORS["transformer"]
    assert model.config.longest_input is None
    assert model.apply(variables_of(model), ids(50)).logits.shape == (4, 50, 60)


# ── Config and folders ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", GENERATORS)
def test_config_to_json_and_back(kind):
    config_class = hub.config_class(kind)
    for variant in config_class.variants:
        config = config_class.variant(variant, dropout=0.25)
        published = json.loads(json.dumps(config.to_json()))
        assert published["model_type"] == kind and not set(published) & set(config_class.execution)
        assert config_class.from_json(published) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_model": 30}, "d_model=30 does not divide into encoder_attention_heads=4"),
        ({"decoder_attention_heads": 3}, "d_model=32 does not divide into decoder_attention_heads=3"),
        ({"activation_function": "gelo"}, "unknown activation 'gelo': did you mean 'gelu'"),
        ({"pad_token_id": 60}, "pad_token_id=60 is not among vocab_size=60"),
        ({"eos_token_id": -1}, "eos_token_id=-1: expected a whole number of at least 0"),
        ({"decoder_layers": 0}, "decoder_layers=0: expected a whole number of at least 1"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ModelError, match=message):
        with_config(BART, **changes)


@pytest.mark.parametrize(
    ("kind", "published"),
    [
        ("bart", {"encoder_layerdrop": 0.1}),
        ("mbart", {"decoder_layerdrop": 0.1}),
        ("bart", {"tie_word_embeddings": False}),
        ("marian", {"share_encoder_decoder_embeddings": False}),
    ],
)
def test_published_variants_that_would_give_other_numbers_are_refused(kind, published):
    config = GENERATORS[kind].config
    with pytest.raises(ModelError, match=f"{next(iter(published))}.*not implemented|only the tied head"):
        type(config).from_json({**config.to_json(), **published})


def published(folder, model: nn.Module = BART) -> dict:
    rng = np.random.default_rng(0)
    flat = {path: rng.normal(size=shape.shape).astype(np.float32) for path, shape in hub.shapes_of(model).items()}
    variables = {"params": unflatten_dict({path: jnp.asarray(x) for path, x in flat.items()}, sep="/")}
    hub.save(folder, model, variables)
    return variables


def change_tensors(folder, change) -> None:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


WORDS = "model.shared.weight"
ALIASES = ("lm_head.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight")


@pytest.mark.parametrize(
    "change",
    [
        *(
            lambda tensors, alias=alias: {alias if name == WORDS else name: x for name, x in tensors.items()}
            for alias in ALIASES
        ),
        lambda tensors: {**tensors, **dict.fromkeys(ALIASES, tensors[WORDS])},
        lambda tensors: {name.removeprefix("model."): x for name, x in tensors.items()},
        lambda tensors: {**tensors, "model.encoder.version": np.full(1, 3.0), "decoder.version": np.full(1, 3.0)},
    ],
    ids=[*(f"only {alias}" for alias in ALIASES), "all of them", "no prefix", "versions"],
)
def test_other_names_of_the_same_tensors(change, tmp_path):
    variables = published(tmp_path)
    change_tensors(tmp_path, change)
    for path, x in flatten_dict(hub.load(tmp_path)[1]["params"], sep="/").items():
        np.testing.assert_array_equal(x, flatten_dict(variables["params"], sep="/")[path], err_msg=path)


def test_files_without_a_bias_of_the_scores_have_zeros_there(tmp_path):
    published(tmp_path, bart.BartModel(BART.config))
    model, variables = hub.load(tmp_path, architecture="BartForConditionalGeneration")
    assert not variables["params"]["final_logits_bias"].any()
    assert model.apply(variables, ids()).logits.shape == (4, SOURCE, 60)


@pytest.mark.parametrize(
    ("alias", "architecture", "refused"),
    [
        ("lm_head.weight", "BartForConditionalGeneration", True),
        ("lm_head.weight", "BartModel", False),
        ("model.encoder.embed_tokens.weight", "BartForConditionalGeneration", True),
        ("model.decoder.embed_tokens.weight", "BartModel", True),
    ],
)
def test_embeddings_that_are_not_tied_are_refused_where_they_matter(alias, architecture, refused, tmp_path):
    published(tmp_path)
    change_tensors(tmp_path, lambda tensors: {**tensors, alias: tensors[WORDS] + 1})
    if not refused:
        hub.load(tmp_path, architecture=architecture)
        return
    with pytest.raises(ModelError, match="differs from"):
        hub.load(tmp_path, architecture=architecture)


def test_the_other_kind_of_norms_is_unexpected(tmp_path):
    published(tmp_path, GENERATORS["mbart"])
    path = tmp_path / "config.json"
    about = json.loads(path.read_text())
    path.write_text(json.dumps({**about, "model_type": "bart", "architectures": ["BartForConditionalGeneration"]}))
    with pytest.raises(ModelError, match=r"unexpected: model\.decoder\.layer_norm\.bias"):
        hub.load(tmp_path)
