"""How the next tokens are chosen: the likeliest each time, one drawn at random, or those of the likeliest of several beams.

Beams and their length penalty: Wu et al., "Google's Neural Machine Translation System", 2016, arXiv 1609.08144, section 7, with
the stopping rules of `transformers`, whose `generate` gives the same tokens.
"""

import dataclasses
import functools
from typing import Literal

import flax.struct
import jax
import jax.numpy as jnp
from einops import rearrange
from jax.nn import logsumexp
from jaxtyping import Array, Bool, Float, Int, Key

from inference.generation.config import GenerationConfig
from inference.generation.rules import Written, apply_rules, rules, warped

Scored = Literal[False, True, "ruled"]
"""Whether log probabilities are kept; "ruled" ones are those that the rules leave, whatever is drawn from."""

NEVER = -1e9
"""Score of what must not be chosen. Finite, as in `transformers`: sums of it still compare."""


@flax.struct.dataclass
class Generated:
    """Texts, those of a prompt one after the other, the best first.

    Attributes:
        sequences: (texts, prompt + most new tokens), the prompts padded on the left, padding behind the end.
        lengths: (texts,) new tokens, the end included.
        scores: (texts,) of beams: log probability over length ** length_penalty; zeros without beams.
        log_probabilities: (texts, most new tokens) of each new token, 0 behind the end; `None` unless asked for. Without
            beams among the tokens that the rules and what is drawn from leave, whose probabilities sum to 1 (before the
            temperature and what else narrows the draw, where "ruled" was asked for); of beams under the rules, so that
            their sum over length ** length_penalty is the score. As `compute_transition_scores` of `transformers` gives
            them, with `normalize_logits` where there are no beams.
    """

    sequences: Int[Array, "texts length"]
    lengths: Int[Array, " texts"]
    scores: Float[Array, " texts"]
    log_probabilities: Float[Array, "texts new"] | None = None


@dataclasses.dataclass(frozen=True)
class Search:
    """Base of both kinds of search.

    Attributes:
        ends: tokens that end a text.
        padding: what stands behind the end.
        new: room for new tokens.
        scored: whether the log probability of each new token is kept; see `Generated`.
    """

    settings: GenerationConfig
    ends: tuple[int, ...]
    padding: int
    new: int
    scored: Scored


def is_end(tokens: Int[Array, "*shape"], ends: tuple[int, ...]) -> Bool[Array, "*shape"]:
    return functools.reduce(jnp.logical_or, (tokens == end for end in ends), jnp.zeros_like(tokens, bool))


def likeliest(logits: Float[Array, "rows vocab"]) -> Int[Array, " rows"]:
    """The first of the largest. XLA:CPU runs the two plain reductions on all cores, an argmax on one."""
    places = jnp.arange(logits.shape[1])[None]
    return jnp.where(logits == logits.max(axis=1, keepdims=True), places, logits.shape[1] - 1).min(axis=1)


def stopped(
    table: Int[Array, "vocab states"] | None, states: Int[Array, "*shape"], tokens: Int[Array, "*shape"]
) -> tuple[Int[Array, "*shape"], Bool[Array, "*shape"]]:
    """The states of stop strings behind these tokens (`stop_table`), and which texts have just completed one."""
    if table is None:
        return states, jnp.zeros(states.shape, bool)
    after = table[tokens, states]
    return after >> 1, after % 2 > 0


# ── One text at a time ───────────────────────────────────────────────────────────────────────────────────────────────


@flax.struct.dataclass
class Texts:
    """Where a generation without beams stands.

    Attributes:
        step: tokens that each text has that is not done.
        tokens: (rows, new).
        lengths: (rows,) tokens of each.
        done: (rows,) which texts are whole.
        keys: (rows,) of the random tokens.
        stops: (rows,) the state of stop strings.
        logs: (rows, new) log probabilities of the tokens among those that were to choose from; `None` unless kept.
    """

    step: Array
    tokens: Array
    lengths: Array
    done: Array
    keys: Array
    stops: Array
    logs: Array | None


