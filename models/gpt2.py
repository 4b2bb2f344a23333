"""GPT-2: a decoder with pre-norm residuals and learned positions, and its heads; DistilGPT-2 is one of its shapes.

Radford, Wu, Child, Luan, Amodei, Sutskever: "Language Models are Unsupervised Multitask Learners", 2019, OpenAI report.
DistilGPT-2: Sanh et al., "DistilBERT, a distilled version of BERT", 2019, arXiv 1910.01108, its method on GPT-2.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import flax.linen as nn
from flax.core import FrozenDict
from jaxtyping import Array, Int

from models.config import ModelConfig, ModelError, Variant, alias
from models.decoder import DecoderHead, DecoderModel, Hidden, Ids, LanguageModel, SequenceClassifier
from models.layers.activations import activation
from models.layers.attention import Attention, Cache, LayerCache
from models.layers.dropout import Keys, dropout, fold_in
from models.layers.embedding import embedding
from models.layers.linear import by_example, dense
from models.layers.norm import layer_norm
from models.layers.stack import stack


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
        dict(hidden_size="n_embd", num_attention_heads="n_head", num_hidden_layers="n_layer")
        | dict(max_position_embeddings="n_positions")
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
        self.check_divides("n_embd", "n_head")

    @classmethod
    def from_json(cls, published: dict, **changes) -> "GPT2Config":
        """From a published `config.json`; attention to an encoder is refused."""
        if published.get("add_cross_attention"):
            raise ModelError("add_cross_attention is set: only a decoder alone is implemented for GPT-2")
        return super().from_json(published, **changes)

    small = Variant()
    medium = Variant(n_layer=24, n_embd=1_024, n_head=16)
    large = Variant(n_layer=36, n_embd=1_280, n_head=20)
    xl = Variant(n_layer=48, n_embd=1_600, n_head=25)
    distil = Variant(n_layer=6)

    @property
    def inner(self) -> int:
        """Width of the feed-forward layer."""
        return self.n_inner or 4 * self.n_embd

    hidden_size = alias("n_embd")
    num_hidden_layers = alias("n_layer")
    longest_input = alias("n_positions")

    def empty_cache(self, batch: int, room: int) -> Cache:
        """A cache for `room` tokens of each of `batch` texts."""
        return Cache.empty(self, self.n_layer, batch, self.n_head, room, self.n_embd // self.n_head)


class GPT2Block(nn.Module):
    """One layer: x + attention(LN(x)), then x + MLP(LN(x)). What is added back begins smaller the more layers there are."""

    config: GPT2Config

    @nn.compact
    def __call__(self, hidden: Hidden, per_layer, shared):
        config = self.config
        index, cache = per_layer
        mask, filled, _, dropout_keys = shared
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
            cache=LayerCache.of(cache, filled),
            layer_scale=1.0 / (index + 1) if config.scale_attn_by_inverse_layer_idx else None,
        )
        hidden += dropout(attended, config.resid_pdrop, fold_in(keys, 1))
        inner = layer_norm(config, config.layer_norm_epsilon, "mlp_norm")(hidden)
        inner = dense(config, config.inner, "up", ("embed", "mlp"), kernel_init=normal)(inner)
        inner = activation(config.activation_function)(inner)
        inner = dense(config, config.n_embd, "down", ("mlp", "embed"), kernel_init=residual)(inner)
        hidden += dropout(inner, config.resid_pdrop, fold_in(keys, 2))
        return hidden, (hidden, probabilities, None if filled is None else cache)


class GPT2Model(DecoderModel):
    """Word and learned position embeddings, blocks, and a norm behind them."""

    config: GPT2Config

    def setup(self) -> None:
        config = self.config
        normal = dict(stddev=config.initializer_range, table_init=nn.initializers.normal(config.initializer_range))
        self.word_embeddings = embedding(config, config.vocab_size, config.n_embd, None, axis="vocab", **normal)
        self.position_embeddings = embedding(config, config.n_positions, config.n_embd, None, axis="position", **normal)
        self.layers = stack(GPT2Block, config, config.n_layer, None)
        self.norm = layer_norm(config, config.layer_norm_epsilon, None)

    def embed(self, input_ids: Ids, position_ids: Int[Array, "#batch length"], keys: Keys) -> tuple[Hidden, None]:
        config, length = self.config, input_ids.shape[1]
        if length > config.n_positions:
            raise ModelError(f"{length} tokens do not fit a model with n_positions={config.n_positions}")
        embedded = self.word_embeddings(input_ids) + self.position_embeddings(position_ids)
        embedded = by_example(embedded.astype(config.compute_dtype))
        return dropout(embedded, config.embd_pdrop, fold_in(keys, config.n_layer)), None


class GPT2Head(DecoderHead):
    """Base of the models with a head."""

    config: GPT2Config
    base: ClassVar[type[DecoderModel]] = GPT2Model
    base_name: ClassVar[str] = "transformer"


class GPT2LMHeadModel(LanguageModel, GPT2Head):
    pass


class GPT2ForSequenceClassification(SequenceClassifier, GPT2Head):
    pass
