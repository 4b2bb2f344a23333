"""How fast a model writes, here and now: what `lacuna bench --task generate` measures.

Prompts are random tokens, no text ends early. Writing one more token of each text reads all weights of the decoder and the
cache once, so memory bounds it where the texts are few: the share of the bandwidth is their bytes over the time of a token,
held against the bytes a second of a sum over 1 GiB.
"""

import dataclasses
import functools
import statistics
import time
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Var
from jax.interpreters.partial_eval import dce_jaxpr

from inference.generation import GenerationConfig
from inference.generation.generating import Asked, Job, prepared
from inference.generation.program import advance_compiled, begin_compiled, read
from models.config import ModelError
from models.model import Model
from training.hardware import GIB, Waits, quiet


@dataclasses.dataclass(frozen=True)
class Load:
    """What is written.

    Attributes:
        texts: prompts that are gone on with at a time.
        beams: of each; 1 takes the likeliest token each time.
        prompt_length: tokens of each prompt, or of the text that an encoder reads.
        new_tokens: of each text.
    """

    texts: int = 1
    beams: int = 1
    prompt_length: int = 16
    new_tokens: int = 128

    def __post_init__(self) -> None:
        for name, least in dict(texts=1, beams=1, prompt_length=1, new_tokens=2).items():
            if vars(self)[name] < least:
                raise ModelError(f"{name}={vars(self)[name]}: expected a whole number of at least {least}")


@dataclasses.dataclass(frozen=True)
class Speed:
    """What was measured.

    Attributes:
        seconds: of each round, all tokens of all texts.
        first: of each round until the first token of each text is there.
        compiling: seconds that the first round took longer than the others.
        bytes_read: by one more token of each text.
        bandwidth: bytes a second of a sum over 1 GiB; `None` where other work kept the processor busy meanwhile.
    """

    load: Load
    seconds: Sequence[float]
    first: Sequence[float]
    compiling: float
    bytes_read: int
    bandwidth: float | None

    @property
    def tokens_per_second(self) -> float:
        return self.load.texts * self.load.new_tokens / statistics.median(self.seconds)

    @property
    def seconds_per_token(self) -> float:
        """Of one more token of each text, behind the first."""
        later = (whole - first for whole, first in zip(self.seconds, self.first, strict=True))
        return statistics.median(later) / (self.load.new_tokens - 1)

    @property
    def share(self) -> float | None:
        """Of the bandwidth, reached by what a token must read."""
        return None if self.bandwidth is None else self.bytes_read / self.seconds_per_token / self.bandwidth


def writing_speed(model: Model, variables: dict[str, Any], load: Load, rounds: int = 5) -> Speed:
    """Write the texts of `load` once to compile, then `rounds` times.

    Raises:
        ModelError: the model writes no text, or the tokens do not fit it.
    """
    if not model.generates or "input_ids" not in model.inputs:
        raise ModelError(
            f"{type(model).__name__} writes no text from a text: expected a model that scores the next token"
        )
    settings = GenerationConfig(max_new_tokens=load.new_tokens, num_beams=load.beams, eos_token_id=())
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, (load.texts, load.prompt_length))
    job = prepared(model, variables, ids, None, settings, Asked())
    compiling, times = without_cache(job), [write(job) for _ in range(rounds)]
    first, whole = zip(*times, strict=True)
    return Speed(load, whole, first, max(0.0, compiling - statistics.median(whole)), bytes_of_a_token(job), bandwidth())


def without_cache(job: Job) -> float:
    """Seconds of a first round, in which nothing comes from the cache of compiled programs."""
    enabled = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        return write(job)[1]
    finally:
        jax.config.update("jax_enable_compilation_cache", enabled)


def write(job: Job) -> tuple[float, float]:
    """Seconds until each text has its first token, and until it has all."""
    start = time.perf_counter()
    writing = begin_compiled(job.plan, job.variables, job.prompts)
    writing = advance_compiled(job.plan, job.variables, writing, 1)
    jax.block_until_ready(writing.tokens)
    first = time.perf_counter() - start
    writing = advance_compiled(job.plan, job.variables, writing, job.plan.new)
    jax.block_until_ready(writing.tokens)
    return first, time.perf_counter() - start


# ── What a token reads ───────────────────────────────────────────────────────────────────────────────────────────────


def bytes_of_a_token(job: Job) -> int:
    """Bytes of the variables and of the cache that writing one more token of each text reads."""
    writing = begin_compiled(job.plan, job.variables, job.prompts)
    ids = writing.tokens[:, None]
    variables = nn.unbox(job.plan.model.boxed_shapes())
    leaves = jax.tree.leaves(variables)
    program = jax.make_jaxpr(functools.partial(read, job.plan.model))(variables, writing.cache, ids, ids, ids).jaxpr
    needed, used = dce_jaxpr(program, [True] * len(program.outvars))
    read_at_all = [variable for variable, is_used in zip(program.invars[: len(leaves)], used, strict=False) if is_used]
    parts = (writing.cache.keys, writing.cache.values, writing.cache.memory_keys, writing.cache.memory_values)
    return sum(bytes_read(needed, variable) for variable in read_at_all) + sum(map(size_of, jax.tree.leaves(parts)))


def size_of(x: Any) -> int:
    return x.size * x.dtype.itemsize


def bytes_read(program: Jaxpr, variable: Var) -> int:
    """Bytes of an array that a program reads: the rows that are looked up where nothing else is done with it, else all once."""
    total, whole = 0, size_of(variable.aval)
    for equation in program.eqns:
        for place, argument in enumerate(equation.invars):
            if argument is variable:
                total += _bytes_read_by(equation, place, whole)
    return min(total, whole)


def _bytes_read_by(equation: Any, place: int, whole: int) -> int:
    if equation.primitive.name == "gather" and place == 0:
        return size_of(equation.outvars[0].aval)
    offset = 1 if equation.primitive.name == "cond" else 0  # the first argument says which branch
    inner = [x for value in equation.params.values() for x in (value if isinstance(value, tuple) else (value,))]
    inner = [x.jaxpr if isinstance(x, ClosedJaxpr) else x for x in inner if isinstance(x, ClosedJaxpr | Jaxpr)]
    inner = [x for x in inner if len(x.invars) == len(equation.invars) - offset]
    if not inner or place < offset:
        return whole
    times = whole // max(1, size_of(inner[0].invars[place - offset].aval))  # the layers of an array that is cut
    return max(times * bytes_read(program, program.invars[place - offset]) for program in inner)


# ── What memory gives ────────────────────────────────────────────────────────────────────────────────────────────────


def bandwidth(tries: int = 8) -> float | None:
    """Bytes a second of the fastest of several sums over 1 GiB on all cores of one device; `None` where other work disturbed
    them."""
    many, add = jnp.ones(2**28), jax.jit(lambda x: x.sum())  # of rows alone a sum is half as fast
    add(many).block_until_ready()
    waits, seconds = Waits(), []
    for _ in range(tries):
        begin = time.perf_counter()
        add(many).block_until_ready()
        seconds.append(time.perf_counter() - begin)
    return GIB / min(seconds) if quiet(seconds, waits.fraction()) else None
