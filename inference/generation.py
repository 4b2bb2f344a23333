"""Text from a model with a cache: the likeliest token each time, tokens drawn at random, or the likeliest of several beams.

Top-k: Fan et al., "Hierarchical Neural Story Generation", 2018, arXiv 1805.04833. Top-p: Holtzman et al., "The Curious
Case of Neural Text Degeneration", 2019, arXiv 1904.09751. Beams and their length penalty: Wu et al., "Google's Neural
Machine Translation System", 2016, arXiv 1609.08144, section 7, with the stopping rules of `transformers`, whose `generate`
gives the same tokens. N-grams that do not come again: Paulus, Xiong, Socher: "A Deep Reinforced Model for Abstractive
Summarization", 2017, arXiv 1705.04304, section 2.5. Shapes are static: one program is compiled for a shape of prompts, and
runs until all are done. An encoder reads its text once; its keys and values are shared by all steps.
"""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange, repeat
from jaxtyping import Array, Bool, Float, Int, Key

from models.attention import Cache
from models.config import ModelConfig, ModelError, nearest

NEVER = -1e9
"""Score of what must not be chosen. Finite, as in `transformers`: sums of it still compare."""

LENGTHS = {"max_length": "max_new_tokens", "min_length": "min_new_tokens"}
"""Published settings that count the tokens that a text begins with, and those of ours that do not."""

DRAWING = ("temperature", "top_k", "top_p")
"""Settings that mean nothing where no token is drawn at random."""

Read = Callable[[Cache, Array, Array, Array], tuple[Array, Cache]]


