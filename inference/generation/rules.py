"""What decides between the tokens that a model offers: rules for every text, and what is left to draw from.

A rule is a small function of (scores, written, step). They come in the order of `transformers`, for the last one decides, and
give the numbers of its processors. Padding beside a prompt counts for nothing: a text in a batch goes on as it does alone.

Penalty of repetitions: Keskar et al., "CTRL", 2019, arXiv 1909.05858, section 4.1. N-grams that do not come again: Paulus,
Xiong, Socher, "A Deep Reinforced Model for Abstractive Summarization", 2017, arXiv 1705.04304, section 2.5. Top-k: Fan et al.,
"Hierarchical Neural Story Generation", 2018, arXiv 1805.04833. Top-p: Holtzman et al., "The Curious Case of Neural Text
Degeneration", 2019, arXiv 1904.09751. Typical sampling: Meister et al., 2022, arXiv 2202.00666, equation 8. Epsilon and eta:
Hewitt, Manning, Liang, "Truncation Sampling as Language Model Desmoothing", 2022, arXiv 2210.15191, section 4. Min-p: Nguyen
et al., 2024, arXiv 2407.01082, section 3. Top-h: Potraghloo et al., "Top-H Decoding", 2025, arXiv 2509.02510, algorithm 1.
"""

import functools
from collections.abc import Callable, Iterable

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from inference.generation.config import GenerationConfig
from inference.generation.timestamps import pair_timestamps

Scores = Float[Array, "rows vocab"]

TOP_H_CANDIDATES = 100
"""Tokens among which top-h looks; those of `transformers`."""


@flax.struct.dataclass
class Written:
    """Texts as far as they are written.

    Attributes:
        tokens: (rows, length), the prompts with padding on their left, and room for new tokens behind them.
        prompt: columns of the prompts.
        used: (rows,) tokens of each prompt, padding left out.
        limit: (rows,) most new tokens of each.
        source: (rows, read) what an encoder reads, or the prompts; -1 at padding.
        stops: (vocab, states) the table of stop strings (`stop_table`); `None` without any.
    """

    tokens: Int[Array, "rows length"]
    used: Int[Array, " rows"]
    limit: Int[Array, " rows"]
    source: Int[Array, "rows read"]
    stops: Int[Array, "vocab states"] | None = None
    prompt: int = flax.struct.field(pytree_node=False, kw_only=True)

    def there(self, step: Int[Array, ""]) -> Bool[Array, "rows length"]:
        """Which places hold a token, `step` of them being new."""
        places = jnp.arange(self.tokens.shape[1])[None]
        return (places >= self.prompt - self.used[:, None]) & (places < self.prompt + step)

    def last(self, step: Int[Array, ""], count: int) -> tuple[Int[Array, "rows count"], Bool[Array, " rows"]]:
        """The last `count` tokens of each text, and whether it has so many. There must be as many columns."""
        last = jax.lax.dynamic_slice_in_dim(self.tokens, self.prompt + step - count, count, axis=1)
        return last, self.used + step >= count


Rule = Callable[[Scores, Written, Int[Array, ""]], Scores]


def rules(settings: GenerationConfig, ends: tuple[int, ...]) -> tuple[Rule, ...]:
    """The rules that the settings ask for, in the order in which they are applied."""
    part, first, last = functools.partial, settings.forced_bos_token_id, settings.forced_eos_token_id
    words = tuple((word, -np.inf) for word in settings.bad_words_ids if word not in [(end,) for end in ends])
    least = settings.min_length if settings.min_new_tokens is None else settings.min_new_tokens
    ngrams, copied = settings.no_repeat_ngram_size, settings.encoder_no_repeat_ngram_size
    repetition, source = settings.repetition_penalty, settings.encoder_repetition_penalty
    decay, begin = settings.exponential_decay_length_penalty, settings.begin_suppress_tokens
    known = (
        (settings.sequence_bias, part(add_bias, biases=settings.sequence_bias)),
        (source != 1, part(favour_source, penalty=source)),
        (repetition != 1, part(penalize_repetition, penalty=repetition)),
        (ngrams, part(forbid_repeated, size=ngrams)),
        (copied, part(forbid_copied, size=copied)),
        (words, part(add_bias, biases=words)),
        (ends and least, part(forbid_early_end, settings=settings, ends=ends)),
        (first is not None, part(force_first, token=first)),
        (last is not None, part(force_last, tokens=last if isinstance(last, tuple) else (last,))),
        (ends and decay is not None, part(favour_end, decay=decay, ends=ends)),
        (settings.suppress_tokens, part(suppress, tokens=settings.suppress_tokens)),
        (begin, part(suppress_first, tokens=begin, forced=first is not None)),
        (settings.return_timestamps, part(pair_timestamps, **settings.times, end=min(ends, default=0))),
    )
    return tuple(rule for asked, rule in known if asked)


