"""BART's corruptions: the released algorithm with lists and the objective's own draws, and its rates against numpy's.

The Flax script that held a collator for BART is no longer part of `transformers`, so the distributions are compared with
`published_infilling`, which follows fairseq's `denoising_dataset.py` with lists and numpy's own generator.
"""

import itertools
import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.text.framing import Framing
from objectives import Infilling, ObjectiveError
from objectives.draws import choose, poisson, shuffled
from objectives.losses import IGNORED
from objectives.text.infilling import SPARE_DRAWS
from tests.objectives.conftest import alike, uniform
from tests.objectives.text.test_masked import corrupt, within

ALONE = dict(permute_sentences=False, infill_rate=0.0)
"""None of the corruptions, to switch on one."""


def words_of(tokens, begins):
    words = []
    for token, begin in zip(tokens, begins, strict=True):
        if begin or not words:
            words.append([])
        words[-1].append(int(token))
    return words


def filled(words, lengths, firsts, mask):
    """Spans of `lengths` words from the words `firsts` on, each replaced by one mask."""
    hidden, shown = set(), {}
    for first in firsts:
        shown[first] = True
    for length, first in zip(lengths, firsts, strict=True):
        for word in range(first, min(first + length, len(words))):
            hidden.add(word)
            if word > first:
                shown[word] = False
    out = []
    for number, word in enumerate(words):
        if number in hidden:
            out += [mask] if shown.get(number) else []
        else:
            out += word
    return out


def spans_of(draws, budget):
    """Lengths of the spans that hide something, and how many masks are inserted."""
    lengths, total = [], 0
    for draw in draws:
        if total >= budget:
            break
        lengths.append(min(draw, budget - total))
        total += lengths[-1]
    if total < budget:
        lengths[-1] += budget - total
    return [length for length in lengths if length], sum(length == 0 for length in lengths)


def oracle(key, tokens, sentence_ids, vocabulary, settings):
    """Inputs, with lists and loops; only the draws are those of the objective."""
    window, size = len(tokens), int((sentence_ids >= 0).sum())
    keys = jax.random.split(key, 5)
    sentences = [tokens[sentence_ids == number].tolist() for number in range(int(sentence_ids.max()) + 1)]
    begins = [[i == 0 or bool(vocabulary.starts_word[token]) for i, token in enumerate(s)] for s in sentences]
    if settings.permute_sentences:
        order = np.asarray(shuffled(keys[0], jnp.arange(window) < len(sentences)))[: len(sentences)]
        sentences, begins = [sentences[i] for i in order], [begins[i] for i in order]
    text, begins = list(itertools.chain(*sentences)), list(itertools.chain(*begins))
    if settings.mask_rate:
        count = math.ceil(size * settings.mask_rate)
        hidden = np.asarray(choose(keys[1], jnp.arange(window) < size, jnp.asarray(count)))
        text = [vocabulary.mask if hide else token for token, hide in zip(text, hidden, strict=False)]
    if settings.delete_rate:
        count = math.ceil(size * settings.delete_rate)
        gone = np.asarray(choose(keys[2], jnp.arange(window) < size, jnp.asarray(count)))
        begins = [begin for begin, lost in zip(begins, gone, strict=False) if not lost]
        text = [token for token, lost in zip(text, gone, strict=False) if not lost]
    if settings.infill_rate and text:
        length_key, start_key, insert_key = jax.random.split(keys[3], 3)
        words = words_of(text, begins if settings.whole_word else [True] * len(text))
        draws = math.ceil(window * settings.infill_rate) + SPARE_DRAWS
        draws = np.asarray(poisson(length_key, settings.mean_span, draws)).tolist()
        lengths, inserted = spans_of(draws, math.ceil(len(words) * settings.infill_rate - 1e-9))
        firsts = np.asarray(shuffled(start_key, jnp.arange(window) < len(words)))[: len(lengths)].tolist()
        text = filled(words, lengths, firsts, vocabulary.mask)
        inserted = min(inserted, window - len(text))
        places = jnp.arange(window) < len(text) + inserted
        left = iter(text)
        new = np.asarray(choose(insert_key, places, jnp.asarray(inserted)))[: len(text) + inserted]
        text = [vocabulary.mask if n else next(left) for n in new]
    if settings.rotate_rate and text:
        whether, where = jax.random.split(keys[4])
        begin = int(jax.random.randint(where, (), 0, len(text)))
        if jax.random.uniform(whether) < settings.rotate_rate:
            text = text[begin:] + text[:begin]
    return text


BART, MBART = Framing((5,), (6,)), Framing((), (6, 77))


