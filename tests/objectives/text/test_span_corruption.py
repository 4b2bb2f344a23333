"""Span corruption: the text can be put together again, lengths are the published ones, and so are the draws.

The released collators need TensorFlow, or left `transformers` with its Flax examples, so the distributions are compared
with `published_noise`, which follows the paper's code with lists and numpy's own generator.
"""

import dataclasses
import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from objectives import MixtureOfDenoisers, ObjectiveError, SpanCorruption
from objectives.losses import IGNORED
from objectives.text.span_corruption import MODES, Denoiser
from tests.objectives.conftest import alike, uniform
from tests.objectives.text.test_masked import corrupt, within

SENTINELS = range(200, 300)


def published_lengths(inputs, rate=0.15, mean=3.0):
    """Raw and target length for `inputs` inputs: grow the raw length for as long as what comes out still fits."""

    def lengths(raw):
        noise = round(raw * rate)
        spans = round(noise / mean)
        return raw - noise + spans + 1, noise + spans + 1

    raw = inputs
    while lengths(raw + 1)[0] <= inputs:
        raw += 1
    return raw, lengths(raw)[1]


def published_noise(rng, length, rate=0.15, mean=3.0):
    """Which of `length` tokens are noise: random lengths of spans, kept and cut out in turn."""
    original, length = length, max(length, 2)
    noise = min(max(round(length * rate), 1), length - 1)
    spans = max(round(noise / mean), 1)

    def lengths(items):
        first = np.arange(items - 1) < spans - 1
        rng.shuffle(first)
        segments = np.cumsum(np.append(0, first))
        return [int((segments == segment).sum()) for segment in range(spans)]

    mask = []
    for kept, cut in zip(lengths(length - noise), lengths(noise), strict=True):
        mask += [False] * kept + [True] * cut
    return np.array(mask[:original])


def woven(inputs, labels, eos, sentinels=SENTINELS):
    """The text again, and for each token whether it was cut out; the sentinels in the order of use."""
    assert inputs[-1] == eos and labels[-1] == eos
    spans, order = {}, []
    for token in labels[:-1]:
        if token in sentinels:
            order.append(int(token))
            spans[order[-1]] = []
        else:
            spans[order[-1]].append(int(token))
    assert all(spans.values()) and len(spans) == len(order)
    text, cut, used = [], [], []
    for token in inputs[:-1]:
        if token in sentinels:
            used.append(int(token))
            text += spans[int(token)]
            cut += [True] * len(spans[int(token)])
        else:
            text.append(int(token))
            cut.append(False)
    assert used == order
    return np.array(text, int), np.array(cut, bool), order


def rows(seen):
    """Inputs and labels of each example without their padding, once what surrounds them is seen to be right."""
    for row in range(len(seen["labels"])):
        used, asked = seen["attention_mask"][row] > 0, seen["labels"][row] != IGNORED
        for mask in (used, asked):
            assert (np.diff(mask.astype(int)) <= 0).all()
        assert (seen["input_ids"][row][~used] == 0).all()
        assert (seen["decoder_attention_mask"][row] == asked).all()
        shifted = np.append(0, seen["labels"][row][:-1])
        np.testing.assert_array_equal(seen["decoder_input_ids"][row], np.where(shifted == IGNORED, 0, shifted))
        yield seen["input_ids"][row][used], seen["labels"][row][asked]


@pytest.mark.parametrize("length", [2, 3, 4, 5, 17, 64, 128, 256, 512, 1024])
def test_lengths_are_the_published_ones(written, length):
    objective = SpanCorruption().bind(written)
    raw = objective.length_read(length)
    if length >= 17:
        assert (raw, objective.target_length(length)) == published_lengths(length)
    assert objective.length_made(raw) == length
    if length == 512:
        assert (raw, objective.target_length(length)) == (568, 114)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("scattered", [False, True])
@pytest.mark.parametrize("length", [2, 5, 24, 97])
def test_inputs_and_targets_are_the_text(written, windows, scattered, length):
    objective = SpanCorruption(scattered=scattered).bind(written)
    window = objective.length_read(length)
    sizes = [*range(1, window + 1), *[window] * 30]
    examples = windows(sizes, window)
    seen = corrupt(objective, examples)
    assert seen["input_ids"].shape[1] <= length
    assert seen["labels"].shape[1] == objective.target_length(length)
    for (inputs, labels), size, tokens in zip(rows(seen), sizes, examples["tokens"], strict=True):
        text, cut, order = woven(inputs, labels, written.eos)
        np.testing.assert_array_equal(text, tokens[:size])
        assert cut.sum() == (min(max(round(size * 0.15), 1), size - 1) if size > 1 else 0)
        assert order == list(written.sentinels[: len(order)])
        assert not any(a in SENTINELS and b in SENTINELS for a, b in itertools.pairwise(inputs))
        if not scattered:
            assert len(order) == (max(round(cut.sum() / 3), 1) if size > 1 else 0)
            assert not cut[0] and (cut[-1] or size == 1)
            if size == window:
                assert len(inputs) == length and len(labels) == objective.target_length(length)


