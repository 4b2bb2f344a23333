"""ELECTRA held against what must be true of it, without a reference implementation."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from scipy.stats import chisquare

from models import electra, hub
from models.config import ModelError
from models.electra import ElectraConfig, ElectraForJointPreTraining
from objectives import ReplacedTokenDetection
from objectives.losses import IGNORED
from tests.examples import batch
from training.optimizers import AdamW
from training.parallel import Parallel, logical_axes
from training.state import Update
from training.step import corrupted, forward, host_values, train_step

SMALL = ElectraConfig(
    vocab_size=200,
    embedding_size=16,
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=64,
    max_position_embeddings=48,
    initializer_range=0.2,
    generator_size=0.5,
)
ROWS, LENGTH = 8, 48


def variables_of(model: nn.Module) -> dict:
    return nn.unbox(model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32)))


def count(model: nn.Module) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(lambda: variables_of(model))))


@pytest.fixture(scope="module")
def seen(vocabulary) -> dict[str, jax.Array]:
    """What replaced-token detection feeds the model."""
    objective = ReplacedTokenDetection().bind(vocabulary)
    return jax.jit(lambda rows: corrupted(objective, 0, rows)[0])(batch(range(ROWS), LENGTH))


# ── Shapes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("head", "variant", "discriminator", "generator"),
    [
        ("ElectraModel", "small", 13_483_008, 4_580_928),
        ("ElectraModel", "base", 108_891_648, 33_511_168),
        ("ElectraModel", "large", 334_092_288, 50_999_552),
        ("ElectraForPreTraining", "small", 13_549_057, 4_585_153),
        ("ElectraForPreTraining", "base", 109_483_009, 33_577_217),
        ("ElectraForPreTraining", "large", 335_142_913, 51_065_601),
        ("ElectraForMaskedLM", "small", 13_546_682, 4_620_026),
        ("ElectraForMaskedLM", "base", 109_514_298, 33_740_602),
        ("ElectraForMaskedLM", "large", 335_174_458, 51_295_290),
        ("ElectraForSequenceClassification", "small", 13_549_314, 4_585_218),
        ("ElectraForSequenceClassification", "base", 109_483_778, 33_577_474),
        ("ElectraForTokenClassification", "large", 334_094_338, 51_000_066),
        ("ElectraForQuestionAnswering", "small", 13_483_522, 4_581_058),
    ],
)
def test_parameter_counts_of_the_published_variants(head, variant, discriminator, generator):
    """As `transformers` has them, of the discriminator's shape and of the generator's."""
    config = ElectraConfig.variant(variant)
    assert count(getattr(electra, head)(config)) == discriminator
    assert count(getattr(electra, head)(config.generator)) == generator


@pytest.mark.parametrize(("variant", "width"), [("small", 128), ("base", 768), ("large", 1_024)])
def test_the_joint_model_has_both_and_one_set_of_embeddings(variant, width):
    config = ElectraConfig.variant(variant)
    parts = count(electra.ElectraForPreTraining(config)) + count(electra.ElectraForMaskedLM(config.generator))
    assert count(ElectraForJointPreTraining(config)) == parts - (30_522 + 512 + 2 + 2) * width


@pytest.mark.slow
def test_every_parameter_has_logical_axes_for_all_its_dimensions():
    boxed = ElectraForJointPreTraining(SMALL).init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))
    boxes = jax.tree.leaves(boxed, is_leaf=lambda x: isinstance(x, nn.Partitioned))
    assert all(isinstance(box, nn.Partitioned) and len(box.names) == box.value.ndim for box in boxes)


@pytest.mark.parametrize("embedding_size", [16, 32])
def test_forward_flops_are_those_of_the_equations(embedding_size):
    """As BERT's, a projection of embeddings that are narrower, 2 H·E + 2 E·V for each token of the generator and 2 H² + 2 H for
    each of the discriminator."""
    config = dataclasses.replace(SMALL, embedding_size=embedding_size)
    rows, length, slots = 2, 16, 3

    def encoder(of: ElectraConfig) -> int:
        hidden = of.hidden_size
        layer = 8 * hidden**2 + 4 * hidden * of.intermediate_size + 4 * hidden * length
        projection = 2 * embedding_size * hidden * (embedding_size != hidden)
        return rows * length * (of.num_hidden_layers * layer + projection)

    def predictions(of: ElectraConfig) -> int:
        return rows * slots * (2 * of.hidden_size * embedding_size + 2 * embedding_size * of.vocab_size)

    shapes = {"input_ids": (rows, length), "masked_positions": (rows, slots), "sampling_key": (rows, 2)}
    alone = encoder(config) + predictions(config)
    assert electra.ElectraForMaskedLM(config).forward_flops(shapes) == alone
    generator = encoder(config.generator) + predictions(config.generator)
    head = rows * length * (2 * config.hidden_size**2 + 2 * config.hidden_size)
    assert ElectraForJointPreTraining(config).forward_flops(shapes) == generator + encoder(config) + head


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generator_size": 0.0}, r"generator_size=0.0: the fraction of the discriminator must lie in \(0, 1\]"),
        ({"generator_size": 1.5}, "generator_size=1.5"),
        ({"embedding_size": 0}, "embedding_size=0: expected a whole number of at least 1"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ModelError, match=message):
        dataclasses.replace(SMALL, **changes)


def test_a_generator_that_cannot_be_is_refused():
    """0.3 of 36 features are 11, of 6 heads 2: as a discriminator alone it may be."""
    config = dataclasses.replace(SMALL, hidden_size=36, num_attention_heads=6, generator_size=0.3)
    variables_of(electra.ElectraForPreTraining(config))
    with pytest.raises(ModelError, match="makes no generator: hidden_size=11 does not divide"):
        variables_of(ElectraForJointPreTraining(config))


@pytest.mark.parametrize("variant", ElectraConfig.variants)
def test_config_to_json_and_back(variant):
    config = ElectraConfig.variant(variant, labels=("neg", "neutral", "pos"))
    published = config.to_json()
    assert published["embedding_size"] == config.embedding_size and "generator_size" not in published
    assert ElectraConfig.from_json(published, generator_size=config.generator_size) == config


# ── Drawing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def keys(examples: int, seed: int = 0) -> jax.Array:
    return jax.random.key_data(jax.random.split(jax.random.key(seed, impl="threefry2x32"), examples))


def test_tokens_are_drawn_with_the_probabilities_of_the_logits():
    logits = jnp.array([0.0, 2.0, -1.0, 1.0, -jnp.inf, -6.0])
    examples, slots = 500, 200
    drawn = electra.sample(keys(examples), jnp.broadcast_to(logits, (examples, slots, 6)))
    found = np.bincount(np.asarray(drawn).reshape(-1), minlength=6)
    expected = np.asarray(jax.nn.softmax(logits), np.float64)
    assert found[4] == 0
    kept = expected > 0
    assert chisquare(found[kept], expected[kept] / expected[kept].sum() * examples * slots).pvalue > 1e-4


def test_what_is_drawn_goes_with_the_example_not_with_its_row():
    logits = jax.random.normal(jax.random.key(1), (6, 5, 40))
    straight = electra.sample(keys(6), logits)
    order = np.array([3, 0, 5, 1, 4, 2])
    np.testing.assert_array_equal(electra.sample(keys(6)[order], logits[order]), straight[order])
    np.testing.assert_array_equal(electra.sample(keys(6)[2:3], logits[2:3]), straight[2:3])
    assert (electra.sample(keys(6, seed=1), logits) != straight).any()


# ── The joint model ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_only_what_was_asked_is_replaced(seen):
    model = ElectraForJointPreTraining(SMALL)
    params = variables_of(model)["params"]
    labels = seen["labels"].at[:, 3:].set(IGNORED)  # slots left over, whose masked_positions must touch nothing
    outputs = forward(model, {"params": params}, {**seen, "labels": labels})
    chosen = np.zeros((ROWS, LENGTH), bool)
    np.put_along_axis(chosen, np.asarray(seen["masked_positions"])[:, :3], True, axis=1)
    assert outputs.replaced.any() and not (np.asarray(outputs.replaced) & ~chosen).any()
    nothing = forward(model, {"params": params}, {**seen, "labels": jnp.full_like(labels, IGNORED)})
    alone = electra.ElectraForPreTraining(SMALL).apply(
        model.published({"params": params})[""][1], seen["input_ids"], seen["attention_mask"], seen["token_type_ids"]
    )
    assert not nothing.replaced.any()
    np.testing.assert_allclose(nothing.discriminator_logits, alone.logits, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_drawn_token_that_hits_the_original_is_not_replaced(seen):
    model = ElectraForJointPreTraining(SMALL)
    params = variables_of(model)["params"]
    likeliest = {name: x for name, x in seen.items() if name != "sampling_key"}
    guessed = forward(model, {"params": params}, likeliest).generator_logits.argmax(axis=-1)
    hit = {**likeliest, "labels": jnp.where(seen["labels"] == IGNORED, IGNORED, guessed)}
    assert not forward(model, {"params": params}, hit).replaced.any()
    assert forward(model, {"params": params}, likeliest).replaced.any()


def test_the_generator_learns_nothing_from_the_discriminator(seen):
    model, objective = ElectraForJointPreTraining(SMALL), ReplacedTokenDetection()
    params = variables_of(model)["params"]

    def loss(params, name):
        return objective.loss(forward(model, {"params": params}, seen), seen)[name][0]

    detection = jax.jit(jax.grad(loss), static_argnums=1)(params, "detection_loss")
    generation = jax.jit(jax.grad(loss), static_argnums=1)(params, "generator_loss")

    def size(tree):
        return max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(tree))

    assert size(detection["generator"]) == size(generation["discriminator"]) == 0
    assert size(detection["discriminator"]) > 0 and size(generation["generator"]) > 0
    for name in electra.EMBEDDINGS:
        assert size(detection[name]) > 0 and size(generation[name]) > 0


def test_generator_and_discriminator_drop_other_places(seen):
    """As wide as each other and with the same weights, they would drop alike if the keys were the same."""
    config = dataclasses.replace(SMALL, generator_size=1.0, hidden_dropout_prob=0.5)
    model = ElectraForJointPreTraining(config)
    params = variables_of(model)["params"]
    params["generator"]["electra"] = params["discriminator"]["electra"]
    bodies = {}

    def keep(next_call, arguments, options, context):
        output = next_call(*arguments, **options)
        if type(context.module).__name__ == "BertModel" and context.method_name == "__call__":
            bodies[context.module.path[0]] = output.last_hidden_state
        return output

    text = {name: seen[name] for name in ("input_ids", "attention_mask")}
    for dropout_keys, alike in ((None, True), (jax.random.split(jax.random.key(0), ROWS), False)):
        with nn.intercept_methods(keep):
            forward(model, {"params": params}, text, dropout_keys)
        assert np.array_equal(bodies["generator"], bodies["discriminator"]) == alike


@pytest.mark.slow
@pytest.mark.parametrize(("remat", "scan_layers"), [("none", True), ("dots", True), ("full", False)])
def test_scan_and_remat_change_no_number(remat, scan_layers, seen):
    objective = ReplacedTokenDetection()
    params = variables_of(ElectraForJointPreTraining(SMALL))["params"]

    def found(**settings):
        model = ElectraForJointPreTraining(dataclasses.replace(SMALL, **settings))

        def loss(params):
            outputs = forward(model, {"params": params}, seen, jax.random.split(jax.random.key(5), ROWS))
            losses = objective.loss(outputs, seen)
            return sum(amount / weight for amount, weight in losses.values()), outputs

        (_, outputs), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
        return flatten_dict({"outputs": dict(outputs), "gradients": gradients}, sep="/")

    plain = found()
    for name, value in found(remat=remat, scan_layers=scan_layers).items():
        scale = max(1.0, float(np.abs(plain[name]).max()))
        np.testing.assert_allclose(value, plain[name], rtol=0, atol=3e-6 * scale, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "parallel",
    [Parallel(), Parallel("jit", fsdp=2, tensor=2), Parallel("jit", tensor=4), Parallel(devices=1, micro_batches=2)],
    ids=str,
)
def test_every_layout_takes_the_same_steps(parallel, vocabulary):
    """Also what is drawn: an example's tokens are a function of its place in the run."""
    model = ElectraForJointPreTraining(dataclasses.replace(SMALL, num_hidden_layers=2, scan_layers=True))
    objective = ReplacedTokenDetection().bind(vocabulary)
    optimizer = AdamW(learning_rate=1e-3, warmup_steps=1).build(10)

    def initial():
        return Update(optimizer).first(model.init(jax.random.key(0), jnp.zeros((1, 8), jnp.int32)))

    def steps(parallel: Parallel) -> tuple[dict, list]:
        spread = parallel.spread(logical_axes(jax.eval_shape(initial)))
        state = spread.put(jax.device_get(nn.unbox(jax.jit(initial)())))
        step = functools.partial(train_step, model=model, objective=objective, update=Update(optimizer), seed=3)
        step, metrics = spread.compile(step, donate=True), []
        for number in range(2):
            rows = batch(range(number * ROWS, (number + 1) * ROWS), LENGTH)
            rows = {name: x.reshape(parallel.micro_batches, -1, *x.shape[1:]) for name, x in rows.items()}
            state, found = step(state, spread.put_batch(rows))
            metrics.append(host_values(spread.host(found)))
        return flatten_dict(spread.gather(state.params), sep="/"), metrics

    (one, expected), (other, found) = steps(Parallel(devices=1)), steps(parallel)
    for before, after in zip(expected, found, strict=True):
        assert before["digest"] == after["digest"]
        assert before["detection_recall"] == pytest.approx(after["detection_recall"], abs=1e-6)
        assert before == pytest.approx(after, rel=2e-5)
    for name, value in one.items():
        if not name.endswith("key/bias"):  # whose gradient is 0: Adam divides one rounding error by another
            np.testing.assert_allclose(other[name], value, rtol=0, atol=2e-4, err_msg=name)