@pytest.mark.parametrize("framing", [BART, MBART, Framing((77,), (6,)), Framing((), ()), Framing((5, 77), (6, 78, 79))])
def test_texts_stand_in_the_frame_of_the_tokenizer(written, windows, framing):
    objective = Infilling().bind(SimpleNamespace(**{**vars(written), "framing": framing}))
    window, end = objective.length_read(32), framing.end or (written.eos,)
    assert window == 32 - len(framing.begin) - len(end)
    seen = corrupt(objective, examples := windows([3, window], window))
    for row, size in enumerate((3, window)):
        text = [*framing.begin, *examples["tokens"][row][:size].tolist(), *end]
        assert seen["labels"][row].tolist() == text + [IGNORED] * (32 - len(text))
        assert seen["decoder_input_ids"][row][: len(text)].tolist() == [end[-1], *text[:-1]]
        used = int(seen["attention_mask"][row].sum())
        inputs = seen["input_ids"][row].tolist()
        assert tuple(inputs[: len(framing.begin)]) == framing.begin and tuple(inputs[used - len(end) : used]) == end


@pytest.mark.slow_but_first
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"whole_word": False},
        {"permute_sentences": False, "mean_span": 1.0, "infill_rate": 0.6},
        {"mean_span": 1.0, "infill_rate": 1.0, "whole_word": False},
        {**ALONE, "mask_rate": 0.15},
        {**ALONE, "delete_rate": 0.15},
        {**ALONE, "rotate_rate": 0.5},
        {"mask_rate": 0.1, "delete_rate": 0.2, "rotate_rate": 1.0},
        {"infill_rate": 0.35, "mean_span": 3.5},
    ],
    ids=str,
)
def test_equals_the_oracle(written, windows, settings):
    objective = Infilling(**settings).bind(written)
    window = objective.length_read(32)
    sizes = [1, 1, 1, 2, 2, 3, 4, 5, 8, 13, 21, window - 2, window - 1, *[window] * 12]
    examples = windows(sizes, window, mean=5.0)
    seen = corrupt(objective, examples)
    front, back, start = [written.bos], [written.eos], written.eos
    for row, size in enumerate(sizes):
        key = jax.random.fold_in(jax.random.key(0), row)
        tokens = examples["tokens"][row]
        text = oracle(key, tokens, examples["sentence_ids"][row], written, objective)
        inputs, labels = [*front, *text, *back], [*front, *tokens[:size], *back]
        padding = 32 - len(inputs)
        assert seen["input_ids"][row].tolist() == inputs + [written.pad] * padding, (row, size)
        assert seen["attention_mask"][row].tolist() == [1] * len(inputs) + [0] * padding
        assert seen["labels"][row].tolist() == labels + [IGNORED] * (32 - len(labels))
        assert seen["decoder_attention_mask"][row].sum() == len(labels)
        assert seen["decoder_input_ids"][row].tolist()[: len(labels)] == [start, *labels[:-1]]


def published_infilling(rng, words, rate=0.3, mean=3.0):
    """Lengths in words of the text between masks, as fairseq's `add_whole_word_mask` leaves them: one list per text."""
    budget = math.ceil(words * rate)
    draws = []
    while sum(draws) < budget:
        draws += rng.poisson(mean, budget).tolist()
    lengths, inserted = spans_of(draws, budget)
    firsts = rng.permutation(words)[: len(lengths)].tolist()
    text = filled([[1]] * words, lengths, firsts, 0)
    for place in np.sort(rng.permutation(len(text) + inserted)[:inserted]):
        text.insert(int(place), 0)
    return np.array(text)


@pytest.mark.slow_but_first
@pytest.mark.parametrize(("words", "rate", "mean"), [(100, 0.3, 3.0), (100, 0.35, 3.5), (40, 0.3, 1.0)])
def test_draws_are_the_published_ones(written, windows, words, rate, mean):
    """Masks, inputs and stretches between masks of 3,000 texts each; χ² within 5 sigmas."""
    count = 3_000
    rng = np.random.default_rng(0)
    objective = Infilling(permute_sentences=False, infill_rate=rate, mean_span=mean, whole_word=False).bind(written)
    seen = corrupt(objective, windows([words] * count, words + 20))
    ours = [
        row[1:used] != written.mask
        for row, used in zip(seen["input_ids"], seen["attention_mask"].sum(1) - 1, strict=True)
    ]
    theirs = [published_infilling(rng, words, rate, mean) > 0 for _ in range(count)]
    for statistic in (len, np.sum, lambda text: (~text).sum(), lambda text: int(np.argmin(text))):
        one, two = (
            np.bincount([int(statistic(text)) for text in texts], minlength=2 * words) for texts in (ours, theirs)
        )
        assert alike(one, two)
    gaps = [np.concatenate([np.diff(np.flatnonzero(~text)) for text in texts]) for texts in (ours, theirs)]
    assert alike(*(np.bincount(gap, minlength=2 * words) for gap in gaps))


