"""DistilBERT: BERT's encoder with half of the layers, without token types and pooler, and its heads.

Sanh, Debut, Chaumond, Wolf: "DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter", 2019,
arXiv 1910.01108, section 3. How it is trained: `models.student_teacher`, `objectives.distillation`.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import flax.linen as nn
import jax
from jaxtyping import Array, Bool, Float, Int

from models.bert import BertHead, BertModel, Choices, Ids, by_choice
from models.config import ModelConfig, Variant, alias
from models.layers.activations import activation
from models.layers.dropout import Keys, dropout
from models.layers.heads import SpanClassifier, TokenClassifier, VocabularyHead
from models.outputs import ModelOutput


@dataclasses.dataclass(frozen=True)
class DistilBertConfig(ModelConfig):
    """Shape of a DistilBERT, with the field names of a published `config.json`; the aliases give them BERT's.

    `sinusoidal_pos_embds` is not among them: it says how the table of positions began, which is in the files.

    Attributes:
        dim, n_layers, n_heads, hidden_dim: width, layers, heads of each, and width of the feed-forward layers.
        activation: as BERT's `hidden_act`.
        dropout: of embeddings, of what a feed-forward layer returns, and before a classification of tokens.
        attention_dropout: of the attention probabilities.
        seq_classif_dropout, qa_dropout: before the head that classifies sequences, and the one that answers questions.
        tie_word_embeddings: as BERT's.
        labels: names of the outputs of a classification head (`id2label`).
        local_start: as BERT's; a setting of training alone.
    """

    model_type: ClassVar[str] = "distilbert"
    aliases: ClassVar[Mapping[str, str]] = MappingProxyType(
        dict(hidden_size="dim", num_attention_heads="n_heads", num_hidden_layers="n_layers")
    )
    execution: ClassVar[tuple[str, ...]] = (*ModelConfig.execution, "local_start")
    variants: ClassVar[tuple[str, ...]] = ("base",)
    drops_attended: ClassVar[bool] = False
    layer_norm_eps: ClassVar[float] = 1e-12
    classifier_dropout: ClassVar[float | None] = None

    vocab_size: int = 30_522
    max_position_embeddings: int = 512
    n_layers: int = 6
    n_heads: int = 12
    dim: int = 768
    hidden_dim: int = 3_072
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation: str = "gelu"
    initializer_range: float = 0.02
    qa_dropout: float = 0.1
    seq_classif_dropout: float = 0.2
    pad_token_id: int | None = 0
    tie_word_embeddings: bool = True
    labels: tuple[str, ...] = ("LABEL_0", "LABEL_1")
    local_start: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        activation(self.activation)
        self.check_divides("dim", "n_heads")

    base = Variant()

    hidden_size = embedding_width = alias("dim")
    num_hidden_layers = alias("n_layers")
    num_attention_heads = alias("n_heads")
    intermediate_size = alias("hidden_dim")
    hidden_act = alias("activation")
    hidden_dropout_prob = alias("dropout")
    attention_probs_dropout_prob = alias("attention_dropout")
    longest_input = alias("max_position_embeddings")


class DistilBertModel(BertModel):
    """Embeddings and encoder.

    Outputs: `last_hidden_state` (batch, length, dim); `hidden_states` (layers + 1, batch, length, dim), the embeddings
    first, and `attentions` (layers, batch, heads, length, length) where asked for.
    """

    config: DistilBertConfig
    add_pooling_layer: bool = False
    token_types: ClassVar[bool] = False

    def __call__(
        self,
        input_ids: Ids,
        attention_mask: Ids | Bool[Array, "batch length"] | None = None,
        position_ids: Ids | None = None,
        **settings: Any,
    ) -> ModelOutput:
        return super().__call__(input_ids, attention_mask, None, position_ids, **settings)


class DistilBertHead(BertHead):
    """Base of the models with a head; `masked_positions` as BERT's heads have them."""

    config: DistilBertConfig

    @nn.compact
    def __call__(
        self,
        input_ids: Ids,
        attention_mask: Ids | Bool[Array, "batch length"] | None = None,
        position_ids: Ids | None = None,
        masked_positions: Int[Array, "batch positions"] | None = None,
        **settings: Any,
    ) -> ModelOutput:
        encoder = DistilBertModel(self.config, name="distilbert")
        return self.read(encoder, (input_ids, attention_mask, position_ids), masked_positions, settings)

    def classify(self, first: Float[Array, "batch dim"], outputs: int, keys: Keys) -> Float[Array, "batch outputs"]:
        """W′ dropout(relu(W h + b)) + b′ of the first token."""
        first = jax.nn.relu(self.linear(first, self.config.dim, "pre_classifier"))
        return self.linear(dropout(first, self.config.seq_classif_dropout, keys), outputs, "classifier")


class DistilBertForMaskedLM(VocabularyHead, DistilBertHead):
    pass


class DistilBertForSequenceClassification(DistilBertHead):
    """Output: `logits` (batch, labels), of the first token."""

    labelled: ClassVar[bool | None] = True

    def head(self, encoder, encoded, masked_positions, keys):
        return dict(logits=self.classify(encoded.last_hidden_state[:, 0], len(self.config.labels), keys))


class DistilBertForTokenClassification(TokenClassifier, DistilBertHead):
    pass


class DistilBertForQuestionAnswering(SpanClassifier, DistilBertHead):
    @property
    def span_dropout(self) -> float:
        return self.config.qa_dropout


class DistilBertForMultipleChoice(DistilBertHead):
    """Output: `logits` (batch, choices), as `BertForMultipleChoice`, without token types."""

    choices: ClassVar[bool] = True

    def __call__(
        self,
        input_ids: Choices,
        attention_mask: Choices | Bool[Array, "batch choices length"] | None = None,
        position_ids: Choices | None = None,
        **settings: Any,
    ) -> ModelOutput:
        return by_choice(super().__call__, (input_ids, attention_mask, position_ids), settings)

    def head(self, encoder, encoded, masked_positions, keys):
        return dict(logits=self.classify(encoded.last_hidden_state[:, 0], 1, keys))
