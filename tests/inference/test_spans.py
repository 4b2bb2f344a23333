"""Windows of long texts and the spans chosen in them, against the slow, obvious way."""

import itertools
import math

import numpy as np
import pytest

from data.errors import DataError
from data.text.strides import cut, windows_of
from data.text.tokenizers import train_tokenizer
from inference import spans

CONTEXT = "The dog looked at the cat. Then the cats sat on the mats, and the dog spoke to rivers that do not speak."
QUESTION = "who sat on the mats"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory):
    texts = [CONTEXT, "dogs and cats are animals"] * 9
    return train_tokenizer(texts, vocab_size=70, path=tmp_path_factory.mktemp("spans") / "tokenizer.json")


@pytest.fixture(scope="module")
def asked(tokenizer):
    """Windows of the context, with random logits."""
    (encodings,) = cut(tokenizer, [(QUESTION, CONTEXT)], longest=24, overlap=5, strategy="only_second")
    random = np.random.default_rng(0)
    logits = [tuple(random.normal(size=(2, len(encoding.ids))) * 3) for encoding in encodings]
    return encodings, logits


@pytest.mark.parametrize(("longest", "overlap"), [(24, 0), (24, 5), (16, 3), (200, 50)])
def test_windows_have_all_tokens_and_overlap(longest, overlap, tokenizer):
    whole = tokenizer.encode(QUESTION, CONTEXT)
    (windows,) = cut(tokenizer, [(QUESTION, CONTEXT)], longest=longest, overlap=overlap, strategy="only_second")
    pieces = [[i for i, part in zip(w.ids, w.sequence_ids, strict=True) if part == 1] for w in windows]
    joined = pieces[0] + [token for piece in pieces[1:] for token in piece[overlap:]]
    assert joined == [i for i, part in zip(whole.ids, whole.sequence_ids, strict=True) if part == 1]
    assert all(len(w.ids) <= longest for w in windows) and {len(w.ids) for w in windows[:-1]} <= {longest}
    assert all(w.ids[: whole.sequence_ids.index(1)] == whole.ids[: whole.sequence_ids.index(1)] for w in windows)
    assert tokenizer.truncation is None


def test_an_overlap_that_does_not_fit_is_halved_for_that_question_alone(tokenizer):
    long = " ".join(["the cat sat"] * 3)
    alone, with_question = cut(tokenizer, [("a", CONTEXT), (long, CONTEXT)], 20, overlap=10, strategy="only_second")
    for windows, shared in ((alone, 10), (with_question, 4)):  # the long question leaves room for eight tokens
        first, second = (
            [pair for pair, part in zip(w.offsets, w.sequence_ids, strict=True) if part == 1] for w in windows[:2]
        )
        assert first[-shared:] == second[:shared] and first[-shared - 1] not in second
    assert with_question[-1].offsets[-2][1] == len(CONTEXT)
    with pytest.raises(DataError, match=r"20 tokens leave no room for a text beside 'the cat sat .*: shorten that, or"):
        cut(tokenizer, [(" ".join(["the cat sat"] * 9), CONTEXT)], 20, strategy="only_second")
    with pytest.raises(DataError, match="2 tokens leave no room for a text: shorten"):
        cut(tokenizer, [CONTEXT], 2)


def test_a_token_starts_an_answer_where_it_has_most_context(asked):
    encodings, _ = asked
    windows = windows_of(encodings, align_to_words=False)
    places = [(n, i, w.spans[i]) for n, w in enumerate(windows) for i in np.flatnonzero(w.inside)]
    for number, place, pair in places:
        scores = {}
        for other, where, others_pair in places:
            if tuple(others_pair) == tuple(pair):
                inside = np.flatnonzero(windows[other].inside)
                scores[other] = min(where - inside[0], inside[-1] - where) + 0.01 * len(inside)
        assert windows[number].fullest[place] == (number == max(scores, key=lambda n: (scores[n], -n)))
    assert {sum(w.fullest[w.inside].tolist()) for w in windows} != {windows[0].inside.sum()}


