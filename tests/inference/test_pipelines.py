"""Pipelines against the model they ask, on a small vocabulary and random weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inference.pipeline import pipeline
from inference.readers.reader import apply
from inference.readers.text import TextReader
from models import electra, hub
from models.config import ModelError
from tests.inference.small_folders import TEXTS, outputs


@pytest.mark.parametrize("head", ["BertForMaskedLM", "BertForPreTraining"])
def test_fill_mask_gives_the_probabilities_of_the_model(head, folder):
    path, text = folder(head), "the [MASK] sat on the mat"
    found, encoding = outputs(path, text)
    logits = found["logits" if head == "BertForMaskedLM" else "prediction_logits"][0, encoding.tokens.index("[MASK]")]
    expected = np.asarray(jax.nn.softmax(logits))
    answers = pipeline("fill-mask", path)(text, top_k=90)
    assert set(answers[0]) == {"score", "token", "token_str", "sequence"}
    np.testing.assert_allclose([expected[a["token"]] for a in answers], [a["score"] for a in answers], atol=1e-6)
    assert abs(sum(a["score"] for a in answers) - 1) < 1e-5
    assert [a["score"] for a in answers] == sorted((a["score"] for a in answers), reverse=True)
    assert len(pipeline("fill-mask", path)(text)) == 5
    word = next(a for a in answers if a["token_str"] == "cat")
    assert word["sequence"] == "the cat sat on the mat"


def test_several_masks_give_a_list_each(folder):
    first, second = pipeline("fill-mask", folder("BertForMaskedLM"))("the [MASK] sat on the [MASK]", top_k=2)
    assert len(first) == len(second) == 2
    assert "[MASK]" in first[0]["sequence"] and "[MASK]" in second[0]["sequence"]


def test_the_vocabulary_is_scored_at_masks_alone(folder, monkeypatch):
    path, shapes = folder("BertForMaskedLM"), []
    texts = ["the [MASK] sat on " + "[MASK] " * 4 + "mat", "a [MASK]", "the cat [MASK] and " + "dog " * 9]

    def noted(*given):
        outputs = apply(*given)
        shapes.append(outputs["logits"].shape)
        return outputs

    monkeypatch.setattr("inference.readers.text.apply", noted)
    answers = pipeline("fill-mask", path)(texts, top_k=90)
    assert sorted(shapes) == [(1, 8, 90), (2, 4, 90)]
    for text, answer in zip(texts, answers, strict=True):
        found, encoding = outputs(path, text)
        places = [place for place, token in enumerate(encoding.tokens) if token == "[MASK]"]
        expected = np.asarray(jax.nn.softmax(found["logits"][0, np.array(places)]))
        answer = answer if len(places) > 1 else [answer]
        assert len(answer) == len(places)
        for one, scores in zip(answer, expected, strict=True):
            np.testing.assert_allclose([scores[a["token"]] for a in one], [a["score"] for a in one], atol=1e-6)


def test_a_text_without_mask_is_refused(folder):
    with pytest.raises(ModelError, match=r"no \[MASK\] in 'the cat': put one where a token is to be guessed"):
        pipeline("fill-mask", folder("BertForMaskedLM"))(["a [MASK]", "the cat"])


def test_of_electra_the_generator_fills_masks(tokenizer, tmp_path):
    config = electra.ElectraConfig(vocab_size=90, embedding_size=8, hidden_size=16, num_hidden_layers=1)
    model = electra.ElectraForJointPreTraining(config)
    hub.save(tmp_path, model, model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32)), tokenizer=tokenizer)
    assert len(pipeline("fill-mask", tmp_path / "generator")("the [MASK] sat", top_k=3)) == 3
    with pytest.raises(
        ModelError,
        match=r"fill-mask asks for logits or prediction_logits \(tokens, vocabulary\); ElectraForPreTraining gives"
        r" .*logits \(tokens\)",
    ):
        pipeline("fill-mask", tmp_path)


@pytest.mark.parametrize(
    ("task", "head"),
    [
        ("fill-mask", "BertForMaskedLM"),
        ("feature-extraction", "BertModel"),
        ("text-classification", "BertForSequenceClassification"),
        ("token-classification", "BertForTokenClassification"),
    ],
)
def test_a_list_is_answered_as_its_texts_one_by_one(task, head, folder, monkeypatch):
    """Whatever they are padded to, and however many the model sees at a time."""
    monkeypatch.setattr(TextReader, "together", 3)
    ask = pipeline(task, folder(head))
    texts = [
        "the [MASK]",
        "dogs and cats [MASK] not speak to the river and the mat",
        "[MASK]",
        "a [MASK] a",
        "[MASK] cat",
    ]
    together, alone = ask(texts), [ask(text) for text in texts]
    assert len(together) == 5

    def same(one, other):
        if isinstance(one, list):
            assert len(one) == len(other)
            for a, b in zip(one, other, strict=True):
                same(a, b)
        elif isinstance(one, dict):
            assert one.keys() == other.keys()
            for key in one:
                same(one[key], other[key])
        elif isinstance(one, float):
            assert abs(one - other) < 1e-5
        else:
            assert one == other

    same(together, alone)


def test_few_shapes_are_compiled_and_once_for_equal_models(folder):
    jax.clear_caches()
    for _ in range(2):
        ask = pipeline("feature-extraction", folder("BertModel"))
        for length in range(1, 30, 3):
            ask(" ".join(["cat"] * length))
    assert apply._cache_size() == 2  # up to 16 tokens, up to 32


def test_feature_extraction_is_the_mean_scaled_to_length_one(folder):
    path = folder("BertModel")
    expected = np.asarray(outputs(path, TEXTS[0])[0].last_hidden_state[0]).mean(0)
    found = pipeline("feature-extraction", path)(TEXTS[0])["embedding"]
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-5)


def test_text_classification_names_its_labels(folder):
    path = folder("BertForSequenceClassification")
    expected = jax.nn.softmax(outputs(path, TEXTS[0])[0].logits[0])
    found = pipeline("text-classification", path)(TEXTS[0])
    assert [a["score"] for a in found] == sorted((a["score"] for a in found), reverse=True)
    by_label = {a["label"]: a["score"] for a in found}
    np.testing.assert_allclose([by_label[name] for name in ("bad", "so so", "good")], expected, atol=1e-6)


def test_token_classification_says_where_its_tokens_stand(folder):
    path, text = folder("BertForTokenClassification"), "The cat, the DOG"
    found, encoding = outputs(path, text)
    shares = np.asarray(jax.nn.softmax(found.logits[0]))[1:-1]
    answers = pipeline("token-classification", path)(text)
    # What the vocabulary does not know is given as it stands in the text.
    assert "[UNK]" in encoding.tokens and [a["word"] for a in answers] == ["the", "cat", ",", "the", "dog"]
    assert [a["entity"] for a in answers] == [("bad", "so so", "good")[i] for i in shares.argmax(-1)]
    np.testing.assert_allclose([a["score"] for a in answers], shares.max(-1), atol=1e-6)
    pieces = [text[a["start"] : a["end"]].lower() for a in answers]
    assert "".join(pieces) == text.lower().replace(" ", "")


@pytest.mark.parametrize("longest", [1, 3, 30])
def test_question_answering_takes_the_likeliest_span_of_the_context(longest, folder):
    path, question, context = (
        folder("BertForQuestionAnswering"),
        "who sat on the mat",
        "The dog looked. Then the cat sat on it.",
    )
    found, encoding = outputs(path, question, context)
    inside = [i for i, part in enumerate(encoding.sequence_ids) if part == 1]
    scores = {
        (i, j): float(found.start_logits[0, i] + found.end_logits[0, j])
        for i in inside
        for j in inside
        if 0 <= j - i < longest
    }
    start, end = max(scores, key=scores.get)
    answer = pipeline("question-answering", path)((question, context), max_answer_len=longest)
    assert (answer["start"], answer["end"]) == (encoding.offsets[start][0], encoding.offsets[end][1])
    assert answer["answer"] == context[answer["start"] : answer["end"]]
    assert 0 < answer["score"] <= 1


def test_questions_are_answered_together_as_alone(folder, monkeypatch):
    monkeypatch.setattr(TextReader, "together", 3)
    ask, questions = pipeline("question-answering", folder("BertForQuestionAnswering")), ["who sat", "what", "the dog"]
    pairs = [(question, context) for question in questions for context in ("the mat", TEXTS[1])]
    together = ask(pairs)
    assert len({answer["answer"] for answer in together}) > 2
    for answer, pair in zip(together, pairs, strict=True):
        alone = ask(pair)
        assert alone.pop("score") == pytest.approx(answer.pop("score"), rel=1e-5) and alone == answer


def test_what_is_no_question(folder):
    ask = pipeline("question-answering", folder("BertForQuestionAnswering"))
    with pytest.raises(ModelError, match=r"takes a pair \(question, context\), and 'who' came"):
        ask(["who", "the cat"])
    with pytest.raises(ModelError, match=r"takes a pair \(question, context\), and \('who', 'the cat', 'sat'\) came"):
        ask(("who", "the cat", "sat"))
    with pytest.raises(ModelError, match="the context of 'who' is empty"):
        ask([("what", "the cat"), ("who", "")])


def test_what_cannot_be_asked(folder, tmp_path):
    with pytest.raises(ModelError, match="unknown task 'fill-maks': did you mean 'fill-mask'"):
        pipeline("fill-maks", folder("BertModel"))
    with pytest.raises(ModelError, match=r"fill-mask asks for .*; BertModel gives last_hidden_state \(tokens, 16\)"):
        pipeline("fill-mask", folder("BertModel"))
    with pytest.raises(ModelError, match="no checkpoint folder"):
        pipeline("fill-mask", tmp_path / "nothing")
    ask = pipeline("feature-extraction", folder("BertModel"))
    with pytest.raises(ModelError, match="no text came"):
        ask([])
    with pytest.raises(ModelError, match="a text of 62 tokens does not fit a model with room for 40"):
        ask(" ".join(["cat"] * 60))
    with pytest.raises(ModelError, match="takes a text, and 7 came"):
        ask(["the cat", 7])
    with pytest.raises(ModelError, match="feature-extraction has no setting 'top_k'"):
        ask("the cat", top_k=3)