@dataclasses.dataclass(frozen=True)
class GenerationConfig:
    """How to go on, with the names of a published `generation_config.json`.

    Attributes:
        max_new_tokens: tokens after which a text ends at the latest.
        min_new_tokens: tokens before which it does not.
        do_sample: draw tokens at random; the likeliest each time where not.
        temperature: the logits are divided by it before drawing.
        top_k: draw from the k likeliest alone; from all where 0.
        top_p: draw from the likeliest that together have this probability.
        num_beams: texts that are followed at a time.
        length_penalty: power of its length by which the score of a beam is divided.
        early_stopping: when a search ends: with `True` as soon as there are `num_beams` whole texts; else when no beam can
            get better than those, judged by the length reached (`False`) or by the longest possible (`"never"`).
        num_return_sequences: texts for each prompt.
        no_repeat_ngram_size: so many tokens in a row never come twice in a text, its prompt included; may where 0.
        bad_words_ids: words that are never written, of one token each.
        renormalize_logits: make probabilities sum to 1 again after tokens were forbidden; of beams alone.
        eos_token_id: tokens that end a text; the model's where `None`.
        pad_token_id: what stands behind the end; the model's where `None`, or the first that ends a text.
        decoder_start_token_id: what the texts of an encoder-decoder begin with; the model's where `None`, or its
            `bos_token_id`.
        forced_bos_token_id: the first new token, of texts that begin with one token: the language to translate into.
        forced_eos_token_id: the last of `max_new_tokens`.
    """

    max_new_tokens: int = 20
    min_new_tokens: int = 0
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    num_return_sequences: int = 1
    no_repeat_ngram_size: int = 0
    bad_words_ids: tuple[tuple[int, ...], ...] = ()
    renormalize_logits: bool = False
    eos_token_id: int | tuple[int, ...] | None = None
    pad_token_id: int | None = None
    decoder_start_token_id: int | None = None
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name, least in dict(
            max_new_tokens=1, min_new_tokens=0, top_k=0, num_beams=1, num_return_sequences=1, no_repeat_ngram_size=0
        ).items():
            if type(getattr(self, name)) is not int or getattr(self, name) < least:
                raise ModelError(f"{name}={getattr(self, name)!r}: expected a whole number of at least {least}")
        if not 0 < self.temperature < math.inf:
            raise ModelError(f"temperature={self.temperature!r}: expected a number above 0")
        if not 0 < self.top_p <= 1:
            raise ModelError(f"top_p={self.top_p!r}: expected a probability above 0")
        if self.early_stopping not in (True, False, "never"):
            raise ModelError(f"early_stopping={self.early_stopping!r}: expected True, False or 'never'")
        if any(len(word) != 1 for word in self.bad_words_ids):
            raise ModelError(f"bad_words_ids={self.bad_words_ids!r}: only words of one token each are implemented")
        if self.do_sample and self.num_beams > 1:
            raise ModelError(f"do_sample with num_beams={self.num_beams}: beams of random tokens are not implemented")
        if not self.do_sample and self.num_return_sequences > self.num_beams:
            raise ModelError(
                f"num_return_sequences={self.num_return_sequences}: there are {self.num_beams} beam(s); with"
                " do_sample any number of texts can be drawn"
            )

    @classmethod
    def from_json(cls, published: Mapping[str, Any], begun: int | None = None, **changes: Any) -> "GenerationConfig":
        """From a published `generation_config.json`, of which what this code has no use for is ignored, and `changes`.

        Args:
            begun: tokens that each text begins with, where all have as many (1 in an encoder-decoder): `max_length` and
                `min_length` count them, and are read then. Numbers of new tokens go before them.

        Raises:
            ModelError: a change that is none, or one that means nothing without `do_sample`.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        changes = {name: value for name, value in changes.items() if value is not None}
        known = {name: value for name, value in published.items() if name in names and value is not None} | changes
        for length, new in LENGTHS.items():
            if begun is not None and new not in known and published.get(length) is not None:
                known[new] = max(published[length] - begun, 0)
        for name in changes:
            if name not in names:
                raise ModelError(f"no setting {name!r}: {nearest(name, names)}")
            if name in DRAWING and not known.get("do_sample"):
                raise ModelError(f"{name} is of use with do_sample alone: without it the likeliest token is taken")
        if not known.get("do_sample"):
            known = {name: value for name, value in known.items() if name not in DRAWING}
        for name in ("eos_token_id", "forced_eos_token_id"):
            if isinstance(known.get(name), list):
                known[name] = tuple(known[name])
        known["bad_words_ids"] = tuple(tuple(word) for word in known.get("bad_words_ids", ()))
        return cls(**known)

    def ends(self, config: ModelConfig) -> tuple[int, ...]:
        """The tokens that end a text."""
        eos = getattr(config, "eos_token_id", None) if self.eos_token_id is None else self.eos_token_id
        return eos if isinstance(eos, tuple) else () if eos is None else (eos,)

    def padding(self, config: ModelConfig) -> int:
        """The token behind the end of a text."""
        own = getattr(config, "pad_token_id", None) if self.pad_token_id is None else self.pad_token_id
        return own if own is not None else next(iter(self.ends(config)), 0)

    def start(self, config: ModelConfig) -> int:
        """The token that the texts of an encoder-decoder begin with."""
        named = (getattr(config, name, None) for name in ("decoder_start_token_id", "bos_token_id"))
        found = next((token for token in (self.decoder_start_token_id, *named) if token is not None), None)
        if found is None:
            raise ModelError("there is nothing to begin a text with: set decoder_start_token_id")
        return found


@flax.struct.dataclass
class Generated:
    """Texts, those of a prompt one after the other, the best first.

    Attributes:
        sequences: (texts, prompt + max_new_tokens), the prompts padded on the left, padding behind the end.
        scores: (texts,) of beams: log probability over length ** length_penalty; zeros without beams.
    """

    sequences: Int[Array, "texts length"]
    scores: Float[Array, " texts"]


def generate(
    model: nn.Module,
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
        key: of the random tokens. Each text draws from a key of its own, however many there are beside it.
        past_key_values: an empty cache of `length + max_new_tokens` places whose memory an encoder has filled; then
            `input_ids` are what its decoder begins with. Made here where `None`.

    Returns:
        The prompts and what follows them; of an encoder-decoder the token that its texts begin with, and the texts.

    Raises:
        ModelError: prompt and new tokens do not fit the model, a prompt is empty, or a key is missing.
    """
    reads = past_key_values is None and writes_anew(type(model))
    settings = settings or GenerationConfig.from_json(model.config.to_json(), begun=1 if reads else None)
    input_ids = np.asarray(input_ids, np.int32)
    mask = np.ones_like(input_ids) if attention_mask is None else np.asarray(attention_mask, np.int32)
    if not (mask > 0).any(axis=1).all():
        raise ModelError("a prompt is empty: there is nothing to go on with")
    text, text_mask = input_ids, mask
    if reads:
        input_ids = np.full((len(text), 1), settings.start(model.config), np.int32)
        mask = np.ones_like(input_ids)
    batch, length = input_ids.shape
    longest, room = model.config.longest_input, int(mask.sum(axis=1).max(initial=0)) + settings.max_new_tokens
    if longest is not None and room > longest:
        raise ModelError(
            f"a prompt of {room - settings.max_new_tokens} tokens and {settings.max_new_tokens} new ones do not fit a"
            f" model with room for {longest}: shorten it, or set max_new_tokens"
        )
    if settings.do_sample and key is None:
        raise ModelError("do_sample draws tokens at random: give a key")
    order = np.argsort(mask > 0, axis=1, kind="stable")  # padding to the left: so all go on at the same place
    input_ids, mask = np.take_along_axis(input_ids, order, 1), np.take_along_axis(mask, order, 1)
    if reads:
        past_key_values = _read(model, length + settings.max_new_tokens, variables, text, text_mask)
    elif past_key_values is None:
        past_key_values = model.config.empty_cache(batch, length + settings.max_new_tokens)
    key = jax.random.key(0) if key is None else key
    return _generate(model, settings, variables, jnp.asarray(input_ids), jnp.asarray(mask), key, past_key_values)


