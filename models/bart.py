"""BART: an encoder with a decoder that restores a corrupted text, and its heads.

Lewis, Liu, Goyal, Ghazvininejad, Mohamed, Levy, Stoyanov, Zettlemoyer: "BART: Denoising Sequence-to-Sequence Pre-training
for Natural Language Generation, Translation, and Comprehension", 2019, arXiv 1910.13461.
"""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from models.config import ModelError, Variant
from models.encoder_decoder.config import TextEncoderDecoderConfig
from models.encoder_decoder.model import ConditionalGeneration, EncoderDecoderHead, EncoderDecoderModel
from models.layers.dropout import dropout, fold_in
from models.layers.heads import classifier, span
from models.layers.linear import dense


@dataclasses.dataclass(frozen=True)
class BartConfig(TextEncoderDecoderConfig):
    """Shape of a BART, with the field names of a published `config.json`: `TextEncoderDecoderConfig` and these.

    Attributes:
        classifier_dropout: before and inside a classification head.
        labels: names of the outputs of a classification head (`id2label`).
    """

    model_type: ClassVar[str] = "bart"
    variants: ClassVar[tuple[str, ...]] = ("base", "large", "large_cnn", "large_xsum")
    published_labels: ClassVar[int] = 3

    classifier_dropout: float = 0.0
    labels: tuple[str, ...] = ("LABEL_0", "LABEL_1", "LABEL_2")

    base = Variant(
        **dict(d_model=768, encoder_layers=6, encoder_attention_heads=12, encoder_ffn_dim=3_072),
        **dict(decoder_layers=6, decoder_attention_heads=12, decoder_ffn_dim=3_072),
    )
    large = Variant()
    large_cnn = Variant(vocab_size=50_264)
    """Fine-tuned to summarise CNN and Daily Mail; the mask token went."""
    large_xsum = large_cnn
    """Fine-tuned to summarise BBC articles in one sentence; the mask token went."""


class BartModel(EncoderDecoderModel):
    """Embeddings, encoder and decoder."""


class BartForConditionalGeneration(ConditionalGeneration):
    base: ClassVar[type[EncoderDecoderModel]] = BartModel


class BartForSequenceClassification(EncoderDecoderHead):
    """Output: `logits` (batch, labels), read where `input_ids` have their last `eos_token_id`.

    Without `decoder_input_ids`, the decoder is given the text that the encoder reads.
    """

    labelled: ClassVar[bool | None] = True
    base: ClassVar[type[EncoderDecoderModel]] = BartModel

    def head(self, model, hidden, input_ids, keys):
        config = self.config
        if input_ids is None:
            raise ModelError(f"input_ids is missing: {type(self).__name__} looks for the end of the text in them")
        if not isinstance(config.eos_token_id, int):
            raise ModelError(
                f"eos_token_id={config.eos_token_id}: {type(self).__name__} reads where one token ends the text"
            )
        last = jnp.where(input_ids == config.eos_token_id, jnp.arange(input_ids.shape[1])[None], 0).max(axis=1)
        hidden = jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0]
        hidden = dropout(hidden, config.classifier_dropout, fold_in(keys, 0))
        square = dense(config, config.d_model, "transform", ("embed", "embed_out"), kernel_init=config.kernel_init)
        hidden = dropout(jnp.tanh(square(hidden)), config.classifier_dropout, fold_in(keys, 1))
        return dict(logits=classifier(config, hidden, len(config.labels), "classifier", kernel_init=config.kernel_init))


class BartForQuestionAnswering(EncoderDecoderHead):
    """Outputs: `start_logits` and `end_logits` (batch, targets) of the answer's span, whatever `config.labels` holds."""

    base: ClassVar[type[EncoderDecoderModel]] = BartModel
    labelled: ClassVar[bool | None] = False

    def head(self, model, hidden, input_ids, keys):
        return span(classifier(self.config, hidden, 2, "qa_outputs", kernel_init=self.config.kernel_init))
