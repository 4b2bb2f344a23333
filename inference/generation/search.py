"""Text from a model with a cache: the likeliest token each time, tokens drawn at random, or the likeliest of several beams.

Beams and their length penalty: Wu et al., "Google's Neural Machine Translation System", 2016, arXiv 1609.08144, section 7, with
the stopping rules of `transformers`, whose `generate` gives the same tokens. Shapes are static: one program is compiled for a
shape of prompts, and runs until all are done. An encoder reads its text once; its keys and values are shared by all steps.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange, repeat
from jaxtyping import Array, Bool, Float, Int, Key

from inference.generation.config import GenerationConfig, of_model
from inference.generation.rules import Written, apply_rules, rules, warped
from models.config import ModelError
from models.layers.attention import Cache
from models.model import Model

NEVER = -1e9
"""Score of what must not be chosen. Finite, as in `transformers`: sums of it still compare."""

Read = Callable[[Cache, Array, Array, Array], tuple[Array, Cache]]


@flax.struct.dataclass
class Generated:
    """Texts, those of a prompt one after the other, the best first.

    Attributes:
        sequences: (texts, prompt + most new tokens), the prompts padded on the left, padding behind the end.
        scores: (texts,) of beams: log probability over length ** length_penalty; zeros without beams.
    """

    sequences: Int[Array, "texts length"]
    scores: Float[Array, " texts"]


def generate(
    model: Model,
    variables: dict[str, Any],
    input_ids: Int[Array, "batch length"] | np.ndarray,
    attention_mask: Int[Array, "batch length"] | np.ndarray | None = None,
    settings: GenerationConfig | None = None,
    *,
    key: Key[Array, ""] | None = None,
    past_key_values: Cache | None = None,
) -> Generated:
    """Go on with prompts; or, with an encoder-decoder, write texts from those that the encoder reads.

    Args:
        model: a decoder with a language model's head; or an encoder-decoder, which takes `decoder_input_ids`.
        input_ids: the prompts; what the encoder reads, for an encoder-decoder.
        attention_mask: 0 at padding, on whichever side.
        settings: those of the model's `config.json` where `None`.
        key: of the random tokens, or one for each prompt. Each text draws from a key of its own, which depends on its place
            among the prompts and among the texts of its prompt, and not on how many there are.
        past_key_values: an empty cache of `length + new tokens` places whose memory an encoder has filled; then
            `input_ids` are what its decoder begins with. Made here where `None`.

    Returns:
        The prompts and what follows them; of an encoder-decoder the token that its texts begin with, and the texts.

    Raises:
        ModelError: prompt and new tokens do not fit the model, a prompt is empty, a key is missing, or a setting names tokens
            that the model does not have.
    """
    config, reads = model.config, past_key_values is None and writes_anew(model)
    settings = settings or GenerationConfig.from_json(of_model(config.to_json()))
    settings.check_vocabulary(config.vocab_size)
    input_ids = np.asarray(input_ids, np.int32)
    mask = np.ones_like(input_ids) if attention_mask is None else np.asarray(attention_mask, np.int32)
    if not (mask > 0).any(axis=1).all():
        raise ModelError("a prompt is empty: there is nothing to go on with")
    text, text_mask = input_ids, mask
    source = np.where(mask > 0, input_ids, -1)
    if reads:
        input_ids = np.full((len(text), 1), settings.start(config), np.int32)
        mask = np.ones_like(input_ids)
    batch, length = input_ids.shape
    limit = np.array([settings.new_tokens(int(used), config.longest_input) for used in (mask > 0).sum(axis=1)])
    new = int(limit.max(initial=1))
    if settings.max_new_tokens is None and settings.max_length is not None and not reads:  # few shapes are compiled
        new = 1 << (new - 1).bit_length()
    if settings.do_sample and key is None:
        raise ModelError("do_sample draws tokens at random: give a key")
    order = np.argsort(mask > 0, axis=1, kind="stable")  # padding to the left: so all go on at the same place
    input_ids, mask = np.take_along_axis(input_ids, order, 1), np.take_along_axis(mask, order, 1)
    if reads:
        past_key_values = _read(model, length + new, variables, text, text_mask)
    elif past_key_values is None:
        past_key_values = config.empty_cache(batch, length + new)
    keys = jax.random.key(0) if key is None else key
    if keys.ndim == 0:
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(keys, jnp.arange(batch))
    inputs = jnp.asarray(input_ids), jnp.asarray(mask), jnp.asarray(source), jnp.asarray(limit, jnp.int32)
    return _generate(model, settings, new, variables, inputs, keys, past_key_values)


def writes_anew(model: Model) -> bool:
    """Whether a model reads one text and writes another, rather than going on with the one it reads."""
    return "decoder_input_ids" in model.inputs


@functools.partial(jax.jit, static_argnums=(0, 1))
def _read(model, room, variables, input_ids, mask) -> Cache:
    return model.apply(variables, input_ids, mask, room=room, method="encode")


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _generate(model, settings, new, variables, inputs, keys, cache) -> Generated:
    input_ids, mask, source, limit = inputs
    batch = len(input_ids)
    read = reader(model, variables)
    used = mask.sum(axis=1)
    logits, cache = read(cache, input_ids, mask, jnp.maximum(jnp.cumsum(mask, axis=1) - 1, 0))
    each = settings.num_beams if settings.num_beams > 1 else settings.num_return_sequences
    rows = jnp.repeat(jnp.arange(batch), each)
    logits, cache, used = logits[rows], take_rows(cache, rows, memory=True), used[rows]
    prompts = Written(input_ids[rows], used, limit[rows], source[rows], prompt=input_ids.shape[1])
    ends, padding = settings.ends(model.config), settings.padding(model.config)
    if settings.num_beams > 1:
        search = BeamSearch(settings, ends, padding, new)
        state = search.start(batch)
    else:
        search = Sampling(settings, ends, padding, new)
        ways = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
        state = search.start(jax.vmap(ways, in_axes=(0, None))(keys, jnp.arange(each)).reshape(-1))
    state, tokens, rows = search.choose(state, logits, prompts)

    def going_on(carry):
        return search.unfinished(carry[0])

    def step(carry):
        state, cache, tokens, rows = carry
        cache = cache if rows is None else take_rows(cache, rows)
        logits, cache = read(cache, tokens[:, None], jnp.ones_like(tokens)[:, None], (used + state.step - 1)[:, None])
        state, tokens, rows = search.choose(state, logits, prompts)
        return state, cache, tokens, rows

    state, *_ = jax.lax.while_loop(going_on, step, (state, cache, tokens, rows))
    tokens, scores = search.result(state)
    begun = repeat(input_ids, "batch length -> (batch texts) length", texts=settings.num_return_sequences)
    return Generated(jnp.concatenate([begun, tokens], axis=1), scores)


def reader(model: Model, variables: dict[str, Any]) -> Read:
    """`read(cache, ids, mask, positions) -> (logits after the last token, cache)`, whatever the model's inputs are called."""
    takes = inspect.signature(type(model).__call__).parameters
    decoder = "decoder_" if "decoder_input_ids" in takes else ""

    def read(cache, ids, mask, positions):
        named = {f"{decoder}input_ids": ids, f"{decoder}attention_mask": mask, f"{decoder}position_ids": positions}
        inputs = {name: value for name, value in named.items() if name in takes}
        outputs = model.apply(variables, **inputs, past_key_values=cache)
        return outputs["logits"][:, -1].astype(jnp.float32), outputs["past_key_values"]

    return read