def writes_anew(model: type[nn.Module]) -> bool:
    """Whether a model reads one text and writes another, rather than going on with the one it reads."""
    return hasattr(model, "encode")


@functools.partial(jax.jit, static_argnums=(0, 1))
def _read(model, room, variables, input_ids, mask) -> Cache:
    return model.apply(variables, input_ids, mask, room=room, method="encode")


@functools.partial(jax.jit, static_argnums=(0, 1))
def _generate(model, settings, variables, input_ids, mask, key, cache) -> Generated:
    batch = len(input_ids)
    read = reader(model, variables)
    used = mask.sum(axis=1)
    logits, cache = read(cache, input_ids, mask, jnp.maximum(jnp.cumsum(mask, axis=1) - 1, 0))
    each = settings.num_beams if settings.num_beams > 1 else settings.num_return_sequences
    rows = jnp.repeat(jnp.arange(batch), each)
    logits, cache, used = logits[rows], take_rows(cache, rows, memory=True), used[rows]
    prompts = input_ids[rows]
    if settings.num_beams > 1:
        search = BeamSearch(settings, settings.ends(model.config), settings.padding(model.config))
        state = search.start(batch)
    else:
        search = Sampling(settings, settings.ends(model.config), settings.padding(model.config))
        state = search.start(jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(batch * each)))
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
    prompts = repeat(input_ids, "batch length -> (batch texts) length", texts=settings.num_return_sequences)
    return Generated(jnp.concatenate([prompts, tokens], axis=1), scores)


def reader(model: nn.Module, variables: dict[str, Any]) -> Read:
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


def allowed(
    scores: Float[Array, "rows vocab"],
    written: Int[Array, "rows length"],
    step: Int[Array, ""],
    settings: GenerationConfig,
    ends: tuple[int, ...],
) -> Float[Array, "rows vocab"]:
    """Scores of the token number `step`, -inf where it must not be; in the order of `transformers`, what comes last decides.

    Args:
        written: the prompts, and room for `max_new_tokens` behind them, of which `step` are there.
    """
    tokens, prompt = jnp.arange(scores.shape[1])[None], written.shape[1] - settings.max_new_tokens
    if 0 < settings.no_repeat_ngram_size <= written.shape[1]:
        repeated = repeating(written, prompt + step, settings.no_repeat_ngram_size, scores.shape[1])
        scores = jnp.where(repeated, -jnp.inf, scores)
    bad = tuple(token for (token,) in settings.bad_words_ids if token not in ends)
    if bad:
        scores = jnp.where(is_end(tokens, bad), -jnp.inf, scores)
    if ends and settings.min_new_tokens:
        scores = jnp.where(is_end(tokens, ends) & (step < settings.min_new_tokens), -jnp.inf, scores)
    if settings.forced_bos_token_id is not None and prompt == 1:
        scores = jnp.where(step == 0, forced(tokens, (settings.forced_bos_token_id,)), scores)
    if settings.forced_eos_token_id is not None:
        last = settings.forced_eos_token_id
        only = forced(tokens, last if isinstance(last, tuple) else (last,))
        scores = jnp.where(step == settings.max_new_tokens - 1, only, scores)
    return scores


def forced(tokens: Int[Array, "1 vocab"], only: tuple[int, ...]) -> Float[Array, "1 vocab"]:
    """Scores that leave no other choice than the tokens `only`."""
    return jnp.where(is_end(tokens, only), 0.0, -jnp.inf)


def repeating(
    written: Int[Array, "rows length"], filled: Int[Array, ""], size: int, vocab: int
) -> Bool[Array, "rows vocab"]:
    """Tokens that would make the last `size` of a text, `filled` long, what stands somewhere in it already."""
    starts = jnp.arange(written.shape[1] - size + 1)
    grams = written[:, starts[:, None] + jnp.arange(size)[None]]
    last = jax.lax.dynamic_slice_in_dim(written, filled - size + 1, size - 1, axis=1)
    same = (grams[..., :-1] == last[:, None]).all(axis=-1) & (starts + size <= filled)[None]
    places = jnp.where(same, grams[..., -1], vocab)  # the others beyond the vocabulary, where they are dropped
    rows = jnp.arange(len(written))[:, None]
    return jnp.zeros((len(written), vocab), bool).at[rows, places].set(True, mode="drop")