def test_about_a_quarter_is_hidden_by_few_masks(written, windows):
    """0.3 of the words by budget, less what overlaps and what the end cuts; a mask per 3 / (1 - e⁻³) words or so."""
    seen = corrupt(Infilling(whole_word=False, permute_sentences=False).bind(written), windows([190] * 500, 190))
    inputs = seen["input_ids"]
    masks = (inputs == written.mask).sum(axis=1)
    hidden = 190 - (seen["attention_mask"].sum(axis=1) - 2 - masks)
    assert 0.24 < hidden.mean() / 190 < 0.28
    assert 15 < masks.mean() < 19


def test_nothing_is_lost_when_the_inputs_are_full(written, windows):
    """With spans of one word or none every mask hides one word or is inserted: only insertions are left out."""
    objective = Infilling(permute_sentences=False, infill_rate=0.5, mean_span=1.0, whole_word=False).bind(written)
    for size in (1, 3, 30):
        examples = windows([size] * 300, 30)
        seen = corrupt(objective, examples)
        for inputs, labels, tokens in zip(seen["input_ids"], seen["labels"], examples["tokens"], strict=True):
            assert [*labels[1 : size + 1]] == [*tokens[:size]]
            left = [token for token in inputs if token > 6]
            places = [int(np.flatnonzero(tokens[:size] == token)[0]) for token in left]
            assert places == sorted(set(places))
            assert (inputs == written.mask).sum() > 0 and (inputs == written.eos).sum() == 1


def test_sentences_stay_whole_and_come_in_any_order(written, windows):
    objective = Infilling(infill_rate=0.0).bind(written)
    examples = windows([12] * 6_000, 14)
    examples["sentence_ids"][:, :12] = [0] * 5 + [1] * 3 + [2] * 4
    inputs = corrupt(objective, examples)["input_ids"][:, 1:13]
    counts = np.zeros(6)
    for text, tokens in zip(inputs, examples["tokens"], strict=True):
        sentences = tokens[:5], tokens[5:8], tokens[8:12]
        orders = [np.concatenate([sentences[i] for i in order]) for order in itertools.permutations(range(3))]
        (found,) = [number for number, order in enumerate(orders) if (order == text).all()]
        counts[found] += 1
    assert uniform(counts)


def test_texts_are_rotated_to_begin_anywhere(written, windows):
    objective = Infilling(**ALONE, rotate_rate=0.7).bind(written)
    examples = windows([10] * 6_000, 12)
    inputs = corrupt(objective, examples)["input_ids"][:, 1:11]
    begins = [
        int(np.flatnonzero(tokens[:10] == text[0])[0]) for text, tokens in zip(inputs, examples["tokens"], strict=True)
    ]
    for text, tokens, begin in zip(inputs, examples["tokens"], begins, strict=True):
        assert (text == np.roll(tokens[:10], -begin)).all()
    counts = np.bincount(begins, minlength=10)
    assert uniform(counts[1:]) and within(int(counts[0]), 6_000, 0.3 + 0.7 / 10)


def test_masks_shown_as_random_tokens(written, windows):
    objective = Infilling(**ALONE, mask_rate=0.5, random_rate=0.2).bind(written)
    examples = windows([100] * 200, 100)
    shown = corrupt(objective, examples)["input_ids"][:, 1:101]
    changed = shown != examples["tokens"]
    assert (changed.sum(axis=1) <= 50).all()
    masks = int((shown == written.mask).sum())
    assert within(masks, 200 * 50, 0.8 + 0.2 / written.size)
    assert uniform(np.bincount(shown[changed & (shown != written.mask)], minlength=300)[np.arange(300) != written.mask])


def test_nothing_is_asked_of_no_text(written, windows):
    seen = corrupt(Infilling(rotate_rate=1.0, mask_rate=0.1, delete_rate=0.1).bind(written), windows([0], 8))
    assert (seen["labels"] == IGNORED).all() and not seen["decoder_attention_mask"].any()
    assert seen["input_ids"][0, :3].tolist() == [written.bos, written.eos, written.pad]


def test_an_example_is_the_same_whatever_its_batch(written, windows):
    objective = Infilling(rotate_rate=0.5, delete_rate=0.1).bind(written)
    examples = windows([40] * 12, 40)
    together = corrupt(objective, examples)
    alone = corrupt(objective, {name: value[7:8] for name, value in examples.items()})
    assert all((together[name][7] == alone[name][0]).all() for name in together)


@pytest.mark.parametrize(
    "settings", [{"infill_rate": 1.1}, {"mask_rate": -0.1}, {"mean_span": 0.5}, {"rotate_rate": 2.0}]
)
def test_impossible_settings_are_refused(written, settings):
    with pytest.raises(ObjectiveError):
        Infilling(**settings)
    with pytest.raises(ObjectiveError, match="no room"):
        Infilling().bind(written).length_read(2)