def take_rows(cache: Cache, rows: Int[Array, " rows"], memory: bool = False) -> Cache:
    """The cache of these rows; without `memory` they keep what they have of an encoder, it being their neighbours' too."""
    taken = cache.replace(keys=cache.keys[:, rows], values=cache.values[:, rows], mask=cache.mask[rows])
    if memory and cache.memory_keys is not None:
        taken = taken.replace(memory_keys=cache.memory_keys[:, rows], memory_values=cache.memory_values[:, rows])
    if memory and cache.memory_mask is not None:
        taken = taken.replace(memory_mask=cache.memory_mask[rows])
    return taken


def is_end(tokens: Int[Array, "*shape"], ends: tuple[int, ...]) -> Bool[Array, "*shape"]:
    return functools.reduce(jnp.logical_or, (tokens == end for end in ends), jnp.zeros_like(tokens, bool))


# ── One text at a time ───────────────────────────────────────────────────────────────────────────────────────────────


@flax.struct.dataclass
class Texts:
    """Where a generation without beams stands: `step` tokens (rows, new), which rows are done, the key of each."""

    step: Array
    tokens: Array
    done: Array
    keys: Array


@dataclasses.dataclass(frozen=True)
class Sampling:
    """The likeliest token each time, or one drawn at random."""

    settings: GenerationConfig
    ends: tuple[int, ...]
    padding: int
    new: int

    def start(self, keys: Key[Array, " rows"]) -> Texts:
        tokens = jnp.full((len(keys), self.new), self.padding, jnp.int32)
        return Texts(jnp.zeros((), jnp.int32), tokens, jnp.zeros(len(keys), bool), keys)

    def choose(self, state: Texts, logits: Float[Array, "rows vocab"], prompts: Written) -> tuple[Texts, Array, None]:
        written = prompts.replace(tokens=jnp.concatenate([prompts.tokens, state.tokens], axis=1))
        logits = apply_rules(rules(self.settings, self.ends), logits, written, state.step)
        if self.settings.do_sample:
            keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(state.keys, state.step)
            chosen = jax.vmap(jax.random.categorical)(keys, warped(logits, self.settings))
        else:
            chosen = logits.argmax(axis=-1)
        chosen = jnp.where(state.done, self.padding, chosen.astype(jnp.int32))
        tokens = jax.lax.dynamic_update_slice(state.tokens, chosen[:, None], (0, state.step))
        done = state.done | is_end(chosen, self.ends) | (state.step + 1 >= prompts.limit)
        return state.replace(step=state.step + 1, tokens=tokens, done=done), chosen, None

    def unfinished(self, state: Texts) -> Bool[Array, ""]:
        return (state.step < self.new) & ~state.done.all()

    def result(self, state: Texts) -> tuple[Array, Array]:
        return state.tokens, jnp.zeros(len(state.tokens))


