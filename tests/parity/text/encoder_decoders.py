"""What the comparisons of encoders with decoders share: inputs padded on either side, losses, decoding with a cache."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from models import hub
from objectives.losses import IGNORED, cross_entropy
from tests.parity.reference import difference, differences, perturbed, tensors, torch, transformers

BATCH, SOURCE, TARGET = 4, 20, 14
VOCABULARY, LABELS, START, PAD, EOS = 99, 5, 2, 1, 2
SHAPE = dict(
    vocab_size=VOCABULARY,
    d_model=32,
    encoder_layers=2,
    decoder_layers=3,
    encoder_attention_heads=4,
    decoder_attention_heads=2,
    encoder_ffn_dim=48,
    decoder_ffn_dim=40,
    max_position_embeddings=40,
    pad_token_id=PAD,
    eos_token_id=EOS,
    decoder_start_token_id=START,
    num_labels=LABELS,
    attn_implementation="eager",
)


def reference(head: str, **changes):
    """The reference model with everything perturbed, the bias of its scores too; sinusoids are as they should be."""
    config = getattr(transformers, head.partition("For")[0].removesuffix("MTModel").removesuffix("Model") + "Config")
    model = perturbed(head, config(**{**SHAPE, **changes}))
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name == "final_logits_bias":
                buffer.copy_(torch.randn(buffer.shape, generator=torch.Generator().manual_seed(1)))
        for module in model.modules():
            if hasattr(module, "create_weight"):
                module.weight.copy_(module.create_weight())
    return model


def mask(length: int, padding: str) -> np.ndarray:
    """Two of the rows padded: on the `right`, on the `left`, or not at all (`none`)."""
    attended = np.ones((BATCH, length), np.int32)
    if padding == "right":
        attended[1, length - 5 :] = attended[3, 4:] = 0
    if padding == "left":
        attended[1, :5] = attended[3, : length - 4] = 0
    return attended


def inputs(source_padding: str = "right", target_padding: str = "right") -> dict[str, np.ndarray]:
    """A text to read, which ends with `EOS`, and one to write."""
    rng = np.random.default_rng(0)
    attended, written = mask(SOURCE, source_padding), mask(TARGET, target_padding)
    ids = rng.integers(3, VOCABULARY, (BATCH, SOURCE))
    ids[np.arange(BATCH), SOURCE - 1 - attended[:, ::-1].argmax(axis=1)] = EOS
    decoder_ids = rng.integers(3, VOCABULARY, (BATCH, TARGET))
    decoder_ids[np.arange(BATCH), written.argmax(axis=1)] = START
    return {
        "input_ids": np.where(attended > 0, ids, PAD),
        "attention_mask": attended,
        "decoder_input_ids": np.where(written > 0, decoder_ids, PAD),
        "decoder_attention_mask": written,
    }


def compare(head: str, folder: Path, source_padding: str, target_padding: str, **changes) -> None:
    """Outputs, every hidden state, attentions, loss and gradients agree to 1e-5 of the largest value compared."""
    arrays = inputs(source_padding, target_padding)
    written = arrays["decoder_attention_mask"] > 0
    labels, their_loss = {}, None
    if head.endswith("QuestionAnswering"):
        labels = {"start_positions": np.array([0, 3, 2, 1]), "end_positions": np.array([5, 3, 13, 2])}
    elif head.endswith("SequenceClassification"):
        arrays = {name: arrays[name] for name in ("input_ids", "attention_mask")}
        labels = {"labels": np.arange(BATCH) % LABELS}
    elif head.endswith(("Generation", "MTModel")):
        answers = np.random.default_rng(1).integers(3, VOCABULARY, (BATCH, TARGET))
        labels = {"labels": np.where(written, answers, IGNORED)}
    else:

        def their_loss(outputs):
            return torch.sin(outputs.last_hidden_state[torch.tensor(written)]).mean()

    def our_loss(outputs):
        if their_loss is not None:
            return jnp.sin(outputs["last_hidden_state"][written]).mean()
        pairs = {"start_logits": "start_positions", "end_logits": "end_positions", "logits": "labels"}
        asked = [
            cross_entropy(outputs[name], jnp.asarray(labels[asked]))
            for name, asked in pairs.items()
            if name in outputs and asked in labels
        ]
        return sum(amount / weight for amount, weight in asked) / len(asked)

    where = {"encoder": arrays["attention_mask"] > 0, "decoder": written}
    if head.endswith("SequenceClassification"):
        where["decoder"] = where["encoder"]
    theirs = reference(head, **changes)
    worst, outputs = differences(theirs, folder, arrays, their_loss or labels, our_loss, where, scan_layers=True)
    states = {f"{side}_{what}" for side in ("encoder", "decoder") for what in ("hidden_states", "attentions")}
    assert states | {"cross_attentions", "encoder_last_hidden_state"} < set(worst)
    assert outputs <= set(worst) | {"last_hidden_state"}
    if target_padding == "left":  # of queries at padding, which nothing depends on
        del worst["decoder_attentions"], worst["cross_attentions"]
    over = {name: error for name, error in worst.items() if error > 1e-5}
    assert not over, over


def compare_defaults(head: str, folder: Path, **changes) -> None:
    """Without `decoder_input_ids` both give the decoder the text that is read, shifted."""
    theirs = reference(head, **changes)
    theirs.save_pretrained(folder)
    model, variables = hub.load(folder)
    arrays = {name: inputs()[name] for name in ("input_ids", "attention_mask")}
    found = model.apply(variables, **{name: jnp.asarray(x, jnp.int32) for name, x in arrays.items()})
    assert difference(found.logits, theirs(**tensors(arrays)).logits) < 1e-5


def compare_decoding(head: str, folder: Path, pieces: tuple[int, ...], target_padding: str, **changes) -> None:
    """The text read once and written in `pieces`; the logits are those of `transformers` without a cache."""
    theirs = reference(head, **changes)
    theirs.save_pretrained(folder)
    model, variables = hub.load(folder)
    arrays = inputs("left", target_padding)
    expected = theirs(**tensors(arrays)).logits
    ours = {name: jnp.asarray(x, jnp.int32) for name, x in arrays.items()}
    text = ours["input_ids"], ours["attention_mask"]
    cache = jax.jit(lambda *text: model.apply(variables, *text, room=TARGET + 3, method="encode"))(*text)

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
    written = arrays["decoder_attention_mask"] > 0
    assert difference(np.concatenate(found, axis=1), expected, written) < 1e-5
    # The text read and its first token written in one call.
    first = {"decoder_input_ids": ours["decoder_input_ids"][:, :1]}
    together = model.apply(variables, *text, **first, past_key_values=model.config.empty_cache(BATCH, 1))
    arrays = {**arrays, "decoder_input_ids": arrays["decoder_input_ids"][:, :1]}
    del arrays["decoder_attention_mask"]
    assert difference(together.logits, theirs(**tensors(arrays)).logits) < 1e-5
    assert difference(together.past_key_values.memory_keys, cache.memory_keys) < 1e-6
