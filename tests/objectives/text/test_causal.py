"""Next-token prediction: a slow oracle, what is visible when a token is asked, and packed documents against single ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.assembly.checks import check_parts
from models.gpt2 import GPT2Config, GPT2LMHeadModel
from models.layers.attention import attention_pattern
from objectives import CausalLM, ObjectiveError
from objectives.losses import IGNORED
from tests.objectives.conftest import uniform
from tests.objectives.text.test_masked import corrupt, within
from training.step import forward

SIZES = [0, 1, 2, 3, 24, 25, 25, 25, *range(4, 25)]


def oracle(tokens, document_ids, across):
    """Inputs, labels, positions and segments, place by place."""
    length = len(tokens) - 1
    labels, positions, place = [], [], 0
    for t in range(length):
        if t > 0:
            goes_on = document_ids[t] >= 0 if across else document_ids[t] == document_ids[t - 1]
            place = place + 1 if goes_on else 0
        positions.append(place)
        follows = document_ids[t + 1] >= 0 and (across or document_ids[t + 1] == document_ids[t])
        labels.append(tokens[t + 1] if document_ids[t] >= 0 and follows else IGNORED)
    return {
        "input_ids": tokens[:length],
        "labels": np.array(labels),
        "position_ids": np.array(positions),
        "segment_ids": document_ids[:length],
        "attention_mask": (document_ids[:length] >= 0).astype(int),
    }


@pytest.mark.parametrize("across", [True, False])
def test_equals_the_oracle(windows, across):
    examples = windows(SIZES, 25)
    objective = CausalLM(across_documents=across)
    seen = corrupt(objective, examples)
    assert set(objective.writes) <= set(seen)
    assert ("segment_ids" in seen) != across
    for row in range(len(SIZES)):
        for name, expected in oracle(examples["tokens"][row], examples["document_ids"][row], across).items():
            if name in seen:
                np.testing.assert_array_equal(seen[name][row], expected, err_msg=f"{name} of {row}")


def test_a_full_window_asks_for_every_token_but_the_first(windows):
    examples = windows([9], 9)
    seen = corrupt(CausalLM(), examples)
    assert CausalLM().length_read(8) == 9
    np.testing.assert_array_equal(seen["labels"], examples["tokens"][:, 1:])


@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize("prefix_rate", [0.0, 0.5, 1.0])
def test_what_is_asked_is_never_seen(windows, across, prefix_rate):
    examples = windows(SIZES, 25)
    seen = corrupt(CausalLM(across_documents=across, prefix_rate=prefix_rate), examples)
    given = {name: jnp.asarray(seen[name]) for name in ("segment_ids", "prefix_mask") if name in seen}
    visible = np.asarray(attention_pattern(24, jnp.asarray(seen["attention_mask"]), causal=True, **given))[:, 0]
    for row, documents in enumerate(examples["document_ids"]):
        for t in np.flatnonzero(seen["labels"][row] != IGNORED):
            assert visible[row, t, : t + 1].any() and not visible[row, t, t + 1 :].any()
            if not across:
                assert (documents[:24][visible[row, t]] == documents[t]).all()


def test_prefix_and_labels_are_the_document(windows):
    examples = windows(SIZES * 20, 25)
    seen = corrupt(CausalLM(across_documents=False, prefix_rate=1.0), examples)
    for row, documents in enumerate(examples["document_ids"]):
        for document in range(documents.max() + 1):
            places = np.flatnonzero(documents == document)
            inside = places[places < 24]
            prefix = inside[seen["prefix_mask"][row][inside] > 0]
            asked = seen["labels"][row][inside]
            rebuilt = [*examples["tokens"][row][prefix], *asked[asked != IGNORED]]
            if len(places) > 1:
                assert 1 <= len(prefix) < len(places)
                np.testing.assert_array_equal(rebuilt, examples["tokens"][row][places])
            else:
                assert not len(prefix) and not (asked != IGNORED).any()


def test_prefixes_end_anywhere_and_as_often_as_said(windows):
    examples = windows([21] * 6_000, 21)
    ends = corrupt(CausalLM(prefix_rate=0.6), examples)["prefix_mask"].sum(axis=1)
    assert within(int((ends > 0).sum()), len(ends), 0.6)
    counts = np.bincount(ends[ends > 0], minlength=21)
    assert counts[0] == 0 and uniform(counts[1:])


@pytest.mark.slow
def test_packed_documents_cost_what_they_cost_alone(windows):
    """A GPT-2 gives the tokens of documents apart the loss that each document has in a window of its own."""
    config = GPT2Config(
        vocab_size=200, n_positions=40, n_embd=16, n_layer=2, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0
    )
    model = GPT2LMHeadModel(config)
    examples = windows([41, 30], 41, mean=12.0)
    params = model.init(jax.random.key(0), jnp.zeros((1, 8), jnp.int32))["params"]

    def loss(objective, examples):
        losses = jax.jit(
            lambda params, seen: objective.loss(forward(model, {"params": params}, seen), seen)["causal_lm_loss"]
        )
        return np.array(losses(params, jax.tree.map(jnp.asarray, corrupt(objective, examples))))

    apart = loss(CausalLM(across_documents=False), examples)
    alone = np.zeros(2)
    for row, documents in enumerate(examples["document_ids"]):
        assert documents.max() > 0
        for document in range(documents.max() + 1):
            places = documents == document
            single = {"index": np.zeros(1, np.uint32), "tokens": examples["tokens"][row][None, places]}
            if places.sum() > 1:
                single["document_ids"] = np.zeros_like(single["tokens"])
                alone += loss(CausalLM(), single)
    np.testing.assert_allclose(apart, alone, rtol=1e-5)
    assert loss(CausalLM(), examples)[1] > apart[1]


def test_fits_gpt2_before_anything_is_compiled(written, windows):
    model = GPT2LMHeadModel(GPT2Config(vocab_size=300, n_positions=24, n_embd=16, n_layer=2, n_head=2))
    example = {name: value[0] for name, value in windows([25], 25).items()}
    for objective in (CausalLM(), CausalLM(across_documents=False, prefix_rate=0.5)):
        check_parts(objective.bind(written), model, example, "text")
        assert {"input_ids", "attention_mask"} <= set(objective.writes) & set(model.inputs)
    with pytest.raises(ObjectiveError, match="reads 'document_ids', which text does not give"):
        check_parts(CausalLM(), model, {"tokens": example["tokens"]}, "text")


def test_impossible_settings_and_windows_are_refused(windows):
    with pytest.raises(ObjectiveError, match="prefix_rate"):
        CausalLM(prefix_rate=1.5)
    with pytest.raises(ObjectiveError, match="at least two tokens"):
        corrupt(CausalLM(), windows([1], 1))
