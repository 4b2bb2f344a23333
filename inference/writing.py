"""What the tasks that write have in common: settings of generation, a key for each text, and texts that are sent as they come."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax.core import FrozenDict
from jaxtyping import Array, Int, Key

from inference.generation import GenerationConfig, generate, stream, writes_anew
from inference.readers.text import TextReader
from inference.task import Task
from models.config import ModelError

UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What stands for a character of which only the first bytes are written."""

Spelled = Callable[[int, list[int]], str]
"""The text of an answer, from its row and its new tokens."""


@dataclasses.dataclass(frozen=True)
class Writing(Task):
    """Base of tasks that write text.

    Attributes:
        seed: of the tokens drawn with `do_sample`; each text draws others, by its place in the list.
        generation: fields of `GenerationConfig` to set otherwise than the folder does.
        on_text: called with the place of a text in the list and the next piece of its answer as soon as that is certain, and
            with an empty piece at the end. All pieces together are the answer.
    """

    block: ClassVar[int] = 32

    seed: int = 0
    generation: Annotated[Mapping[str, Any], tyro.conf.Suppress] = FrozenDict()
    on_text: Annotated[Callable[[int, str], Any] | None, tyro.conf.Suppress] = None

    def changed(self, **settings: Any) -> "Writing":
        names = {field.name for field in dataclasses.fields(self)}
        generation = {name: value for name, value in settings.items() if name not in names}
        settings = {name: value for name, value in settings.items() if name in names}
        return dataclasses.replace(self, **settings, generation={**self.generation, **generation})

    def written(
        self,
        reader: TextReader,
        inputs: Mapping[str, np.ndarray],
        generation: GenerationConfig,
        first: int,
        spelled: Spelled,
    ) -> list[list[str]]:
        """The answers to each row of `inputs`, the best first.

        Args:
            first: place of the first row in a longer list.
        """
        asked = dict(key=keys_of(self.seed, first, len(inputs["input_ids"])), tokenizer=reader.tokenizer)
        if self.on_text is not None:
            if generation.num_return_sequences > 1:
                raise ModelError("several texts from one cannot be sent as they come: set num_return_sequences=1")
            steps = stream(reader.model, reader.variables, **inputs, settings=generation, **asked)
            return [[answer] for answer in sent(steps, spelled, lambda row, piece: self.on_text(first + row, piece))]
        generated = generate(reader.model, reader.variables, **inputs, settings=generation, **asked)
        ways, lengths = generation.num_return_sequences, np.asarray(generated.lengths)
        prompt = 1 if writes_anew(reader.model) else inputs["input_ids"].shape[1]
        texts = np.asarray(generated.sequences)[:, prompt:]
        answers = [spelled(row // ways, text[: lengths[row]].tolist()) for row, text in enumerate(texts)]
        return [answers[begin : begin + ways] for begin in range(0, len(answers), ways)]


def sent(
    steps: Iterable[tuple[np.ndarray, np.ndarray]], spelled: Spelled, on_text: Callable[[int, str], Any]
) -> list[str]:
    """The answers to rows whose new tokens come one of each at a time; each piece is handed on as soon as it is certain."""
    tokens, answers, over = [], [], []
    for chosen, done in steps:
        if not tokens:
            tokens, answers, over = [[] for _ in chosen], [""] * len(chosen), [False] * len(chosen)
        for row, token in enumerate(chosen.tolist()):
            if over[row]:
                continue
            tokens[row].append(token)
            over[row] = bool(done[row])
            text = spelled(row, tokens[row])
            text = text if over[row] else text.rstrip(UNFINISHED)
            if len(text) > len(answers[row]) and text.startswith(answers[row]):
                on_text(row, text[len(answers[row]) :])
                answers[row] = text
            if over[row]:
                on_text(row, "")
    return answers


def padded(
    rows: Sequence[Sequence[int]], *, left: bool = False, padding: int = 0
) -> dict[str, Int[np.ndarray, "rows length"]]:
    """Tokens and their mask, as wide as the longest row."""
    longest = max(map(len, rows))
    ids, mask = np.full((len(rows), longest), padding, np.int32), np.zeros((len(rows), longest), np.int32)
    for number, row in enumerate(rows):
        places = slice(longest - len(row), None) if left else slice(len(row))
        ids[number, places], mask[number, places] = row, 1
    return {"input_ids": ids, "attention_mask": mask}


def keys_of(seed: int, first: int, count: int) -> Key[Array, " count"]:
    """A key for each of `count` texts, of which the first is number `first` of a list."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.key(seed), first + jnp.arange(count))
