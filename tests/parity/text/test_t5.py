"""T5 against live `transformers`: every parameter perturbed, padding on both sides, with and without a cache, f32.

Outputs, hidden states, attentions, losses and the gradient of every parameter agree to 1e-5 of the largest value compared.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from models import hub, t5
from models.config import ModelError
from objectives.losses import IGNORED, cross_entropy
from tests.parity.reference import difference, differences, perturbed, round_trip, tensors, torch, transformers

BATCH, READ, WRITTEN, VOCABULARY, PAD = 4, 20, 14, 99, 0
HEADS = ["T5EncoderModel", "T5Model", "T5ForConditionalGeneration"]
VERSIONS = {"1.0": {}, "1.1": dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False)}


def reference(head: str = "T5ForConditionalGeneration", version: str = "1.0", buckets: int = 8):
    """Distances are far enough to share buckets; `transformers` ties the scores of 1.1 unless they are untied by hand."""
    config = transformers.T5Config(
        vocab_size=VOCABULARY,
        d_model=32,
        d_kv=6,
        d_ff=48,
        num_layers=3,
        num_decoder_layers=2,
        num_heads=4,
        relative_attention_num_buckets=buckets,
        relative_attention_max_distance=12,
        decoder_start_token_id=PAD,
        attn_implementation="eager",
        **VERSIONS[version],
    )
    model = perturbed(head, config)
    if version == "1.1" and head == "T5ForConditionalGeneration":
        weight = torch.randn(VOCABULARY, 32, generator=torch.Generator().manual_seed(1))
        model.lm_head.weight = torch.nn.Parameter(weight)
    return model


def mask(length: int, padding: str) -> np.ndarray:
    """Two of the rows padded, on the `right` or on the `left`."""
    attended = np.ones((BATCH, length), np.int32)
    if padding == "right":
        attended[1, length - 5 :] = attended[3, 4:] = 0
    if padding == "left":
        attended[1, :5] = attended[3, : length - 4] = 0
    return attended


def inputs(head: str = "T5Model", read_padding: str = "right", written_padding: str = "right") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    attended, written = mask(READ, read_padding), mask(WRITTEN, written_padding)
    arrays = {
        "input_ids": np.where(attended > 0, rng.integers(2, VOCABULARY, (BATCH, READ)), PAD),
        "attention_mask": attended,
        "decoder_input_ids": np.where(written > 0, rng.integers(2, VOCABULARY, (BATCH, WRITTEN)), PAD),
        "decoder_attention_mask": written,
    }
    return {name: x for name, x in arrays.items() if head != "T5EncoderModel" or not name.startswith("decoder")}


@pytest.mark.parametrize(
    ("head", "version", "padding", "buckets"),
    [
        *((head, version, padding, 8) for head in HEADS for version in VERSIONS for padding in ("right", "left")),
        ("T5ForConditionalGeneration", "1.0", "right", 7),
        ("T5ForConditionalGeneration", "1.0", "right", 10),
    ],
)
def test_outputs_losses_and_gradients(head, version, padding, buckets, tmp_path):
    arrays = inputs(head, padding, padding)
    attended, written = arrays["attention_mask"] > 0, mask(WRITTEN, padding) > 0
    labels, places = {}, attended if head == "T5EncoderModel" else written
    if head == "T5ForConditionalGeneration":
        answers = np.random.default_rng(1).integers(2, VOCABULARY, (BATCH, WRITTEN))
        labels = {"labels": np.where(written, answers, IGNORED)}

    def our_loss(outputs):
        if not labels:
            return jnp.sin(outputs["last_hidden_state"][places]).mean()
        amount, weight = cross_entropy(outputs["logits"], jnp.asarray(labels["labels"]))
        return amount / weight

    def their_loss(outputs):
        return torch.sin(outputs.last_hidden_state[torch.tensor(places)]).mean()

    worst, outputs = differences(
        reference(head, version, buckets),
        tmp_path,
        arrays,
        labels or their_loss,
        our_loss,
        {"encoder": attended, "decoder": places},
        scan_layers=True,
    )
    assert outputs <= set(worst) | {"last_hidden_state"}
    if head == "T5EncoderModel":
        assert {"hidden_states", "attentions"} < set(worst)
    else:
        states = {f"{side}_{what}" for side in ("encoder", "decoder") for what in ("hidden_states", "attentions")}
        assert states | {"cross_attentions", "encoder_last_hidden_state"} < set(worst)
    if padding == "left":  # of queries at padding, which nothing depends on
        for name in ("decoder_attentions", "cross_attentions"):
            worst.pop(name, None)
    over = {name: error for name, error in worst.items() if error > 1e-5}
    assert not over, over


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("head", HEADS)
def test_round_trip_has_no_missing_and_no_unexpected_key(head, version, tmp_path):
    round_trip(reference(head, version), tmp_path)
    ours = json.loads((tmp_path / "ours" / "config.json").read_text())
    theirs = json.loads((tmp_path / "theirs" / "config.json").read_text())
    shared = ours.keys() & theirs.keys() - {"tie_word_embeddings", "is_encoder_decoder", "architectures"}
    assert "feed_forward_proj" in shared and {name: ours[name] for name in shared} == {n: theirs[n] for n in shared}


@pytest.mark.parametrize("pieces", [(WRITTEN,), (5, 1, 1, 7), (1,) * WRITTEN])
@pytest.mark.parametrize(("version", "written_padding"), [("1.0", "left"), ("1.1", "right")])
def test_a_text_written_in_pieces(version, pieces, written_padding, tmp_path):
    """The input read once and the text written in `pieces`; the logits are those of `transformers` without a cache."""
    theirs = reference(version=version)
    theirs.save_pretrained(tmp_path)
    model, variables = hub.load(tmp_path)
    arrays = inputs("T5Model", "left", written_padding)
    expected = theirs(**tensors(arrays)).logits
    ours = {name: jnp.asarray(x, jnp.int32) for name, x in arrays.items()}
    text = ours["input_ids"], ours["attention_mask"]
    cache = jax.jit(lambda *text: model.apply(variables, *text, room=WRITTEN + 3, method="encode"))(*text)

    @jax.jit
    def step(cache, ids, attended):
        return model.apply(variables, decoder_input_ids=ids, decoder_attention_mask=attended, past_key_values=cache)

    found, begin = [], 0
    for piece in pieces:
        part = slice(begin, begin + piece)
        outputs = step(cache, ours["decoder_input_ids"][:, part], ours["decoder_attention_mask"][:, part])
        assert "encoder_last_hidden_state" not in outputs
        cache, begin = outputs.past_key_values, begin + piece
        found.append(outputs.logits)
    assert difference(np.concatenate(found, axis=1), expected, arrays["decoder_attention_mask"] > 0) < 1e-5
    # The input read and its first token written in one call.
    first = {"decoder_input_ids": ours["decoder_input_ids"][:, :1]}
    together = model.apply(variables, *text, **first, past_key_values=model.config.empty_cache(BATCH, 1))
    arrays = {name: x[:, :1] if name.startswith("decoder") else x for name, x in arrays.items()}
    del arrays["decoder_attention_mask"]
    assert difference(together.logits, theirs(**tensors(arrays)).logits) < 1e-5
    assert difference(together.past_key_values.memory_keys, cache.memory_keys) < 1e-6


def test_greedy_decoding_is_theirs(tmp_path):
    """Ten tokens, each the likeliest, from a cache that was never filled by more than one token at a time."""
    theirs = reference()
    theirs.save_pretrained(tmp_path)
    model, variables = hub.load(tmp_path)
    arrays = {name: inputs()[name] for name in ("input_ids", "attention_mask")}
    expected = theirs.generate(**tensors(arrays), max_new_tokens=10, do_sample=False, eos_token_id=None)
    cache = model.apply(variables, *(jnp.asarray(x, jnp.int32) for x in arrays.values()), room=10, method="encode")
    token, found = jnp.full((BATCH, 1), PAD), []
    step = jax.jit(lambda cache, ids: model.apply(variables, decoder_input_ids=ids, past_key_values=cache))
    for _ in range(10):
        outputs = step(cache, token)
        cache, token = outputs.past_key_values, outputs.logits[:, -1:].argmax(axis=-1)
        found.append(token)
    np.testing.assert_array_equal(np.concatenate(found, axis=1), expected[:, 1:].numpy())


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(
    ("buckets", "max_distance"),
    [(32, 128), (8, 12), (64, 1000), (4, 5), (32, 100), *((n, 37) for n in range(5, 36)), (50, 90)],
)
def test_buckets_are_theirs(bidirectional, buckets, max_distance):
    distances = np.arange(-3 * max_distance, 3 * max_distance)
    settings = dict(bidirectional=bidirectional, max_distance=max_distance)
    bucket = transformers.models.t5.modeling_t5.T5Attention._relative_position_bucket
    expected = bucket(torch.tensor(distances), num_buckets=buckets, **settings).numpy()
    np.testing.assert_array_equal(
        t5.relative_position_bucket(jnp.asarray(distances), buckets=buckets, **settings), expected
    )


# ── Files ────────────────────────────────────────────────────────────────────────────────────────────────────────────

WEIGHTS = "model.safetensors"


def logits_of(folder) -> np.ndarray:
    model, variables = hub.load(folder)
    return model.apply(variables, **{name: jnp.asarray(x, jnp.int32) for name, x in inputs().items()}).logits


@pytest.mark.parametrize("aliases", ["beside", "instead"])
def test_old_files_with_the_embeddings_under_every_name(aliases, tmp_path):
    theirs = reference()
    theirs.save_pretrained(tmp_path)
    state = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    assert {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"} < set(state)
    state["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = torch.zeros(8, 4)
    if aliases == "instead":
        del state["shared.weight"]
    save_file(state, tmp_path / WEIGHTS, metadata={"format": "pt"})
    assert difference(logits_of(tmp_path), theirs(**tensors(inputs())).logits) < 1e-5


@pytest.mark.parametrize("alias", ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"])
def test_embeddings_of_their_own_are_refused(alias, tmp_path):
    reference().save_pretrained(tmp_path)
    state = load_file(tmp_path / WEIGHTS)
    save_file({**state, alias: state["shared.weight"] + 1}, tmp_path / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=f"{alias} differs from shared.weight"):
        hub.load(tmp_path)
    if alias.startswith("decoder"):
        hub.load(tmp_path, architecture="T5EncoderModel")


@pytest.mark.parametrize("told", ["as published", "as transformers 5 writes it"])
def test_version_1_1_is_known_by_its_config_or_by_its_scores(told, tmp_path):
    """`transformers` 5 writes `tie_word_embeddings=True` for models whose scores have a table of their own."""
    theirs = reference(version="1.1")
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    published = json.loads(path.read_text())
    assert published["tie_word_embeddings"] and not published["scale_decoder_outputs"]
    if told == "as published":
        del published["scale_decoder_outputs"]
        path.write_text(json.dumps({**published, "tie_word_embeddings": False}))
    model, _ = hub.load(tmp_path)
    assert not model.config.tie_word_embeddings and not model.config.scale_decoder_outputs
    assert difference(logits_of(tmp_path), theirs(**tensors(inputs())).logits) < 1e-5
    encoder, variables = hub.load(tmp_path, architecture="T5EncoderModel")
    found = encoder.apply(variables, jnp.asarray(inputs()["input_ids"], jnp.int32)).last_hidden_state
    expected = theirs.encoder(input_ids=tensors(inputs())["input_ids"]).last_hidden_state
    assert difference(found, expected) < 1e-5


def test_version_1_1_with_tied_scores(tmp_path):
    """As `transformers` 5 begins one anew: tied, but not scaled."""
    theirs = reference(version="1.1")
    theirs.lm_head.weight = theirs.shared.weight
    theirs.save_pretrained(tmp_path)
    model, _ = hub.load(tmp_path)
    assert model.config.tie_word_embeddings and not model.config.scale_decoder_outputs
    assert difference(logits_of(tmp_path), theirs(**tensors(inputs())).logits) < 1e-5


def test_every_head_is_compared():
    ours = {name for name in vars(t5) if name.startswith("T5") and ("For" in name or name.endswith("Model"))}
    assert ours == set(HEADS)
