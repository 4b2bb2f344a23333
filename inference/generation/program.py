"""What is compiled: reading the prompts, and the loop that writes. These are pure functions of arrays, for `jax.jit` as for
`jax.pmap`.

The loop runs until all texts are done or `until` tokens are written, so that one program serves both a whole text and a text
that is wanted token by token. An encoder reads its text once; the keys and values of its output serve all steps and beams.
"""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, Int, Key

from inference.generation.config import GenerationConfig
from inference.generation.layers import cut_cache, joined, joined_cache
from inference.generation.rules import Written
from inference.generation.search import Beams, BeamSearch, Generated, Sampling, Scored, Texts
from models.layers.attention import Cache
from models.model import Model


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a program is compiled for, beside the shapes of its arrays.

    Attributes:
        new: room for new tokens.
        scored: whether the log probabilities of the new tokens are kept; see `Generated`.
        rows: how the rows of the cache are laid over a mesh.
    """

    model: Model
    settings: GenerationConfig
    new: int
    scored: Scored = False
    rows: NamedSharding | None = None

    @property
    def search(self) -> Sampling | BeamSearch:
        kind = BeamSearch if self.settings.num_beams > 1 else Sampling
        config = self.model.config
        return kind(self.settings, self.settings.ends(config), self.settings.padding(config), self.new, self.scored)


@flax.struct.dataclass
class Prompts:
    """What is gone on with.

    Attributes:
        input_ids, mask: (batch, length), padding on the left.
        source: (batch, read) the text that is read; -1 at padding.
        limit: (batch,) most new tokens of each.
        keys: (batch,) of the random tokens.
        text, text_mask: (batch, read) what the encoder reads; `None` without one.
        states: (batch,) the states of stop strings behind the prompts.
        stops: (vocab, states) their table, the same for all prompts; `None` without any.
        cache: with an encoder's output that has been read, and room for prompts and new tokens; made here where `None`.
    """

    input_ids: Int[Array, "batch length"]
    mask: Int[Array, "batch length"]
    source: Int[Array, "batch read"]
    limit: Int[Array, " batch"]
    keys: Key[Array, " batch"]
    text: Int[Array, "batch read"] | None
    text_mask: Int[Array, "batch read"] | None
    states: Int[Array, " batch"]
    stops: Int[Array, "vocab states"] | None = None
    cache: Cache | None = None


@flax.struct.dataclass
class Writing:
    """Where the loop stands.

    Attributes:
        state: of the search.
        cache: of the tokens that were read, by layer.
        tokens: (rows,) the last of each text, which are still to be read.
        rows: (rows,) which of the cache's rows each goes on from; `None` where each goes on from its own.
        prompts: of each row.
    """

    state: Texts | Beams
    cache: Cache
    tokens: Int[Array, " rows"]
    rows: Int[Array, " rows"] | None
    prompts: Written


def write(plan: Plan, variables: dict[str, Any], prompts: Prompts) -> Generated:
    """What follows the prompts, from variables as the model takes them or cut into layers."""
    return result(plan, advance(plan, variables, begin(plan, variables, prompts), plan.new))


def begin(plan: Plan, variables: dict[str, Any], prompts: Prompts) -> Writing:
    """Read the prompts but for their last tokens: with those the loop begins, so that no other place needs logits."""
    model, settings = plan.model, plan.settings
    batch, length = prompts.input_ids.shape
    cache = prompts.cache
    if prompts.text is not None:
        room = length + plan.new
        cache = model.apply(joined(variables), prompts.text, prompts.text_mask, room=room, method="encode")
    elif cache is None:
        cache = model.config.empty_cache(batch, length + plan.new)
    cache = cut_cache(cache)
    if length > 1:
        ids, mask = prompts.input_ids[:, :-1], prompts.mask[:, :-1]
        _, cache = read(model, variables, cache, ids, mask, jnp.maximum(jnp.cumsum(mask, axis=1) - 1, 0))
    each = settings.num_beams if settings.num_beams > 1 else settings.num_return_sequences
    rows = jnp.repeat(jnp.arange(batch), each)
    used = prompts.mask.sum(axis=1)[rows]
    tokens, limit, source = prompts.input_ids[rows], prompts.limit[rows], prompts.source[rows]
    written = Written(tokens, used, limit, source, prompts.stops, prompt=length)
    if settings.num_beams > 1:
        state = plan.search.start(prompts.keys, jnp.repeat(prompts.states[:, None], each, axis=1))
    else:
        ways = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
        keys = jax.vmap(ways, in_axes=(0, None))(prompts.keys, jnp.arange(each)).reshape(-1)
        state = plan.search.start(keys, prompts.states[rows])
    origin = jnp.arange(len(rows)) if settings.num_beams > 1 else None
    cache = take_rows(cache, rows)
    if plan.rows is not None:
        cache = jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, plan.rows) if x.ndim else x, cache)
    return Writing(state, cache, tokens[:, -1], origin, written)


def advance(plan: Plan, variables: dict[str, Any], writing: Writing, until: int | Int[Array, ""]) -> Writing:
    """Go on until all texts are whole, or those that are not have `until` tokens."""
    search = plan.search

    def going_on(writing: Writing):
        return search.unfinished(writing.state) & (writing.state.step < until)

    def step(writing: Writing) -> Writing:
        state, tokens = writing.state, writing.tokens
        cache = writing.cache if writing.rows is None else take_rows(writing.cache, writing.rows)
        places = (writing.prompts.used + state.step - 1)[:, None]
        logits, cache = read(plan.model, variables, cache, tokens[:, None], jnp.ones_like(places), places)
        state, tokens, rows = search.choose(state, logits, writing.prompts)
        return Writing(state, cache, tokens, rows, writing.prompts)

    return jax.lax.while_loop(going_on, step, writing)


def result(plan: Plan, writing: Writing) -> Generated:
    """What was written, without the prompts; the best texts first."""
    return plan.search.result(writing.state)


begin_compiled = jax.jit(begin, static_argnums=0)
advance_compiled = jax.jit(advance, static_argnums=0, donate_argnums=2)
result_compiled = jax.jit(result, static_argnums=0)


def programs() -> int:
    """How many programs were compiled so far: one for each shape of prompts, and one for the loop behind it."""
    return begin_compiled._cache_size() + advance_compiled._cache_size()


def read(
    model: Model, variables: dict[str, Any], cache: Cache, ids: Array, mask: Array, positions: Array
) -> tuple[Float[Array, "rows vocab"], Cache]:
    """The logits behind the last token, and the cache, whatever the model calls its inputs."""
    decoder = "decoder_" if writes_anew(model) else ""
    named = {f"{decoder}input_ids": ids, f"{decoder}attention_mask": mask, f"{decoder}position_ids": positions}
    inputs = {name: value for name, value in named.items() if name in model.inputs}
    outputs = model.apply(joined(variables), **inputs, past_key_values=joined_cache(cache))
    return outputs["logits"][:, -1].astype(jnp.float32), cut_cache(outputs["past_key_values"])


def writes_anew(model: Model) -> bool:
    """Whether a model reads one text and writes another, rather than going on with the one it reads."""
    return "decoder_input_ids" in model.inputs


def take_rows(cache: Cache, rows: Int[Array, " rows"]) -> Cache:
    """The cache, cut into layers, of these rows. What it has of an encoder stays: beams of a text have it in common."""
    keys, values = (tuple(x[rows] for x in part) for part in (cache.keys, cache.values))
    return cache.replace(keys=keys, values=values, mask=cache.mask[rows])
