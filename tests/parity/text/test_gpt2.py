"""GPT-2 against live `transformers`: every parameter perturbed, padding on both sides, with and without a cache, f32.

Outputs, hidden states, attentions, losses and the gradient of every parameter agree to 1e-5 of the largest value compared.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import gpt2, hub
from objectives.losses import IGNORED, cross_entropy
from tests.parity.reference import difference, differences, perturbed, round_trip, tensors, torch, transformers

BATCH, LENGTH, VOCABULARY, LABELS, PAD = 4, 24, 99, 5, 98
HEADS = ["GPT2Model", "GPT2LMHeadModel", "GPT2ForSequenceClassification"]
SHAPE = dict(
    vocab_size=VOCABULARY,
    n_positions=40,
    n_embd=32,
    n_layer=3,
    n_head=4,
    bos_token_id=97,
    eos_token_id=97,
    pad_token_id=PAD,
    num_labels=LABELS,
    attn_implementation="eager",
)
SETTINGS = {
    "as published": {},
    "unscaled": dict(scale_attn_weights=False),
    "by layer": dict(scale_attn_by_inverse_layer_idx=True),
    "by layer alone": dict(scale_attn_weights=False, scale_attn_by_inverse_layer_idx=True),
    "upcast": dict(reorder_and_upcast_attn=True, scale_attn_by_inverse_layer_idx=True),
    "untied": dict(tie_word_embeddings=False),
}


def reference(head: str, settings: str = "as published"):
    return perturbed(head, transformers.GPT2Config(**SHAPE, **SETTINGS[settings]))


def inputs(left_padding: bool = True) -> dict[str, np.ndarray]:
    """Padding on the right, and on the left with positions that count from the first token."""
    rng = np.random.default_rng(0)
    mask = np.ones((BATCH, LENGTH), np.int32)
    mask[1, 15:] = 0
    if left_padding:
        mask[2, :6] = 0
    ids = np.where(mask > 0, rng.integers(0, 97, (BATCH, LENGTH)), PAD)
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "position_ids": np.maximum(np.cumsum(mask, axis=1) - 1, 0),
    }


def labels_of(head: str) -> dict[str, np.ndarray]:
    if head == "GPT2ForSequenceClassification":
        return {"labels": np.arange(BATCH) % LABELS}
    if head == "GPT2LMHeadModel":
        arrays = inputs()
        asked = arrays["attention_mask"] > 0
        asked[:, 1:] &= asked[:, :-1]  # what padding predicts is not asked
        return {"labels": np.where(asked, arrays["input_ids"], IGNORED)}
    return {}


@pytest.mark.parametrize(
    ("head", "settings"),
    [(head, "as published") for head in HEADS] + [("GPT2LMHeadModel", name) for name in SETTINGS][1:],
)
def test_outputs_losses_and_gradients(head, settings, tmp_path):
    labels = labels_of(head)

    def our_loss(outputs):
        if head == "GPT2Model":
            return jnp.sin(outputs["last_hidden_state"][inputs()["attention_mask"] > 0]).mean()
        asked = labels["labels"]
        if head == "GPT2LMHeadModel":  # transformers moves the labels, our objective already has
            asked = np.concatenate([asked[:, 1:], np.full((BATCH, 1), IGNORED)], axis=1)
        amount, weight = cross_entropy(outputs["logits"], jnp.asarray(asked))
        return amount / weight

    def their_loss(outputs):
        return torch.sin(outputs.last_hidden_state[torch.tensor(inputs()["attention_mask"] > 0)]).mean()

    worst, outputs = differences(
        reference(head, settings),
        tmp_path,
        inputs(),
        their_loss if head == "GPT2Model" else labels,
        our_loss,
        where=inputs()["attention_mask"] > 0,
    )
    assert {"hidden_states", "attentions"} < set(worst) and outputs <= set(worst) | {"last_hidden_state"}
    worst.pop("attentions")  # of queries at padding: transformers lets them see each other, which nothing depends on
    over = {name: error for name, error in worst.items() if error > 1e-5}
    assert not over, over


@pytest.mark.parametrize(
    ("head", "settings"), [*((head, "as published") for head in HEADS), ("GPT2LMHeadModel", "untied")]
)
def test_round_trip_has_no_missing_and_no_unexpected_key(head, settings, tmp_path):
    round_trip(reference(head, settings), tmp_path)


def test_upcast_attention_in_bfloat16_is_nearer_to_float32(tmp_path):
    """The largest error of the attention probabilities, scores being made large by scaling nothing."""
    theirs = perturbed("GPT2Model", transformers.GPT2Config(**{**SHAPE, "scale_attn_weights": False}))
    theirs.save_pretrained(tmp_path)
    arrays = {name: jnp.asarray(value) for name, value in inputs().items()}

    def attention(**changes):
        model, variables = hub.load(tmp_path, **changes)
        return np.asarray(model.apply(variables, **arrays, output_attentions=True).attentions[0], np.float32)

    exact = attention()
    errors = [
        np.abs(attention(dtype="bfloat16", reorder_and_upcast_attn=upcast) - exact).max() for upcast in (False, True)
    ]
    assert 0 < errors[1] <= errors[0] < 0.1


@pytest.mark.parametrize("settings", ["as published", "by layer"])
@pytest.mark.parametrize("pieces", [(LENGTH,), (10, 1, 1, 12), (1,) * LENGTH])
def test_a_cache_changes_no_number(pieces, settings, tmp_path):
    theirs = reference("GPT2LMHeadModel", settings)
    theirs.save_pretrained(tmp_path)
    model, variables = hub.load(tmp_path)
    arrays = inputs()
    expected = theirs(**tensors(arrays)).logits
    cache, found, begin = model.config.empty_cache(BATCH, 30), [], 0
    apply = jax.jit(lambda cache, inputs: model.apply(variables, **inputs, past_key_values=cache))
    for piece in pieces:
        part = {name: jnp.asarray(x[:, begin : begin + piece]) for name, x in arrays.items()}
        outputs = apply(cache, part)
        cache, begin = outputs.past_key_values, begin + piece
        found.append(outputs.logits)
    assert difference(np.concatenate(found, axis=1), expected, arrays["attention_mask"] > 0) < 1e-5


def test_every_head_is_compared():
    ours = {name for name in vars(gpt2) if name.startswith("GPT2") and ("For" in name or name.endswith("Model"))}
    assert ours == set(HEADS)