# ── Files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_joint_model_is_saved_in_parts_and_joined_again(tmp_path, seen):
    model = ElectraForJointPreTraining(SMALL)
    variables = variables_of(model)
    hub.save(tmp_path, model, variables)
    assert isinstance(hub.load(tmp_path)[0], electra.ElectraForPreTraining)
    assert isinstance(hub.load(tmp_path / "generator")[0], electra.ElectraForMaskedLM)
    again, loaded = hub.load(tmp_path, architecture="ElectraForJointPreTraining")
    assert again.config == SMALL
    one, other = (flatten_dict(tree["params"], sep="/") for tree in (variables, loaded))
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(other[name], value, err_msg=name)


def test_parts_that_are_not_of_one_model_are_refused(tmp_path):
    model = ElectraForJointPreTraining(SMALL)
    variables = variables_of(model)
    hub.save(tmp_path, model, variables)
    kind, published = model.published(variables)["generator"]
    params = published["params"]
    moved = jax.tree.map(lambda x: x, params)
    moved["electra"]["position_embeddings"] = {"embedding": params["electra"]["position_embeddings"]["embedding"] + 1}
    hub.save(tmp_path / "generator", kind, {"params": moved})
    with pytest.raises(ModelError, match="position_embeddings of generator and discriminator differ"):
        hub.load(tmp_path, architecture="ElectraForJointPreTraining")
    shallow = electra.ElectraForMaskedLM(dataclasses.replace(SMALL.generator, num_hidden_layers=1))
    hub.save(tmp_path / "generator", shallow, variables_of(shallow))
    with pytest.raises(ModelError, match="is not as this discriminator's"):
        hub.load(tmp_path, architecture="ElectraForJointPreTraining")


def test_parameters_of_another_model_are_refused(tmp_path):
    with pytest.raises(ModelError, match="these are not the parameters of this ElectraForJointPreTraining"):
        hub.save(tmp_path, ElectraForJointPreTraining(SMALL), variables_of(electra.ElectraForPreTraining(SMALL)))
