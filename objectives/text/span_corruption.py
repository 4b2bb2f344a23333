"""Span corruption: stretches of text are cut out, each leaving a sentinel, and the decoder gives them back.

Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer" (T5), 2019, arXiv
1910.10683, section 3.1.4; counts, spans and lengths after the released `random_spans_helper` and
`random_spans_noise_mask`. The mixture of denoisers: Tay et al., "UL2: Unifying Language Learning Paradigms", 2022, arXiv
2205.05131, section 3.1.
"""

import bisect
import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key

from objectives.draws import choose
from objectives.losses import IGNORED
from objectives.objective import Example, ObjectiveError
from objectives.text.seq2seq import DENOISED, Seq2Seq

MODES = ("R", "S", "X")
"""Regular, sequential and extreme denoising."""

NO_LIMIT = 2**31


@dataclasses.dataclass(frozen=True)
class Denoiser:
    """How much of a text is cut out, and in how many pieces: functions of its length alone, so that shapes are known.

    Attributes:
        rate: fraction of the tokens cut out, rounded (half to even); at least one is and one is not, where there are two.
        mean_span: tokens cut out per span; the number of spans is rounded, too.
        spans: a fixed number of spans instead. The last one always ends the text, so that 1 makes it a prefix and its
            continuation.
        scattered: tokens are cut out one by one, and those that happen to be neighbours make one span.
        mode: one of `MODES`; its token begins the input in a mixture that has such tokens.
        weight: how often it is drawn, relative to the others of a mixture.
    """

    rate: float = 0.15
    mean_span: float = 3.0
    spans: int | None = None
    scattered: bool = False
    mode: str = "R"
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise ObjectiveError(f"rate={self.rate}: the fraction of tokens cut out must lie in (0, 1)")
        if self.mean_span < 1 or (self.spans is not None and self.spans < 1):
            raise ObjectiveError(
                f"mean_span={self.mean_span}, spans={self.spans}: a span has a token, and there is a span"
            )
        if self.mode not in MODES or self.weight <= 0:
            raise ObjectiveError(
                f"mode={self.mode!r}, weight={self.weight}: expected one of {', '.join(MODES)} and more than 0"
            )

    def cut_out(self, length: int) -> int:
        """Tokens cut out of `length`; none of a text of one."""
        return 0 if length < 2 else min(max(round(length * self.rate), 1), length - 1)

    def most_spans(self, length: int) -> int:
        """Spans cut out of `length` tokens; of scattered ones the most that there can be."""
        cut = self.cut_out(length)
        if self.scattered:
            return min(cut, length - cut + 1)
        spans = round(cut / self.mean_span) if self.spans is None else self.spans
        return min(max(spans, 1), cut, length - cut)

    def inputs(self, length: int) -> int:
        """Most tokens that are left of `length`, with a sentinel for each span and the end of the text."""
        return length - self.cut_out(length) + self.most_spans(length) + 1

    def targets(self, length: int) -> int:
        """Most tokens that are asked for, with a sentinel before each span and the end of the text."""
        return self.cut_out(length) + self.most_spans(length) + 1


