"""Connectionist temporal classification: the tokens of an utterance, whose places among the frames nobody knows.

Graves, Fernández, Gomez, Schmidhuber: "Connectionist Temporal Classification: Labelling Unsegmented Sequence Data with
Recurrent Neural Networks", ICML 2006. Masked frames and features: Park et al., "SpecAugment", 2019, arXiv 1904.08779.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from models.kernels.precision import widened
from objectives.audio.contrastive import KERNEL, STRIDE
from objectives.audio.frames import check_spans, frames_of, spans
from objectives.losses import IGNORED, NATS
from objectives.objective import Example, Losses, Objective, ObjectiveError


@dataclasses.dataclass(frozen=True)
class Ctc(Objective):
    """-log of the probability of all ways to spread `labels` over the frames of an utterance, blanks between them.

    The loss is summed over utterances and divided by the number of their tokens. An empty transcript asks for blanks alone and
    counts as one token. A transcript with more tokens than the frames have room for, a blank between two alike included, has no
    such way: it counts for nothing, neither in the loss nor in its weight.

    Attributes:
        mask_time_prob, mask_time_length, mask_time_min_masks: of the spans of frames that are masked (see `spans`).
        mask_feature_prob, mask_feature_length: of the spans of features that are set to 0.
        conv_kernel, conv_stride, hidden_size, blank: of the model.
    """

    reads: ClassVar[tuple[str, ...]] = ("input_values", "attention_mask", "labels")
    writes: ClassVar[tuple[str, ...]] = ("logit_lengths", "mask_time_indices", "mask_feature_indices")
    takes: ClassVar[tuple[str, ...]] = ("input_values",)
    asks: ClassVar[tuple[tuple[str, ...], ...]] = (("logits",),)
    agrees: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "conv_kernel": "conv_kernel",
            "conv_stride": "conv_stride",
            "hidden_size": "hidden_size",
            "blank": "pad_token_id",
        }
    )
    units: ClassVar[Mapping[str, str]] = MappingProxyType({"ctc_loss": NATS})

    mask_time_prob: float = 0.05
    mask_time_length: int = 10
    mask_time_min_masks: int = 2
    mask_feature_prob: float = 0.0
    mask_feature_length: int = 64
    conv_kernel: tuple[int, ...] = KERNEL
    conv_stride: tuple[int, ...] = STRIDE
    hidden_size: int = 768
    blank: int = 0

    def __post_init__(self) -> None:
        check_spans(self.mask_time_prob, self.mask_time_length, self.mask_time_min_masks, "mask_time")
        check_spans(self.mask_feature_prob, self.mask_feature_length, 0, "mask_feature")
        if self.mask_feature_prob and self.mask_feature_length > self.hidden_size:
            raise ObjectiveError(
                f"mask_feature_length={self.mask_feature_length} is more than the hidden_size={self.hidden_size} features"
            )

    def corrupt(self, key: Key[Array, ""], example: Example) -> Example:
        """Adds `logit_lengths` (), the frames that are no padding; `mask_time_indices` (frames,) and `mask_feature_indices`
        (hidden_size,) where the rates are above 0."""
        frames = self._frames(len(example["input_values"]))
        time, features = jax.random.split(key)
        heard = self._frames(example["attention_mask"].sum())
        masks = {"logit_lengths": jnp.maximum(heard, 0)}
        if self.mask_time_prob and frames >= self.mask_time_length:
            masks["mask_time_indices"] = spans(
                time,
                frames,
                heard,
                rate=self.mask_time_prob,
                length=self.mask_time_length,
                least=self.mask_time_min_masks,
            )
        if self.mask_feature_prob:
            size, rate, length = self.hidden_size, self.mask_feature_prob, self.mask_feature_length
            masks["mask_feature_indices"] = spans(features, size, size, rate=rate, length=length, least=0)
        return {**example, **masks}

    def loss(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        logits, labels = widened(self.output(outputs)), batch["labels"]
        frames = batch["logit_lengths"]
        asked = labels != IGNORED
        possible = frames_needed(labels) <= frames
        losses = optax.ctc_loss(
            logits,
            (jnp.arange(logits.shape[1])[None] >= frames[:, None]).astype(logits.dtype),
            jnp.where(asked, labels, 0),
            (~asked).astype(logits.dtype),
            blank_id=self.blank,
        )
        tokens = jnp.maximum(asked.sum(axis=-1), 1)
        return {
            "ctc_loss": (
                jnp.where(possible, losses, 0.0).sum(),
                jnp.where(possible, tokens, 0).sum().astype(jnp.float32),
            )
        }

    def _frames(self, samples: int | Int[Array, "*shape"]) -> int | Int[Array, "*shape"]:
        return frames_of(samples, self.conv_kernel, self.conv_stride)


def frames_needed(labels: Int[Array, "batch tokens"]) -> Int[Array, " batch"]:
    """The fewest frames that the tokens of each row can be spread over: one a token, and a blank between two alike."""
    asked = labels != IGNORED
    repeated = (labels[:, 1:] == labels[:, :-1]) & asked[:, 1:]
    return jnp.maximum(asked.sum(axis=-1) + repeated.sum(axis=-1), 1)


def greedy(
    logits: Float[Array, "batch frames vocab"], frames: Int[Array, " batch"], blank: int
) -> Int[Array, "batch frames"]:
    """The likeliest token of each frame where it is new, `IGNORED` else: blanks, repeated tokens, and what is beyond `frames`."""
    best = logits.argmax(axis=-1).astype(jnp.int32)
    new: Bool[Array, "batch frames"] = best != jnp.pad(best, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]
    heard = jnp.arange(best.shape[1])[None] < frames[:, None]
    return jnp.where(new & (best != blank) & heard, best, IGNORED)
