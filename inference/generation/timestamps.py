"""The rule of texts with timestamps: each stretch of text stands between two of them, and time does not run back.

Radford et al., 2022, arXiv 2212.04356, section 4.5. Ids from `begin` on are times, 0.02 s apart.
"""

import jax.numpy as jnp
from jax.nn import logsumexp
from jaxtyping import Array, Float, Int


def pair_timestamps(
    scores: Float[Array, "rows vocab"], written, step: Int[Array, ""], *, begin: int, end: int, latest: int | None
) -> Float[Array, "rows vocab"]:
    """Forbid what breaks the order of times and texts, and all text where times together are likelier than any one text token.

    A text begins with a time, no later than number `latest`. Behind a time that ends a stretch stands another one or the end;
    behind one that begins a stretch stands text. A stretch has a length above 0.

    Args:
        begin: the token of time 0; the one before it says that a text has no timestamps, and is never written.
        end: the token that ends a text; ordinary tokens stand before it.
    """
    new, tokens = written.tokens[:, written.prompt :], jnp.arange(scores.shape[1])[None]
    places = jnp.arange(new.shape[1])[None]
    stamped = (new >= begin) & (places < step)
    last = (stamped & (places == step - 1)).any(axis=1, keepdims=True)
    before = (step < 2) | (stamped & (places == step - 2)).any(axis=1, keepdims=True)
    reached = jnp.where(stamped, new, begin - 1).max(axis=1, keepdims=True, initial=begin - 1)
    least = jnp.where(last & ~before, reached, reached + 1)
    time = tokens >= begin
    late = jnp.zeros_like(time) if latest is None else tokens > begin + latest
    forbidden = (
        (tokens == begin - 1)
        | (time & last & before)
        | ((tokens < end) & last & ~before)
        | (time & (tokens < least))
        | ((~time | late) & (step == 0))
    )
    scores = jnp.where(forbidden, -jnp.inf, scores)
    of_times = logsumexp(scores[:, begin:], axis=1, keepdims=True)
    likelier = of_times > scores[:, :begin].max(axis=1, keepdims=True)
    return jnp.where(~time & likelier, -jnp.inf, scores)