def test_nothing_is_asked_of_no_text(written, windows):
    objective = SpanCorruption().bind(written)
    seen = corrupt(objective, windows([0], 20))
    assert (seen["labels"] == IGNORED).all() and seen["attention_mask"].sum() == 1


@pytest.mark.slow_but_first
@pytest.mark.parametrize(("size", "rate", "mean"), [(100, 0.15, 3.0), (60, 0.5, 4.0), (140, 0.15, 8.0)])
def test_draws_are_the_published_ones(written, windows, size, rate, mean):
    """Noise at each place, lengths of spans and of what lies between them, over 2,000 texts each; χ² within 5 sigmas."""
    count = 2_000
    rng = np.random.default_rng(0)
    objective = SpanCorruption(noise_density=rate, mean_noise_span_length=mean).bind(written)
    window = next(raw for raw in map(objective.length_read, range(size, 3 * size)) if raw >= size)
    seen = corrupt(objective, windows([size] * count, window))
    ours = np.stack([woven(inputs, labels, written.eos)[1] for inputs, labels in rows(seen)])
    theirs = np.stack([published_noise(rng, size, rate, mean) for _ in range(count)])
    assert (ours.sum(axis=1) == theirs.sum(axis=1)).all()
    assert alike(ours.sum(axis=0), theirs.sum(axis=0))
    for noise in (True, False):
        lengths = [np.bincount(runs(masks == noise), minlength=size + 1) for masks in (ours, theirs)]
        assert lengths[0].sum() == lengths[1].sum()
        assert alike(*lengths)


def runs(masks):
    """Lengths of the runs of true places in the rows."""
    edges = np.diff(np.pad(masks.astype(int), ((0, 0), (1, 1))), axis=1)
    return np.nonzero(edges < 0)[1] - np.nonzero(edges > 0)[1]


def test_every_way_to_cut_is_as_likely(written, windows):
    """Twelve tokens, six of them noise in two spans: 5 × 5 ways, over 10,000 texts, χ² within 5 sigmas."""
    objective = SpanCorruption(noise_density=0.5).bind(written)
    seen = corrupt(objective, windows([12] * 10_000, objective.length_read(9)))
    cuts = np.stack([woven(inputs, labels, written.eos)[1] for inputs, labels in rows(seen)])
    _, counts = np.unique(cuts, axis=0, return_counts=True)
    assert len(counts) == 25 and uniform(counts)


def test_scattered_tokens_are_chosen_alike(written, windows):
    objective = SpanCorruption(scattered=True).bind(written)
    seen = corrupt(objective, windows([40] * 5_000, 40))
    cuts = np.stack([woven(inputs, labels, written.eos)[1] for inputs, labels in rows(seen)])
    assert (cuts.sum(axis=1) == 6).all()
    assert all(within(int(count), 5_000, 0.15) for count in cuts.sum(axis=0))
    # 39 pairs of neighbours, both of them among the 6 of 40 with 6/40 · 5/39.
    neighbours = (cuts[:, 1:] & cuts[:, :-1]).sum()
    assert abs(neighbours - 5_000 * 39 * 6 / 40 * 5 / 39) < 5 * np.sqrt(5_000 * 0.75)


def mode_of(written, token):
    return MODES[written.sentinels[-3:].index(int(token))]


@pytest.mark.slow_but_first
@pytest.mark.parametrize("length", [8, 24, 96])
def test_denoisers_share_shapes_and_lose_nothing(written, windows, length):
    objective = MixtureOfDenoisers().bind(written)
    window = objective.length_read(length)
    sizes = [*range(1, window + 1), *[window] * 200]
    examples = windows(sizes, window, seed=1)
    seen = corrupt(objective, examples)
    assert seen["input_ids"].shape[1] == length and seen["labels"].shape[1] == length
    modes = set()
    for (inputs, labels), size, tokens in zip(rows(seen), sizes, examples["tokens"], strict=True):
        mode = mode_of(written, inputs[0])
        modes.add(mode)
        text, cut, order = woven(inputs[1:], labels, written.eos)
        begin = int(np.flatnonzero(tokens == text[0])[0])
        np.testing.assert_array_equal(text, tokens[begin : begin + len(text)])
        fitting = [
            denoiser
            for denoiser in objective.denoisers
            if denoiser.mode == mode
            and len(text) == min(size, objective.raw_length(denoiser, length))
            and cut.sum() == denoiser.cut_out(len(text))
            and len(order) == denoiser.most_spans(len(text))
        ]
        assert fitting
        if mode == "S" and size > 1:
            assert len(order) == 1 and cut[-1] and not cut[0]
    assert modes == set(MODES)