def warped(logits: Float[Array, "rows vocab"], settings: GenerationConfig) -> Float[Array, "rows vocab"]:
    """Logits to draw from: over the temperature, then -inf outside the `top_k` likeliest, then outside `top_p`."""
    logits = logits / settings.temperature
    if 0 < settings.top_k < logits.shape[-1]:
        least = jax.lax.top_k(logits, settings.top_k)[0][:, -1:]
        logits = jnp.where(logits < least, -jnp.inf, logits)
    if settings.top_p < 1:
        ascending = jnp.sort(logits, axis=-1)
        below = jnp.cumsum(jax.nn.softmax(ascending, axis=-1), axis=-1)  # probability of a token and all less likely
        kept = (below > 1 - settings.top_p).at[:, -1].set(True)
        least = jnp.where(kept, ascending, jnp.inf).min(axis=-1, keepdims=True)
        logits = jnp.where(logits < least, -jnp.inf, logits)
    return logits


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

    def start(self, keys: Key[Array, " rows"]) -> Texts:
        tokens = jnp.full((len(keys), self.settings.max_new_tokens), self.padding, jnp.int32)
        return Texts(jnp.zeros((), jnp.int32), tokens, jnp.zeros(len(keys), bool), keys)

    def choose(
        self, state: Texts, logits: Float[Array, "rows vocab"], prompts: Int[Array, "rows prompt"]
    ) -> tuple[Texts, Array, None]:
        written = jnp.concatenate([prompts, state.tokens], axis=1)
        logits = allowed(logits, written, state.step, self.settings, self.ends)
        if self.settings.do_sample:
            keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(state.keys, state.step)
            chosen = jax.vmap(jax.random.categorical)(keys, warped(logits, self.settings))
        else:
            chosen = logits.argmax(axis=-1)
        chosen = jnp.where(state.done, self.padding, chosen.astype(jnp.int32))
        tokens = jax.lax.dynamic_update_slice(state.tokens, chosen[:, None], (0, state.step))
        done = state.done | is_end(chosen, self.ends)
        return state.replace(step=state.step + 1, tokens=tokens, done=done), chosen, None

    def unfinished(self, state: Texts) -> Bool[Array, ""]:
        return (state.step < self.settings.max_new_tokens) & ~state.done.all()

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

    def start(self, batch: int) -> Beams:
        beams, most = self.settings.num_beams, self.settings.max_new_tokens
        tokens = jnp.full((batch, beams, most), self.padding, jnp.int32)
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

    def choose(
        self, state: Beams, logits: Float[Array, "rows vocab"], prompts: Int[Array, "rows prompt"]
    ) -> tuple[Beams, Array, Array]:
        """Follow the best; returns their last tokens and the rows that they come from."""
        settings, beams = self.settings, self.settings.num_beams
        stop_at_once = settings.early_stopping is True
        batch, vocab = len(state.tokens), logits.shape[-1]
        written = rearrange(state.tokens, "batch beam new -> (batch beam) new")
        written = jnp.concatenate([prompts, written], axis=1)
        scores = allowed(jax.nn.log_softmax(logits), written, state.step, settings, self.ends)
        scores = jax.nn.log_softmax(scores) if settings.renormalize_logits else scores
        scores = rearrange(scores, "(batch beam) vocab -> batch beam vocab", beam=beams) + state.scores[..., None]
        # More candidates than beams: even if every best one ends, as many are left to be followed.
        best, index = jax.lax.top_k(scores.reshape(batch, -1), max(2, 1 + len(self.ends)) * beams)
        origin, chosen = index // vocab, (index % vocab).astype(jnp.int32)
        texts = jnp.take_along_axis(state.tokens, origin[..., None], axis=1)
        texts = jax.lax.dynamic_update_slice(texts, chosen[..., None], (0, 0, state.step))
        step = state.step + 1
        ended = is_end(chosen, self.ends) | (step == settings.max_new_tokens)

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
            length = jnp.float32(settings.max_new_tokens)
        hope = running[:, :1] / length**settings.length_penalty
        worst = jnp.where(done, whole_scores.min(axis=1, keepdims=True), NEVER)
        state = Beams(
            step=step,
            tokens=tokens,
            scores=running,
            whole=whole,
            whole_scores=whole_scores,
            done=done,
            improvable=state.improvable & (hope > worst).any(axis=1),
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