@dataclasses.dataclass(frozen=True)
class SpanCorruption(Seq2Seq):
    """T5's objective: "Thank you <X> me to your party <Y> week." asks for "<X> for inviting <Y> last </s>".

    The raw length is chosen so that inputs come out full: 568 tokens give 512 inputs and 114 targets. A shorter text, one
    whose `document_ids` end in -1, is treated as if it had been that long all along: counts are those of its own length,
    and padding fills up the rest. Of a single token nothing is cut out, and only the end is asked for.

    Attributes:
        noise_density: fraction of the tokens cut out.
        mean_noise_span_length: tokens per span.
        scattered: the paper's baseline (section 3.1.4): tokens are cut out one by one, neighbours share a sentinel. As
            many as the rate says, where the released code tosses a coin for each, so that lengths are bounded; how many
            neighbours there are is chance, so inputs come out nearly full.
    """

    reads: ClassVar[tuple[str, ...]] = ("tokens", "document_ids")
    writes: ClassVar[tuple[str, ...]] = DENOISED
    needs: ClassVar[tuple[str, ...]] = ("pad", "eos", "sentinels")  # type: ignore[assignment]

    start: str = "pad"
    noise_density: float = 0.15
    mean_noise_span_length: float = 3.0
    scattered: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.mixture:
            raise ObjectiveError("a mixture needs at least one denoiser")

    @property
    def mixture(self) -> tuple[Denoiser, ...]:
        """The denoisers of which each example gets one."""
        return (Denoiser(self.noise_density, self.mean_noise_span_length, scattered=self.scattered),)

    @property
    def tells_mode(self) -> bool:
        """Whether inputs begin with a token that says which kind of denoiser is at work."""
        return False

    @property
    def mode_ids(self) -> tuple[int, ...]:
        """That token, for each denoiser."""
        return ()

    @property
    def sentinels(self) -> tuple[int, ...]:
        """Ids that stand for spans, the first span's first."""
        return tuple(self.vocabulary.sentinels)

    def target_length(self, length: int) -> int:
        """The static number of targets for `length` inputs."""
        return max(denoiser.targets(self.raw_length(denoiser, length)) for denoiser in self.mixture)

    def most_targets(self, length: int) -> int:
        """Targets that an example of `length` inputs may have."""
        return NO_LIMIT

    def most_sentinels(self) -> int:
        """Spans beyond which a text is cut short; where there is no limit, too few sentinels are refused."""
        return NO_LIMIT

    def raw_length(self, denoiser: Denoiser, length: int) -> int:
        """How many tokens `denoiser` makes the most of: as many as fit `length` inputs, the targets and the sentinels."""

        def too_long(raw: int) -> bool:
            return (
                denoiser.inputs(raw) + self.tells_mode > length
                or denoiser.targets(raw) > self.most_targets(length)
                or denoiser.most_spans(raw) > self.most_sentinels()
            )

        beyond = 3 + int((length + 3) / (1 - denoiser.rate))
        return max(bisect.bisect_left(range(beyond), True, lo=1, key=too_long) - 1, 0)

    def length_read(self, length: int) -> int:
        raw = max(self.raw_length(denoiser, length) for denoiser in self.mixture)
        if raw < 1:
            raise ObjectiveError(f"{length} tokens have no room for what {self!r} makes of a text: lengthen them")
        return raw

    def length_made(self, raw: int) -> int:
        """The least number of inputs for which `raw` tokens are read."""
        lengths = range(raw + 4)
        length = bisect.bisect_left(lengths, raw, lo=2 + self.tells_mode, key=self.length_read)
        if length not in lengths:
            raise ObjectiveError(f"windows of {raw} tokens are longer than any that {self!r} reads: shorten them")
        return length

    def corrupt(self, key: Key[Array, ""], example: Example) -> Example:
        """Adds `input_ids`, `attention_mask` (inputs,), `labels`, `decoder_input_ids`, `decoder_attention_mask` (targets,).

        Raises:
            ObjectiveError: the window is cut into more spans than there are sentinels.
        """
        tokens = example["tokens"]
        (window,) = tokens.shape
        length = self.length_made(window)
        targets = self.target_length(length)
        rooms = [min(self.raw_length(denoiser, length), window) for denoiser in self.mixture]
        spans = max(denoiser.most_spans(room) for denoiser, room in zip(self.mixture, rooms, strict=True))
        if spans > len(self.sentinels):
            raise ObjectiveError(
                f"{window} tokens are cut into {spans} spans and the vocabulary has {len(self.sentinels)} sentinels:"
                " shorten the sequences, lengthen the spans, or take a tokenizer with more sentinels"
            )
        which_key, begin_key, noise_key = jax.random.split(key, 3)
        which = jnp.zeros((), jnp.int32)
        if len(self.mixture) > 1:
            weights = jnp.asarray([denoiser.weight for denoiser in self.mixture])
            which = jax.random.choice(which_key, len(self.mixture), p=weights / weights.sum())
        present = (example["document_ids"] >= 0).sum(dtype=jnp.int32)
        size = jnp.minimum(present, jnp.asarray(rooms)[which])
        begin = jax.random.randint(begin_key, (), 0, present - size + 1)
        tokens = tokens[jnp.clip(jnp.arange(window) + begin, 0, window - 1)]

        noise = self._noise(noise_key, which, size, window, max(rooms), spans)
        mode = jnp.asarray(self.mode_ids)[which] if self.tells_mode else None
        input_ids, used, labels = self._cut(tokens, noise, size, length, targets, mode)
        return {
            **example,
            "input_ids": input_ids,
            "attention_mask": (jnp.arange(length) < used).astype(tokens.dtype),
            **self.teach(jnp.where(size > 0, labels, IGNORED), self.start_id),
        }

    def _noise(
        self, key: Key[Array, ""], which: Int[Array, ""], size: Int[Array, ""], window: int, room: int, spans: int
    ) -> Bool[Array, " window"]:
        """Which of the first `size` tokens the denoiser cuts out."""
        cut = jnp.asarray([[denoiser.cut_out(n) for n in range(room + 1)] for denoiser in self.mixture])[which, size]
        place = jnp.arange(window)
        if self.mixture[0].scattered:
            return choose(key, place < size, cut)
        count = jnp.asarray([[d.most_spans(n) for n in range(room + 1)] for d in self.mixture])[which, size]
        cut_key, kept_key = jax.random.split(key)
        most_cut = max(denoiser.cut_out(room) for denoiser in self.mixture)
        cut_lengths = _parts(cut_key, cut, count, max(most_cut, 1), spans)
        kept_lengths = _parts(kept_key, size - cut, jnp.maximum(count, 1), window, max(spans, 1))[:spans]
        # The text begins with what is kept and ends with what is cut out; spans beyond `count` have no length.
        ends = jnp.cumsum(kept_lengths + cut_lengths)
        edges = jnp.zeros(window + 1, jnp.int32).at[ends - cut_lengths].add(1).at[ends].add(-1)
        return jnp.cumsum(edges[:-1]) > 0

    def _cut(
        self,
        tokens: Int[Array, " window"],
        noise: Bool[Array, " window"],
        size: Int[Array, ""],
        length: int,
        targets: int,
        mode: Int[Array, ""] | None,
    ) -> tuple[Int[Array, " length"], Int[Array, ""], Int[Array, " targets"]]:
        """Inputs, how many of them are used, and labels, of the first `size` tokens less those that are `noise`."""
        begins = noise & ~jnp.concatenate([jnp.array([False]), noise[:-1]])
        span = jnp.cumsum(begins) - 1
        sentinel = jnp.asarray(self.sentinels, tokens.dtype)[jnp.maximum(span, 0)]
        left = (~noise & (jnp.arange(len(tokens)) < size)) | begins
        first = 0 if mode is None else 1
        place = jnp.where(left, first + jnp.cumsum(left) - 1, length)
        used = first + left.sum() + 1
        inputs = jnp.full(length, self.vocabulary.pad, tokens.dtype)
        if mode is not None:
            inputs = inputs.at[0].set(mode.astype(tokens.dtype))
        inputs = inputs.at[place].set(jnp.where(begins, sentinel, tokens), mode="drop")
        inputs = inputs.at[used - 1].set(self.vocabulary.eos)

        place = jnp.cumsum(noise) + span
        labels = jnp.full(targets, IGNORED, tokens.dtype)
        labels = labels.at[jnp.where(noise, place, targets)].set(tokens, mode="drop")
        labels = labels.at[jnp.where(begins, place - 1, targets)].set(sentinel, mode="drop")
        return inputs, used, labels.at[noise.sum() + begins.sum()].set(self.vocabulary.eos)


