"""Pipelines that write: going on with a text, and writing another from one that is read."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from inference.generation import GenerationConfig, generate
from inference.readers.text import Asker
from inference.tasks.scores import Answer
from models.config import ModelError


def text_generation(
    ask: Asker, texts: Sequence[str], return_full_text: bool = True, seed: int = 0, first: int = 0, **settings: Any
) -> list[list[Answer]]:
    """For each text, how it goes on: as many answers as `num_return_sequences`, the best first.

    Args:
        return_full_text: give the text with what follows it, or what follows alone.
        seed: of the tokens drawn with `do_sample`; each text draws others, by its place in the list.
        first: place of the first of these texts in a longer list.
        settings: fields of `GenerationConfig` to set otherwise than the folder's `generation_config.json` does.
    """
    refuse_languages(settings)
    config = ask.model.config
    generation = GenerationConfig.from_json(ask.generation, **settings)
    prompts = ask.prompts(texts)
    longest = max(len(ids) for ids in prompts)
    length = max(16, 1 << (longest - 1).bit_length())
    if config.longest_input is not None:
        new = generation.new_tokens(longest, config.longest_input)
        length = max(longest, min(length, config.longest_input - new))
    rows = 1 << (len(prompts) - 1).bit_length()  # few shapes are compiled
    input_ids, mask = np.zeros((2, rows, length), np.int32)
    for row, ids in enumerate(prompts + prompts[:1] * (rows - len(prompts))):
        input_ids[row, length - len(ids) :], mask[row, length - len(ids) :] = ids, 1
    generated = generate(ask.model, ask.variables, input_ids, mask, generation, key=keys_of(seed, first, rows))
    new = np.asarray(generated.sequences)[:, length:].reshape(rows, generation.num_return_sequences, -1)
    answers = []
    for text, ids, ways in zip(texts, prompts, new, strict=False):
        limit = generation.new_tokens(len(ids), config.longest_input)
        read = ask.tokenizer.decode(ids, skip_special_tokens=True)
        answer = []
        for way in ways[:, :limit]:
            ends = np.flatnonzero(np.isin(way, generation.ends(config)))
            whole = [*ids, *(way[: ends[0] + 1] if len(ends) else way).tolist()]
            added = ask.tokenizer.decode(whole, skip_special_tokens=True)[len(read) :]
            answer.append({"generated_text": text + added if return_full_text else added})
        answers.append(answer)
    return answers


def text2text_generation(
    ask: Asker,
    texts: Sequence[str],
    answer: str = "generated_text",
    seed: int = 0,
    first: int = 0,
    source_language: str | None = None,
    target_language: str | None = None,
    **settings: Any,
) -> list[list[Answer]]:
    """For each text what the model writes from it: as many answers as `num_return_sequences`, the best first.

    Args:
        answer: what the text is called in an answer.
        seed, first, settings: as in `text_generation`.
        source_language, target_language: of a translation, as the model calls them; as the folder has them where `None`.
    """
    direction = ask.languages.direction(source_language, target_language)
    generation = GenerationConfig.from_json({**ask.generation, **direction.generation}, **settings)
    prefix = ask.prefix if direction.prefix is None else direction.prefix
    sources = ask.sources([prefix + text for text in texts], direction.framing or ask.framing, direction.before)
    inputs = ask.padded({"input_ids": sources, "attention_mask": [[1] * len(ids) for ids in sources]})
    inputs["attention_mask"][len(texts) :] = 1  # rows that are there for the shape alone
    rows = len(inputs["input_ids"])
    generated = generate(ask.model, ask.variables, **inputs, settings=generation, key=keys_of(seed, first, rows))
    new = np.asarray(generated.sequences)[:, 1:].reshape(rows, generation.num_return_sequences, -1)
    return [
        [{answer: ask.tokenizer.decode(way.tolist(), skip_special_tokens=True)} for way in ways]
        for ways in new[: len(texts)]
    ]


def keys_of(seed: int, first: int, count: int) -> Key[Array, " count"]:
    """A key for each of `count` texts, of which the first is number `first` of a list."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.key(seed), first + jnp.arange(count))


def refuse_languages(settings: dict[str, Any]) -> None:
    """Raise where languages are asked of a model that translates nothing; leave out those that are `None`."""
    for name in ("source_language", "target_language"):
        if settings.pop(name, None) is not None:
            raise ModelError(
                f"{name} is for models that read one text and write another, and this one goes on with a text"
            )
