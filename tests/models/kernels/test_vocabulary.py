"""Losses of a vocabulary by chunks, against the loss of whole scores: values, gradients, and what is held at once."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from models.kernels import vocabulary
from models.layers.vocabulary import VocabularyScores
from objectives.losses import IGNORED, accuracy, cross_entropy
from training.parallel import RULES

BATCH, PLACES, FEATURES, VOCAB = 4, 11, 6, 32


def case(biased=True, dtype="float32"):
    random = np.random.default_rng(0)
    hidden, kernel, bias = (
        jnp.asarray(random.normal(size=shape), jnp.float32)
        for shape in ((BATCH, PLACES, FEATURES), (FEATURES, VOCAB), (VOCAB,))
    )
    labels = jnp.asarray(random.integers(0, VOCAB, (BATCH, PLACES)), jnp.int32)
    labels = jnp.where(jnp.asarray(random.random((BATCH, PLACES)) < 0.4), IGNORED, labels)
    return (hidden.astype(dtype), kernel, bias if biased else None), labels


def judge(smoothing):
    return lambda logits, labels: (cross_entropy(logits, labels, smoothing)[0], accuracy(logits, labels)[0])


def derived(function, arrays):
    amount, back, right = jax.vjp(function, *arrays, has_aux=True)
    return amount, right, back(jnp.full((), 0.3))


@pytest.mark.parametrize("most", [VOCAB, 3 * BATCH * VOCAB, 10**9])
@pytest.mark.parametrize(("biased", "smoothing"), [(True, 0.0), (False, 0.1)])
def test_chunks_give_the_loss_and_the_gradient_of_whole_scores(monkeypatch, most, biased, smoothing):
    """One place at a time, three, or all; 11 places do not divide by three."""
    monkeypatch.setattr(vocabulary, "MOST_SCORES", most)
    arrays, labels = case(biased)
    expected = derived(lambda *arrays: judge(smoothing)(VocabularyScores(*arrays).whole(), labels), arrays)
    found = derived(lambda *arrays: VocabularyScores(*arrays).judged(labels, IGNORED, judge(smoothing)), arrays)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6)


def test_in_bfloat16_the_gradient_of_the_table_is_in_its_own_dtype(monkeypatch):
    monkeypatch.setattr(vocabulary, "MOST_SCORES", 3 * BATCH * VOCAB)
    arrays, labels = case(dtype="bfloat16")
    expected = derived(lambda *arrays: judge(0.0)(VocabularyScores(*arrays).whole(), labels), arrays)
    found = derived(lambda *arrays: VocabularyScores(*arrays).judged(labels, IGNORED, judge(0.0)), arrays)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(np.float32(one), np.float32(other), atol=0.02 * float(jnp.abs(other).max()))


def test_forward_mode_is_that_of_whole_scores(monkeypatch):
    monkeypatch.setattr(vocabulary, "MOST_SCORES", VOCAB)
    arrays, labels = case()
    whole = lambda *arrays: judge(0.1)(VocabularyScores(*arrays).whole(), labels)[0]  # noqa: E731
    chunks = lambda *arrays: VocabularyScores(*arrays).judged(labels, IGNORED, judge(0.1))[0]  # noqa: E731
    np.testing.assert_allclose(jax.jvp(chunks, arrays, arrays), jax.jvp(whole, arrays, arrays), rtol=1e-5)


def test_no_array_of_the_program_holds_all_scores(monkeypatch):
    monkeypatch.setattr(vocabulary, "MOST_SCORES", VOCAB)
    arrays, labels = case()
    program = jax.jit(jax.grad(lambda *arrays: VocabularyScores(*arrays).judged(labels, IGNORED, judge(0.1))[0]))
    text = program.lower(*arrays).as_text()
    assert f"tensor<{BATCH}x1x{VOCAB}xf32>" in text and f"x{PLACES}x{VOCAB}xf32" not in text


@pytest.mark.parametrize("shape", [(4, 1, 1), (1, 2, 2)], ids=str)
def test_a_mesh_cuts_examples_and_vocabulary_and_changes_nothing(monkeypatch, shape):
    monkeypatch.setattr(vocabulary, "MOST_SCORES", VOCAB)
    arrays, labels = case()
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(shape), ("data", "fsdp", "tensor"))

    def derivatives(arrays, labels):
        return derived(lambda *arrays: VocabularyScores(*arrays).judged(labels, IGNORED, judge(0.1)), arrays)

    def on_mesh(*given):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh), nn.logical_axis_rules(RULES):
            return derivatives(*given)

    specs = PartitionSpec(("data", "fsdp")), PartitionSpec("fsdp", "tensor"), PartitionSpec("tensor")
    cut = tuple(jax.device_put(x, NamedSharding(mesh, spec)) for x, spec in zip(arrays, specs, strict=True))
    found = jax.jit(on_mesh)(cut, jax.device_put(labels, NamedSharding(mesh, specs[0])))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(derivatives(arrays, labels)), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6)