class Sampling(Search):
    """The likeliest token each time, or one drawn at random."""

    def start(self, keys: Key[Array, " rows"], stops: Int[Array, " rows"]) -> Texts:
        tokens = jnp.full((len(keys), self.new), self.padding, jnp.int32)
        logs = jnp.zeros(tokens.shape) if self.scored else None
        none = jnp.zeros(len(keys), jnp.int32)
        return Texts(jnp.zeros((), jnp.int32), tokens, none, none > 0, keys, stops, logs)

    def choose(self, state: Texts, logits: Float[Array, "rows vocab"], prompts: Written) -> tuple[Texts, Array, None]:
        written = prompts.replace(tokens=jnp.concatenate([prompts.tokens, state.tokens], axis=1))
        logits = ruled = apply_rules(rules(self.settings, self.ends), logits, written, state.step)
        if self.settings.do_sample:
            logits = warped(logits, self.settings)
            keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(state.keys, state.step)
            chosen = jax.vmap(jax.random.categorical)(keys, logits)
        else:
            chosen = likeliest(logits)
        chosen = jnp.where(state.done, self.padding, chosen.astype(jnp.int32))
        here = (0, state.step)
        tokens = jax.lax.dynamic_update_slice(state.tokens, chosen[:, None], here)
        logs = state.logs
        if logs is not None:
            of = ruled if self.scored == "ruled" else logits
            log = jnp.take_along_axis(of, chosen[:, None], axis=1) - logsumexp(of, axis=1, keepdims=True)
            logs = jax.lax.dynamic_update_slice(logs, jnp.where(state.done[:, None], 0.0, log), here)
        stops, complete = stopped(prompts.stops, state.stops, chosen)
        done = state.done | is_end(chosen, self.ends) | complete | (state.step + 1 >= prompts.limit)
        lengths = state.lengths + ~state.done
        state = state.replace(step=state.step + 1, tokens=tokens, lengths=lengths, done=done, stops=stops, logs=logs)
        return state, chosen, None

    def unfinished(self, state: Texts) -> Bool[Array, ""]:
        return (state.step < self.new) & ~state.done.all()

    def result(self, state: Texts) -> Generated:
        return Generated(state.tokens, state.lengths, jnp.zeros(len(state.tokens)), state.logs)


# ── Beams ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@flax.struct.dataclass
class Beams:
    """Where a search stands: the texts that are followed, and the best of those that are whole.

    Attributes:
        step: tokens that each followed text has.
        tokens, scores: (batch, beams, new) and the log probability (batch, beams) of those followed, the best first.
        whole, whole_scores, done: the same of whole ones, scored over their length, and whether there is one.
        lengths: (batch, beams) tokens of the whole ones.
        improvable: (batch,) whether a followed one may still become better than the worst whole one.
        stuck: whether none can be followed further.
        keys: (batch,) of the random tokens.
        stops: (batch, beams) the state of stop strings of those followed.
        logs, whole_logs: (batch, beams, new) log probabilities of the tokens, under the rules; `None` unless kept.
    """

    step: Array
    tokens: Array
    scores: Array
    whole: Array
    whole_scores: Array
    done: Array
    lengths: Array
    improvable: Array
    stuck: Array
    keys: Array
    stops: Array
    logs: Array | None
    whole_logs: Array | None


