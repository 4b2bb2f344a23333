"""Replaced-token detection: a small model fills the masks, and the model proper tells which tokens are not the original.

Clark et al., "ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators", 2020, arXiv 2003.10555,
section 2.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from models.kernels.precision import widened
from objectives.losses import IGNORED, NATS, accuracy, cross_entropy
from objectives.objective import Example, Losses, ObjectiveError, Targets
from objectives.sum import Wrapper
from objectives.text.masked import MaskedLM


@dataclasses.dataclass(frozen=True)
class ReplacedTokenDetection(Wrapper):
    """Masked language modelling of a generator, and the detection of what it put in the place of the masks.

    Both models run in one forward pass, which samples the replacements with `sampling_key` and returns:

        generator_logits (batch, slots, vocabulary): of the generator, at `masked_positions`.
        discriminator_logits (batch, length): of the discriminator, on the text with the samples in it.
        replaced (batch, length): whether a token differs from the original there; a sample that hits it does not count.

    Attributes:
        masking: what the generator sees. Of the tokens chosen 85 % are shown as [MASK] and the rest stay, as released;
            the paper has them all masked. (Large models choose 25 % of the tokens.)
        generator_weight, detection_weight: of the two losses, which are reported as weighted.
    """

    wrapped: ClassVar[str] = "masking"
    asks: ClassVar[tuple[tuple[str, ...], ...]] = (("generator_logits",), ("discriminator_logits",), ("replaced",))
    units: ClassVar[Mapping[str, str]] = MappingProxyType({"generator_loss": NATS, "detection_loss": NATS})

    masking: MaskedLM = MaskedLM(mask_rate=0.85, random_rate=0.0)
    generator_weight: float = 1.0
    detection_weight: float = 50.0

    def __post_init__(self) -> None:
        if min(self.generator_weight, self.detection_weight) < 0:
            raise ObjectiveError(
                f"generator_weight={self.generator_weight}, detection_weight={self.detection_weight}: expected 0 or more"
            )

    @property
    def writes(self) -> tuple[str, ...]:  # type: ignore[override]
        return (*self.masking.writes, "sampling_key")

    @property
    def takes(self) -> tuple[str, ...]:  # type: ignore[override]
        return (*self.masking.takes, "sampling_key")

    def corrupt(self, key: Key[Array, ""], example: Example) -> Example:
        """What `masking` writes, and `sampling_key`, the data (uint32) of a key that the model is to draw with."""
        mask_key, sampling_key = jax.random.split(key)
        return {**self.masking.corrupt(mask_key, example), "sampling_key": jax.random.key_data(sampling_key)}

    def loss(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        """Cross-entropy of the originals at the masks, and of "replaced" against "original" at every token."""
        amount, weight = cross_entropy(self.output(outputs, 0), batch["labels"])
        logits, replaced, attended = self._detection(outputs, batch)
        # -log sigmoid(x) where replaced, -log sigmoid(-x) where not.
        losses = jax.nn.softplus(jnp.where(replaced, -logits, logits))
        detection = jnp.where(attended, losses, 0.0).sum()
        return {
            "generator_loss": (self.generator_weight * amount, weight),
            "detection_loss": (self.detection_weight * detection, attended.sum().astype(jnp.float32)),
        }

    def metrics(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        """Accuracies of both models; of what the discriminator calls replaced, the fraction that is; and of that, its finds."""
        logits, replaced, attended = self._detection(outputs, batch)
        called = (logits > 0) & attended
        replaced &= attended

        def count(x: Array) -> Array:
            return x.sum().astype(jnp.float32)

        hits = count(called & replaced)
        return {
            "generator_accuracy": accuracy(self.output(outputs, 0), batch["labels"]),
            "detection_accuracy": (count((called == replaced) & attended), count(attended)),
            "detection_precision": (hits, count(called)),
            "detection_recall": (hits, count(replaced)),
        }

    def targets(self, outputs: Mapping[str, Array], batch: Example) -> dict[str, Targets]:
        _, replaced, attended = self._detection(outputs, batch)
        tokens, weights = self.output(outputs).shape[-1], (self.generator_weight, self.detection_weight)
        return {
            "generator_loss": Targets(batch["labels"], tokens, "generator_accuracy", factor=weights[0]),
            "detection_loss": Targets(
                jnp.where(attended, replaced.astype(jnp.int32), IGNORED), 2, "detection_accuracy", factor=weights[1]
            ),
        }

    def _detection(self, outputs: Mapping[str, Array], batch: Example):
        """Logits in float32 or wider, whether they should be positive, and where they are asked for."""
        logits = widened(self.output(outputs, 1))
        attended = batch["attention_mask"] > 0 if "attention_mask" in batch else jnp.ones(logits.shape, bool)
        return logits, self.output(outputs, 2) > 0, attended