def test_denoisers_are_drawn_by_weight_and_take_stretches_from_anywhere(written, windows):
    denoisers = (Denoiser(0.25, spans=1, mode="S", weight=3.0), Denoiser(0.5, 4.0, mode="X"))
    objective = MixtureOfDenoisers(denoisers=denoisers).bind(written)
    length = 20
    window = objective.length_read(length)
    rooms = [objective.raw_length(denoiser, length) for denoiser in denoisers]
    assert rooms[0] < rooms[1] == window
    examples = windows([window] * 6_000, window)
    begins = []
    for (inputs, labels), tokens in zip(rows(corrupt(objective, examples)), examples["tokens"], strict=True):
        if mode_of(written, inputs[0]) == "S":
            text, _, _ = woven(inputs[1:], labels, written.eos)
            assert len(text) == rooms[0]
            begins.append(int(np.flatnonzero(tokens == text[0])[0]))
    assert within(len(begins), 6_000, 0.75)
    assert uniform(np.bincount(begins, minlength=window - rooms[0] + 1))


def test_the_published_mixture_fits_its_lengths_and_sentinels(written):
    objective = MixtureOfDenoisers().bind(written)
    for denoiser in objective.denoisers:
        raw = objective.raw_length(denoiser, 512)
        assert denoiser.inputs(raw) + 1 <= 512 and denoiser.targets(raw) <= 512 and denoiser.most_spans(raw) <= 97
        more = denoiser.inputs(raw + 1) + 1 > 512 or denoiser.targets(raw + 1) > 512
        assert more or denoiser.most_spans(raw + 1) > 97
    assert objective.length_made(objective.length_read(512)) == 512
    plain = dataclasses.replace(objective, mode_tokens=False).bind(written)
    assert plain.raw_length(Denoiser(0.15, 3.0), 512) == 568


def test_what_cannot_be_is_refused(written, windows):
    few = SimpleNamespace(**{**vars(written), "sentinels": (299, 298)})
    objective = SpanCorruption().bind(few)
    with pytest.raises(ObjectiveError, match="into 3 spans and the vocabulary has 2 sentinels"):
        corrupt(objective, windows([57], 57))
    with pytest.raises(ObjectiveError, match="no room"):
        SpanCorruption().bind(written).length_read(1)
    with pytest.raises(ObjectiveError, match="longer than any"):
        corrupt(MixtureOfDenoisers(targets=10).bind(written), windows([180], 180))
    for settings in ({"noise_density": 0.0}, {"noise_density": 1.0}, {"mean_noise_span_length": 0.5}):
        with pytest.raises(ObjectiveError):
            SpanCorruption(**settings)
        with pytest.raises(ObjectiveError):
            MixtureOfDenoisers(**settings)
    with pytest.raises(ObjectiveError, match="of its denoisers"):
        MixtureOfDenoisers(noise_density=0.3)
    with pytest.raises(ObjectiveError, match="at least one denoiser"):
        MixtureOfDenoisers(denoisers=())
    with pytest.raises(ObjectiveError, match="no room"):
        MixtureOfDenoisers().bind(few).length_read(64)
    with pytest.raises(ObjectiveError, match="scattered"):
        MixtureOfDenoisers(denoisers=(Denoiser(scattered=True),))
    with pytest.raises(ObjectiveError, match="mode='Y'"):
        Denoiser(mode="Y")


@pytest.mark.parametrize("kind", [SpanCorruption, MixtureOfDenoisers])
def test_an_example_is_the_same_whatever_its_batch(written, windows, kind):
    objective = kind().bind(written)
    examples = windows([36] * 12, objective.length_read(36))
    examples["tokens"][:] = examples["tokens"][0]
    together = corrupt(objective, examples)
    alone = corrupt(objective, {name: value[7:8] for name, value in examples.items()})
    assert all((together[name][7] == alone[name][0]).all() for name in together)
    assert len({tuple(row) for row in together["input_ids"]}) > 6
