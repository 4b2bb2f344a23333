"""Llama against live `transformers`: every parameter perturbed, padding on both sides, with and without a cache, f32.

Outputs, hidden states, attentions, losses and the gradient of every parameter agree to 1e-5 of the largest value compared.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import hub, llama
from objectives.losses import IGNORED, cross_entropy
from tests.parity.reference import difference, differences, perturbed, round_trip, tensors, torch, transformers

BATCH, LENGTH, VOCABULARY, LABELS, PAD = 4, 24, 99, 5, 98
HEADS = ["LlamaModel", "LlamaForCausalLM", "LlamaForSequenceClassification"]
THETA = {"rope_theta": 10_000.0}
KINDS = {
    "untied": {},
    "tied": {"tie_word_embeddings": True},
    "one key head": {"num_key_value_heads": 1},
    "as many key heads": {"num_key_value_heads": 4},
    "wide heads": {"head_dim": 12},
    "attention bias": {"attention_bias": True},
    "mlp bias": {"mlp_bias": True, "hidden_act": "gelu"},
    "theta": {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    "linear": {"rope_parameters": {**THETA, "rope_type": "linear", "factor": 3.0}},
    "dynamic": {
        "rope_parameters": {**THETA, "rope_type": "dynamic", "factor": 2.0},
        "max_position_embeddings": 10,
    },
    "dynamic, but short": {"rope_parameters": {**THETA, "rope_type": "dynamic", "factor": 2.0}},
    "llama3": {  # with four pairs of features: one is kept, one mixed, two are divided
        "rope_parameters": {
            "rope_theta": 100.0,
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    },
}


def reference(head: str, kind: str = "untied"):
    settings = dict(
        vocab_size=VOCABULARY,
        max_position_embeddings=64,
        hidden_size=32,
        intermediate_size=44,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=PAD,
        num_labels=LABELS,
        rope_parameters={"rope_type": "default", **THETA},
        attn_implementation="eager",
    )
    return perturbed(head, transformers.LlamaConfig(**{**settings, **KINDS[kind]}))


def inputs() -> dict[str, np.ndarray]:
    """Padding on the right, and on the left with positions that count from the first token."""
    rng = np.random.default_rng(0)
    mask = np.ones((BATCH, LENGTH), np.int32)
    mask[1, 15:] = 0
    mask[2, :6] = 0
    ids = np.where(mask > 0, rng.integers(0, 97, (BATCH, LENGTH)), PAD)
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "position_ids": np.maximum(np.cumsum(mask, axis=1) - 1, 0),
    }


def labels_of(head: str) -> dict[str, np.ndarray]:
    if head == "LlamaForSequenceClassification":
        return {"labels": np.arange(BATCH) % LABELS}
    if head == "LlamaForCausalLM":
        arrays = inputs()
        asked = arrays["attention_mask"] > 0
        asked[:, 1:] &= asked[:, :-1]  # what padding predicts is not asked
        return {"labels": np.where(asked, arrays["input_ids"], IGNORED)}
    return {}


@pytest.mark.parametrize(
    ("head", "kind"),
    [("LlamaModel", "untied"), ("LlamaForSequenceClassification", "untied")]
    + [("LlamaForCausalLM", kind) for kind in KINDS],
)
def test_outputs_losses_and_gradients(head, kind, tmp_path):
    labels, real = labels_of(head), inputs()["attention_mask"] > 0

    def our_loss(outputs):
        if head == "LlamaModel":
            return jnp.sin(outputs["last_hidden_state"][real]).mean()
        asked = labels["labels"]
        if head == "LlamaForCausalLM":  # transformers moves the labels, our objective already has
            asked = np.concatenate([asked[:, 1:], np.full((BATCH, 1), IGNORED)], axis=1)
        amount, weight = cross_entropy(outputs["logits"], jnp.asarray(asked))
        return amount / weight

    def their_loss(outputs):
        return torch.sin(outputs.last_hidden_state[torch.tensor(real)]).mean()

    worst, outputs = differences(
        reference(head, kind),
        tmp_path,
        inputs(),
        their_loss if head == "LlamaModel" else labels,
        our_loss,
        where=real,
    )
    assert {"hidden_states", "attentions"} < set(worst) and outputs <= set(worst) | {"last_hidden_state"}
    worst.pop("attentions")  # of queries at padding: transformers lets them see each other, which nothing depends on
    over = {name: error for name, error in worst.items() if error > 1e-5}
    assert not over, over


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("kind", ["untied", "tied", "attention bias", "mlp bias", "llama3"])
def test_round_trip_has_no_missing_and_no_unexpected_key(head, kind, tmp_path):
    theirs = reference(head, kind)
    round_trip(theirs, tmp_path)
    again = transformers.AutoConfig.from_pretrained(tmp_path / "ours").to_dict()
    published = theirs.config.to_dict()
    for name in set(published) - {"_name_or_path", "architectures", "id2label", "label2id", "transformers_version"}:
        assert again[name] == published[name], name


@pytest.mark.parametrize("kind", ["untied", "one key head", "linear", "dynamic, but short", "llama3"])
@pytest.mark.parametrize("pieces", [(LENGTH,), (10, 1, 1, 12), (1,) * LENGTH])
def test_a_cache_changes_no_number(kind, pieces, tmp_path):
    theirs = reference("LlamaForCausalLM", kind)
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


def test_dynamic_angles_with_a_cache_follow_the_length_as_transformers_has_them(tmp_path):
    """What was read while the text was short keeps its angles: so a cache does change numbers here, the same as theirs."""
    theirs = reference("LlamaForCausalLM", "dynamic")
    theirs.save_pretrained(tmp_path)
    model, variables = hub.load(tmp_path)
    ids = inputs()["input_ids"][:1]
    cache, past = model.config.empty_cache(1, LENGTH), None
    apply = jax.jit(lambda cache, ids: model.apply(variables, ids, past_key_values=cache))
    for begin, end in [(0, 8), (8, 9), (9, 20), (20, 21), (21, 24)]:
        expected = theirs(torch.tensor(ids[:, begin:end]), past_key_values=past, use_cache=True)
        outputs = apply(cache, jnp.asarray(ids[:, begin:end], jnp.int32))
        cache, past = outputs.past_key_values, expected.past_key_values
        assert difference(outputs.logits, expected.logits) < 1e-5


@pytest.mark.parametrize("kind", ["untied", "linear", "dynamic", "llama3"])
def test_folders_of_transformers_4(kind, tmp_path):
    """There the rotary settings stand apart, and their kind is called `type` in the oldest."""
    theirs = reference("LlamaForCausalLM", kind)
    theirs.save_pretrained(tmp_path)
    published = json.loads((tmp_path / "config.json").read_text())
    rope = published.pop("rope_parameters")
    published |= {"rope_theta": rope.pop("rope_theta"), "torch_dtype": published.pop("dtype")}
    expected = hub.load(tmp_path)[0].config
    for name in ("type", "rope_type"):
        scaling = {name if key == "rope_type" else key: value for key, value in rope.items()}
        published["rope_scaling"] = None if kind == "untied" else scaling
        (tmp_path / "config.json").write_text(json.dumps(published))
        assert hub.load(tmp_path)[0].config == expected
    assert (expected.rope_scaling is None) == (kind == "untied")


def test_every_head_is_compared():
    ours = {name for name in vars(llama) if name.startswith("Llama") and ("For" in name or name.endswith("Model"))}
    assert ours == set(HEADS)
