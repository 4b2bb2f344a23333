"""From the scores of frames to tokens: greedy decoding, beam search over prefixes, and where in time each token is.

Graves et al., "Connectionist Temporal Classification", ICML 2006; the search over prefixes: Hannun, Maas, Jurafsky, Ng:
"First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent DNNs", 2014, arXiv 1408.2873,
algorithm 1.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

LogProbabilities = Float[np.ndarray, "frames vocab"]
UNLIKELY = 12.0
"""Tokens that are less likely than the likeliest of a frame by a factor of e^12 are not tried there."""


class Run(NamedTuple):
    """A token and the frames of it, `end` exclusive."""

    token: int
    begin: int
    end: int


def log_softmax(logits: Float[np.ndarray, "frames vocab"]) -> LogProbabilities:
    logits = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def runs_of(path: Sequence[int], blank: int) -> list[Run]:
    """The tokens of a path over frames: runs of one token, without blanks."""
    runs, begin = [], 0
    for token, frames in itertools.groupby(path):
        end = begin + len(list(frames))
        if token != blank:
            runs.append(Run(int(token), begin, end))
        begin = end
    return runs


def greedy(logits: Float[np.ndarray, "frames vocab"], blank: int) -> list[Run]:
    """The tokens of the likeliest path."""
    return runs_of(logits.argmax(axis=-1).tolist(), blank)


def nothing_known(prefix: tuple[int, ...], ended: bool) -> float:
    """What is known of texts without a language model."""
    return 0.0


def beam_search(
    log_probabilities: LogProbabilities,
    blank: int,
    beams: int,
    known: Callable[[tuple[int, ...], bool], float] = nothing_known,
) -> list[int]:
    """The likeliest tokens, all their paths taken together, among the `beams` best prefixes of each frame.

    Args:
        known: what is added to the log probability of a prefix, or of a text that has ended.
    """
    nothing = -np.inf
    # Of each prefix the log probabilities of its paths that end with a blank, and of those that end with its last token.
    kept: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, nothing)}
    for frame in log_probabilities:
        tried = np.flatnonzero(frame >= frame.max() - UNLIKELY)
        found: dict[tuple[int, ...], list[float]] = {}

        def add(prefix: tuple[int, ...], place: int, score: float, found=found) -> None:
            scores = found.setdefault(prefix, [nothing, nothing])
            scores[place] = np.logaddexp(scores[place], score)

        for prefix, (with_blank, with_token) in kept.items():
            both = np.logaddexp(with_blank, with_token)
            for token in tried.tolist():
                if token == blank:
                    add(prefix, 0, both + frame[token])
                elif prefix and token == prefix[-1]:
                    add(prefix, 1, with_token + frame[token])
                    add((*prefix, token), 1, with_blank + frame[token])
                else:
                    add((*prefix, token), 1, both + frame[token])
        best = sorted(found.items(), key=lambda item: (-np.logaddexp(*item[1]) - known(item[0], False), item[0]))[
            :beams
        ]
        kept = {prefix: (scores[0], scores[1]) for prefix, scores in best}
    return list(max(kept, key=lambda prefix: np.logaddexp(*kept[prefix]) + known(prefix, True)))


def aligned(log_probabilities: LogProbabilities, tokens: Sequence[int], blank: int) -> list[Run]:
    """The likeliest path of these tokens.

    Raises:
        ValueError: there are fewer frames than they need.
    """
    states = np.full(2 * len(tokens) + 1, blank)
    states[1::2] = tokens
    skips = np.zeros(len(states), bool)  # from the token before, over the blank between two that differ
    skips[3::2] = states[3::2] != states[1:-2:2]
    scores = np.full(len(states), -np.inf)
    scores[:2] = log_probabilities[0, states[:2]]
    steps = []
    for frame in log_probabilities[1:]:
        before = np.stack(
            [scores, np.append(-np.inf, scores[:-1]), np.append([-np.inf] * 2, scores[:-2])[: len(states)]]
        )
        before[2, ~skips] = -np.inf
        step = before.argmax(axis=0)
        steps.append(step)
        scores = before[step, np.arange(len(states))] + frame[states]
    state = len(states) - 1 - int(len(states) > 1 and scores[-2] > scores[-1])
    if not np.isfinite(scores[state]):
        raise ValueError(f"{len(tokens)} tokens do not fit into {len(log_probabilities)} frames")
    path = [state]
    for step in reversed(steps):
        path.append(path[-1] - int(step[path[-1]]))
    path.reverse()
    return [
        Run(int(states[state]), frames[0], frames[-1] + 1)
        for state, frames in ((s, [n for n, _ in g]) for s, g in itertools.groupby(enumerate(path), key=lambda x: x[1]))
        if state % 2
    ]
