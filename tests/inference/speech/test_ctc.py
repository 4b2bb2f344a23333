"""From frames to tokens, against all paths written out."""

import itertools

import numpy as np
import pytest

from inference.ctc import Run, aligned, beam_search, greedy, log_softmax, runs_of

FRAMES, TOKENS = 6, 3


def scores(seed: int) -> np.ndarray:
    return log_softmax(2 * np.random.default_rng(seed).normal(size=(FRAMES, TOKENS)))


def texts(log: np.ndarray) -> dict[tuple[int, ...], list[tuple[float, tuple[int, ...]]]]:
    """Of each text its paths and their log probabilities."""
    found: dict[tuple[int, ...], list] = {}
    for path in itertools.product(range(TOKENS), repeat=FRAMES):
        text = tuple(token for token, _ in itertools.groupby(path) if token)
        found.setdefault(text, []).append((sum(log[frame, token] for frame, token in enumerate(path)), path))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_a_wide_beam_finds_the_likeliest_text_of_all(seed):
    log = scores(seed)
    totals = {text: np.logaddexp.reduce([score for score, _ in paths]) for text, paths in texts(log).items()}
    assert tuple(beam_search(log, 0, beams=200)) == max(totals, key=totals.get)


def test_the_likeliest_text_is_not_always_that_of_the_likeliest_path():
    likeliest_path = [tuple(run.token for run in greedy(scores(seed), 0)) for seed in range(20)]
    likeliest_text = [tuple(beam_search(scores(seed), 0, beams=8)) for seed in range(20)]
    assert likeliest_path != likeliest_text


@pytest.mark.parametrize("seed", range(10))
def test_an_alignment_is_the_likeliest_path_of_its_text(seed):
    log = scores(seed)
    for text, paths in texts(log).items():
        _, path = max(paths)
        assert aligned(log, text, 0) == runs_of(path, 0)
    with pytest.raises(ValueError, match="4 tokens do not fit into 6 frames"):
        aligned(log, [1, 1, 1, 1], 0)


def test_runs_end_before_the_next_frame():
    assert runs_of([0, 1, 1, 0, 1, 2, 2], 0) == [Run(1, 1, 3), Run(1, 4, 5), Run(2, 5, 7)]
    assert runs_of([], 0) == runs_of([0, 0], 0) == []