def apply_rules(some: Iterable[Rule], scores: Scores, written: Written, step: Int[Array, ""]) -> Scores:
    """Scores of the new token number `step` (from 0), -inf where it must not be."""
    for rule in some:
        scores = rule(scores, written, step)
    return scores


# ── Rules ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def add_bias(scores, written, step, *, biases):
    """Add a number to the last token of each sequence, where a text ends with the tokens before it."""
    bias = np.zeros(scores.shape[1], np.float32)
    for (*before, last), value in biases:
        if not before:
            bias[last] = value
    bias = jnp.broadcast_to(jnp.asarray(bias), scores.shape)
    for (*before, last), value in biases:
        if before and len(before) <= written.tokens.shape[1]:
            tokens, enough = written.last(step, len(before))
            matches = enough & (tokens == jnp.asarray(before)[None]).all(axis=1)
            bias = bias.at[:, last].add(jnp.where(matches, value, 0.0))
    return scores + bias


def favour_source(scores, written, step, *, penalty):
    """Make the tokens of the text that is read likelier: positive scores times the penalty, negative ones over it."""
    inverse = 1 / penalty
    return jnp.where(among(written.source, scores.shape[1]), penalized(scores, inverse), scores)


def penalize_repetition(scores, written, step, *, penalty):
    """Make the tokens that a text has already less likely: positive scores over the penalty, negative ones times it."""
    seen = among(jnp.where(written.there(step), written.tokens, -1), scores.shape[1])
    return jnp.where(seen, penalized(scores, penalty), scores)


def penalized(scores: Scores, penalty: float) -> Scores:
    return jnp.where(scores < 0, scores * penalty, scores / penalty)


def forbid_repeated(scores, written, step, *, size):
    """Forbid what would make the last `size` tokens of a text a sequence that it has already."""
    tokens = jnp.where(written.there(step), written.tokens, -1)
    return jnp.where(continuing(tokens, written, step, size, scores.shape[1]), -jnp.inf, scores)


def forbid_copied(scores, written, step, *, size):
    """Forbid what would make the last `size` tokens of a text a sequence of the text that is read."""
    return jnp.where(continuing(written.source, written, step, size, scores.shape[1]), -jnp.inf, scores)


def continuing(
    tokens: Int[Array, "rows length"], written: Written, step: Int[Array, ""], size: int, vocab: int
) -> Bool[Array, "rows vocab"]:
    """What follows the last `size - 1` tokens of each text somewhere in `tokens`, which are -1 where there is none."""
    if size > tokens.shape[1] or size - 1 > written.tokens.shape[1]:
        return jnp.zeros((len(tokens), vocab), bool)
    grams = tokens[:, jnp.arange(tokens.shape[1] - size + 1)[:, None] + jnp.arange(size)[None]]
    last, enough = written.last(step, size - 1)
    same = (grams[..., :-1] == last[:, None]).all(axis=-1) & enough[:, None]
    return among(jnp.where(same & (grams >= 0).all(axis=-1), grams[..., -1], -1), vocab)


def forbid_early_end(scores, written, step, *, settings, ends):
    """Forbid an end before the least length: of the new tokens, or of all where `min_length` says it."""
    least = settings.min_new_tokens
    early = step < least if least is not None else (written.used + step < settings.min_length)[:, None]
    return jnp.where(listed(ends, scores.shape[1]) & early, -jnp.inf, scores)


def force_first(scores, written, step, *, token):
    """Leave `token` alone behind a text of one token."""
    first = (written.used + step == 1)[:, None]
    return jnp.where(first, only((token,), scores.shape[1]), scores)


def force_last(scores, written, step, *, tokens):
    """Leave `tokens` alone where a text gets no longer."""
    last = (step == written.limit - 1)[:, None]
    return jnp.where(last, only(tokens, scores.shape[1]), scores)


def favour_end(scores, written, step, *, decay, ends):
    """Raise the score of an end by its size times factor^n - 1, n being the tokens behind the first `start`."""
    start, factor = decay
    places = np.arange(written.tokens.shape[1] - written.prompt + 1)
    with np.errstate(over="ignore"):
        powers = np.minimum(np.float64(factor) ** np.maximum(places - start, 0) - 1, np.finfo(np.float32).max)
    rise = jnp.abs(scores) * jnp.asarray(powers, jnp.float32)[step]
    return jnp.where(listed(ends, scores.shape[1]) & jnp.isfinite(scores), scores + rise, scores)


def suppress(scores, written, step, *, tokens):
    """Forbid `tokens` everywhere."""
    return jnp.where(listed(tokens, scores.shape[1]), -jnp.inf, scores)


def suppress_first(scores, written, step, *, tokens, forced):
    """Forbid `tokens` as the first new one; behind it where that is forced."""
    first = (step == jnp.where(written.used == 1, int(forced), 0))[:, None]
    return jnp.where(listed(tokens, scores.shape[1]) & first, -jnp.inf, scores)


def listed(tokens: Iterable[int], vocab: int) -> Bool[np.ndarray, "1 vocab"]:
    """Which tokens of the vocabulary these are."""
    return np.isin(np.arange(vocab), list(tokens))[None]


