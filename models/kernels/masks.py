"""Where queries may look: the parts of a mask, and the mask itself."""

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

ATTENDED = "attended"
"""What the result of a kernel of attention is called, for rematerialisation policies, which cannot see into it. None of ours
keeps it: to compute it again costs little."""


@flax.struct.dataclass
class AttentionMask:
    """A mask by its parts, of which a kernel computes each element where it needs it; all that are given hold together.

    Attributes:
        attended: keys that may be looked at at all.
        segment_ids: a query may look at keys of its own segment only: those of queries and of keys.
        prefix_mask: keys that those before them may look at, too (a prefix read in both directions).
        causal: a query may look at itself and what comes before.
    """

    attended: Int[Array, "batch keys"] | Bool[Array, "batch keys"] | None = None
    segment_ids: tuple[Int[Array, "batch queries"], Int[Array, "batch keys"]] | None = None
    prefix_mask: Int[Array, "batch keys"] | None = None
    causal: bool = flax.struct.field(pytree_node=False, default=False)

    def array(
        self, queries: int, keys: int, first: int | Int[Array, ""] = 0
    ) -> Bool[Array, "#batch 1 #queries keys"] | None:
        """Of each query and key, whether it may look there; `None` where all may look everywhere. The first query's place
        among the keys is `first`."""
        mask = None if self.attended is None else (self.attended > 0)[:, None, None, :]
        if self.causal:
            seen = (jnp.arange(keys)[None] <= jnp.arange(queries)[:, None] + first)[None, None]
            if self.prefix_mask is not None:
                seen |= (self.prefix_mask > 0)[:, None, None, :]
            mask = seen if mask is None else mask & seen
        if self.segment_ids is not None:
            own, others = self.segment_ids
            same = (own[:, :, None] == others[:, None, :])[:, None]
            mask = same if mask is None else mask & same
        return mask
