"""Language models that count: read from ARPA files, and what they change in the search for a text."""

import gzip
import math
from pathlib import Path

import numpy as np
import pytest

from data.audio.characters import Characters
from inference.ctc import beam_search, log_softmax
from inference.speech.ngrams import NGrams
from inference.speech.spelled import SpelledSpeechRecognition
from models.config import ModelError

ARPA = """
\\data\\
ngram 1=5
ngram 2=3

\\1-grams:
-1.0 <unk>
-99 <s> -0.5
-0.7 AB -0.3
-0.9 CB -0.2
-1.1 A

\\2-grams:
-0.2 <s> AB
-0.1 AB CB
-0.4 CB A

\\end\\
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "words.arpa").write_text(ARPA)
    return tmp_path / "words.arpa"


def test_probabilities_are_those_of_the_longest_run_with_back_off(model: Path) -> None:
    grams = NGrams.read(model)
    assert grams.order == 2
    expected = {
        ("AB", ()): -0.2,  # behind <s>
        ("CB", ("AB",)): -0.1,
        ("CB", ("A", "AB")): -0.1,
        ("A", ("AB",)): -0.3 - 1.1,  # backed off
        ("A", ()): -0.5 - 1.1,
        ("AB", ("A",)): -0.7,  # no weight of A
        ("XY", ("AB",)): -0.3 - 1.0,
        ("AB", ("XY",)): -0.7,
    }
    for (word, before), value in expected.items():
        assert grams.log_probability(word, before) == pytest.approx(value * math.log(10)), (word, before)
    (model.parent / "small.arpa.gz").write_bytes(gzip.compress(ARPA.encode()))
    assert NGrams.read(model.parent / "small.arpa.gz").entries == grams.entries


def test_of_texts_that_sound_alike_the_likelier_is_written(model: Path) -> None:
    characters = Characters.of(["ABC"])
    spoken = characters.encode("AB CB")
    path = [number for token in spoken for number in (token, characters.pad)]
    scores = 4 * np.eye(characters.size)[path]
    scores[6, characters.ids["A"]] = 4.2  # the C of the second word might be an A, and that a little likelier
    log = log_softmax(scores)
    assert characters.decode(beam_search(log, characters.pad, 10)) == "AB AB"
    task = SpelledSpeechRecognition(num_beams=10, language_model=str(model), language_weight=1.0, word_score=0.0)
    assert characters.decode(beam_search(log, characters.pad, 10, task._known(characters))) == "AB CB"
    known, prefix = task._known(characters), tuple(characters.encode("AB C"))
    assert known(prefix, False) == pytest.approx(-0.2 * math.log(10)), "a word counts when it has ended"
    assert known((*prefix, characters.ids["B"]), True) == pytest.approx(-0.3 * math.log(10))


@pytest.mark.parametrize("content", ["", "a text", "\\1-grams:\n-1.0 two words here\n", "\\1-grams:\nx word\n"])
def test_what_is_no_language_model_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "broken.arpa").write_text(content)
    with pytest.raises(ModelError, match="is no ARPA file"):
        NGrams.read(tmp_path / "broken.arpa")
    with pytest.raises(ModelError, match="there is no language model"):
        NGrams.read(tmp_path / "nowhere.arpa")
    with pytest.raises(ModelError, match="set num_beams above 1"):
        SpelledSpeechRecognition(language_model="words.arpa")
