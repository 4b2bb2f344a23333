"""BERT: a bidirectional Transformer encoder with post-norm residuals, and its heads.

Devlin, Chang, Lee, Toutanova: "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", 2018,
arXiv 1810.04805. The small variants: Turc et al., "Well-Read Students Learn Better", 2019, arXiv 1908.08962.
"""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from models.config import ModelConfig, ModelError
from models.layers import (
    Attention,
    Keys,
    activation,
    add_bias,
    by_example,
    dense,
    dropout,
    embedding,
    fold_in,
    layer_norm,
    matmul,
    sinusoids,
    stack,
)
from models.outputs import ModelOutput

Ids = Int[Array, "batch length"]
Hidden = Float[Array, "batch length hidden"]


@dataclasses.dataclass(frozen=True)
class BertConfig(ModelConfig):
    """Shape of a BERT, with the field names of a published `config.json`.

    Attributes:
        hidden_act: `gelu` (exact, as `transformers` runs published weights) or `gelu_new` (tanh, as they were trained).
        classifier_dropout: dropout before a classification head; `hidden_dropout_prob` where `None`.
        labels: names of the outputs of a classification head (`id2label`).
        local_start: begin with sinusoids as positions and attention to the neighbours (`models.layers.Attention`),
            instead of finding both by chance; a setting of training alone, which no published file has.
    """

    model_type: ClassVar[str] = "bert"
    execution: ClassVar[tuple[str, ...]] = (*ModelConfig.execution, "local_start")
    variants: ClassVar[tuple[str, ...]] = ("tiny", "mini", "small", "medium", "base", "large")

    vocab_size: int = 30_522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3_072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0
    classifier_dropout: float | None = None
    labels: tuple[str, ...] = ("LABEL_0", "LABEL_1")
    local_start: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        activation(self.hidden_act)
        if self.hidden_size % self.num_attention_heads:
            raise ModelError(
                f"hidden_size={self.hidden_size} does not divide into num_attention_heads={self.num_attention_heads}"
            )

    @classmethod
    def from_json(cls, published: dict, **changes) -> "BertConfig":
        """From a published `config.json`; decoders and position embeddings other than absolute ones are refused."""
        if published.get("is_decoder") or published.get("add_cross_attention"):
            raise ModelError("is_decoder or add_cross_attention is set: only the encoder is implemented for BERT")
        kind = published.get("position_embedding_type", "absolute")
        if kind != "absolute":
            raise ModelError(f"position_embedding_type={kind!r}: only absolute positions are implemented for BERT")
        return super().from_json(published, **changes)

    @classmethod
    def _shape(cls, layers: int, hidden: int, **changes) -> "BertConfig":
        shape = dict(
            num_hidden_layers=layers,
            hidden_size=hidden,
            num_attention_heads=hidden // 64,
            intermediate_size=4 * hidden,
        )
        return cls(**{**shape, **changes})

    @classmethod
    def tiny(cls, **changes) -> "BertConfig":
        return cls._shape(2, 128, **changes)

    @classmethod
    def mini(cls, **changes) -> "BertConfig":
        return cls._shape(4, 256, **changes)

    @classmethod
    def small(cls, **changes) -> "BertConfig":
        return cls._shape(4, 512, **changes)

    @classmethod
    def medium(cls, **changes) -> "BertConfig":
        return cls._shape(8, 512, **changes)

    @classmethod
    def base(cls, **changes) -> "BertConfig":
        return cls._shape(12, 768, **changes)

    @classmethod
    def large(cls, **changes) -> "BertConfig":
        return cls._shape(24, 1024, **changes)

    def forward_flops(self, batch: int, length: int, predictions: int = 0) -> int:
        """Floating-point operations of one forward pass, matrix multiplications alone (2 per multiply-add).

        Per token and layer 8 H² (query, key, value, output) + 4 H·I (feed-forward) + 4 H·length (attention), and
        2 H² + 2 H·V per predicted token. A training step does three times as much: backward is twice forward.
        """
        hidden, inner = self.hidden_size, self.intermediate_size
        per_token = self.num_hidden_layers * (8 * hidden**2 + 4 * hidden * inner + 4 * hidden * length)
        return batch * (length * per_token + predictions * (2 * hidden**2 + 2 * hidden * self.vocab_size))


