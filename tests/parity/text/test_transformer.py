"""The Transformer of 2017 against its paper's equations, written the slow obvious way in float64, and against Marian.

Vaswani et al.: "Attention Is All You Need", 2017, arXiv 1706.03762, equations and sections as cited below. Its gradients are
those of layers that test_marian.py compares; what is its own, the order of sines and cosines, is compared here.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from models import hub
from models.encoder_decoder.stacks import sinusoids
from models.marian import MarianConfig, MarianMTModel
from models.transformer import TransformerConfig, TransformerForConditionalGeneration

SHAPE = dict(
    vocab_size=50,
    d_model=16,
    encoder_layers=2,
    decoder_layers=3,
    encoder_attention_heads=4,
    decoder_attention_heads=2,
    encoder_ffn_dim=24,
    decoder_ffn_dim=20,
    activation_function="relu",
    scale_embedding=True,
    pad_token_id=1,
    decoder_start_token_id=2,
)
CONFIG = TransformerConfig(**SHAPE)
SOURCE, TARGET = 7, 5


@pytest.fixture(scope="module")
def parameters() -> dict[str, np.ndarray]:
    """{path: values}, every one perturbed."""
    model = TransformerForConditionalGeneration(CONFIG)
    flat = flatten_dict(nn.unbox(model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32)))["params"], sep="/")
    rng = np.random.default_rng(0)
    return {path: np.asarray(x) + 0.1 * rng.normal(size=x.shape).astype(np.float32) for path, x in flat.items()}


def variables_of(flat: dict[str, np.ndarray]) -> dict:
    return {"params": unflatten_dict({path: jnp.asarray(x, jnp.float32) for path, x in flat.items()}, sep="/")}


def texts() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    attended = np.ones((3, SOURCE), np.int32)
    attended[1, 4:] = attended[2, :2] = 0
    return rng.integers(3, 50, (3, SOURCE)), attended, rng.integers(3, 50, (3, TARGET))


# ── The paper's equations ────────────────────────────────────────────────────────────────────────────────────────────


class Paper:
    """One example at a time, one position, head and feature after the other where the paper has a formula for it."""

    def __init__(self, parameters: dict[str, np.ndarray]):
        self.parameters = {path: x.astype(np.float64) for path, x in parameters.items()}

    def position(self, p: int) -> np.ndarray:
        """Section 3.5: PE(pos, 2i) = sin(pos / 10000^(2i / d_model)), PE(pos, 2i + 1) = cos(pos / 10000^(2i / d_model))."""
        encoding = np.zeros(CONFIG.d_model)
        for i in range(CONFIG.d_model // 2):
            encoding[2 * i] = math.sin(p / 10_000 ** (2 * i / CONFIG.d_model))
            encoding[2 * i + 1] = math.cos(p / 10_000 ** (2 * i / CONFIG.d_model))
        return encoding

    def embed(self, tokens: np.ndarray) -> np.ndarray:
        """Section 3.4: "we multiply those weights by √d_model"."""
        table = self.parameters["model/shared/embedding"]
        return np.stack([table[t] * math.sqrt(CONFIG.d_model) + self.position(p) for p, t in enumerate(tokens)])

    def linear(self, name: str, layer: int, x: np.ndarray) -> np.ndarray:
        return x @ self.parameters[f"{name}/kernel"][layer] + self.parameters[f"{name}/bias"][layer]

    def add_and_norm(self, name: str, layer: int, x: np.ndarray, added: np.ndarray) -> np.ndarray:
        """Section 3.1: LayerNorm(x + Sublayer(x))."""
        rows = []
        for row in x + added:
            normed = (row - row.mean()) / math.sqrt(((row - row.mean()) ** 2).mean() + 1e-5)
            rows.append(normed * self.parameters[f"{name}/scale"][layer] + self.parameters[f"{name}/bias"][layer])
        return np.stack(rows)

    def attention(self, name: str, layer: int, heads: int, queries, memory, sees) -> np.ndarray:
        """Section 3.2.2: Concat(head_1, …, head_h) W_O, head_i = softmax(Q K^T / √d_k) V (equation 1)."""
        size = CONFIG.d_model // heads
        query, key, value = (
            self.linear(f"{name}/{what}", layer, x)
            for what, x in (("query", queries), ("key", memory), ("value", memory))
        )
        out = np.zeros_like(query)
        for head in range(heads):
            features = slice(head * size, (head + 1) * size)
            for i in range(len(queries)):
                seen = [j for j in range(len(memory)) if sees(i, j)]
                scores = np.array([query[i, features] @ key[j, features] / math.sqrt(size) for j in seen])
                weights = np.exp(scores) / np.exp(scores).sum()
                out[i, features] = sum(w * value[j, features] for w, j in zip(weights, seen, strict=True))
        return self.linear(f"{name}/out", layer, out)

    def feed_forward(self, name: str, layer: int, x: np.ndarray) -> np.ndarray:
        """Equation 2: max(0, x W_1 + b_1) W_2 + b_2."""
        return self.linear(f"{name}/down", layer, np.maximum(0, self.linear(f"{name}/up", layer, x)))

    def encode(self, tokens: np.ndarray, attended: np.ndarray) -> list[np.ndarray]:
        """The embeddings and each layer's output."""
        name, states = "model/encoder/layers", [self.embed(tokens)]
        for layer in range(CONFIG.encoder_layers):
            x = states[-1]
            heads = CONFIG.encoder_attention_heads
            added = self.attention(f"{name}/attention", layer, heads, x, x, lambda i, j: attended[j])
            x = self.add_and_norm(f"{name}/attention_norm", layer, x, added)
            states.append(self.add_and_norm(f"{name}/mlp_norm", layer, x, self.feed_forward(name, layer, x)))
        return states

    def decode(self, tokens: np.ndarray, memory: np.ndarray, attended: np.ndarray) -> list[np.ndarray]:
        """The embeddings and each layer's output; "the predictions for position i can depend only on" what is before."""
        name, states, heads = "model/decoder/layers", [self.embed(tokens)], CONFIG.decoder_attention_heads
        for layer in range(CONFIG.decoder_layers):
            x = states[-1]
            added = self.attention(f"{name}/attention", layer, heads, x, x, lambda i, j: j <= i)
            x = self.add_and_norm(f"{name}/attention_norm", layer, x, added)
            added = self.attention(f"{name}/cross_attention", layer, heads, x, memory, lambda i, j: attended[j])
            x = self.add_and_norm(f"{name}/cross_attention_norm", layer, x, added)
            states.append(self.add_and_norm(f"{name}/mlp_norm", layer, x, self.feed_forward(name, layer, x)))
        return states

    def logits(self, hidden: np.ndarray) -> np.ndarray:
        """Section 3.4: the weights of the embeddings and of the linear layer before the softmax are the same."""
        return hidden @ self.parameters["model/shared/embedding"].T


