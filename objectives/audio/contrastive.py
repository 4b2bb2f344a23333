"""Contrastive pretraining of speech: which quantised frame is it that was masked here?

Baevski, Zhou, Mohamed, Auli: "wav2vec 2.0", 2020, arXiv 2006.11477, sections 3.1 and 3.2; the feature penalty is the released
code's.
"""

import dataclasses
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from models.kernels.precision import widened
from objectives.audio.frames import check_spans, frames_of, most_spans, spans
from objectives.losses import IGNORED, NATS, accuracy, cross_entropy
from objectives.objective import Example, Losses, Objective, ObjectiveError, Sums, Targets, ratio

KERNEL, STRIDE = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)


@dataclasses.dataclass(frozen=True)
class Contrastive(Objective):
    """Spans of frames are masked. At each masked frame t the model is asked which of the quantised frames is its own, q_t, and
    which are `num_negatives` distractors, drawn with replacement from the other masked frames of the utterance:

        contrastive_loss = mean over t of -log exp(cos(c_t, q_t) / κ) / Σ_q exp(cos(c_t, q) / κ)
        diversity_loss = α (GV - Σ_g exp(H(p_g))) / GV, p_g the mean of softmax(l_g) over the masked frames of the batch
        feature_penalty = β · mean of z², z what the convolutions make of samples that are no padding

    A distractor of the same codes as q_t does not count. An utterance with fewer than two masked frames asks for nothing. In
    evaluation the codes are the likeliest ones, and the diversity is that of the probabilities, too.

    Attributes:
        mask_time_prob, mask_time_length, mask_time_min_masks: see `spans`; 0.65 of length 10 masks 49 % of a long utterance.
        temperature: κ.
        diversity_loss_weight: α.
        feature_penalty_weight: β.
        gumbel_temperature, gumbel_decay, least_gumbel_temperature: that of step n is max(gumbel_temperature · decayⁿ, least).
        conv_kernel, conv_stride, groups, codes: of the model.
    """

    reads: ClassVar[tuple[str, ...]] = ("input_values", "attention_mask", "step")
    writes: ClassVar[tuple[str, ...]] = (
        "mask_time_indices",
        "masked_positions",
        "sampled_negative_indices",
        "gumbel_noise",
        "gumbel_temperature",
        "labels",
    )
    takes: ClassVar[tuple[str, ...]] = ("input_values", "mask_time_indices", "masked_positions", "gumbel_noise")
    asks: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("projected_states",),
        ("projected_quantized_states",),
        ("codevector_indices",),
        ("codevector_logits",),
        ("conv_features",),
    )
    agrees: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "conv_kernel": "conv_kernel",
            "conv_stride": "conv_stride",
            "groups": "num_codevector_groups",
            "codes": "num_codevectors_per_group",
        }
    )
    units: ClassVar[Mapping[str, str]] = MappingProxyType({"contrastive_loss": NATS})

    mask_time_prob: float = 0.65
    mask_time_length: int = 10
    mask_time_min_masks: int = 2
    num_negatives: int = 100
    temperature: float = 0.1
    diversity_loss_weight: float = 0.1
    feature_penalty_weight: float = 10.0
    gumbel_temperature: float = 2.0
    gumbel_decay: float = 0.999995
    least_gumbel_temperature: float = 0.5
    conv_kernel: tuple[int, ...] = KERNEL
    conv_stride: tuple[int, ...] = STRIDE
    groups: int = 2
    codes: int = 320

    def __post_init__(self) -> None:
        check_spans(self.mask_time_prob, self.mask_time_length, self.mask_time_min_masks, "mask_time")
        if self.mask_time_prob == 0 or self.num_negatives < 1:
            raise ObjectiveError(
                f"mask_time_prob={self.mask_time_prob}, num_negatives={self.num_negatives}: expected some of both"
            )
        for name in ("temperature", "gumbel_temperature", "least_gumbel_temperature", "gumbel_decay"):
            if vars(self)[name] <= 0:
                raise ObjectiveError(f"{name}={vars(self)[name]}: expected a number above 0")

    def corrupt(self, key: Key[Array, ""], example: Example) -> Example:
        """Adds, for a number of places that is the same for all utterances of this length:

        mask_time_indices (frames,): true where a frame is masked.
        masked_positions (places,): those frames, then 0 to fill up.
        labels (places,): 0 for the right one among the candidates, `IGNORED` where the places are filled up.
        sampled_negative_indices (places, num_negatives): distractors, as numbers of places.
        gumbel_noise (places, groups, codes), gumbel_temperature ().
        """
        frames = self._frames(len(example["input_values"]))
        if frames < self.mask_time_length + 1:
            raise ObjectiveError(
                f"input_values of {len(example['input_values'])} samples are {max(frames, 0)} frames, of which spans of"
                f" {self.mask_time_length} are masked: give longer audio"
            )
        masking, sampling, noise = jax.random.split(key, 3)
        settings = dict(rate=self.mask_time_prob, length=self.mask_time_length, least=self.mask_time_min_masks)
        mask = spans(masking, frames, self._frames(example["attention_mask"].sum()), **settings)
        places = most_spans(frames, **settings) * self.mask_time_length
        count = mask.sum()
        drawn = jax.random.randint(sampling, (places, self.num_negatives), 0, jnp.maximum(count - 1, 1))
        own = jnp.arange(places)
        decayed = jnp.exp(
            math.log(self.gumbel_decay) * example["step"].astype(jnp.float32)
        )  # the decay itself rounds to 1
        return {
            **example,
            "mask_time_indices": mask,
            "masked_positions": jnp.nonzero(mask, size=places, fill_value=0)[0].astype(jnp.int32),
            "labels": jnp.where((own < count) & (count > 1), 0, IGNORED).astype(jnp.int32),
            "sampled_negative_indices": (drawn + (drawn >= own[:, None])).clip(0, places - 1).astype(jnp.int32),
            "gumbel_noise": jax.random.gumbel(noise, (places, self.groups, self.codes)),
            "gumbel_temperature": jnp.maximum(self.gumbel_temperature * decayed, self.least_gumbel_temperature),
        }

    def sums(self, outputs: Mapping[str, Array], batch: Example) -> Sums:
        asked = batch["labels"] != IGNORED
        amount, weight = cross_entropy(self._scores(outputs, batch), batch["labels"])
        probabilities = jax.nn.softmax(widened(self.output(outputs, 3)), axis=-1)
        features = widened(self.output(outputs, 4))
        heard = jnp.arange(features.shape[1])[None] < self._frames(batch["attention_mask"].sum(axis=-1))[:, None]
        squares = jnp.where(heard, (features**2).mean(axis=-1), 0.0)
        return {
            "contrastive": (amount, weight),
            "codes": jnp.where(asked[..., None, None], probabilities, 0.0).sum(axis=(0, 1)),
            "penalty": (squares.sum(), heard.sum().astype(jnp.float32)),
        }

    def losses(self, totals: Sums) -> dict[str, Float[Array, ""]]:
        amount, weight = totals["contrastive"]
        mean = ratio(totals["codes"], weight)
        count = self.groups * self.codes
        losses = {
            "contrastive_loss": ratio(amount, weight),
            "diversity_loss": self.diversity_loss_weight * (count - perplexity(mean)) / count,
        }
        if self.feature_penalty_weight:
            losses["feature_penalty"] = self.feature_penalty_weight * ratio(*totals["penalty"])
        return losses

    def metrics(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        """How often the right frame has the highest score."""
        return {"contrastive_accuracy": accuracy(self._scores(outputs, batch), batch["labels"])}

    def targets(self, outputs: Mapping[str, Array], batch: Example) -> dict[str, Targets]:
        return {"contrastive_loss": Targets(batch["labels"], self.num_negatives + 1, "contrastive_accuracy")}

    def _frames(self, samples: int | Int[Array, "*shape"]) -> int | Int[Array, "*shape"]:
        return frames_of(samples, self.conv_kernel, self.conv_stride)

    def _scores(self, outputs: Mapping[str, Array], batch: Example) -> Float[Array, "batch places candidates"]:
        """cos(c_t, q) / κ of the right frame first, then of the distractors: -∞ of those of the same codes.

        All cosines of an utterance are one product; the distractors' are looked up in it.
        """
        states, targets = (unit(widened(self.output(outputs, which))) for which in (0, 1))
        cosines = jnp.einsum("btd,bsd->bts", states, targets) / self.temperature
        same = _same_codes(self.output(outputs, 2))
        right = jnp.diagonal(cosines, axis1=1, axis2=2)[..., None]
        others = jnp.where(same, -jnp.inf, cosines)
        drawn = jnp.take_along_axis(others, batch["sampled_negative_indices"], axis=-1)
        return jnp.concatenate([right, drawn], axis=-1)


def unit(x: Float[Array, "*shape features"]) -> Float[Array, "*shape features"]:
    """Vectors of length 1, but those that are shorter than 1e-8, whose length is then below 1."""
    squares = (x**2).sum(axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(squares, 1e-16))


def _same_codes(indices: Int[Array, "batch places groups"]) -> Bool[Array, "batch places places"]:
    return (indices[:, :, None] == indices[:, None]).all(axis=-1)


def perplexity(mean: Float[Array, "groups codes"]) -> Float[Array, ""]:
    """Σ over groups of exp(H(p)): how many codes are in use, as many as there are at most."""
    safe = jnp.where(mean > 0, mean, 1.0)
    return jnp.exp(-(safe * jnp.log(safe)).sum(axis=-1)).sum()
