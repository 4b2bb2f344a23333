"""What is said in a recording, token by token, from its spectrogram.

Radford et al.: "Robust Speech Recognition via Large-Scale Weak Supervision", 2022, arXiv 2212.04356, section 2.3.
"""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Key

from objectives.losses import IGNORED
from objectives.objective import Example
from objectives.text.seq2seq import Seq2Seq


@dataclasses.dataclass(frozen=True)
class Transcription(Seq2Seq):
    """`labels` as the data give them: the prompt behind the token that begins a text, the text, its end, `IGNORED` behind that.

    Attributes:
        score_prompt: whether the decoder is asked for the tokens of language and task, too, as the published models were;
            otherwise it reads them and is asked for what comes behind.
    """

    reads: ClassVar[tuple[str, ...]] = ("input_features", "labels")
    writes: ClassVar[tuple[str, ...]] = ("labels", "decoder_input_ids", "decoder_attention_mask")
    takes: ClassVar[tuple[str, ...]] = ("input_features", "decoder_input_ids")
    loss_name: ClassVar[str] = "transcription_loss"

    start: str = "start"
    score_prompt: bool = False

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return (*super().needs, "prompt")

    def corrupt(self, key: Key[Array, ""], example: Example) -> Example:
        """Adds `decoder_input_ids`, the labels one place late, and `decoder_attention_mask`; then the prompt is not asked for."""
        labels = example["labels"]
        asked = jnp.arange(len(labels)) >= (0 if self.score_prompt else len(self.vocabulary.prompt))
        return {**example, **self.teach(labels, self.start_id), "labels": jnp.where(asked, labels, IGNORED)}