class BertLayer(nn.Module):
    """One encoder layer: LN(x + attention(x)), then LN(x + MLP(x))."""

    config: BertConfig

    @nn.compact
    def __call__(self, hidden: Hidden, index: Int[Array, ""], mask, dropout_keys):
        config = self.config
        keys = fold_in(dropout_keys, index)
        attended, probabilities = Attention(
            config,
            config.hidden_size,
            config.num_attention_heads,
            config.attention_probs_dropout_prob,
            config.initializer_range,
            config.local_start,
            name="attention",
        )(hidden, mask, fold_in(keys, 0))
        attended = dropout(attended, config.hidden_dropout_prob, fold_in(keys, 1))
        hidden = layer_norm(config, config.layer_norm_eps, "attention_norm")(hidden + attended)
        stddev = config.initializer_range
        inner = dense(config, config.intermediate_size, "up", ("embed", "mlp"), stddev=stddev)(hidden)
        inner = dense(config, config.hidden_size, "down", ("mlp", "embed"), stddev=stddev)(
            activation(config.hidden_act)(inner)
        )
        inner = dropout(inner, config.hidden_dropout_prob, fold_in(keys, 2))
        hidden = layer_norm(config, config.layer_norm_eps, "mlp_norm")(hidden + inner)
        return hidden, (hidden, probabilities)


