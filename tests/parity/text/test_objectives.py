"""Losses and decoder inputs of the objectives against torch and live `transformers`, in f32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.text.framing import Framing
from models import hub
from objectives import CausalLM, Distillation, Infilling, ReplacedTokenDetection, Seq2Seq
from objectives.losses import IGNORED, cross_entropy
from tests.examples import text_vocabulary, text_windows
from tests.parity.reference import difference, perturbed, torch, transformers

BATCH, LENGTH, VOCABULARY = 3, 12, 40


@pytest.fixture(scope="module")
def labels():
    labels = np.random.default_rng(0).integers(7, VOCABULARY, (BATCH, LENGTH))
    labels[1, 7:], labels[2, 1:] = IGNORED, IGNORED
    return labels


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32) * 2


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.3])
def test_smoothed_cross_entropy_and_its_gradient(labels, smoothing):
    logits = random(BATCH, LENGTH, VOCABULARY)
    theirs = torch.tensor(logits, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(
        theirs.flatten(0, 1), torch.tensor(labels).flatten(), label_smoothing=smoothing, reduction="sum"
    )
    loss.backward()
    ours, gradient = jax.value_and_grad(lambda x: cross_entropy(x, jnp.asarray(labels), smoothing)[0])(logits)
    assert difference(ours, loss.detach()) < 1e-5 and difference(gradient, theirs.grad) < 1e-5


@pytest.mark.parametrize("start", ["eos", "pad", "language"])
def test_decoders_begin_as_those_of_bart_t5_and_mbart(labels, start):
    from transformers.models.bart.modeling_bart import shift_tokens_right
    from transformers.models.mbart.modeling_mbart import shift_tokens_right as mbart_shift

    written = text_vocabulary()
    if start == "language":
        text = {"tokens": jnp.arange(10, 20), "sentence_ids": jnp.where(jnp.arange(10) < 6, 0, -1)}
        written.framing = Framing((), (written.eos, 33))
        seen = Infilling().bind(written).corrupt(jax.random.key(0), text)
        theirs = torch.tensor(np.asarray(seen["labels"])[None]).masked_fill(
            torch.tensor(np.asarray(seen["labels"])[None] == IGNORED), written.pad
        )
        np.testing.assert_array_equal(seen["decoder_input_ids"], mbart_shift(theirs, written.pad)[0])
        return
    objective = Seq2Seq(start=start).bind(written)
    seen = jax.vmap(lambda x: objective.corrupt(jax.random.key(0), {"input_ids": x, "labels": x}))(jnp.asarray(labels))
    theirs = shift_tokens_right(torch.tensor(labels), written.pad, getattr(written, start))
    np.testing.assert_array_equal(seen["decoder_input_ids"], theirs)


def test_next_tokens_cost_what_gpt2_says(tmp_path):
    config = transformers.GPT2Config(vocab_size=200, n_positions=40, n_embd=16, n_layer=2, n_head=2)
    reference = perturbed("GPT2LMHeadModel", config)
    reference.save_pretrained(tmp_path)
    model, variables = hub.load(tmp_path)
    examples = text_windows([25, 25], 25)
    with torch.no_grad():
        theirs = reference(torch.tensor(examples["tokens"]), labels=torch.tensor(examples["tokens"]).long()).loss
    text = {name: jnp.asarray(examples[name]) for name in ("tokens", "document_ids")}
    seen = jax.vmap(lambda x: CausalLM().corrupt(jax.random.key(0), x))(text)
    amount, weight = CausalLM().loss(model.apply(variables, seen["input_ids"]), seen)["causal_lm_loss"]
    assert difference(amount / weight, theirs) < 1e-5


def test_replaced_tokens_cost_what_torch_says(labels):
    logits, replaced = random(BATCH, LENGTH), random(BATCH, LENGTH, seed=1) > 0
    attended = (labels != IGNORED).astype(np.int32)
    outputs = {
        "generator_logits": random(BATCH, LENGTH, VOCABULARY),
        "discriminator_logits": logits,
        "replaced": replaced,
    }
    objective = ReplacedTokenDetection(detection_weight=1.0)
    batch = {"labels": jnp.asarray(labels), "attention_mask": jnp.asarray(attended)}
    amount, weight = objective.loss(jax.tree.map(jnp.asarray, outputs), batch)["detection_loss"]
    kept = torch.tensor(attended > 0)
    theirs = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.tensor(logits)[kept], torch.tensor(replaced.astype(np.float32))[kept]
    )
    assert difference(amount / weight, theirs) < 1e-5


def test_distillation_costs_what_torch_says(labels):
    """The three terms as DistilBERT's released script writes them, with torch's own losses."""
    shape, temperature = (BATCH, LENGTH, VOCABULARY), 2.0
    names = {"logits": shape, "teacher_logits": shape, "hidden": (*shape[:2], 8), "teacher_hidden": (*shape[:2], 8)}
    outputs = {name: random(*size, seed=seed) for seed, (name, size) in enumerate(names.items())}
    asked = torch.tensor(labels != IGNORED)
    theirs = {name: torch.tensor(value)[asked] for name, value in outputs.items()}
    functional = torch.nn.functional
    expected = {
        "distillation_loss": 5
        * temperature**2
        * functional.kl_div(
            functional.log_softmax(theirs["logits"] / temperature, dim=-1),
            functional.softmax(theirs["teacher_logits"] / temperature, dim=-1),
            reduction="batchmean",
        ),
        "weighted_masked_lm_loss": 2 * functional.cross_entropy(theirs["logits"], torch.tensor(labels)[asked]),
        "cosine_loss": functional.cosine_embedding_loss(
            theirs["hidden"], theirs["teacher_hidden"], torch.ones(int(asked.sum()))
        ),
    }
    batch = {"labels": jnp.asarray(labels), "attention_mask": jnp.asarray((labels != IGNORED).astype(np.int32))}
    losses = Distillation().loss(jax.tree.map(jnp.asarray, outputs), batch)
    assert set(losses) == set(expected)
    for name, (amount, weight) in losses.items():
        assert difference(amount / weight, expected[name]) < 1e-5, name
