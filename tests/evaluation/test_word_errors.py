"""Word and character error rates against edit distances written the slow obvious way."""

import numpy as np
import pytest

from evaluation.metrics.word_errors import WordErrors

RIGHT = ["The cat sat on the mat", "", "a b c d", "it's 20 dollars"]
WRITTEN = ["the cat sat at mat", "ghost words", "a\tx c  d e", "It is twenty dollars"]


def distance(one, other) -> int:
    """Levenshtein's."""
    table = np.zeros((len(one) + 1, len(other) + 1), int)
    table[0], table[:, 0] = range(len(other) + 1), range(len(one) + 1)
    for i, a in enumerate(one, 1):
        for j, b in enumerate(other, 1):
            table[i, j] = min(table[i - 1, j - 1] + (a != b), table[i - 1, j] + 1, table[i, j - 1] + 1)
    return int(table[-1, -1])


def figures(metric: WordErrors, written=WRITTEN, right=RIGHT) -> dict[str, float]:
    return metric.compute(metric.rows(written, right))


def test_rates_are_of_all_texts_together():
    pairs = [(" ".join(one.split()), " ".join(other.split())) for one, other in zip(RIGHT, WRITTEN, strict=True)]
    words = sum(distance(one.split(), other.split()) for one, other in pairs) / sum(
        len(one.split()) for one, _ in pairs
    )
    letters = sum(distance(one, other) for one, other in pairs) / sum(len(one) for one, _ in pairs)
    found = figures(WordErrors(normalizer="none"))
    assert found == {"wer": pytest.approx(100 * words), "cer": pytest.approx(100 * letters)}


def test_what_is_written_where_nothing_should_be_counts():
    rows = WordErrors(normalizer="none").rows(["ghost words"], [""])
    assert (rows["word_errors"].tolist(), rows["words"].tolist()) == ([2.0], [0.0])
    assert np.isinf(figures(WordErrors(), ["ghost"], [""])["wer"]) and np.isnan(
        figures(WordErrors(), [""], [""])["wer"]
    )


def test_normalizers():
    """Numbers, contractions and spelling are no errors in English; case and marks are none anywhere."""
    one, other = ["It is twenty dollars, and my colour."], ["it's $20 and my color"]
    rates = {name: figures(WordErrors(normalizer=name), one, other)["wer"] for name in ("english", "basic", "none")}
    assert rates["english"] == 0.0 < rates["basic"] <= rates["none"]
    assert figures(WordErrors(normalizer="basic"), ["HELLO, World!"], ["hello world"])["wer"] == 0.0


def test_the_signature_says_what_figures_have_in_common():
    assert "normalizer:basic" in WordErrors(normalizer="basic").signature and "jiwer:" in WordErrors().signature
