"""BERT: a bidirectional Transformer encoder with post-norm residuals, and its heads.

Devlin, Chang, Lee, Toutanova: "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", 2018,
arXiv 1810.04805. The small variants: Turc et al., "Well-Read Students Learn Better", 2019, arXiv 1908.08962.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from models.config import ModelConfig, ModelError, Variant, alias
from models.kernels.linear import matmul
from models.layers.activations import activation
from models.layers.attention import Attention, attention_pattern, has_kernel
from models.layers.dropout import dropout, fold_in
from models.layers.embedding import embedding
from models.layers.heads import EncoderHead, SpanClassifier, TokenClassifier, VocabularyHead
from models.layers.linear import by_example, dense
from models.layers.norm import layer_norm
from models.layers.positions import sinusoids
from models.layers.stack import stack
from models.layers.vocabulary import as_asked
from models.model import CallSettings, Model
from models.outputs import ModelOutput

Ids = Int[Array, "batch length"]
Hidden = Float[Array, "batch length hidden"]
Choices = Int[Array, "batch choices length"]


def of_size(layers: int, hidden: int, **fields: Any) -> Variant:
    """The variant of this depth and width, with heads of 64 features."""
    fields = dict(num_attention_heads=hidden // 64, intermediate_size=4 * hidden, **fields)
    return Variant(num_hidden_layers=layers, hidden_size=hidden, **fields)


@dataclasses.dataclass(frozen=True)
class BertConfig(ModelConfig):
    """Shape of a BERT, with the field names of a published `config.json`.

    Attributes:
        hidden_act: `gelu` (exact, as `transformers` runs published weights) or `gelu_new` (tanh, as they were trained).
        classifier_dropout: dropout before a classification head; `hidden_dropout_prob` where `None`.
        tie_word_embeddings: whether the head over the vocabulary is the word embeddings.
        labels: names of the outputs of a classification head (`id2label`).
        local_start: begin with sinusoids as positions and attention to the neighbours (`models.layers.attention.Attention`),
            instead of finding both by chance; a setting of training alone, which no published file has.
    """

    model_type: ClassVar[str] = "bert"
    execution: ClassVar[tuple[str, ...]] = (*ModelConfig.execution, "local_start")
    variants: ClassVar[tuple[str, ...]] = ("tiny", "mini", "small", "medium", "base", "large")
    drops_attended: ClassVar[bool] = True
    """Whether what attention returns is dropped, too, before it is added; DistilBERT drops what the MLP returns alone."""

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
    pad_token_id: int | None = 0
    classifier_dropout: float | None = None
    tie_word_embeddings: bool = True
    labels: tuple[str, ...] = ("LABEL_0", "LABEL_1")
    local_start: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        activation(self.hidden_act)
        self.check_divides("hidden_size", "num_attention_heads")

    @classmethod
    def from_json(cls, published: dict, **changes) -> "BertConfig":
        """From a published `config.json`; decoders and position embeddings other than absolute ones are refused."""
        if published.get("is_decoder") or published.get("add_cross_attention"):
            raise ModelError("is_decoder or add_cross_attention is set: only the encoder is implemented for BERT")
        positions = published.get("position_embedding_type", "absolute")
        if positions != "absolute":
            raise ModelError(f"position_embedding_type={positions!r}: only absolute positions are implemented for BERT")
        return super().from_json(published, **changes)

    tiny = of_size(2, 128)
    mini = of_size(4, 256)
    small = of_size(4, 512)
    medium = of_size(8, 512)
    base = of_size(12, 768)
    large = of_size(24, 1024)

    longest_input = alias("max_position_embeddings")
    embedding_width = alias("hidden_size")
    """Features of the embeddings; where they are not `hidden_size`, a projection stands between them and the layers."""


class BertLayer(nn.Module):
    """One encoder layer: LN(x + attention(x)), then LN(x + MLP(x)). The config is BERT's, or has BERT's names too."""

    config: ModelConfig

    @nn.compact
    def __call__(self, hidden: Hidden, index: Int[Array, ""], shared):
        config = self.config
        mask, dropout_keys = shared
        keys = fold_in(dropout_keys, index)
        attended, probabilities, _ = Attention(
            config,
            config.hidden_size,
            config.num_attention_heads,
            config.attention_probs_dropout_prob,
            config.initializer_range,
            config.local_start,
            name="attention",
        )(hidden, mask, fold_in(keys, 0))
        if config.drops_attended:
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


def embeddings(config: ModelConfig, token_types: bool = True) -> tuple[nn.Module | None, ...]:
    """The tables of words, positions and (where there are some) token types, and the norm of their sum."""
    width, table = config.embedding_width, dict(stddev=config.initializer_range)
    start = sinusoids(1.5 * config.initializer_range) if config.local_start else None
    return (
        embedding(config, config.vocab_size, width, None, axis="vocab", **table),
        embedding(config, config.max_position_embeddings, width, None, axis="position", table_init=start, **table),
        embedding(config, config.type_vocab_size, width, None, axis="token_type", **table) if token_types else None,
        layer_norm(config, config.layer_norm_eps, None),
    )


class BertModel(Model):
    """Embeddings, encoder and (where a head wants it) pooler.

    Attributes:
        shared: another model's `embeddings`, to use in the place of its own.

    Outputs: `last_hidden_state` (batch, length, hidden); `pooler_output` (batch, hidden), tanh of a projection of the
    first token; `hidden_states` (layers + 1, batch, length, hidden), the embeddings first, and `attentions`
    (layers, batch, heads, length, length) where asked for.
    """

    config: BertConfig
    add_pooling_layer: bool = True
    shared: tuple[nn.Module | None, ...] | None = None
    token_types: ClassVar[bool] = True

    def setup(self) -> None:
        config = self.config
        self.word_embeddings, self.position_embeddings, self.token_type_embeddings, self.embedding_norm = (
            embeddings(config, self.token_types) if self.shared is None else self.shared
        )
        square = dict(features=config.hidden_size, name=None, axes=("embed", "embed_out"))
        if config.embedding_width != config.hidden_size:
            self.embeddings_project = dense(config, **square, stddev=config.initializer_range)
        self.layers = stack(BertLayer, config, config.num_hidden_layers, None)
        if self.add_pooling_layer:
            self.pooler = dense(config, **square, stddev=config.initializer_range)

    def __call__(
        self,
        input_ids: Ids,
        attention_mask: Ids | Bool[Array, "batch length"] | None = None,
        token_type_ids: Ids | None = None,
        position_ids: Ids | None = None,
        **settings: Any,
    ) -> ModelOutput:
        call = CallSettings(**settings)
        length = input_ids.shape[1]
        if length > self.config.max_position_embeddings:
            raise ModelError(
                f"{length} tokens do not fit a model with max_position_embeddings={self.config.max_position_embeddings}"
            )
        position_ids = jnp.arange(length)[None] if position_ids is None else position_ids
        by_parts = has_kernel(self.config, probabilities=call.output_attentions)
        mask = attention_pattern(length, attention_mask, by_parts=by_parts)
        embedded = self.word_embeddings(input_ids) + self.position_embeddings(position_ids)
        if self.token_types:
            token_type_ids = jnp.zeros_like(input_ids) if token_type_ids is None else token_type_ids
            embedded += self.token_type_embeddings(token_type_ids)
        embedded = dropout(
            by_example(self.embedding_norm(embedded)),
            self.config.hidden_dropout_prob,
            fold_in(call.dropout_keys, self.config.num_hidden_layers),
        )
        if self.config.embedding_width != self.config.hidden_size:
            embedded = self.embeddings_project(embedded)
        hidden, (states, attentions) = self.layers(
            embedded, jnp.arange(self.config.num_hidden_layers), (mask, call.dropout_keys)
        )
        return ModelOutput(
            last_hidden_state=hidden,
            pooler_output=jnp.tanh(self.pooler(hidden[:, 0])) if self.add_pooling_layer else None,
            **call.asked(embedded, states, attentions),
        )

    @property
    def vocabulary_kernel(self) -> Float[Array, "hidden vocab"]:
        """What scores every token: the transposed word embeddings."""
        return self.word_embeddings.embedding.T

    def project_to_vocabulary(self, hidden: Float[Array, "... hidden"]) -> Float[Array, "... vocab"]:
        """Scores of every token, through the transposed word embeddings."""
        return matmul(hidden, self.vocabulary_kernel)


class BertHead(EncoderHead, Model):
    """Base of the models with a head, which differ in `head` and in whether they pool.

    `masked_positions` (batch, positions) are the places that a head over the vocabulary is to predict: it projects those
    alone. Without them it projects every place. Other heads have no use for them.

    Attributes:
        shared: another model's `embeddings`, to use in the place of its own.
        pooling: whether the head reads the pooler.
        base: what the model without the head is called among the parameters.
    """

    config: BertConfig
    shared: tuple[nn.Module, ...] | None = None
    pooling: ClassVar[bool] = False
    base: ClassVar[str] = "bert"

    @nn.compact
    def __call__(
        self,
        input_ids: Ids,
        attention_mask: Ids | Bool[Array, "batch length"] | None = None,
        token_type_ids: Ids | None = None,
        position_ids: Ids | None = None,
        masked_positions: Int[Array, "batch positions"] | None = None,
        **settings: Any,
    ) -> ModelOutput:
        encoder = BertModel(self.config, add_pooling_layer=self.pooling, shared=self.shared, name=self.base)
        return self.read(encoder, (input_ids, attention_mask, token_type_ids, position_ids), masked_positions, settings)

    def read(self, encoder: BertModel, inputs: tuple, masked_positions, settings: Mapping[str, Any]) -> ModelOutput:
        """What encoder and head make of the encoder's inputs."""
        encoded = encoder(*inputs, **settings)
        head_keys = fold_in(settings.get("dropout_keys"), self.config.num_hidden_layers + 1)
        outputs = self.head(encoder, encoded, masked_positions, head_keys)
        return ModelOutput(**as_asked(outputs, settings.get("unprojected", False)), **encoded)

    @abc.abstractmethod
    def head(self, encoder, encoded, masked_positions, keys) -> dict[str, Array]:
        """The outputs beside those of the model below."""


