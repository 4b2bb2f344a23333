"""mBART: BART in many languages, with pre-norm residuals and texts that carry the token of their language.

Liu, Gu, Goyal, Li, Edunov, Ghazvininejad, Lewis, Zettlemoyer: "Multilingual Denoising Pre-training for Neural Machine
Translation", 2020, arXiv 2001.08210 (cc25); Tang et al.: "Multilingual Translation with Extensible Multilingual
Pretraining and Finetuning", 2020, arXiv 2008.00401 (mBART-50).
"""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from models import bart
from models.config import ModelError, Variant
from models.encoder_decoder.inputs import Ids, shift_tokens_right
from models.encoder_decoder.model import ConditionalGeneration, EncoderDecoderModel
from models.layers.embedding import last_token


@dataclasses.dataclass(frozen=True)
class MBartConfig(bart.BartConfig):
    """Shape of an mBART, with the field names of a published `config.json`."""

    model_type: ClassVar[str] = "mbart"
    variants: ClassVar[tuple[str, ...]] = ("large_cc25", "large_50")
    published_labels: ClassVar[int] = 2
    normalize_before: ClassVar[bool] = True

    decoder_start_token_id: int | None = None
    labels: tuple[str, ...] = ("LABEL_0", "LABEL_1")

    large_cc25 = Variant(vocab_size=250_027, scale_embedding=True)
    """25 languages; a text ends with its language, and the decoder's input begins with that."""
    large_50 = Variant(vocab_size=250_054, scale_embedding=True)
    """50 languages; a text begins with its language."""


def wrap_tokens_right(ids: Ids, padding: int) -> Ids:
    """`ids` shifted right by one place, the last token that is not `padding` (the language) in front."""
    ids = jnp.where(ids < 0, padding, ids)
    last = last_token(ids, padding)[:, None]
    return shift_tokens_right(ids, padding, jnp.take_along_axis(ids, last, axis=1)[:, 0])


class MBartModel(EncoderDecoderModel):
    """Embeddings, encoder and decoder."""

    def shift(self, input_ids: Ids) -> Ids:
        if self.config.pad_token_id is None:
            raise ModelError(
                "decoder_input_ids is missing, and the config has no pad_token_id before which a text ends"
            )
        return wrap_tokens_right(input_ids, self.config.pad_token_id)


class MBartForConditionalGeneration(ConditionalGeneration):
    base: ClassVar[type[EncoderDecoderModel]] = MBartModel


class MBartForSequenceClassification(bart.BartForSequenceClassification):
    base: ClassVar[type[EncoderDecoderModel]] = MBartModel


class MBartForQuestionAnswering(bart.BartForQuestionAnswering):
    base: ClassVar[type[EncoderDecoderModel]] = MBartModel
