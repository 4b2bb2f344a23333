"""Two segments of text as one input, BERT's `[CLS] A [SEP] B [SEP]`: what the objectives on pairs of them have in common.

Devlin et al., "BERT", 2018, arXiv 1810.04805, appendix A.2; cuts and truncation after the released
`create_pretraining_data.py`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from objectives.objective import Example


class Segment(NamedTuple):
    """A stretch of a window of tokens."""

    tokens: Int[Array, " window"]
    begin: Int[Array, ""]
    length: Int[Array, ""]


WRITES = ("input_ids", "token_type_ids", "attention_mask", "special_tokens_mask")
"""What `lay_out` makes."""


def target_length(
    short_key: Key[Array, ""], length_key: Key[Array, ""], most: int, short_rate: float
) -> Int[Array, ""]:
    """Tokens that both segments together aim at: `most`, or in `short_rate` of the cases any number from 2 on."""
    short = jax.random.uniform(short_key) < short_rate
    return jnp.where(short, jax.random.randint(length_key, (), 2, most + 1), most)


def sentence_reaching(sentence_ids: Int[Array, " window"], target: Int[Array, ""]) -> Int[Array, ""]:
    """The first sentence at whose end there are at least `target` tokens, the last one where there are fewer."""
    at_target = sentence_ids[jnp.clip(target - 1, 0, len(sentence_ids) - 1)]
    return jnp.where(at_target < 0, sentence_ids.max(), at_target)


def tokens_before(sentence_ids: Int[Array, " window"], sentence: Int[Array, ""]) -> Int[Array, ""]:
    """How many tokens the sentences before `sentence` have."""
    return ((sentence_ids >= 0) & (sentence_ids < sentence)).sum()


def lay_out(
    keys: tuple[Key[Array, ""], Key[Array, ""]], vocabulary: Any, length: int, first: Segment, second: Segment
) -> Example:
    """`WRITES` (length,) of the two segments, which lose tokens at either end, by the toss of a coin, until they fit.

    What stands before, between and behind them is `vocabulary.framing`'s.
    """
    framing = vocabulary.framing
    drop_a, drop_b = _excess(first.length, second.length, length - framing.pair_count)
    begin_a = first.begin + _heads(keys[0], drop_a, len(first.tokens))
    begin_b = second.begin + _heads(keys[1], drop_b, len(second.tokens))
    length_a, length_b = first.length - drop_a, second.length - drop_b

    place = jnp.arange(length)
    place_a = place - len(framing.pair_begin)
    place_b = place_a - length_a - len(framing.between)
    in_a = (place_a >= 0) & (place_a < length_a)
    in_b = (place_b >= 0) & (place_b < length_b)
    at_a = jnp.clip(place_a + begin_a, 0, len(first.tokens) - 1)
    at_b = jnp.clip(place_b + begin_b, 0, len(second.tokens) - 1)
    stretches = (
        (framing.pair_begin, place),
        (framing.between, place_a - length_a),
        (framing.pair_end, place_b - length_b),
    )
    special = [(where == i, token) for tokens, where in stretches for i, token in enumerate(tokens)]
    input_ids = jnp.select(
        [in_a, in_b, *(there for there, _ in special)],
        [first.tokens[at_a], second.tokens[at_b], *(token for _, token in special)],
        vocabulary.pad,
    )
    integer = first.tokens.dtype
    used = place_b < length_b + len(framing.pair_end)
    return {
        "input_ids": input_ids.astype(integer),
        "token_type_ids": ((place_b >= 0) & used).astype(integer),
        "attention_mask": used.astype(integer),
        "special_tokens_mask": (~in_a & ~in_b).astype(integer),
    }


def _excess(length_a: Int[Array, ""], length_b: Int[Array, ""], most: int) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """How many tokens each side loses when the longer one (B where equal) loses one until both fit `most`."""
    excess = jnp.maximum(length_a + length_b - most, 0)
    # First the longer side alone comes down to the other; from there on B and A take turns, B first.
    alone = jnp.minimum(excess, jnp.abs(length_a - length_b))
    rest = excess - alone
    drop_b = jnp.where(length_b > length_a, alone, 0) + (rest + 1) // 2
    return excess - drop_b, drop_b


def _heads(key: Key[Array, ""], count: Int[Array, ""], most: int) -> Int[Array, ""]:
    """Heads in `count` tosses of a fair coin (at most `most`): tokens dropped from the front rather than the back."""
    return (jax.random.bernoulli(key, 0.5, (most,)) & (jnp.arange(most) < count)).sum()