@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("impossible", [True, False])
@pytest.mark.parametrize("longest", [1, 3, 30])
def test_by_probability(longest, impossible, align, asked):
    """Every span of every window, its probability beside the tokens of the context and [CLS]."""
    encodings, logits = asked
    expected, nulls = {}, []
    for encoding, pair in zip(encodings, logits, strict=True):
        inside = [i for i, part in enumerate(encoding.sequence_ids) if part == 1]
        starts, ends = ({i: math.exp(x[i]) for i in [0, *inside]} for x in pair)
        total = sum(starts.values()) * sum(ends.values())
        nulls.append(starts[0] * ends[0] / total)
        for first, last in itertools.product(inside, inside):
            if first <= last < first + longest:
                begin, end = encoding.offsets[first][0], encoding.offsets[last][1]
                if align:
                    begin = encoding.word_to_chars(encoding.word_ids[first], 1)[0]
                    end = encoding.word_to_chars(encoding.word_ids[last], 1)[1]
                text = CONTEXT[begin:end]
                expected[text.lower()] = expected.get(text.lower(), 0) + starts[first] * ends[last] / total
    if impossible:
        expected[""] = min(nulls)
    found = spans.by_probability(
        windows_of(encodings, align),
        logits,
        CONTEXT,
        top_k=9,
        longest=longest,
        impossible=impossible,
        spans=10_000,
    )
    best = sorted(expected.items(), key=lambda item: -item[1])[:9]
    assert [answer["answer"].lower() for answer in found] == [text for text, _ in best]
    np.testing.assert_allclose([answer["score"] for answer in found], [score for _, score in best], rtol=1e-9)
    assert all(CONTEXT[answer["start"] : answer["end"]] == answer["answer"] for answer in found)


@pytest.mark.parametrize("threshold", [-50.0, 0.0, 50.0])
@pytest.mark.parametrize("longest", [1, 3, 30])
def test_by_logits(longest, threshold, asked):
    """The released script's way: starts and ends among the best of a window, a start where the context is fullest."""
    encodings, logits = asked
    windows, expected = windows_of(encodings, align_to_words=False), {}
    for window, (start, end) in zip(windows, logits, strict=True):
        for first in sorted(range(len(start)), key=lambda i: -start[i])[:7]:
            for last in sorted(range(len(end)), key=lambda i: -end[i])[:7]:
                if window.fullest[first] and window.inside[last] and first <= last < first + longest:
                    text = CONTEXT[window.spans[first][0] : window.spans[last][1]]
                    expected[text] = max(expected.get(text, -math.inf), start[first] + end[last])
    ranked = sorted(expected, key=lambda text: -expected[text])[:7]
    found = spans.by_logits(windows, logits, CONTEXT, top_k=7, longest=longest, candidates=7)
    assert [answer["answer"] for answer in found] == ranked
    powers = np.exp([expected[text] for text in ranked])
    np.testing.assert_allclose([answer["score"] for answer in found], powers / powers.sum())
    null = min(start[0] + end[0] for start, end in logits)
    difference = null - expected[ranked[0]]
    found = spans.by_logits(
        windows, logits, CONTEXT, longest=longest, candidates=7, impossible=True, threshold=threshold
    )
    assert found[0]["answer"] == ("" if difference > threshold else ranked[0])


def test_no_span_at_all_is_no_answer(asked):
    encodings, logits = asked
    windows = windows_of(encodings)
    cls_alone = [tuple(np.where(np.arange(len(x)) < 3, 99.0, x) for x in pair) for pair in logits]
    (answer,) = spans.by_logits(windows, cls_alone, CONTEXT, candidates=3)
    assert answer == {"score": 1.0, "start": 0, "end": 0, "answer": ""}