class BertForPreTraining(BertHead):
    """Outputs: `prediction_logits` (batch, positions, vocab); `seq_relationship_logits` (batch, 2), where index 0 means
    that the second segment follows the first."""

    pooling: ClassVar[bool] = True

    def head(self, encoder, encoded, masked_positions, keys):
        return dict(
            prediction_logits=self.predict_tokens(encoder, encoded.last_hidden_state, masked_positions),
            seq_relationship_logits=self.linear(encoded.pooler_output, 2, "seq_relationship"),
        )


class BertForMaskedLM(VocabularyHead, BertHead):
    pass


class BertForNextSentencePrediction(BertHead):
    """Output: `logits` (batch, 2), where index 0 means that the second segment follows the first."""

    pooling: ClassVar[bool] = True

    def head(self, encoder, encoded, masked_positions, keys):
        return dict(logits=self.linear(encoded.pooler_output, 2, "seq_relationship"))


class BertForSequenceClassification(BertHead):
    """Output: `logits` (batch, labels)."""

    labelled: ClassVar[bool | None] = True
    pooling: ClassVar[bool] = True

    def head(self, encoder, encoded, masked_positions, keys):
        return dict(logits=self.linear(self.drop(encoded.pooler_output, keys), len(self.config.labels), "classifier"))


