"""Text from a model with a cache: prompts are brought into one of few shapes, and what is compiled is called."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Int, Key
from tokenizers import Tokenizer

from inference.generation.config import GenerationConfig, of_model
from inference.generation.layers import cut
from inference.generation.program import (
    Plan,
    Prompts,
    advance_compiled,
    begin_compiled,
    result_compiled,
    writes_anew,
)
from inference.generation.search import Generated, Scored
from inference.generation.stops import first_states, stop_table
from models.config import ModelError
from models.layers.attention import Cache
from models.model import Model

SHORTEST = 16
"""Places that prompts, and new tokens, have at least."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """How to generate, beside the settings that a folder may publish.

    Attributes:
        key: of the random tokens, or one for each prompt. Each text draws from a key of its own, which depends on its place
            among the prompts and among the texts of its prompt, and not on how many there are.
        tokenizer: by which `stop_strings` are read.
        log_probabilities: whether those of the new tokens are wanted; see `Generated`.
        sharding: lays the prompts over a mesh, which holds the variables, too: they are laid over it whole unless they lie there.
        past_key_values: an empty cache of `length + new tokens` places whose memory an encoder has filled; then `input_ids`
            are what its decoder begins with. Made here where `None`.
    """

    key: Key[Array, ""] | Key[Array, " batch"] | None = None
    tokenizer: Tokenizer | None = None
    log_probabilities: Scored = False
    sharding: NamedSharding | None = None
    past_key_values: Cache | None = None


@dataclasses.dataclass(frozen=True)
class Job:
    """Prompts in a shape that is compiled for, and what is asked of the answer.

    Attributes:
        begun: (batch, length) the prompts as they came, their padding on the left.
        new: most new tokens that are wanted; the plan may have room for more.
    """

    plan: Plan
    variables: dict[str, Any]
    prompts: Prompts
    begun: Int[np.ndarray, "batch length"]
    new: int

    @property
    def texts(self) -> int:
        """How many are wanted; more may be written for the shape's sake."""
        return len(self.begun) * self.plan.settings.num_return_sequences


def generate(
    model: Model,
    variables: dict[str, Any],
    input_ids: Int[Array, "batch length"] | np.ndarray,
    attention_mask: Int[Array, "batch length"] | np.ndarray | None = None,
    settings: GenerationConfig | None = None,
    **asked: Any,
) -> Generated:
    """Go on with prompts; or, with an encoder-decoder, write texts from those that the encoder reads.

    Args:
        model: a decoder with a language model's head; or an encoder-decoder, which takes `decoder_input_ids`.
        variables: as the model takes them, or `cut` into layers, which saves the time for that.
        input_ids: the prompts; what the encoder reads, for an encoder-decoder.
        attention_mask: 0 at padding, on whichever side.
        settings: those of the model's `config.json` where `None`.
        asked: fields of `Asked`.

    Returns:
        The prompts and what follows them; of an encoder-decoder the token that its texts begin with, and the texts.

    Raises:
        ModelError: prompt and new tokens do not fit the model, a prompt is empty, a key or a tokenizer is missing, or a
            setting names tokens that the model does not have.
    """
    job = prepared(model, variables, input_ids, attention_mask, settings, Asked(**asked))
    writing = begin_compiled(job.plan, job.variables, job.prompts)
    writing = advance_compiled(job.plan, job.variables, writing, job.plan.new)
    whole = jax.tree.map(lambda x: x[: job.texts], result_compiled(job.plan, writing))
    begun = jnp.asarray(np.repeat(job.begun, job.plan.settings.num_return_sequences, axis=0))
    logs = whole.log_probabilities
    return Generated(
        sequences=jnp.concatenate([begun, whole.sequences[:, : job.new]], axis=1),
        lengths=whole.lengths,
        scores=whole.scores,
        log_probabilities=None if logs is None else logs[:, : job.new],
    )