def test_every_state_and_the_scores_are_those_of_the_equations(parameters):
    ids, attended, target = texts()
    model = TransformerForConditionalGeneration(CONFIG)
    inputs = (jnp.asarray(x, jnp.int32) for x in (ids, attended, target))
    found = model.apply(variables_of(parameters), *inputs, output_hidden_states=True)
    paper = Paper(parameters)
    for row in range(len(ids)):
        read = paper.encode(ids[row], attended[row])
        written = paper.decode(target[row], read[-1], attended[row])
        for name, states in (("encoder_hidden_states", read), ("decoder_hidden_states", written)):
            np.testing.assert_allclose(found[name][:, row], np.stack(states), rtol=0, atol=1e-5, err_msg=name)
        expected = paper.logits(written[-1])
        np.testing.assert_allclose(found.logits[row], expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_sinusoids_at_far_positions():
    paper = Paper({})
    table = sinusoids(2_000, CONFIG.d_model, interleaved=True)
    for p in (0, 1, 999, 1_999):
        np.testing.assert_allclose(table[p], paper.position(p), rtol=0, atol=1e-7)


@pytest.mark.parametrize("pieces", [(2, 1, 2), (1,) * TARGET])
def test_a_cache_changes_no_number(pieces, parameters):
    model, variables = TransformerForConditionalGeneration(CONFIG), variables_of(parameters)
    ids, attended, target = (jnp.asarray(x, jnp.int32) for x in texts())
    expected = model.apply(variables, ids, attended, target).logits
    cache, begin = model.apply(variables, ids, attended, room=9, method="encode"), 0
    for piece in pieces:
        part = target[:, begin : begin + piece]
        outputs = model.apply(variables, decoder_input_ids=part, past_key_values=cache)
        np.testing.assert_allclose(outputs.logits, expected[:, begin : begin + piece], rtol=0, atol=1e-5)
        cache, begin = outputs.past_key_values, begin + piece


# ── Marian ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def sines_first(path: str, x: np.ndarray) -> np.ndarray:
    """A parameter with the model's features in another order: those at even places first."""
    order = np.concatenate([np.arange(0, CONFIG.d_model, 2), np.arange(1, CONFIG.d_model, 2)])
    if path.endswith("embedding") or path.endswith(("norm/scale", "norm/bias")):
        return x[..., order]
    if path.endswith(("out/kernel", "out/bias", "down/kernel", "down/bias")):
        return x[..., order]
    return x[..., order, :] if path.endswith("kernel") else x


def test_marian_is_the_same_with_its_features_in_another_order(parameters, tmp_path):
    """And so the published names and layouts, which Marian's comparisons prove, hold for the Transformer."""
    inputs = [jnp.asarray(x, jnp.int32) for x in texts()]
    marian = MarianMTModel(MarianConfig(**SHAPE))
    reordered = {path: sines_first(path, x) for path, x in parameters.items()}
    reordered["final_logits_bias"] = np.zeros(CONFIG.vocab_size)
    found = marian.apply(variables_of(reordered), *inputs).logits
    expected = TransformerForConditionalGeneration(CONFIG).apply(variables_of(parameters), *inputs).logits
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_folder_of_our_own(parameters, tmp_path):
    model = TransformerForConditionalGeneration(CONFIG)
    hub.save(tmp_path, model, variables_of(parameters))
    again, variables = hub.load(tmp_path)
    assert (type(again), again.config) == (type(model), model.config)
    for path, x in flatten_dict(variables["params"], sep="/").items():
        np.testing.assert_array_equal(x, parameters[path], err_msg=path)
