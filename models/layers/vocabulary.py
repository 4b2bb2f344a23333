"""Scores of a vocabulary that are not computed yet: what they are computed from stands in their place."""

from collections.abc import Mapping
from typing import Any

import flax.struct
from jaxtyping import Array, Float, Int

from models.kernels import vocabulary
from models.kernels.vocabulary import Judge, judged, vocabulary_scores


@flax.struct.dataclass
class VocabularyScores:
    """`hidden · kernel + bias`, which a loss computes chunk by chunk.

    Attributes:
        hidden: (batch, places, features).
        kernel: (features, vocab).
        bias: (vocab,), or `None`.
    """

    hidden: Float[Array, "batch places features"]
    kernel: Float[Array, "features vocab"]
    bias: Float[Array, " vocab"] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.hidden.shape[:-1], self.kernel.shape[-1])

    def whole(self) -> Float[Array, "batch places vocab"]:
        """The scores."""
        return vocabulary_scores(self.hidden, self.kernel, self.bias)

    def judged(
        self, labels: Int[Array, "batch places"], ignored: int, judge: Judge
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """What `judge` says of the scores and their labels, summed over the places whose label is not `ignored`."""
        return judged(self.hidden, self.kernel, self.bias, labels, ignored, judge)


def too_many(hidden: Float[Array, "*shape features"], tokens: int) -> bool:
    """Whether the scores of all places, for so many tokens, would be more than are to be held at once."""
    return hidden.ndim == 3 and hidden.size // hidden.shape[-1] * tokens > vocabulary.MOST_SCORES


def as_asked(outputs: Mapping[str, Any], unprojected: bool) -> Mapping[str, Any]:
    """Outputs, with scores that are not computed yet left so where `unprojected`."""
    if unprojected:
        return outputs
    return {name: x.whole() if isinstance(x, VocabularyScores) else x for name, x in outputs.items()}
