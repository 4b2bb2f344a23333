"""`text-generation`: how texts go on."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from inference.generation import GenerationConfig, generate
from inference.readers.text import TextReader, few_shapes
from inference.scores import Answer
from inference.task import Output
from inference.writing import Writing, keys_of
from models.config import ModelError


@dataclasses.dataclass(frozen=True)
class TextGeneration(Writing):
    """For each text, how it goes on: as many answers as `num_return_sequences`, the best first.

    Attributes:
        return_full_text: give the text with what follows it, or what follows alone.
    """

    name = "text-generation"
    asks = (Output("logits", "tokens vocabulary"),)
    causal = True
    example = 'lacuna generate "The capital of France" --model {model}'

    return_full_text: bool = True

    def changed(self, **settings: Any) -> Writing:
        for name in ("source_language", "target_language"):
            if settings.pop(name, None) is not None:
                raise ModelError(
                    f"{name} is for models that read one text and write another, and this one goes on with a text"
                )
        return super().changed(**settings)

    def answers(self, reader: TextReader, given: Sequence[str], first: int = 0) -> list[list[Answer]]:
        config = reader.model.config
        generation = GenerationConfig.from_json(reader.generation, **self.generation)
        prompts = reader.prompts(given)
        longest = max(len(ids) for ids in prompts)
        rows, length = few_shapes(len(prompts), longest)
        if config.longest_input is not None:
            new = generation.new_tokens(longest, config.longest_input)
            length = max(longest, min(length, config.longest_input - new))
        input_ids, mask = np.zeros((2, rows, length), np.int32)
        for row, ids in enumerate(prompts + prompts[:1] * (rows - len(prompts))):
            input_ids[row, length - len(ids) :], mask[row, length - len(ids) :] = ids, 1
        keys = keys_of(self.seed, first, rows)
        generated = generate(reader.model, reader.variables, input_ids, mask, generation, key=keys)
        new = np.asarray(generated.sequences)[:, length:].reshape(rows, generation.num_return_sequences, -1)
        answers = []
        for text, ids, ways in zip(given, prompts, new, strict=False):
            limit = generation.new_tokens(len(ids), config.longest_input)
            read = reader.tokenizer.decode(ids, skip_special_tokens=True)
            answer = []
            for way in ways[:, :limit]:
                ends = np.flatnonzero(np.isin(way, generation.ends(config)))
                whole = [*ids, *(way[: ends[0] + 1] if len(ends) else way).tolist()]
                added = reader.tokenizer.decode(whole, skip_special_tokens=True)[len(read) :]
                answer.append({"generated_text": text + added if self.return_full_text else added})
            answers.append(answer)
        return answers
