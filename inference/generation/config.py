"""The settings of generation: a published `generation_config.json`, and what of it is implemented here."""

import dataclasses
import logging
import math
import numbers
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from models.config import ModelConfig, ModelError, hashable, nearest

log = logging.getLogger("lacuna")

NEW_TOKENS = 20
"""Tokens after which a text ends where nothing says how long it may get."""

DRAWING = ("temperature", "top_h", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")
"""Settings that mean nothing where no token is drawn at random."""

HARMLESS = (
    # How a cache is kept, and what is compiled.
    *("use_cache", "cache_implementation", "cache_config", "max_cache_len", "prefill_chunk_size", "low_memory"),
    *("compile_config", "disable_compile", "continuous_batching_config"),
    # What is returned beside the text.
    *("output_attentions", "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate"),
    # Tokens that a cheaper model proposes and the model itself accepts: the text is the same.
    *("is_assistant", "num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold"),
    *("prompt_lookup_num_tokens", "max_matching_ngram_size", "assistant_early_exit", "assistant_lookbehind"),
    *("target_lookbehind", "speculation_type", "use_mtp"),
    # Logits here are finite, or -inf where a token is forbidden.
    "remove_invalid_values",
    # Where a file comes from.
    *("transformers_version", "_from_model_config", "_commit_hash", "bos_token_id"),
)
"""Published settings that change no answer; `bos_token_id` is read off the model's config."""

UNHEEDED: dict[str, tuple[Any, ...]] = {
    "max_time": (),
    "token_healing": (False,),
    "guidance_scale": (1,),
    "watermarking_config": (),
    "penalty_alpha": (0,),
    "dola_layers": (),
    "diversity_penalty": (0,),
    "num_beam_groups": (1,),
    "constraints": ((),),
    "force_words_ids": ((),),
    "forced_decoder_ids": ((),),
    "assistant_ensemble_weight": (),
}
"""Published settings that change the answer and are not implemented, each with the values beside `None` that do nothing."""


@dataclasses.dataclass(frozen=True)
class GenerationConfig:
    """How to go on, with the names and the defaults of a published `generation_config.json`.

    Attributes:
        max_new_tokens: tokens after which a text ends at the latest; as `max_length` says where `None`.
        max_length: the same with the prompt counted; where both are `None` 20 new tokens, or fewer where a model has no room.
        min_new_tokens: tokens before which a text does not end; as `min_length` says where `None`.
        min_length: the same with the prompt counted.
        do_sample: draw tokens at random; the likeliest each time where not. Of beams, the candidates to go on with are drawn.
        temperature: the logits are divided by it before drawing.
        top_h: draw from the likeliest of 100 that together have this part of their entropy; from all where `None`.
        top_k: draw from the k likeliest alone; from all where 0.
        top_p: draw from the likeliest that together have this probability.
        min_p: draw from those that are at least so likely as this times the likeliest.
        typical_p: draw from the most typical that together have this probability.
        epsilon_cutoff: draw from those of at least this probability.
        eta_cutoff: the same, of a probability that sinks with the entropy.
        num_beams: texts that are followed at a time.
        length_penalty: power of its length by which the score of a beam is divided.
        early_stopping: when a search ends: with `True` as soon as there are `num_beams` whole texts; else when no beam can
            get better than those, judged by the length reached (`False`) or by the longest possible (`"never"`).
        num_return_sequences: texts for each prompt.
        repetition_penalty: tokens that a text or its prompt has already become less likely by this factor.
        encoder_repetition_penalty: tokens of the text that is read become likelier by this factor.
        no_repeat_ngram_size: so many tokens in a row never come twice in a text, its prompt included; may where 0.
        encoder_no_repeat_ngram_size: so many tokens in a row are never those of the text that is read; may where 0.
        bad_words_ids: sequences of tokens that are never written.
        sequence_bias: pairs of a sequence of tokens and what is added to the score of the last where it would end one.
        exponential_decay_length_penalty: (start, factor): after `start` tokens an end becomes likelier, by a power of the factor.
        suppress_tokens: tokens that are never written.
        begin_suppress_tokens: tokens that no text begins with.
        renormalize_logits: make probabilities sum to 1 again after tokens were forbidden; of beams alone.
        eos_token_id: tokens that end a text; the model's where `None`.
        pad_token_id: what stands behind the end; the model's where `None`, or the first that ends a text.
        decoder_start_token_id: what the texts of an encoder-decoder begin with; the model's where `None`, or its
            `bos_token_id`.
        forced_bos_token_id: the first new token, of texts that begin with one token: the language to translate into.
        forced_eos_token_id: the last token of a text that has got as long as it may.
        stop_strings: strings that end a text as soon as they stand in it; they stay in it.
        return_timestamps: whether texts have timestamps, of which the first is the token behind `no_timestamps_token_id`.
        no_timestamps_token_id: what says that a text has none.
        max_initial_timestamp_index: number of the latest timestamp that a text may begin with.
    """

    max_new_tokens: int | None = None
    max_length: int | None = None
    min_new_tokens: int | None = None
    min_length: int = 0
    do_sample: bool = False
    temperature: float = 1.0
    top_h: float | None = None
    top_k: int = 50
    top_p: float = 1.0
    min_p: float | None = None
    typical_p: float = 1.0
    epsilon_cutoff: float = 0.0
    eta_cutoff: float = 0.0
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    num_return_sequences: int = 1
    repetition_penalty: float = 1.0
    encoder_repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    encoder_no_repeat_ngram_size: int = 0
    bad_words_ids: tuple[tuple[int, ...], ...] = ()
    sequence_bias: tuple[tuple[tuple[int, ...], float], ...] = ()
    exponential_decay_length_penalty: tuple[int, float] | None = None
    suppress_tokens: tuple[int, ...] = ()
    begin_suppress_tokens: tuple[int, ...] = ()
    renormalize_logits: bool = False
    eos_token_id: int | tuple[int, ...] | None = None
    pad_token_id: int | None = None
    decoder_start_token_id: int | None = None
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | tuple[int, ...] | None = None
    stop_strings: tuple[str, ...] = ()
    return_timestamps: bool = False
    no_timestamps_token_id: int | None = None
    max_initial_timestamp_index: int | None = None

    def __post_init__(self) -> None:
        for name, least in dict(
            max_new_tokens=1,
            max_length=1,
            min_new_tokens=0,
            min_length=0,
            top_k=0,
            num_beams=1,
            num_return_sequences=1,
            no_repeat_ngram_size=0,
            encoder_no_repeat_ngram_size=0,
        ).items():
            value, optional = vars(self)[name], name in ("max_new_tokens", "max_length", "min_new_tokens")
            if not (value is None and optional) and (type(value) is not int or value < least):
                raise ModelError(f"{name}={value!r}: expected a whole number of at least {least}")
        for name in ("temperature", "repetition_penalty", "encoder_repetition_penalty"):
            if not is_number(vars(self)[name]) or not 0 < vars(self)[name] < math.inf:
                raise ModelError(f"{name}={vars(self)[name]!r}: expected a number above 0")
        for name in ("top_h", "top_p", "typical_p"):
            value = vars(self)[name]
            if not (value is None and name == "top_h") and (not is_number(value) or not 0 < value <= 1):
                raise ModelError(f"{name}={value!r}: expected a probability above 0")
        for name in ("min_p", "epsilon_cutoff", "eta_cutoff"):
            value = vars(self)[name]
            if not (value is None and name == "min_p") and (not is_number(value) or not 0 <= value <= 1):
                raise ModelError(f"{name}={value!r}: expected a probability")
        if self.early_stopping not in (True, False, "never"):
            raise ModelError(f"early_stopping={self.early_stopping!r}: expected True, False or 'never'")
        self._check_tokens()
        if isinstance(self.stop_strings, str):
            object.__setattr__(self, "stop_strings", (self.stop_strings,))
        if not all(isinstance(string, str) and string for string in self.stop_strings):
            raise ModelError(f"stop_strings={self.stop_strings!r}: expected strings of at least one character")
        if self.return_timestamps and self.no_timestamps_token_id is None:
            raise ModelError("return_timestamps: no_timestamps_token_id is missing, behind which timestamps begin")
        if (not self.do_sample or self.num_beams > 1) and self.num_return_sequences > self.num_beams:
            raise ModelError(
                f"num_return_sequences={self.num_return_sequences}: there are {self.num_beams} beam(s); with"
                " do_sample and without beams any number of texts can be drawn"
            )

    def _check_tokens(self) -> None:
        """Raise unless the rules about tokens have the shapes of published ones."""
        if not all(is_tokens(word) and word for word in self.bad_words_ids):
            raise ModelError(f"bad_words_ids={self.bad_words_ids!r}: expected lists of token ids")
        if not all(
            isinstance(pair, tuple) and len(pair) == 2 and is_tokens(pair[0]) and pair[0] and is_number(pair[1])
            for pair in self.sequence_bias
        ):
            raise ModelError(f"sequence_bias={self.sequence_bias!r}: expected pairs of token ids and a number")
        decay = self.exponential_decay_length_penalty
        if decay is not None and not (
            len(decay) == 2 and type(decay[0]) is int and is_number(decay[1]) and decay[1] > 0
        ):
            raise ModelError(
                f"exponential_decay_length_penalty={decay!r}: expected a number of tokens and a factor above 0"
            )
        for name in ("suppress_tokens", "begin_suppress_tokens"):
            if not all(isinstance(token, numbers.Integral) for token in vars(self)[name]):
                raise ModelError(f"{name}={vars(self)[name]!r}: expected token ids")

    @classmethod
    def from_json(cls, published: Mapping[str, Any], **changes: Any) -> "GenerationConfig":
        """From a published `generation_config.json` and `changes`; what changes the answer and is not implemented is logged.

        A number of new tokens among the changes goes before a published length, and the other way round.

        Raises:
            ModelError: a change that is none, or one that means nothing without `do_sample`.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        changes = {name: value for name, value in changes.items() if value is not None}
        known = dict(heeded(published))
        for new, length in (("max_new_tokens", "max_length"), ("min_new_tokens", "min_length")):
            if new in changes or length in changes:
                known.pop(new, None), known.pop(length, None)
        known |= changes
        for name in changes:
            if name in UNHEEDED:
                raise ModelError(f"{name} is not implemented here")
            if name not in names:
                raise ModelError(f"no setting {name!r}: {nearest(name, names)}")
            if name in DRAWING and not known.get("do_sample"):
                raise ModelError(f"{name} is of use with do_sample alone: without it the likeliest token is taken")
        if not known.get("do_sample"):
            known = {name: value for name, value in known.items() if name not in DRAWING}
        if isinstance(known.get("sequence_bias"), Mapping):
            known["sequence_bias"] = tuple(known["sequence_bias"].items())
        return cls(**{name: hashable(value) for name, value in known.items()})

    def new_tokens(self, prompt: int, room: int | None) -> int:
        """Most tokens that follow a prompt of so many tokens, in a model with room for `room` altogether.

        Raises:
            ModelError: there is no room for them.
        """
        left = math.inf if room is None else room - prompt
        if self.max_new_tokens is not None:
            new = self.max_new_tokens
        elif self.max_length is not None:
            new = min(self.max_length - prompt, left if left > 0 else math.inf)
            if new < 1:
                raise ModelError(
                    f"a prompt of {prompt} tokens leaves nothing to write with max_length={self.max_length}, which counts"
                    " it: shorten it, or set max_new_tokens"
                )
        else:
            new = min(NEW_TOKENS, left if left > 0 else math.inf)
        if new > left:
            raise ModelError(
                f"a prompt of {prompt} tokens and {new} new ones do not fit a model with room for {room}: shorten it, or"
                " set max_new_tokens"
            )
        return int(new)

    def ends(self, config: ModelConfig) -> tuple[int, ...]:
        """The tokens that end a text."""
        eos = config.eos_token_id if self.eos_token_id is None else self.eos_token_id
        return eos if isinstance(eos, tuple) else () if eos is None else (eos,)

    def padding(self, config: ModelConfig) -> int:
        """The token behind the end of a text."""
        pad = config.pad_token_id if self.pad_token_id is None else self.pad_token_id
        return pad if pad is not None else next(iter(self.ends(config)), 0)

    @property
    def times(self) -> dict[str, int | None]:
        """The token of time 0, and the number of the latest time that a text may begin with."""
        return dict(begin=(self.no_timestamps_token_id or 0) + 1, latest=self.max_initial_timestamp_index)

    def start(self, config: ModelConfig) -> int:
        """The token that the texts of an encoder-decoder begin with."""
        starts = self.decoder_start_token_id, config.decoder_start_token_id, config.bos_token_id
        start = next((token for token in starts if token is not None), None)
        if start is None:
            raise ModelError("there is nothing to begin a text with: set decoder_start_token_id")
        return start

    def check_vocabulary(self, size: int) -> None:
        """Raise where a rule is about tokens that a vocabulary of this size does not have."""
        named = ("forced_bos_token_id", "forced_eos_token_id", "no_timestamps_token_id")
        forced = {name: vars(self)[name] for name in named}
        rules = {
            "sequence_bias": [token for tokens, _ in self.sequence_bias for token in tokens],
            "bad_words_ids": [token for tokens in self.bad_words_ids for token in tokens],
            "decoder_start_token_id": [] if self.decoder_start_token_id is None else [self.decoder_start_token_id],
            **{name: ids if isinstance(ids, tuple) else () if ids is None else (ids,) for name, ids in forced.items()},
        }
        for name, tokens in rules.items():
            beyond = [token for token in tokens if token >= size]
            if beyond:
                raise ModelError(f"{name} names token {beyond[0]}, and the model has {size}: 0 to {size - 1}")


def heeded(published: Mapping[str, Any], where: str | Path = "generation_config.json") -> dict[str, Any]:
    """The published settings that are implemented; those that may change the answer and are not are named in one warning.

    Args:
        where: the file that they come from, for the warning.
    """
    names = {field.name for field in dataclasses.fields(GenerationConfig)}
    there = {name: value for name, value in published.items() if value is not None}
    unheeded = {
        name: value
        for name, value in there.items()
        if name not in names and name not in HARMLESS and hashable(value) not in UNHEEDED.get(name, ())
    }
    if unheeded:
        named = ", ".join(f"{name}={value!r:.60}" for name, value in unheeded.items())
        log.warning("%s: not implemented here, so that answers may differ: %s", where, named)
    return {name: value for name, value in there.items() if name in names}


def is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_tokens(value: Any) -> bool:
    """Whether this is a sequence of token ids."""
    return isinstance(value, tuple) and all(isinstance(token, numbers.Integral) and token >= 0 for token in value)


def of_model(published: Mapping[str, Any]) -> dict[str, Any]:
    """What a model's `config.json` says of generation, as older folders have it."""
    names = {field.name for field in dataclasses.fields(GenerationConfig)} | set(UNHEEDED)
    return {name: value for name, value in published.items() if name in names}
