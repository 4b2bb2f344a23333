"""Texts, alone or in pairs, as tasks are given them."""

import dataclasses
import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np
from flax.core import FrozenDict
from tokenizers import Encoding, Tokenizer

from data.text import tokenizer_settings, tokenizers
from data.text.framing import Framing
from data.text.pairs import SOURCE
from data.text.strides import Text, cut
from data.text.token_ids import disagreements
from inference.generation.config import heeded, of_model
from inference.languages import Languages
from inference.readers.reader import Output, Reader, apply
from models.config import ModelError
from models.hub import files
from models.model import Model

log = logging.getLogger("lacuna")

TEXT = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
"""Inputs that a model may take of a text, and what they are called in its encoding."""

PLACES, FEWEST_PLACES = "masked_positions", 4
"""The input that says for which tokens alone a model is to compute outputs, and how many it has at least."""


class Places(NamedTuple):
    """A text of which the outputs of some tokens alone are wanted: what its encoding has, and the places of those."""

    ids: list[int]
    attention_mask: list[int]
    type_ids: list[int]
    places: list[int]


@dataclasses.dataclass(frozen=True)
class TextReader(Reader):
    """A model of text with its tokenizer.

    Attributes:
        generation: what the folder says of generation, and of the task in it.
        prefix: what the model was trained to read before the text, for the task.
        languages: those of a translator.
        roles: {role: token} of special tokens, as the settings beside the tokenizer have it.
        source_tokenizer: of what an encoder reads, where that has one of its own.
        together: texts that the model sees at a time, at most.
    """

    tokenizer: Tokenizer
    generation: Mapping[str, Any] = FrozenDict()
    prefix: str = ""
    languages: Languages = Languages()
    roles: Mapping[str, str] = FrozenDict()
    source_tokenizer: Tokenizer | None = None

    together: ClassVar[int] = 32

    what = "text"
    types = (str,)
    block = 1024

    @classmethod
    def open(cls, model: Model, variables: dict[str, Any], folder: Path, task: str) -> "TextReader":
        """Ids on which the folder's files disagree are named in a warning."""
        tokenizer = tokenizers.load(folder)
        published, about = files.read_json(folder / "config.json"), tokenizer_settings.about_tokenizer(folder)
        languages = Languages.of(tokenizer, model.config, published, about)
        roles = tokenizer_settings.special_tokens(folder)
        own = tokenizers.load(folder / SOURCE) if (folder / SOURCE).is_file() else None
        reader = cls(model, variables, tokenizer, *generation_of(folder, task), languages, roles, own)
        for found in disagreements(model.config, reader.vocabulary):
            log.warning("%s: %s", folder, found.what)
        return reader

    def read(self, given: Sequence[Text], truncation: bool | None = None) -> list[Encoding]:
        """Token ids of texts, or of pairs, with special tokens. One without any token is refused.

        Args:
            truncation: whether what the model has no room for is cut off, of a pair from the longer text, or refused; `None`
                where the task cannot be told so.
        """
        encodings = self.tokenizer.encode_batch(list(given))
        for number, (text, encoding) in enumerate(zip(given, encodings, strict=True)):
            if not encoding.ids:
                raise ModelError(f"the text {text!r} has no tokens: there is nothing to read")
            if truncation and self.room is not None and len(encoding.ids) > self.room:
                encodings[number] = cut(self.tokenizer, [text], self.room)[0][0]
        hint = "" if truncation is None else ", or set truncation=True (--truncation) to cut it off"
        self.check_room(given, [encoding.ids for encoding in encodings], hint)
        return encodings

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts that are to be gone on with: with what begins a text, and without what ends one.

        An empty text is the token that begins one, where the model names it.
        """
        begin = self.model.config.bos_token_id
        encodings = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        prompts = [self.framing.prompt(encoding.ids) for encoding in encodings]
        prompts = [ids or ([] if begin is None else [begin]) for ids in prompts]
        if not all(prompts):
            raise ModelError("a prompt is empty, and the model names no token that begins a text: write something")
        self.check_room(texts, prompts)
        return prompts

    def sources(self, texts: Sequence[str], framing: Framing, before: Sequence[int] = ()) -> list[list[int]]:
        """Token ids of texts that an encoder reads, in this frame, with the tokens `before` each."""
        encodings = self.reading.encode_batch(list(texts), add_special_tokens=False)
        sources = [framing.text([*before, *encoding.ids]) for encoding in encodings]
        if not all(sources):
            raise ModelError("a text has no tokens: there is nothing to read")
        self.check_room(texts, sources)
        return sources

    def check_room(self, texts: Sequence[Text], rows: Sequence[Sequence[int]], hint: str = "") -> None:
        """Raise where the ids of a text are more than the model has positions for, or one has no embedding.

        Args:
            hint: what else than shortening the text would help.
        """
        room = self.room
        for text, ids in zip(texts, rows, strict=True):
            self.check_embeddings(ids)
            if room is not None and len(ids) > room:
                raise ModelError(
                    f"a text of {len(ids)} tokens does not fit a model with room for {room}: shorten {text!r:.60}{hint}"
                )

    def check_embeddings(self, ids: Sequence[int]) -> None:
        """Raise where an id has no embedding."""
        size = self.model.config.source_vocab_size or self.model.config.vocab_size
        if max(ids, default=0) >= size:
            raise ModelError(
                f"the tokenizer gives {self.reading.id_to_token(max(ids))!r} the id {max(ids)}, and the model has embeddings of"
                f" {size} tokens: take the tokenizer that it was trained with"
            )

    def padded(self, values: Mapping[str, Sequence[Sequence[int]]], rows: int = 1) -> dict[str, np.ndarray]:
        """{input: a row for each text}, those that the model takes, padded on the right to a power of two, and rows of padding
        behind them, so many in all at least: so few shapes are compiled."""
        texts = values["input_ids"]
        rows, length = few_shapes(max(rows, len(texts)), max(len(ids) for ids in texts))
        length = min(length, self.room or length)
        inputs = {name: np.zeros((rows, length), np.int32) for name in values if name in self.model.inputs}
        inputs["input_ids"][:] = self.model.config.pad_token_id or 0
        for name, array in inputs.items():
            for row, numbers in enumerate(values[name]):
                array[row, : len(numbers)] = numbers
        return inputs

    def outputs(
        self, read: Sequence[Encoding | Places], asks: tuple[Output, ...]
    ) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """See `Reader.outputs`. A batch has texts of one bucket of lengths, and one shape is compiled for each: what a text is
        padded to depends on nothing beside it. A model of choices sees them one by one.

        Of `Places` the outputs of tokens are those of the places, which are all that is computed where the model can.
        """
        by_token = [ask.name for ask in asks if ask.axes.startswith("tokens")]
        buckets: dict[tuple[int, int], list[int]] = {}
        for number, encoding in enumerate(read):
            width = few_shapes(1, len(encoding.ids))[1]
            buckets.setdefault((width, self.slots(encoding)), []).append(number)
        for (_, slots), numbers in sorted(buckets.items()):
            rows = min(self.together, len(numbers))
            for begin in range(0, len(numbers), rows):
                batch = numbers[begin : begin + rows]
                values = {name: [getattr(read[number], of) for number in batch] for name, of in TEXT.items()}
                inputs = self.padded(values, rows)
                if slots:
                    asked = [np.resize(read[number].places, slots) for number in batch]
                    inputs[PLACES] = np.resize(np.stack(asked), (len(inputs["input_ids"]), slots)).astype(np.int32)
                if self.model.choices:
                    inputs = {name: array[:, None] for name, array in inputs.items()}
                outputs = jax.device_get(apply(self.model, asks, self.variables, inputs))
                for row, number in enumerate(batch):
                    one = read[number]
                    kept = one.places if isinstance(one, Places) else slice(len(one.ids))
                    kept = slice(len(one.places)) if slots else kept
                    yield number, {name: x[row, kept] if name in by_token else x[row] for name, x in outputs.items()}

    def slots(self, read: Encoding | Places) -> int:
        """How many places of a text the model computes outputs for; 0 where it is not asked for some alone."""
        if not isinstance(read, Places) or PLACES not in self.model.inputs:
            return 0
        return max(FEWEST_PLACES, 1 << (len(read.places) - 1).bit_length())

    @property
    def room(self) -> int | None:
        """Tokens that the model has positions for, at most."""
        return self.model.config.longest_input

    @functools.cached_property
    def framing(self) -> Framing:
        """What the tokenizer puts around texts that are read."""
        return Framing.of(self.reading)

    @property
    def reading(self) -> Tokenizer:
        """The tokenizer of texts that are read."""
        return self.source_tokenizer or self.tokenizer

    @functools.cached_property
    def vocabulary(self) -> tokenizers.Vocabulary:
        """Of the tokenizer: its special tokens, whatever they are called."""
        return tokenizers.vocabulary(self.tokenizer, self.roles)


def few_shapes(rows: int, length: int) -> tuple[int, int]:
    """Both rounded up to powers of two, the length to 16 at least: few shapes are compiled."""
    return 1 << (rows - 1).bit_length(), max(16, 1 << (length - 1).bit_length())


def generation_of(folder: Path, task: str) -> tuple[dict[str, Any], str]:
    """What a folder says of generation, and the prefix of a text: its `generation_config.json`, or `config.json` where there
    is none, as older folders have it; and what that has for the task in particular (`task_specific_params`)."""
    published, path = files.read_json(folder / "config.json"), folder / "generation_config.json"
    special = dict((published.get("task_specific_params") or {}).get(task) or {})
    prefix = special.pop("prefix", None) or published.get("prefix") or ""
    if path.is_file():
        return heeded({**files.read_json(path), **special}, path), prefix
    return heeded({**of_model(published), **special}, folder / "config.json"), prefix
