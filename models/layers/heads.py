"""Heads that several architectures share: functions, and bases that stand before an architecture's own base."""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from models.config import ModelConfig
from models.kernels.linear import add_bias
from models.layers.activations import activation
from models.layers.dropout import Keys, dropout
from models.layers.linear import Initializer, dense
from models.layers.norm import layer_norm
from models.layers.vocabulary import VocabularyScores, too_many


def classifier(
    config: ModelConfig,
    hidden: Float[Array, "*batch hidden"],
    outputs: int,
    name: str,
    *,
    kernel_init: Initializer | None = None,
    stddev: float = 0.02,
) -> Float[Array, "*batch outputs"]:
    """Scores W h + b; W begins as `kernel_init`, else as N(0, stddev²) cut at ±2 stddev."""
    return dense(config, outputs, name, ("embed", "head_out"), kernel_init=kernel_init, stddev=stddev)(hidden)


def span(logits: Float[Array, "batch length 2"]) -> dict[str, Float[Array, "batch length"]]:
    """Scores of the places where an answer begins, and of those where it ends."""
    return dict(start_logits=logits[..., 0], end_logits=logits[..., 1])


class EncoderHead:
    """What heads behind an encoder are made of. The model's config has BERT's names."""

    span_dropout: float = 0.0

    def linear(
        self, hidden: Float[Array, "*batch hidden"], features: int, name: str
    ) -> Float[Array, "*batch features"]:
        return classifier(self.config, hidden, features, name, stddev=self.config.initializer_range)

    def drop(self, hidden: Float[Array, "batch ... hidden"], keys: Keys) -> Float[Array, "batch ... hidden"]:
        """The dropout before a classification head."""
        config = self.config
        rate = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
        return dropout(hidden, rate, keys)

    def predict_tokens(
        self,
        encoder: nn.Module,
        hidden: Float[Array, "batch length hidden"],
        masked_positions: Int[Array, "batch positions"] | None,
        hidden_act: str | None = None,
    ) -> Float[Array, "batch positions vocab"] | VocabularyScores:
        """LN(activation(W h + b)) of the masked (or all) places, then the tied embeddings (or a table like them) and a bias.

        Args:
            hidden_act: the activation where it is not the config's.

        Returns:
            The scores; where they are many, what they are computed from.
        """
        config = self.config
        if masked_positions is not None:
            hidden = jnp.take_along_axis(hidden, masked_positions[..., None], axis=1)
        hidden = activation(hidden_act or config.hidden_act)(self.linear(hidden, config.embedding_width, "transform"))
        hidden = layer_norm(config, config.layer_norm_eps, "transform_norm")(hidden)
        bias = self.param(
            "predictions_bias",
            nn.with_logical_partitioning(nn.initializers.zeros, ("vocab",)),
            (config.vocab_size,),
            jnp.dtype(config.param_dtype),
        )
        many = too_many(hidden, config.vocab_size)
        if config.tie_word_embeddings and many:
            return VocabularyScores(hidden, encoder.vocabulary_kernel, bias)
        if config.tie_word_embeddings:
            return add_bias(encoder.project_to_vocabulary(hidden), bias)
        stddev = config.initializer_range
        table = dense(config, config.vocab_size, "decoder", ("embed", "vocab"), bias=False, stddev=stddev)
        scores = table(hidden, unprojected=many)
        return scores.replace(bias=bias) if many else add_bias(scores, bias)


class VocabularyHead:
    """Output: `logits` (batch, positions, vocab)."""

    head_act: ClassVar[str | None] = None

    def head(self, encoder: nn.Module, encoded: Any, masked_positions: Array | None, keys: Keys) -> dict[str, Any]:
        return dict(logits=self.predict_tokens(encoder, encoded.last_hidden_state, masked_positions, self.head_act))


class TokenClassifier:
    """Output: `logits` (batch, length, labels)."""

    labelled: ClassVar[bool | None] = True

    def head(self, encoder: nn.Module, encoded: Any, masked_positions: Array | None, keys: Keys) -> dict[str, Array]:
        hidden = self.drop(encoded.last_hidden_state, keys)
        return dict(logits=self.linear(hidden, len(self.config.labels), "classifier"))


class SpanClassifier:
    """Outputs: `start_logits` and `end_logits` (batch, length) of the answer's span, whatever `config.labels` holds."""

    labelled: ClassVar[bool | None] = False

    def head(self, encoder: nn.Module, encoded: Any, masked_positions: Array | None, keys: Keys) -> dict[str, Array]:
        hidden = dropout(encoded.last_hidden_state, self.span_dropout, keys)
        return span(self.linear(hidden, 2, "qa_outputs"))
