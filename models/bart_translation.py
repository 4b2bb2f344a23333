"""BART that translates into its language: a new encoder reads another one, and BART's encoder reads what that makes of it in
the place of words.

Lewis, Liu, Goyal, Ghazvininejad, Mohamed, Levy, Stoyanov, Zettlemoyer: "BART: Denoising Sequence-to-Sequence Pre-training for
Natural Language Generation, Translation, and Comprehension", 2019, arXiv 1910.13461, section 3.4. `transformers`
has no class for it.
"""

import dataclasses
from typing import ClassVar

import flax.linen as nn

from models.bart import BartConfig
from models.encoder_decoder.config import check_length
from models.encoder_decoder.inputs import Hidden, Ids, Mask
from models.encoder_decoder.model import ConditionalGeneration, EncoderDecoderModel
from models.encoder_decoder.stacks import Encoder
from models.layers.embedding import embedding
from models.model import CallSettings


@dataclasses.dataclass(frozen=True)
class BartTranslationConfig(BartConfig):
    """Shape of a BART with a source encoder. Its word embeddings, `vocab_size`, are those of the language that is written.

    Attributes:
        source_vocab_size: tokens of the language that is read, which has a tokenizer of its own.
        source_layers, source_attention_heads, source_ffn_dim: of the source encoder, which is as wide as BART.
    """

    model_type: ClassVar[str] = "bart_translation"
    begins_as: ClassVar[tuple[str, str] | None] = ("bart", "BartForConditionalGeneration")
    variants: ClassVar[tuple[str, ...]] = ("base", "large")

    source_vocab_size: int = 32_000
    source_layers: int = 6
    source_attention_heads: int = 16
    source_ffn_dim: int = 4_096

    @property
    def source(self) -> BartConfig:
        """The shape of the source encoder, as that of a BART."""
        same = {field.name: vars(self)[field.name] for field in dataclasses.fields(BartConfig)}
        heads, width = self.source_attention_heads, self.source_ffn_dim
        shape = dict(encoder_layers=self.source_layers, encoder_attention_heads=heads, encoder_ffn_dim=width)
        return BartConfig(**{**same, **shape})


class SourceEncoder(nn.Module):
    """Words, positions and layers of the language that is read."""

    config: BartTranslationConfig

    def setup(self) -> None:
        config = self.config
        self.words = embedding(
            config, config.source_vocab_size, config.d_model, None, stddev=config.init_std, axis="vocab"
        )
        self.encoder = Encoder(config.source)

    def __call__(self, ids: Ids, attention_mask: Mask | None, call: CallSettings) -> Hidden:
        call = CallSettings(dropout_keys=call.dropout_keys)
        return self.encoder(self.words(ids), attention_mask, None, call).last_hidden_state


class BartTranslationModel(EncoderDecoderModel):
    """The source encoder, and BART."""

    config: BartTranslationConfig

    def setup(self) -> None:
        super().setup()
        self.source = SourceEncoder(self.config)

    def front_end(self, inputs: Ids, attention_mask: Mask | None, call: CallSettings) -> Hidden:
        check_length(self.config, inputs.shape[1])
        return self.source(inputs, attention_mask, call)


class BartTranslationForConditionalGeneration(ConditionalGeneration):
    """Output: `logits` (batch, targets, vocab) of the token after each place."""

    base: ClassVar[type[EncoderDecoderModel]] = BartTranslationModel
