"""A model with its tokenizer, as the pipelines of text ask it."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.core import FrozenDict
from tokenizers import Encoding, Tokenizer

from data.text import tokenizers
from data.text.framing import Framing
from inference.languages import Languages
from models.config import ModelError
from models.outputs import ModelOutput

TEXT = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
"""Inputs that a model may take of a text, and what they are called in its encoding."""


@dataclasses.dataclass(frozen=True)
class Asker:
    """A model, its tokenizer, and the way from encoded texts to its outputs.

    Attributes:
        generation: what the folder says of generation, and of the task in it.
        prefix: what the model was trained to read before the text, for the task.
        languages: those of a translator.
        roles: {role: token} of special tokens, as the settings beside the tokenizer have it.
    """

    model: nn.Module
    variables: dict[str, Any]
    tokenizer: Tokenizer
    generation: Mapping[str, Any] = FrozenDict()
    prefix: str = ""
    languages: Languages = Languages()
    roles: Mapping[str, str] = FrozenDict()

    def encode(self, texts: Sequence[str] | Sequence[tuple[str, str]]) -> list[Encoding]:
        """Token ids with special tokens. A text that the model has no room for is refused, and one without any token."""
        encodings = self.tokenizer.encode_batch(list(texts))
        for text, encoding in zip(texts, encodings, strict=True):
            if not encoding.ids:
                raise ModelError(f"the text {text!r} has no tokens: there is nothing to read")
        self.check_room(texts, [encoding.ids for encoding in encodings])
        return encodings

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts that are to be gone on with: with what begins a text, and without what ends one.

        An empty text is the token that begins one, where the model names it.
        """
        begin = getattr(self.model.config, "bos_token_id", None)
        encodings = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        prompts = [self.framing.prompt(encoding.ids) for encoding in encodings]
        prompts = [ids or ([] if begin is None else [begin]) for ids in prompts]
        if not all(prompts):
            raise ModelError("a prompt is empty, and the model names no token that begins a text: write something")
        self.check_room(texts, prompts)
        return prompts

    def sources(self, texts: Sequence[str], framing: Framing, before: Sequence[int] = ()) -> list[list[int]]:
        """Token ids of texts that an encoder reads, in this frame, with the tokens `before` each."""
        encodings = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        sources = [framing.text([*before, *encoding.ids]) for encoding in encodings]
        if not all(sources):
            raise ModelError("a text has no tokens: there is nothing to read")
        self.check_room(texts, sources)
        return sources

    def check_room(self, texts: Sequence[str] | Sequence[tuple[str, str]], rows: Sequence[Sequence[int]]) -> None:
        """Raise where the ids of a text are more than the model has positions for, or one has no embedding."""
        room, size = self.model.config.longest_input, self.model.config.vocab_size
        for text, ids in zip(texts, rows, strict=True):
            if max(ids, default=0) >= size:
                token = self.tokenizer.id_to_token(max(ids))
                raise ModelError(
                    f"the tokenizer gives {token!r} the id {max(ids)}, and the model has embeddings of {size} tokens: take"
                    " the tokenizer that it was trained with"
                )
            if room is not None and len(ids) > room:
                raise ModelError(
                    f"a text of {len(ids)} tokens does not fit a model with room for {room}: shorten {text!r:.60}"
                )

    def padded(self, values: Mapping[str, Sequence[Sequence[int]]]) -> dict[str, np.ndarray]:
        """{input: a row for each text}, those that the model takes, padded on the right to a power of two, and rows of padding
        behind them: so few shapes are compiled."""
        texts = values["input_ids"]
        longest = max(len(ids) for ids in texts)
        length = max(16, 1 << (longest - 1).bit_length())
        length = min(length, self.model.config.longest_input or length)
        rows = 1 << (len(texts) - 1).bit_length()
        taken = inspect.signature(type(self.model).__call__).parameters
        inputs = {name: np.zeros((rows, length), np.int32) for name in values if name in taken}
        inputs["input_ids"][:] = self.model.config.pad_token_id or 0
        for name, array in inputs.items():
            for row, numbers in enumerate(values[name]):
                array[row, : len(numbers)] = numbers
        return inputs

    def outputs(self, encodings: Sequence[Encoding]) -> ModelOutput:
        """The model's outputs as numpy arrays."""
        values = {name: [getattr(encoding, of) for encoding in encodings] for name, of in TEXT.items()}
        return jax.device_get(self._apply(self.variables, self.padded(values)))

    @functools.cached_property
    def framing(self) -> Framing:
        """What the tokenizer puts around texts."""
        return Framing.of(self.tokenizer)

    @functools.cached_property
    def vocabulary(self) -> tokenizers.Vocabulary:
        """Of the tokenizer: its special tokens, whatever they are called."""
        return tokenizers.vocabulary(self.tokenizer, self.roles)

    @functools.cached_property
    def _apply(self) -> Callable[..., ModelOutput]:
        return jax.jit(lambda variables, inputs: self.model.apply(variables, **inputs))
