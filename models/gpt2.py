"""GPT-2: a decoder with pre-norm residuals and learned positions, and its heads; DistilGPT-2 is one of its shapes.

Radford, Wu, Child, Luan, Amodei, Sutskever: "Language Models are Unsupervised Multitask Learners", 2019, OpenAI report.
DistilGPT-2: Sanh et al., "DistilBERT, a distilled version of BERT", 2019, arXiv 1910.01108, its method on GPT-2.
"""

import abc
import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from flax.core import FrozenDict
from jaxtyping import Array, Float, Int

from models.config import ModelConfig, ModelError
from models.kernels.linear import matmul
from models.layers.activations import activation
from models.layers.attention import Attention, Cache, attention_pattern
from models.layers.dropout import Keys, dropout, fold_in
from models.layers.embedding import embedding, last_token
from models.layers.linear import by_example, dense
from models.layers.norm import layer_norm
from models.layers.stack import stack
from models.model import Model
from models.outputs import ModelOutput

Ids = Int[Array, "batch length"]
Hidden = Float[Array, "batch length hidden"]


@dataclasses.dataclass(frozen=True)
class GPT2Config(ModelConfig):
    """Shape of a GPT-2, with the field names of a published `config.json`.

    Attributes:
        n_inner: width of the feed-forward layer; four times `n_embd` where `None`.
        scale_attn_weights: whether the scores of attention are divided by the root of a head's features.
        scale_attn_by_inverse_layer_idx: whether those of layer i, from 1 on, are divided by i.
        reorder_and_upcast_attn: compute attention in float32 whatever `dtype` is, scale included, as in Mistral of Stanford
            (Karamcheti et al., 2021).
        tie_word_embeddings: whether the language model's head is the word embeddings.
        labels: names of the outputs of a classification head (`id2label`).
    """

    model_type: ClassVar[str] = "gpt2"
    aliases: ClassVar[Mapping[str, str]] = MappingProxyType(
        dict(
            hidden_size="n_embd",
            num_attention_heads="n_head",
            num_hidden_layers="n_layer",
            max_position_embeddings="n_positions",
        )
    )
    variants: ClassVar[tuple[str, ...]] = ("small", "medium", "large", "xl", "distil")

    vocab_size: int = 50_257
    n_positions: int = 1_024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    activation_function: str = "gelu_new"
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    reorder_and_upcast_attn: bool = False
    tie_word_embeddings: bool = True
    bos_token_id: int | None = 50_256
    eos_token_id: int | tuple[int, ...] | None = 50_256
    pad_token_id: int | None = None
    labels: tuple[str, ...] = ("LABEL_0", "LABEL_1")

    def __post_init__(self) -> None:
        super().__post_init__()
        activation(self.activation_function)
        if self.n_embd % self.n_head:
            raise ModelError(f"n_embd={self.n_embd} does not divide into n_head={self.n_head}")

    @classmethod
    def from_json(cls, published: dict, **changes) -> "GPT2Config":
        """From a published `config.json`; attention to an encoder is refused."""
        if published.get("add_cross_attention"):
            raise ModelError("add_cross_attention is set: only a decoder alone is implemented for GPT-2")
        return super().from_json(published, **changes)

    @classmethod
    def small(cls, **changes) -> "GPT2Config":
        return cls(**changes)

    @classmethod
    def medium(cls, **changes) -> "GPT2Config":
        return cls(**{**dict(n_layer=24, n_embd=1_024, n_head=16), **changes})

    @classmethod
    def large(cls, **changes) -> "GPT2Config":
        return cls(**{**dict(n_layer=36, n_embd=1_280, n_head=20), **changes})

    @classmethod
    def xl(cls, **changes) -> "GPT2Config":
        return cls(**{**dict(n_layer=48, n_embd=1_600, n_head=25), **changes})

    @classmethod
    def distil(cls, **changes) -> "GPT2Config":
        return cls(**{**dict(n_layer=6), **changes})

    @property
    def inner(self) -> int:
        """Width of the feed-forward layer."""
        return self.n_inner or 4 * self.n_embd

    @property
    def hidden_size(self) -> int:
        return self.n_embd

    @property
    def longest_input(self) -> int:
        return self.n_positions

    def empty_cache(self, batch: int, room: int) -> Cache:
        """A cache for `room` tokens of each of `batch` texts."""
        return Cache.empty(self, self.n_layer, batch, self.n_head, room, self.n_embd // self.n_head)


class GPT2Block(nn.Module):
    """One layer: x + attention(LN(x)), then x + MLP(LN(x)). What is added back begins smaller the more layers there are."""

    config: GPT2Config

    @nn.compact
    def __call__(self, hidden: Hidden, own, shared):
        config = self.config
        index, cache = own
        mask, cached, dropout_keys = shared
        keys = fold_in(dropout_keys, index)
        normal = nn.initializers.normal(config.initializer_range)
        residual = nn.initializers.normal(config.initializer_range / (2 * config.n_layer) ** 0.5)
        attended, probabilities, cache = Attention(
            config,
            config.n_embd,
            config.n_head,
            config.attn_pdrop,
            fused=True,
            scale=None if config.scale_attn_weights else 1.0,
            upcast=config.reorder_and_upcast_attn,
            inits=FrozenDict(qkv=normal, out=residual),
            name="attention",
        )(
            layer_norm(config, config.layer_norm_epsilon, "attention_norm")(hidden),
            mask,
            fold_in(keys, 0),
            cache=cache,
            cached=cached,
            layer_scale=1.0 / (index + 1) if config.scale_attn_by_inverse_layer_idx else None,
        )
        hidden += dropout(attended, config.resid_pdrop, fold_in(keys, 1))
        inner = layer_norm(config, config.layer_norm_epsilon, "mlp_norm")(hidden)
        inner = dense(config, config.inner, "up", ("embed", "mlp"), kernel_init=normal)(inner)
        inner = activation(config.activation_function)(inner)
        inner = dense(config, config.n_embd, "down", ("mlp", "embed"), kernel_init=residual)(inner)
        hidden += dropout(inner, config.resid_pdrop, fold_in(keys, 2))
        return hidden, (hidden, probabilities, None if cached is None else cache)


class GPT2Model(Model):
    """Embeddings and decoder.

    Outputs: `last_hidden_state` (batch, length, hidden); `past_key_values`, the new cache, where one was given;
    `hidden_states` (layers + 1, batch, length, hidden), the embeddings first and the last one normalised, and
    `attentions` (layers, batch, heads, length, keys) where asked for.
    """

    causal: ClassVar[bool] = True

    config: GPT2Config

    def setup(self) -> None:
        config = self.config
        normal = dict(stddev=config.initializer_range, table_init=nn.initializers.normal(config.initializer_range))
        self.word_embeddings = embedding(config, config.vocab_size, config.n_embd, None, axis="vocab", **normal)
        self.position_embeddings = embedding(config, config.n_positions, config.n_embd, None, axis="position", **normal)
        self.layers = stack(GPT2Block, config, config.n_layer, None)
        self.norm = layer_norm(config, config.layer_norm_epsilon, None)

    def __call__(
        self,
        input_ids: Ids,
        attention_mask: Ids | None = None,
        position_ids: Ids | None = None,
        segment_ids: Ids | None = None,
        prefix_mask: Ids | None = None,
        past_key_values: Cache | None = None,
        *,
        dropout_keys: Keys = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> ModelOutput:
        """`segment_ids`, equal within a document, keep packed documents apart; `prefix_mask` marks a prefix that is read in
        both directions. With `past_key_values` the tokens come behind those of the cache, `attention_mask` being theirs.
        """
        config = self.config
        length = input_ids.shape[1]
        if length > config.n_positions:
            raise ModelError(f"{length} tokens do not fit a model with n_positions={config.n_positions}")
        cached, layer_caches = None, None
        if past_key_values is not None:
            cached, layer_caches = past_key_values.length, (past_key_values.keys, past_key_values.values)
            past_key_values = past_key_values.reading(attention_mask, length)
            attention_mask = past_key_values.mask
        first = 0 if cached is None else cached
        mask = attention_pattern(
            length, attention_mask, causal=True, segment_ids=segment_ids, prefix_mask=prefix_mask, first=first
        )
        position_ids = jnp.arange(length)[None] + first if position_ids is None else position_ids
        embedded = self.word_embeddings(input_ids) + self.position_embeddings(position_ids)
        embedded = dropout(
            by_example(embedded.astype(config.compute_dtype)), config.embd_pdrop, fold_in(dropout_keys, config.n_layer)
        )
        own = jnp.arange(config.n_layer), layer_caches
        hidden, (states, attentions, caches) = self.layers(embedded, own, (mask, cached, dropout_keys))
        hidden = self.norm(hidden)
        if past_key_values is not None:
            past_key_values = past_key_values.replace(keys=caches[0], values=caches[1])
        return ModelOutput(
            last_hidden_state=hidden,
            past_key_values=past_key_values,
            hidden_states=jnp.concatenate([embedded[None], states[:-1], hidden[None]])
            if output_hidden_states
            else None,
            attentions=attentions if output_attentions else None,
        )

    def project_to_vocabulary(self, hidden: Float[Array, "... hidden"]) -> Float[Array, "... vocab"]:
        """Scores of every token, through the transposed word embeddings."""
        return matmul(hidden, self.word_embeddings.embedding.T)


class GPT2Head(Model):
    """Base of the models with a head, which differ in `head`."""

    causal: ClassVar[bool] = True

    config: GPT2Config

    @nn.compact
    def __call__(
        self,
        input_ids: Ids,
        attention_mask: Ids | None = None,
        position_ids: Ids | None = None,
        segment_ids: Ids | None = None,
        prefix_mask: Ids | None = None,
        past_key_values: Cache | None = None,
        *,
        dropout_keys: Keys = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> ModelOutput:
        decoder = GPT2Model(self.config, name="transformer")
        decoded = decoder(
            input_ids,
            attention_mask,
            position_ids,
            segment_ids,
            prefix_mask,
            past_key_values,
            dropout_keys=dropout_keys,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )
        return ModelOutput(logits=self.head(decoder, decoded.last_hidden_state, input_ids, attention_mask), **decoded)

    @abc.abstractmethod
    def head(self, decoder, hidden, input_ids, attention_mask) -> dict[str, Array]:
        """The outputs beside those of the model below."""


class GPT2LMHeadModel(GPT2Head):
    """Output: `logits` (batch, length, vocab) of the token after each place."""

    generates: ClassVar[bool] = True

    def head(self, decoder, hidden, input_ids, attention_mask):
        config = self.config
        if config.tie_word_embeddings:
            return decoder.project_to_vocabulary(hidden)
        normal = nn.initializers.normal(config.initializer_range)
        return dense(config, config.vocab_size, "lm_head", ("embed", "vocab"), bias=False, kernel_init=normal)(hidden)


class GPT2ForSequenceClassification(GPT2Head):
    """Output: `logits` (batch, labels), read at the last token that is not padding, by `pad_token_id` and `attention_mask`."""

    labelled: ClassVar[bool | None] = True

    def head(self, decoder, hidden, input_ids, attention_mask):
        normal = nn.initializers.normal(self.config.initializer_range)
        place = last_token(input_ids, self.config.pad_token_id, attention_mask)
        last = jnp.take_along_axis(hidden, place[:, None, None], axis=1)[:, 0]
        return dense(
            self.config, len(self.config.labels), "score", ("embed", "head_out"), bias=False, kernel_init=normal
        )(last)
