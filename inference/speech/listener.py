"""Decodes windows of sound: the encoder once, then the decoder at rising temperatures until a text is plausible."""

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
"""Length of a prompt without previous text. Programs are compiled for this length and for the longest."""
LONGEST_PROMPT = 5
"""Length of the longest prompt, previous text and its start token included."""

HEEDED_HERE = (
    *("alignment_heads", "is_multilingual", "lang_to_id", "language", "task", "task_to_id", "prev_sot_token_id"),
    *("forced_decoder_ids", "max_length", "return_timestamps", "prompt_condition_type", "condition_on_prev_tokens"),
    *("compression_ratio_threshold", "logprob_threshold", "no_speech_threshold", "temperature"),
)
"""Settings of a `generation_config.json` that `Decoding` and `SpeechTokens` replace."""


@dataclasses.dataclass(frozen=True)
class Decoding:
    """Settings of decoding. Thresholds are those of the authors' implementation, applied to the text itself.

    Attributes:
        language: language of the speech, such as `en`; `None` detects it for each recording.
        task: `transcribe`, or `translate` into English.
        num_beams: beams of the search at temperature 0.
        temperatures: tried in turn until a text is plausible; above 0 tokens are sampled.
        compression_ratio_threshold: a text is implausible if zlib shrinks its UTF-8 bytes by more than this factor.
        logprob_threshold: a text is implausible if the mean log probability of its tokens, the end included, is below this.
        no_speech_threshold: a window is silent if the no-speech token is more probable than this and the mean log probability
            is below `logprob_threshold`.
        condition_on_previous_text: whether a window is prompted with the text before it, unless that took a temperature above
            0.5.
        seed: seed of the sampling.
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
    """The decoded text of a window.

    Attributes:
        tokens: with timestamps, if any, without the end.
        text: without timestamps.
        average: mean log probability of a token, the end included.
        compression_ratio: compression ratio of the text's bytes under zlib.
        no_speech: probability of the no-speech token.
    """

    tokens: list[int]
    text: str
    average: float
    compression_ratio: float
    no_speech: float
    temperature: float

    def is_silence(self, decoding: Decoding) -> bool:
        """Whether the window holds no speech."""
        if decoding.no_speech_threshold is None or self.no_speech <= decoding.no_speech_threshold:
            return False
        return decoding.logprob_threshold is None or self.average < decoding.logprob_threshold

    def is_plausible(self, decoding: Decoding) -> bool:
        """Whether the text is accepted; if not, a higher temperature is tried."""
        most, least = decoding.compression_ratio_threshold, decoding.logprob_threshold
        repeats = most is not None and self.compression_ratio > most
        unlikely = least is not None and self.average < least
        return not (repeats or unlikely) or (least is not None and self.is_silence(decoding))


@dataclasses.dataclass(frozen=True)
class Listener:
    """A speech recognition model with its tokenizer.

    Attributes:
        variables: unstacked into layers, for `generate`.
        generation: the folder's `generation_config.json`.
        alignment_heads: (layer, head) of the cross-attention heads that align text and sound; empty if the folder names none.
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
        """The listener of a model and the `generation_config.json` beside it.

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
        """Most tokens of previous text in a prompt."""
        return self.model.config.longest_input // 2 - 1

    def encode(self, features: Float32[np.ndarray, "rows frames mels"]) -> Cache:
        """The encoder's output for windows."""
        return encode_compiled(self.model, self.variables, padded_rows(features))

    def languages(self, memory: Cache, rows: int) -> list[str | None]:
        """The likeliest language of each window; `None` for a model of one language."""
        if not self.tokens.languages:
            return [None] * rows
        scores = self.first_scores(memory, [[self.tokens.start]] * rows)
        names, ids = list(self.tokens.languages), list(self.tokens.languages.values())
        return [names[number] for number in scores[:, ids].argmax(axis=1)]

    def first_scores(self, memory: Cache, prompts: Sequence[Sequence[int]]) -> Float32[np.ndarray, "rows vocab"]:
        """Probabilities of the token after each prompt, without generation rules."""
        ids, mask = self.aligned(prompts)
        cache = with_memory(self.model, memory, *ids.shape)
        return np.asarray(scores_compiled(self.model, self.variables, cache, ids, mask))[: len(prompts)]

    def aligned(self, prompts: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
        """Prompts and their mask, padded on the left to one of the two compiled lengths."""
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
        """Decodes windows, each at the first temperature with a plausible text, or else at the last one.

        Args:
            memory: the encoder's output for the windows.
            prompts: prompt of each window.
            begun: each prompt up to the start token, after which the no-speech probability is read.
            keys: sampling keys.
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
        """Generates from prompts: the tokens, without the end, and their mean log probability."""
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
        """Decodes tokens, without timestamps and other special tokens."""
        return self.tokenizer.decode([token for token in tokens if token < self.tokens.end])


def compression_ratio(text: str) -> float:
    """Length of a text in UTF-8 over its length under zlib."""
    content = text.strip().encode()
    return len(content) / len(zlib.compress(content))


def padded_rows(x: Any) -> Any:
    """Rows padded to a power of two by repeating the last, so that few shapes are compiled."""
    return x[np.minimum(np.arange(bucket(len(x))), len(x) - 1)]


def rows_of(memory: Cache, rows: Sequence[int]) -> Cache:
    """Some rows of a cache."""
    if list(rows) == list(range(memory.memory_mask.shape[0])):
        return memory
    chosen = padded_rows(np.asarray(rows))
    keys, values = (tuple(x[chosen] for x in part) for part in (memory.memory_keys, memory.memory_values))
    return memory.replace(memory_keys=keys, memory_values=values, memory_mask=memory.memory_mask[chosen])


def with_memory(model: Model, memory: Cache, rows: int, room: int) -> Cache:
    """A cache with room for `room` tokens and the encoder's output."""
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
    """Probabilities of the token after prompts; the vocabulary is scored at the last token alone."""
    if ids.shape[1] > 1:
        _, cache = read(model, variables, cache, ids[:, :-1], mask[:, :-1], mask[:, :-1])
    logits, _ = read(model, variables, cache, ids[:, -1:], mask[:, -1:], mask[:, -1:])
    return jax.nn.softmax(logits)