@dataclasses.dataclass(frozen=True)
class MixtureOfDenoisers(SpanCorruption):
    """UL2's objective: each example is denoised in one of several ways, which its first token tells.

    All have the same shapes. An example's window is long enough for the denoiser that makes the most of a text; any other
    one takes as long a stretch of it as fits `length` inputs, the targets and the sentinels, at a place drawn again, and
    leaves the rest of the window alone.

    Attributes:
        denoisers: what to draw from; the seven of the paper's table 1, alike in weight.
        targets: the static number of targets; as many as inputs, as published, where `None`.
        mode_tokens: begin inputs with [R], [S] or [X]; the vocabulary's last three sentinels stand for them.
    """

    denoisers: tuple[Denoiser, ...] = (
        Denoiser(0.15, 3.0),
        Denoiser(0.15, 8.0),
        Denoiser(0.25, spans=1, mode="S"),
        Denoiser(0.5, 3.0, mode="X"),
        Denoiser(0.5, 8.0, mode="X"),
        Denoiser(0.15, 64.0, mode="X"),
        Denoiser(0.5, 64.0, mode="X"),
    )
    targets: int | None = None
    mode_tokens: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.noise_density, self.mean_noise_span_length, self.scattered) != (0.15, 3.0, False):
            raise ObjectiveError(
                "the rates and spans of a MixtureOfDenoisers are those of its denoisers: set them there"
            )
        if any(denoiser.scattered for denoiser in self.denoisers):
            raise ObjectiveError("a MixtureOfDenoisers has no scattered ones: the number of their spans is chance")

    @property
    def mixture(self) -> tuple[Denoiser, ...]:
        return self.denoisers

    @property
    def tells_mode(self) -> bool:
        return self.mode_tokens

    @property
    def mode_ids(self) -> tuple[int, ...]:
        sentinels = dict(zip(MODES, self.vocabulary.sentinels[-len(MODES) :], strict=True))
        return tuple(sentinels[denoiser.mode] for denoiser in self.denoisers)

    @property
    def sentinels(self) -> tuple[int, ...]:
        return tuple(self.vocabulary.sentinels)[: self.most_sentinels()]

    def target_length(self, length: int) -> int:
        return length if self.targets is None else self.targets

    def most_targets(self, length: int) -> int:
        return self.target_length(length)

    def most_sentinels(self) -> int:
        return len(self.vocabulary.sentinels) - len(MODES) * self.mode_tokens


def _parts(
    key: Key[Array, ""], total: Int[Array, ""], count: Int[Array, ""], most: int, parts: int
) -> Int[Array, " parts"]:
    """`total` (at most `most`) cut into `count` positive parts, each way as likely as any other; zeros behind them."""
    place = jnp.arange(most)
    begins = choose(key, (place > 0) & (place < total), count - 1) | (place == 0)
    part = jnp.cumsum(begins) - 1
    return jnp.zeros(parts, jnp.int32).at[jnp.where(place < total, part, parts)].add(1, mode="drop")