# ── Beams ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@flax.struct.dataclass
class Beams:
    """Where a search stands: the texts that are followed, and the best of those that are whole.

    Attributes:
        step: tokens that each followed text has.
        tokens, scores: (batch, beams, new) and the log probability (batch, beams) of those followed, the best first.
        whole, whole_scores, done: the same of whole ones, scored over their length, and whether there is one.
        improvable: (batch,) whether a followed one may still become better than the worst whole one.
        stuck: whether none can be followed further.
    """

    step: Array
    tokens: Array
    scores: Array
    whole: Array
    whole_scores: Array
    done: Array
    improvable: Array
    stuck: Array


@dataclasses.dataclass(frozen=True)
class BeamSearch:
    """The likeliest of several texts that are followed side by side."""

    settings: GenerationConfig
    ends: tuple[int, ...]
    padding: int
    new: int

    def start(self, batch: int) -> Beams:
        beams = self.settings.num_beams
        tokens = jnp.full((batch, beams, self.new), self.padding, jnp.int32)
        never = jnp.full((batch, beams), NEVER)
        return Beams(
            step=jnp.zeros((), jnp.int32),
            tokens=tokens,
            scores=never.at[:, 0].set(0.0),  # all begin alike: only one may branch
            whole=tokens,
            whole_scores=never,
            done=jnp.zeros((batch, beams), bool),
            improvable=jnp.ones(batch, bool),
            stuck=jnp.zeros((), bool),
        )

    def choose(self, state: Beams, logits: Float[Array, "rows vocab"], prompts: Written) -> tuple[Beams, Array, Array]:
        """Follow the best; returns their last tokens and the rows that they come from."""
        settings, beams = self.settings, self.settings.num_beams
        stop_at_once = settings.early_stopping is True
        batch, vocab = len(state.tokens), logits.shape[-1]
        written = rearrange(state.tokens, "batch beam new -> (batch beam) new")
        written = prompts.replace(tokens=jnp.concatenate([prompts.tokens, written], axis=1))
        limit = rearrange(prompts.limit, "(batch beam) -> batch beam", beam=beams)[:, :1]
        scores = apply_rules(rules(settings, self.ends), jax.nn.log_softmax(logits), written, state.step)
        scores = jax.nn.log_softmax(scores) if settings.renormalize_logits else scores
        scores = rearrange(scores, "(batch beam) vocab -> batch beam vocab", beam=beams) + state.scores[..., None]
        # More candidates than beams: even if every best one ends, as many are left to be followed.
        best, index = jax.lax.top_k(scores.reshape(batch, -1), max(2, 1 + len(self.ends)) * beams)
        origin, chosen = index // vocab, (index % vocab).astype(jnp.int32)
        texts = jnp.take_along_axis(state.tokens, origin[..., None], axis=1)
        texts = jax.lax.dynamic_update_slice(texts, chosen[..., None], (0, 0, state.step))
        step = state.step + 1
        ended = is_end(chosen, self.ends) | (step >= limit)

        running = best + ended * NEVER
        running, place = jax.lax.top_k(running, beams)
        tokens = jnp.take_along_axis(texts, place[..., None], axis=1)
        origin = jnp.take_along_axis(origin, place, axis=1)

        eligible = ended & (jnp.arange(best.shape[1]) < beams)[None]
        closed = (state.done.all(axis=1) & stop_at_once) | ~state.improvable
        finished = best / step.astype(jnp.float32) ** settings.length_penalty
        finished += closed[:, None] * NEVER + ~eligible * NEVER
        whole_scores, kept = jax.lax.top_k(jnp.concatenate([state.whole_scores, finished], axis=1), beams)
        whole = jnp.take_along_axis(jnp.concatenate([state.whole, texts], axis=1), kept[..., None], axis=1)
        done = jnp.take_along_axis(jnp.concatenate([state.done, eligible], axis=1), kept, axis=1)

        length = step.astype(jnp.float32)
        if settings.early_stopping == "never" and settings.length_penalty > 0:
            length = limit.astype(jnp.float32)
        hope = running[:, :1] / length**settings.length_penalty
        worst = jnp.where(done, whole_scores.min(axis=1, keepdims=True), NEVER)
        state = Beams(
            step=step,
            tokens=tokens,
            scores=running,
            whole=whole,
            whole_scores=whole_scores,
            done=done,
            improvable=state.improvable & (hope > worst).any(axis=1) & (step < limit[:, 0]),
            stuck=ended.all(),
        )
        rows = (origin + jnp.arange(batch)[:, None] * beams).reshape(-1)
        return state, jax.lax.dynamic_index_in_dim(tokens, step - 1, axis=2, keepdims=False).reshape(-1), rows

    def unfinished(self, state: Beams) -> Bool[Array, ""]:
        closed = state.done.all() & (self.settings.early_stopping is True)
        return state.improvable.any() & ~closed & ~state.stuck

    def result(self, state: Beams) -> tuple[Array, Array]:
        count = self.settings.num_return_sequences
        whole, scores = state.whole[:, :count], state.whole_scores[:, :count]
        return rearrange(whole, "batch beam new -> (batch beam) new"), scores.reshape(-1)