def only(tokens: Iterable[int], vocab: int) -> Float[Array, "1 vocab"]:
    """Scores that leave no other choice than these tokens."""
    return jnp.where(listed(tokens, vocab), 0.0, -jnp.inf)


def among(tokens: Int[Array, "rows count"], vocab: int) -> Bool[Array, "rows vocab"]:
    """Which tokens of the vocabulary each row has; negative ones are none."""
    places = jnp.where(tokens < 0, vocab, tokens)  # beyond the vocabulary, where they are dropped
    rows = jnp.arange(len(tokens))[:, None]
    return jnp.zeros((len(tokens), vocab), bool).at[rows, places].set(True, mode="drop")


# ── What is drawn from ───────────────────────────────────────────────────────────────────────────────────────────────


def warped(logits: Scores, settings: GenerationConfig, least: int = 1) -> Scores:
    """Logits to draw from: over the temperature, then -inf outside of what each of the other settings leaves, in turn.

    Args:
        least: so many tokens are left by each; by top-h one.
    """
    logits, least = logits / settings.temperature, min(least, logits.shape[-1])
    if settings.top_h is not None:
        logits = top_h(logits, settings.top_h)
    if 0 < settings.top_k < logits.shape[-1]:
        lowest = jax.lax.top_k(logits, max(settings.top_k, least))[0][:, -1:]
        logits = jnp.where(logits < lowest, -jnp.inf, logits)
    if settings.top_p < 1:
        ascending = jnp.sort(logits, axis=-1)
        below = jnp.cumsum(jax.nn.softmax(ascending, axis=-1), axis=-1)  # probability of a token and all less likely
        kept = (below > 1 - settings.top_p).at[:, -least:].set(True)
        lowest = jnp.where(kept, ascending, jnp.inf).min(axis=-1, keepdims=True)
        logits = jnp.where(logits < lowest, -jnp.inf, logits)
    if settings.min_p is not None:
        probabilities = jax.nn.softmax(logits, axis=-1)
        logits = keep(logits, probabilities >= settings.min_p * probabilities.max(axis=-1, keepdims=True), least)
    if settings.typical_p < 1:
        logits = typical(logits, settings.typical_p, least)
    if 0 < settings.epsilon_cutoff < 1:
        logits = keep(logits, jax.nn.softmax(logits, axis=-1) >= settings.epsilon_cutoff, least)
    if 0 < settings.eta_cutoff < 1:
        epsilon = settings.eta_cutoff
        lowest = jnp.minimum(epsilon, np.sqrt(epsilon) * jnp.exp(-entropy(logits)))
        logits = keep(logits, jax.nn.softmax(logits, axis=-1) >= lowest, least)
    return logits


def keep(logits: Scores, kept: Bool[Array, "rows vocab"], least: int) -> Scores:
    """The logits that are kept, so many of the likeliest tokens always among them."""
    return jnp.where(kept | (logits >= jax.lax.top_k(logits, least)[0][:, -1:]), logits, -jnp.inf)


def entropy(logits: Scores) -> Float[Array, "rows 1"]:
    normalized = jax.nn.log_softmax(logits, axis=-1)
    terms = jnp.where(jnp.isfinite(normalized), -normalized * jnp.exp(normalized), 0.0)
    return terms.sum(axis=-1, keepdims=True)


def typical(logits: Scores, mass: float, least: int) -> Scores:
    """Keep the tokens whose surprise is nearest to the entropy, until they have the probability `mass` together."""
    normalized = jax.nn.log_softmax(logits, axis=-1)
    distance = jnp.abs(-normalized - entropy(logits))
    order = jnp.argsort(distance, axis=-1)
    nearest = jnp.take_along_axis(distance, order, axis=-1)
    before = jnp.cumsum(jnp.exp(jnp.take_along_axis(normalized, order, axis=-1)), axis=-1)
    last = jnp.minimum((before < mass).sum(axis=-1, keepdims=True), logits.shape[-1] - 1)
    most = jnp.take_along_axis(nearest, last, axis=-1)
    return jnp.where(distance > jnp.maximum(most, nearest[:, least - 1 : least]), -jnp.inf, logits)


def top_h(logits: Scores, part: float) -> Scores:
    """Keep the likeliest tokens of 100 that together have no more than this part of their entropy."""
    count = min(TOP_H_CANDIDATES, logits.shape[-1])
    likeliest, tokens = jax.lax.top_k(logits, count)
    normalized = jax.nn.log_softmax(likeliest, axis=-1)
    terms = jnp.where(jnp.isfinite(normalized), -normalized * jnp.exp(normalized), 0.0)
    chosen = (jnp.cumsum(terms, axis=-1) <= part * entropy(likeliest)).at[:, 0].set(True)
    kept = among(jnp.where(chosen, tokens, -1), logits.shape[-1])
    return jnp.where(kept, logits, -jnp.inf)