class BertForTokenClassification(TokenClassifier, BertHead):
    pass


class BertForQuestionAnswering(SpanClassifier, BertHead):
    pass


class BertMultipleChoice(BertHead):
    """Base of heads that score several texts of each example, of which one is right.

    Inputs: as the other heads', each (batch, choices, length). Output: `logits` (batch, choices); hidden states are those of
    batch · choices texts. `head` returns a score (batch · choices, 1).
    """

    choices: ClassVar[bool] = True

    def __call__(
        self,
        input_ids: Choices,
        attention_mask: Choices | Bool[Array, "batch choices length"] | None = None,
        token_type_ids: Choices | None = None,
        position_ids: Choices | None = None,
        **settings: Any,
    ) -> ModelOutput:
        return by_choice(super().__call__, (input_ids, attention_mask, token_type_ids, position_ids), settings)


def by_choice(score: Callable[..., ModelOutput], inputs: Sequence, settings: Mapping[str, Any]) -> ModelOutput:
    """What `score` says of each text of an example, with dropout of its own; its logits as (batch, choices).

    Args:
        inputs: each (batch, choices, length) or `None`, handed to `score` as (batch · choices, length).
    """
    batch, choices, _ = inputs[0].shape
    keys = settings.get("dropout_keys")
    if keys is not None:
        numbers = jnp.arange(choices)
        keys = jax.vmap(lambda key: jax.vmap(jax.random.fold_in, (None, 0))(key, numbers))(keys).reshape(-1)
    inputs = (None if x is None else x.reshape(-1, x.shape[-1]) for x in inputs)
    read = score(*inputs, **{**settings, "dropout_keys": keys})
    return ModelOutput(**{**read, "logits": read.logits.reshape(batch, choices)})


class BertForMultipleChoice(BertMultipleChoice):
    pooling: ClassVar[bool] = True

    def head(self, encoder, encoded, masked_positions, keys):
        return dict(logits=self.linear(self.drop(encoded.pooler_output, keys), 1, "classifier"))