class BeamSearch(Search):
    """The likeliest of several texts that are followed side by side; of texts that are drawn, where tokens are."""

    def start(self, keys: Key[Array, " batch"], stops: Int[Array, "batch beams"]) -> Beams:
        batch = len(stops)
        beams = self.settings.num_beams
        tokens = jnp.full((batch, beams, self.new), self.padding, jnp.int32)
        never = jnp.full((batch, beams), NEVER)
        logs = jnp.zeros(tokens.shape) if self.scored else None
        return Beams(
            step=jnp.zeros((), jnp.int32),
            tokens=tokens,
            scores=never.at[:, 0].set(0.0),  # all begin alike: only one may branch
            whole=tokens,
            whole_scores=never,
            done=jnp.zeros((batch, beams), bool),
            lengths=jnp.zeros((batch, beams), jnp.int32),
            improvable=jnp.ones(batch, bool),
            stuck=jnp.zeros((), bool),
            keys=keys,
            stops=stops,
            logs=logs,
            whole_logs=logs,
        )

    def choose(self, state: Beams, logits: Float[Array, "rows vocab"], prompts: Written) -> tuple[Beams, Array, Array]:
        """Follow the best; returns their last tokens and the rows that they come from."""
        settings, beams = self.settings, self.settings.num_beams
        batch, vocab = len(state.tokens), logits.shape[-1]
        written = rearrange(state.tokens, "batch beam new -> (batch beam) new")
        written = prompts.replace(tokens=jnp.concatenate([prompts.tokens, written], axis=1))
        limit = rearrange(prompts.limit, "(batch beam) -> batch beam", beam=beams)[:, :1]
        logs = apply_rules(rules(settings, self.ends), jax.nn.log_softmax(logits), written, state.step)
        if settings.do_sample:
            logs = warped(logs, settings, least=max(2, 1 + len(self.ends)))
        logs = jax.nn.log_softmax(logs) if settings.renormalize_logits else logs
        logs = rearrange(logs, "(batch beam) vocab -> batch beam vocab", beam=beams)
        # More candidates than beams: even if every best one ends, as many are left to be followed.
        count = max(2, 1 + len(self.ends)) * beams
        best, index = self._candidates((logs + state.scores[..., None]).reshape(batch, -1), count, state)
        origin, chosen = index // vocab, (index % vocab).astype(jnp.int32)
        here = (0, 0, state.step)
        texts = jax.lax.dynamic_update_slice(of_rows(state.tokens, origin), chosen[..., None], here)
        text_logs = of_rows(state.logs, origin)
        if text_logs is not None:
            last = of_rows(logs.reshape(batch, -1), index)[..., None]
            text_logs = jax.lax.dynamic_update_slice(text_logs, last, here)
        stops, complete = stopped(prompts.stops, of_rows(state.stops, origin), chosen)
        ended = is_end(chosen, self.ends) | complete | (state.step + 1 >= limit)
        running, place = jax.lax.top_k(best + ended * NEVER, beams)
        state = self._close(state, best, ended, texts, text_logs)
        state = state.replace(
            step=state.step + 1,
            tokens=of_rows(texts, place),
            scores=running,
            stuck=ended.all(),
            stops=of_rows(stops, place),
            logs=of_rows(text_logs, place),
        )
        rows = (of_rows(origin, place) + jnp.arange(batch)[:, None] * beams).reshape(-1)
        return self._judge(state, limit), of_rows(chosen, place).reshape(-1), rows

    def _candidates(self, totals: Float[Array, "batch each"], count: int, state: Beams) -> tuple[Array, Array]:
        """The scores of the likeliest candidates, or of as many that are drawn one after the other, and their places; the best
        first. Drawn ones are the likeliest behind Gumbel noise (Kool, van Hoof, Welling, 2019, arXiv 1903.06059)."""
        if not self.settings.do_sample:
            return jax.lax.top_k(totals, count)
        keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(state.keys, state.step)
        noise = jax.vmap(lambda key: jax.random.gumbel(key, totals.shape[1:]))(keys)
        _, drawn = jax.lax.top_k(totals + noise, count)
        best, order = jax.lax.top_k(of_rows(totals, drawn), count)
        return best, of_rows(drawn, order)

    def _close(self, state: Beams, best, ended, texts, text_logs) -> Beams:
        """Keep the best of the whole texts and of the candidates that have just ended."""
        beams, length = self.settings.num_beams, (state.step + 1).astype(jnp.float32)
        eligible = ended & (jnp.arange(best.shape[1]) < beams)[None]
        closed = (state.done.all(axis=1) & (self.settings.early_stopping is True)) | ~state.improvable
        finished = best / length**self.settings.length_penalty + closed[:, None] * NEVER + ~eligible * NEVER
        scores, kept = jax.lax.top_k(jnp.concatenate([state.whole_scores, finished], axis=1), beams)

        def keep(old: Array | None, new: Array | None) -> Array | None:
            return None if old is None else of_rows(jnp.concatenate([old, new], axis=1), kept)

        return state.replace(
            whole=keep(state.whole, texts),
            whole_scores=scores,
            done=keep(state.done, eligible),
            lengths=keep(state.lengths, jnp.full(best.shape, state.step + 1)),
            whole_logs=keep(state.whole_logs, text_logs),
        )

    def _judge(self, state: Beams, limit: Int[Array, "batch 1"]) -> Beams:
        """Whether a followed text can still become better than the worst whole one."""
        settings, length = self.settings, state.step.astype(jnp.float32)
        if settings.early_stopping == "never" and settings.length_penalty > 0:
            length = limit.astype(jnp.float32)
        hope = state.scores[:, :1] / length**settings.length_penalty
        worst = jnp.where(state.done, state.whole_scores.min(axis=1, keepdims=True), NEVER)
        still = (hope > worst).any(axis=1) & (state.step < limit[:, 0])
        return state.replace(improvable=state.improvable & still)

    def unfinished(self, state: Beams) -> Bool[Array, ""]:
        closed = state.done.all() & (self.settings.early_stopping is True)
        return state.improvable.any() & ~closed & ~state.stuck

    def result(self, state: Beams) -> Generated:
        count = self.settings.num_return_sequences

        def best(x: Array | None) -> Array | None:
            return None if x is None else rearrange(x[:, :count], "batch beam ... -> (batch beam) ...")

        return Generated(best(state.whole), best(state.lengths), best(state.whole_scores), best(state.whole_logs))


def of_rows(x: Array | None, index: Int[Array, "batch chosen"]) -> Array | None:
    """x (batch, beams, …) at these places of its second axis."""
    return None if x is None else jnp.take_along_axis(x, index.reshape(*index.shape, *(1,) * (x.ndim - 2)), axis=1)