def stream(
    model: Model,
    variables: dict[str, Any],
    input_ids: Int[Array, "batch length"] | np.ndarray,
    attention_mask: Int[Array, "batch length"] | np.ndarray | None = None,
    settings: GenerationConfig | None = None,
    **asked: Any,
) -> Iterator[tuple[Int[np.ndarray, " texts"], Bool[np.ndarray, " texts"]]]:
    """The new tokens of `generate`, one of each text at a time, and which texts are whole with them; padding behind those.

    Where nobody asks for the next ones no more are computed.

    Raises:
        ModelError: as `generate`; with beams, of which no token is certain before the end.
    """
    job = prepared(model, variables, input_ids, attention_mask, settings, Asked(**asked))
    if job.plan.settings.num_beams > 1:
        raise ModelError("beams cannot be streamed: which text is the best shows at the end; set num_beams=1")
    writing = begin_compiled(job.plan, job.variables, job.prompts)
    for step in range(job.plan.new):
        writing = advance_compiled(job.plan, job.variables, writing, step + 1)
        tokens, done = jax.device_get((writing.tokens, writing.state.done))
        yield tokens[: job.texts], done[: job.texts]
        if done.all():
            return


def prepared(
    model: Model,
    variables: dict[str, Any],
    input_ids: Int[Array, "batch length"] | np.ndarray,
    attention_mask: Int[Array, "batch length"] | np.ndarray | None,
    settings: GenerationConfig | None,
    asked: Asked,
) -> Job:
    """Prompts in one of few shapes, checked; see `generate`."""
    config, reads = model.config, asked.past_key_values is None and writes_anew(model)
    settings = settings or GenerationConfig.from_json(of_model(config.to_json()))
    settings.check_vocabulary(config.vocab_size)
    if settings.do_sample and asked.key is None:
        raise ModelError("do_sample draws tokens at random: give a key")
    input_ids = np.asarray(input_ids, np.int32)
    mask = np.ones_like(input_ids) if attention_mask is None else np.asarray(attention_mask, np.int32)
    if not (mask > 0).any(axis=1).all():
        raise ModelError("a prompt is empty: there is nothing to go on with")
    text, text_mask = input_ids, mask
    if reads:
        input_ids = np.full((len(text), 1), settings.start(config), np.int32)
        mask = np.ones_like(input_ids)
    used = (mask > 0).sum(axis=1)
    limit = np.array([settings.new_tokens(int(count), config.longest_input) for count in used], np.int32)
    shape = Shape.of(len(text), 1 if reads else int(used.max()), int(limit.max()), asked, config.longest_input)
    keys = jax.random.key(0) if asked.key is None else asked.key
    if keys.ndim == 0:
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(keys, jnp.arange(len(text)))
    ids, there = to_left(input_ids, mask, shape.prompt)
    more = ((0, 0), (0, within(text.shape[1], config.longest_input) - text.shape[1]))
    read, read_there = np.pad(text, more), np.pad(text_mask, more)  # on whichever side: learned positions count padding
    table, states = stops_of(settings, asked.tokenizer, config.vocab_size, ids, there)
    prompts = Prompts(
        input_ids=ids,
        mask=there,
        source=np.where(read_there > 0, read, -1),
        limit=limit,
        keys=keys,
        states=states,
        text=read if reads else None,
        text_mask=read_there if reads else None,
    )
    prompts = jax.tree.map(lambda x: x[np.arange(shape.rows) % len(text)], prompts)
    prompts = prompts.replace(
        limit=np.where(np.arange(shape.rows) < len(text), prompts.limit, 1), stops=table, cache=asked.past_key_values
    )
    compiled = dataclasses.replace(settings, max_new_tokens=None, max_length=None, stop_strings=())
    rows = (
        None if asked.sharding is None else NamedSharding(asked.sharding.mesh, PartitionSpec(row_axes(asked.sharding)))
    )
    plan = Plan(model, compiled, shape.new, asked.log_probabilities, rows)
    prompts, variables = placed(prompts, cut(model, variables), rows)
    return Job(plan, variables, prompts, to_left(input_ids, mask, input_ids.shape[1])[0], int(limit.max()))