class BertModel(nn.Module):
    """Embeddings, encoder and (where a head wants it) pooler.

    Outputs: `last_hidden_state` (batch, length, hidden); `pooler_output` (batch, hidden), tanh of a projection of the
    first token; `hidden_states` (layers + 1, batch, length, hidden), the embeddings first, and `attentions`
    (layers, batch, heads, length, length) where asked for.
    """

    config: BertConfig
    add_pooling_layer: bool = True

    def setup(self) -> None:
        config = self.config
        table = dict(stddev=config.initializer_range)
        self.word_embeddings = embedding(config, config.vocab_size, config.hidden_size, None, axis="vocab", **table)
        self.position_embeddings = embedding(
            config,
            config.max_position_embeddings,
            config.hidden_size,
            None,
            axis="position",
            table_init=sinusoids(1.5 * config.initializer_range) if config.local_start else None,
            **table,
        )
        self.token_type_embeddings = embedding(
            config, config.type_vocab_size, config.hidden_size, None, axis="token_type", **table
        )
        self.embedding_norm = layer_norm(config, config.layer_norm_eps, None)
        self.layers = stack(BertLayer, config, config.num_hidden_layers, None)
        if self.add_pooling_layer:
            self.pooler = dense(config, config.hidden_size, None, ("embed", "embed_out"), **table)

    def __call__(
        self,
        input_ids: Ids,
        attention_mask: Ids | Bool[Array, "batch length"] | None = None,
        token_type_ids: Ids | None = None,
        position_ids: Ids | None = None,
        *,
        dropout_keys: Keys = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> ModelOutput:
        length = input_ids.shape[1]
        if length > self.config.max_position_embeddings:
            raise ModelError(
                f"{length} tokens do not fit a model with max_position_embeddings={self.config.max_position_embeddings}"
            )
        position_ids = jnp.arange(length)[None] if position_ids is None else position_ids
        token_type_ids = jnp.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        mask = None if attention_mask is None else (attention_mask > 0)[:, None, None, :]
        embedded = (
            self.word_embeddings(input_ids)
            + self.position_embeddings(position_ids)
            + self.token_type_embeddings(token_type_ids)
        )
        embedded = dropout(
            by_example(self.embedding_norm(embedded)),
            self.config.hidden_dropout_prob,
            fold_in(dropout_keys, self.config.num_hidden_layers),
        )
        hidden, (states, attentions) = self.layers(
            embedded, jnp.arange(self.config.num_hidden_layers), mask, dropout_keys
        )
        return ModelOutput(
            last_hidden_state=hidden,
            pooler_output=jnp.tanh(self.pooler(hidden[:, 0])) if self.add_pooling_layer else None,
            hidden_states=jnp.concatenate([embedded[None], states]) if output_hidden_states else None,
            attentions=attentions if output_attentions else None,
        )

    def project_to_vocabulary(self, hidden: Float[Array, "... hidden"]) -> Float[Array, "... vocab"]:
        """Scores of every token, through the transposed word embeddings."""
        return matmul(hidden, self.word_embeddings.embedding.T)


class BertHead(nn.Module):
    """Base of the models with a head, which differ in `head` and in whether they pool.

    `masked_positions` (batch, positions) are the places that a head over the vocabulary is to predict: it projects those
    alone. Without them it projects every place. Other heads have no use for them.
    """

    config: BertConfig
    pooling: ClassVar[bool] = False

    @nn.compact
    def __call__(
        self,
        input_ids: Ids,
        attention_mask: Ids | Bool[Array, "batch length"] | None = None,
        token_type_ids: Ids | None = None,
        position_ids: Ids | None = None,
        masked_positions: Int[Array, "batch positions"] | None = None,
        *,
        dropout_keys: Keys = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> ModelOutput:
        encoder = BertModel(self.config, add_pooling_layer=self.pooling, name="bert")
        encoded = encoder(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            dropout_keys=dropout_keys,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )
        head_keys = fold_in(dropout_keys, self.config.num_hidden_layers + 1)
        return ModelOutput(**self.head(encoder, encoded, masked_positions, head_keys), **encoded)

    def predict_tokens(
        self, encoder: BertModel, hidden: Hidden, masked_positions
    ) -> Float[Array, "batch positions vocab"]:
        """LN(activation(W h + b)) of the masked (or all) places, then the tied embeddings and a bias of their own."""
        config = self.config
        if masked_positions is not None:
            hidden = jnp.take_along_axis(hidden, masked_positions[..., None], axis=1)
        hidden = activation(config.hidden_act)(self.linear(hidden, config.hidden_size, "transform"))
        hidden = layer_norm(config, config.layer_norm_eps, "transform_norm")(hidden)
        bias = self.param(
            "predictions_bias",
            nn.with_logical_partitioning(nn.initializers.zeros, ("vocab",)),
            (config.vocab_size,),
            jnp.dtype(config.param_dtype),
        )
        return add_bias(encoder.project_to_vocabulary(hidden), bias)

    def linear(self, hidden: Float[Array, "... hidden"], features: int, name: str) -> Float[Array, "... features"]:
        config = self.config
        return dense(config, features, name, ("embed", "head_out"), stddev=config.initializer_range)(hidden)

    def drop(self, hidden: Float[Array, "batch ... hidden"], keys: Keys) -> Float[Array, "batch ... hidden"]:
        """The dropout before a classification head."""
        config = self.config
        rate = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
        return dropout(hidden, rate, keys)


class BertForPreTraining(BertHead):
    """Outputs: `prediction_logits` (batch, positions, vocab); `seq_relationship_logits` (batch, 2), where index 0 means
    that the second segment follows the first."""

    pooling: ClassVar[bool] = True

    def head(self, encoder, encoded, masked_positions, keys):
        return dict(
            prediction_logits=self.predict_tokens(encoder, encoded.last_hidden_state, masked_positions),
            seq_relationship_logits=self.linear(encoded.pooler_output, 2, "seq_relationship"),
        )


class BertForMaskedLM(BertHead):
    """Output: `logits` (batch, positions, vocab)."""

    def head(self, encoder, encoded, masked_positions, keys):
        return dict(logits=self.predict_tokens(encoder, encoded.last_hidden_state, masked_positions))


class BertForNextSentencePrediction(BertHead):
    """Output: `logits` (batch, 2), where index 0 means that the second segment follows the first."""

    pooling: ClassVar[bool] = True

    def head(self, encoder, encoded, masked_positions, keys):
        return dict(logits=self.linear(encoded.pooler_output, 2, "seq_relationship"))


class BertForSequenceClassification(BertHead):
    """Output: `logits` (batch, labels)."""

    pooling: ClassVar[bool] = True

    def head(self, encoder, encoded, masked_positions, keys):
        return dict(logits=self.linear(self.drop(encoded.pooler_output, keys), len(self.config.labels), "classifier"))


class BertForTokenClassification(BertHead):
    """Output: `logits` (batch, length, labels)."""

    def head(self, encoder, encoded, masked_positions, keys):
        return dict(
            logits=self.linear(self.drop(encoded.last_hidden_state, keys), len(self.config.labels), "classifier")
        )


class BertForQuestionAnswering(BertHead):
    """Outputs: `start_logits` and `end_logits` (batch, length) of the answer's span, whatever `config.labels` holds."""

    unlabelled: ClassVar[bool] = True

    def head(self, encoder, encoded, masked_positions, keys):
        logits = self.linear(encoded.last_hidden_state, 2, "qa_outputs")
        return dict(start_logits=logits[..., 0], end_logits=logits[..., 1])
