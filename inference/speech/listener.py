"""Windows of sound into tokens: the encoder once, then the decoder at a temperature that gives a plausible text."""

import dataclasses
import functools
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Array, Float, Float32, Key
from tokenizers import Tokenizer

from inference.generation import GenerationConfig, cut, generate
from inference.generation.generating import bucket, to_left
from inference.generation.layers import cut_cache, joined
from inference.generation.program import read
from inference.speech.tokens import TASKS, SpeechTokens
from models.config import ModelError
from models.layers.attention import Cache
from models.model import Model

SHORT_PROMPT = 4
"""Tokens that a text is begun with where none came before: programs are compiled for so many, and for the most."""
LONGEST_PROMPT = 5
"""Tokens that a text is begun with, and what announces the text before it."""

HEEDED_HERE = (
    *("alignment_heads", "is_multilingual", "lang_to_id", "language", "task", "task_to_id", "prev_sot_token_id"),
    *("forced_decoder_ids", "max_length", "return_timestamps", "prompt_condition_type", "condition_on_prev_tokens"),
    *("compression_ratio_threshold", "logprob_threshold", "no_speech_threshold", "temperature"),
)
"""Published settings that `Decoding` and `SpeechTokens` stand for."""


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How windows are decoded. Thresholds are those of the authors' implementation, on the text itself.

    Attributes:
        language: of the speech, as `en`; that of each recording is guessed where `None`.
        task: write it down, or translate it into English.
        num_beams: texts that are followed at a time, at temperature 0.
        temperatures: tried in turn, until a text is plausible; tokens are drawn at random from 0 on.
        compression_ratio_threshold: a text whose UTF-8 bytes shrink by more than this under zlib repeats itself.
        logprob_threshold: least mean log probability of a token, the end included.
        no_speech_threshold: nobody speaks where the token of that has a higher probability, and the text a mean log
            probability below `logprob_threshold`.
        condition_on_previous_text: whether a window is decoded behind the text of those before it. A text that took a
            temperature above 0.5 is not trusted to be one.
        seed: of what is drawn.
    """

    language: str | None = None
    task: Literal["transcribe", "translate"] = "transcribe"
    num_beams: int = 1
    temperatures: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    compression_ratio_threshold: float | None = 2.4
    logprob_threshold: float | None = -1.0
    no_speech_threshold: float | None = 0.6
    condition_on_previous_text: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ModelError(f"task={self.task!r}: expected {' or '.join(TASKS)}")
        if not self.temperatures or any(temperature < 0 for temperature in self.temperatures):
            raise ModelError(f"temperatures={self.temperatures!r}: expected numbers of at least 0")


@dataclasses.dataclass(frozen=True)
class Heard:
    """What a window is taken to say.

    Attributes:
        tokens: with timestamps where there are some, without the end.
        text: without timestamps.
        average: mean log probability of a token, the end included.
        compression_ratio: of the text's bytes under zlib.
        no_speech: probability that nobody speaks.
    """

    tokens: list[int]
    text: str
    average: float
    compression_ratio: float
    no_speech: float
    temperature: float

    def is_silence(self, decoding: Decoding) -> bool:
        """Whether nobody speaks."""
        if decoding.no_speech_threshold is None or self.no_speech <= decoding.no_speech_threshold:
            return False
        return decoding.logprob_threshold is None or self.average < decoding.logprob_threshold

    def is_plausible(self, decoding: Decoding) -> bool:
        """Whether the text stands, rather than one at a higher temperature."""
        most, least = decoding.compression_ratio_threshold, decoding.logprob_threshold
        repeats = most is not None and self.compression_ratio > most
        unlikely = least is not None and self.average < least
        return not (repeats or unlikely) or (least is not None and self.is_silence(decoding))


@dataclasses.dataclass(frozen=True)
class Listener:
    """A model of speech with its tokenizer.

    Attributes:
        variables: cut into layers, for `generate`.
        generation: what its folder says of generation.
        alignment_heads: (layer, head) of the heads of cross-attention that follow the sound; empty where the folder says none.
    """

    model: Model
    variables: dict[str, Any]
    tokenizer: Tokenizer
    tokens: SpeechTokens
    generation: GenerationConfig
    alignment_heads: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(
        cls, model: Model, variables: dict[str, Any], tokenizer: Tokenizer, published: Mapping[str, Any]
    ) -> "Listener":
        """Of a model with the `generation_config.json` beside it.

        Raises:
            ModelError: a special token is missing.
        """
        special = SpeechTokens.of(tokenizer, model.config, published)
        generation = GenerationConfig.from_json(
            {name: value for name, value in published.items() if name not in HEEDED_HERE}
        )
        heads = tuple((layer, head) for layer, head in published.get("alignment_heads") or ())
        return cls(model, cut(model, variables), tokenizer, special, generation, heads)

    @property
    def most_before(self) -> int:
        """Tokens of a text that came before, which a prompt has room for."""
        return self.model.config.longest_input // 2 - 1

    def encode(self, features: Float32[np.ndarray, "rows frames mels"]) -> Cache:
        """What the encoder makes of windows."""
        return encode_compiled(self.model, self.variables, padded_rows(features))

    def languages(self, memory: Cache, rows: int) -> list[str | None]:
        """The likeliest language of each window; `None` where the model knows one."""
        if not self.tokens.languages:
            return [None] * rows
        scores = self.first_scores(memory, [[self.tokens.start]] * rows)
        names, ids = list(self.tokens.languages), list(self.tokens.languages.values())
        return [names[number] for number in scores[:, ids].argmax(axis=1)]

    def first_scores(self, memory: Cache, prompts: Sequence[Sequence[int]]) -> Float32[np.ndarray, "rows vocab"]:
        """Probabilities of the token behind each prompt, no rules applied."""
        ids, mask = self.aligned(prompts)
        cache = with_memory(self.model, memory, *ids.shape)
        return np.asarray(scores_compiled(self.model, self.variables, cache, ids, mask))[: len(prompts)]

    def aligned(self, prompts: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
        """Prompts and their mask in a shape that is compiled for, padded on the left."""
        longest, most = max(map(len, prompts)), self.most_before + LONGEST_PROMPT
        width = SHORT_PROMPT if longest <= SHORT_PROMPT else most
        ids, mask = np.zeros((len(prompts), longest), np.int32), np.zeros((len(prompts), longest), np.int32)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)], mask[row, : len(prompt)] = prompt, 1
        ids, mask = to_left(ids, mask, max(width, longest))
        return padded_rows(ids), padded_rows(mask)

    def decode(
        self,
        memory: Cache,
        prompts: Sequence[Sequence[int]],
        begun: Sequence[Sequence[int]],
        keys: Key[Array, " rows"],
        timestamps: bool,
        decoding: Decoding,
    ) -> list[Heard]:
        """What windows say, each at the first temperature at which its text is plausible, or the last one.

        Args:
            memory: of the windows.
            prompts: what each decoder is begun with.
            begun: the same as far as the token that a text starts with, behind which it shows whether somebody speaks.
            keys: of what is drawn.
        """
        quiet = np.zeros(len(prompts))
        if self.tokens.no_speech is not None:
            quiet = self.first_scores(memory, begun)[:, self.tokens.no_speech]
        heard: dict[int, Heard] = {}
        waiting = list(range(len(prompts)))
        for number, temperature in enumerate(decoding.temperatures):
            drawn = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys[np.asarray(waiting)], number)
            settings = self.settings(temperature, timestamps, decoding)
            found = self.attempt(rows_of(memory, waiting), [prompts[row] for row in waiting], settings, drawn)
            for row, (tokens, average) in zip(waiting, found, strict=True):
                text = self.text(tokens)
                heard[row] = Heard(tokens, text, average, compression_ratio(text), float(quiet[row]), temperature)
            waiting = [row for row in waiting if not heard[row].is_plausible(decoding)]
            if not waiting:
                break
        return [heard[row] for row in range(len(prompts))]

    def settings(self, temperature: float, timestamps: bool, decoding: Decoding) -> GenerationConfig:
        drawn = dict(do_sample=True, temperature=temperature, top_k=0) if temperature > 0 else {}
        beams = 1 if temperature > 0 else decoding.num_beams
        return dataclasses.replace(
            self.generation,
            **{"num_beams": beams, "do_sample": False, "return_timestamps": timestamps, **drawn},
            **{"no_timestamps_token_id": self.tokens.no_timestamps, "num_return_sequences": 1},
        )

    def attempt(
        self, memory: Cache, prompts: Sequence[Sequence[int]], settings: GenerationConfig, keys: Array
    ) -> list[tuple[list[int], float]]:
        """The tokens that follow prompts, without the end, and their mean log probability."""
        ids, mask = self.aligned(prompts)
        rows, width = ids.shape
        longest = self.model.config.longest_input
        new = min(longest // 2, longest - width)
        settings = dataclasses.replace(settings, max_new_tokens=new, max_length=None)
        cache = with_memory(self.model, memory, rows, width + new)
        asked = dict(past_key_values=cache, key=padded_rows(keys), log_probabilities="ruled")
        written = generate(self.model, self.variables, ids, mask, settings, **asked)
        sequences, lengths, logs = jax.device_get(
            (written.sequences[:, width:], written.lengths, written.log_probabilities)
        )
        found = []
        for tokens, length, log in list(zip(sequences, lengths, logs, strict=True))[: len(prompts)]:
            kept = [token for token in tokens[:length].tolist() if token != self.tokens.end]
            found.append((kept, float(log[:length].sum()) / (len(kept) + 1)))
        return found

    def text(self, tokens: Sequence[int]) -> str:
        """What tokens say, without timestamps and other special tokens."""
        return self.tokenizer.decode([token for token in tokens if token < self.tokens.end])


def compression_ratio(text: str) -> float:
    """How many times as long as under zlib a text is, in UTF-8."""
    content = text.strip().encode()
    return len(content) / len(zlib.compress(content))


def padded_rows(x: Any) -> Any:
    """As many rows as the next power of two, the last repeated: few shapes are compiled."""
    return x[np.minimum(np.arange(bucket(len(x))), len(x) - 1)]


def rows_of(memory: Cache, rows: Sequence[int]) -> Cache:
    """What a cache has of some windows."""
    if list(rows) == list(range(memory.memory_mask.shape[0])):
        return memory
    chosen = padded_rows(np.asarray(rows))
    keys, values = (tuple(x[chosen] for x in part) for part in (memory.memory_keys, memory.memory_values))
    return memory.replace(memory_keys=keys, memory_values=values, memory_mask=memory.memory_mask[chosen])


def with_memory(model: Model, memory: Cache, rows: int, room: int) -> Cache:
    """A cache with room for so many tokens, and what the encoder made of windows."""
    if memory.memory_mask.shape[0] != rows:
        memory = rows_of(memory, range(rows))
    kept = dict(memory_keys=memory.memory_keys, memory_values=memory.memory_values, memory_mask=memory.memory_mask)
    return cut_cache(model.config.empty_cache(rows, room)).replace(**kept)


@functools.partial(jax.jit, static_argnums=0)
def encode_compiled(model: Model, variables: dict[str, Any], features: Float[Array, "rows frames mels"]) -> Cache:
    return cut_cache(model.apply(joined(variables), features, room=1, method="encode"))


@functools.partial(jax.jit, static_argnums=0)
def scores_compiled(
    model: Model, variables: dict[str, Any], cache: Cache, ids: Array, mask: Array
) -> Float[Array, "rows vocab"]:
    """Probabilities of the token behind prompts. Of all but their last tokens no scores are made."""
    if ids.shape[1] > 1:
        _, cache = read(model, variables, cache, ids[:, :-1], mask[:, :-1], mask[:, :-1])
    logits, _ = read(model, variables, cache, ids[:, -1:], mask[:, -1:], mask[:, -1:])
    return jax.nn.softmax(logits)