@dataclasses.dataclass(frozen=True)
class Shape:
    """What is compiled for: rows, columns of the prompts, room for new tokens."""

    rows: int
    prompt: int
    new: int

    @classmethod
    def of(cls, rows: int, prompt: int, new: int, asked: Asked, longest: int | None) -> "Shape":
        """One of few that has room for these, the rows as many for each part of the mesh; a cache that is there is the shape."""
        if asked.past_key_values is not None:
            return cls(rows, prompt, asked.past_key_values.mask.shape[1] - prompt)
        axes = () if asked.sharding is None else row_axes(asked.sharding)
        parts = math.prod(asked.sharding.mesh.shape[axis] for axis in axes)
        rows, room = -(-bucket(rows) // parts) * parts, bucket(new, SHORTEST)
        if prompt > 1:
            return cls(rows, within(prompt, longest), room)
        return cls(rows, 1, room if longest is None else max(new, min(room, longest - 1)))


def bucket(size: int, least: int = 1) -> int:
    """The next power of two."""
    return max(least, 1 << (size - 1).bit_length())


def within(length: int, longest: int | None) -> int:
    """The next length that is compiled for, which is none that the model lacks positions for."""
    size = bucket(length, SHORTEST)
    return size if longest is None else max(length, min(size, longest))


def to_left(
    ids: Int[np.ndarray, "batch length"], mask: Int[np.ndarray, "batch length"], width: int
) -> tuple[Int[np.ndarray, "batch width"], Int[np.ndarray, "batch width"]]:
    """Tokens and their mask in so many columns, all padding on the left: so all go on at the same place."""
    order = np.argsort(mask > 0, axis=1, kind="stable")
    more = ((0, 0), (max(0, width - ids.shape[1]), 0))
    ids, mask = (np.pad(np.take_along_axis(x, order, 1), more) for x in (ids, (mask > 0).astype(np.int32)))
    return ids[:, -width:], mask[:, -width:]


def stops_of(
    settings: GenerationConfig, tokenizer: Tokenizer | None, vocab: int, ids: np.ndarray, mask: np.ndarray
) -> tuple[Int[np.ndarray, "vocab states"] | None, Int[np.ndarray, " batch"]]:
    """The table of stop strings, `None` without any, and the states behind prompts."""
    if not settings.stop_strings:
        return None, np.zeros(len(ids), np.int32)
    if tokenizer is None:
        raise ModelError("stop_strings are looked for by the tokenizer's tokens: give it as tokenizer")
    table = stop_table(tokenizer, settings.stop_strings, vocab)
    return table, first_states(table, [row[there > 0].tolist() for row, there in zip(ids, mask, strict=True)])


def row_axes(sharding: NamedSharding) -> tuple[str, ...]:
    """The axes of the mesh that rows are spread over."""
    axes = next(iter(sharding.spec), None)
    return axes if isinstance(axes, tuple) else () if axes is None else (axes,)


def placed(prompts: Prompts, variables: dict[str, Any], rows: NamedSharding | None) -> tuple[Prompts, dict[str, Any]]:
    """Prompts and variables where they are computed with: rows spread over a mesh, variables whole on each of its devices unless
    they lie on all of them already."""
    if rows is None:
        return jax.tree.map(jnp.asarray, prompts), variables
    whole = NamedSharding(rows.mesh, PartitionSpec())
    stops, cache = prompts.stops, prompts.cache
    if cache is not None:
        raise ModelError("a cache that is given lies where it lies: sharding is for caches that are made here")
    prompts = jax.device_put(prompts.replace(stops=None), rows)

    def lies(x: Any) -> bool:
        return isinstance(x, jax.Array) and x.sharding.device_set == whole.device_set

    variables = jax.tree.map(lambda x: x if lies(x) else jax.device_put(x, whole), variables)
    return prompts.replace(stops=None if stops is None else jax.device_put(stops, whole)), variables
