"""The span of a context that answers a question: which token it begins with, and which it ends with.

Devlin, Chang, Lee, Toutanova, 2018, arXiv 1810.04805, sections 4.2 and 4.3.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from jaxtyping import Array

from objectives.losses import NATS, accuracy, cross_entropy
from objectives.objective import Example, Losses, Objective


@dataclasses.dataclass(frozen=True)
class AnswerSpan(Objective):
    """`start_positions` and `end_positions`, the places of the answer's first and last token among those that the model reads;
    0, the token that begins the text, where no answer is there; `IGNORED` where nothing is asked."""

    reads: ClassVar[tuple[str, ...]] = ("start_positions", "end_positions")
    asks: ClassVar[tuple[tuple[str, ...], ...]] = (("start_logits",), ("end_logits",))
    units: ClassVar[Mapping[str, str]] = MappingProxyType({"span_loss": NATS})

    def loss(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        """The mean of the cross-entropies of both places."""
        pairs = [cross_entropy(self.output(outputs, n), batch[name]) for n, name in enumerate(self.reads)]
        (start, weight), (end, _) = pairs
        return {"span_loss": ((start + end) / 2, weight)}

    def metrics(self, outputs: Mapping[str, Array], batch: Example) -> Losses:
        """How often each place has the highest score."""
        return {
            f"{name.removesuffix('_positions')}_accuracy": accuracy(self.output(outputs, n), batch[name])
            for n, name in enumerate(self.reads)
        }
