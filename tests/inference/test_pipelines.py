"""Pipelines against the model they ask, on a small vocabulary and random weights."""

import json
import shutil
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.text import tokenizers
from data.text.tokenizers import train_tokenizer
from inference import pipeline as pipelines
from inference.generation import GenerationConfig, generate
from inference.generation.config import of_model
from inference.pipeline import pipeline
from inference.readers.reader import apply
from inference.scores import probabilities
from models import bart, bert, electra, gpt2, hub, llama, t5
from models.config import ModelError

TEXTS = ["the cat sat on the mat and looked at the dog", "dogs and cats are animals that do not speak to rivers"] * 9


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train_tokenizer(TEXTS, vocab_size=90, path=path)
    return path


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: Path):
    """Folder of a model with the head asked for."""

    def of(head: str) -> Path:
        path = tmp_path_factory.getbasetemp() / "pipelines" / head
        if not path.exists():
            model = getattr(bert, head)(
                bert.BertConfig(
                    vocab_size=90,
                    hidden_size=16,
                    num_hidden_layers=2,
                    num_attention_heads=2,
                    intermediate_size=32,
                    max_position_embeddings=40,
                    initializer_range=0.5,
                    labels=("bad", "so so", "good"),
                )
            )
            variables = nn.unbox(model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32)))
            hub.save(path, model, variables, tokenizer=tokenizer)
        return path

    return of


def outputs(path: Path, *texts: str):
    """The model's outputs for one text or a pair, unpadded, and the encoding."""
    encoding = tokenizers.load(path).encode(*texts)
    model, variables = hub.load(path)
    ids, types = (jnp.asarray([x], jnp.int32) for x in (encoding.ids, encoding.type_ids))
    return model.apply(variables, ids, token_type_ids=types), encoding


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
    monkeypatch.setattr(pipelines, "TOGETHER", 3)
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
    answer = pipeline("question-answering", path)((question, context), longest=longest)
    assert (answer["start"], answer["end"]) == (encoding.offsets[start][0], encoding.offsets[end][1])
    assert answer["answer"] == context[answer["start"] : answer["end"]]
    assert 0 < answer["score"] <= 1


def test_questions_are_answered_together_as_alone(folder, monkeypatch):
    monkeypatch.setattr(pipelines, "TOGETHER", 3)
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


# ── What scores are, and where they are read ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("problem", "labels", "expected"),
    [
        (None, 3, jax.nn.softmax),
        ("single_label_classification", 3, jax.nn.softmax),
        ("multi_label_classification", 3, jax.nn.sigmoid),
        ("regression", 3, lambda scores: scores),
        (None, 1, jax.nn.sigmoid),
        ("single_label_classification", 1, jax.nn.sigmoid),
        ("regression", 1, lambda scores: scores),
    ],
)
def test_scores_are_what_the_problem_says(problem, labels, expected):
    logits = np.random.default_rng(0).normal(size=(4, labels)).astype(np.float32) * 9
    config = bert.BertConfig.from_json(
        {"model_type": "bert", "problem_type": problem, "id2label": {str(i): f"label {i}" for i in range(labels)}}
    )
    assert config.to_json().get("problem_type") == problem
    np.testing.assert_allclose(probabilities(logits, config), np.asarray(expected(logits)), atol=1e-6)


def test_a_problem_that_there_is_none_of():
    with pytest.raises(ModelError, match="problem_type='ranking': expected regression, single_label_classification,"):
        bert.BertConfig(problem_type="ranking")


def test_labels_of_several_at_once_are_scored_each_by_itself(folder, tmp_path):
    path = shutil.copytree(folder("BertForSequenceClassification"), tmp_path / "bert")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "problem_type": "multi_label_classification"}))
    answers = pipeline("text-classification", path)(TEXTS[0])
    logits = outputs(path, TEXTS[0])[0].logits[0]
    by_label = {a["label"]: a["score"] for a in answers}
    np.testing.assert_allclose([by_label[name] for name in ("bad", "so so", "good")], jax.nn.sigmoid(logits), atol=1e-6)
    assert pipeline("text-classification", path)(TEXTS[0], top_k=2) == answers[:2]


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("padding", [None, 0])
def test_causal_classifiers_read_their_last_real_token(kind, padding, tokenizer, tmp_path):
    """Whatever stands behind or before it: rows of a batch, a mask on either side, and a text of the pipeline."""
    sizes = dict(vocab_size=90, pad_token_id=padding, labels=("bad", "so so", "good"), initializer_range=0.5)
    if kind == "gpt2":
        config = gpt2.GPT2Config(
            **sizes, n_positions=40, n_embd=16, n_layer=2, n_head=2, eos_token_id=1, bos_token_id=1
        )
        model = gpt2.GPT2ForSequenceClassification(config)
    else:
        shape = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
        config = llama.LlamaConfig(**sizes, **shape, max_position_embeddings=40, bos_token_id=2, eos_token_id=3)
        model = llama.LlamaForSequenceClassification(config)
    variables = nn.unbox(model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32)))
    ids = np.array([[5, 6, 7, 8], [9, 10, 0, 0], [11, 0, 0, 0]])
    mask = (ids > 0).astype(np.int32)
    run = jax.jit(model.apply)
    alone = [run(variables, row[None, :count]).logits[0] for row, count in zip(ids, mask.sum(1), strict=True)]
    np.testing.assert_allclose(run(variables, ids, mask).logits, alone, atol=1e-5)
    left, positions = np.sort(mask, axis=1), np.maximum(np.cumsum(np.sort(mask, axis=1), axis=1) - 1, 0)
    turned = np.take_along_axis(ids, np.argsort(mask, axis=1, kind="stable"), axis=1)
    np.testing.assert_allclose(run(variables, turned, left, positions).logits, alone, atol=1e-5)
    hub.save(tmp_path / kind, model, variables, tokenizer=tokenizer)
    ask, texts = pipeline("text-classification", tmp_path / kind), ["a mat", TEXTS[0], "dogs"]
    for text, answer in zip(texts, ask(texts), strict=True):
        expected = jax.nn.softmax(run(variables, np.array([ask_ids(tmp_path / kind, text)])).logits[0])
        scores = {a["label"]: a["score"] for a in answer}
        np.testing.assert_allclose([scores[name] for name in config.labels], expected, atol=1e-5)


def ask_ids(path: Path, text: str) -> list[int]:
    return tokenizers.load(path).encode(text).ids


@pytest.mark.parametrize("count", [0, -1, 2.5, True])
def test_numbers_of_answers_that_cannot_be(count, folder):
    with pytest.raises(ModelError, match=f"top_k={count}: expected a whole number of at least 1"):
        pipeline("fill-mask", folder("BertForMaskedLM"))("the [MASK]", top_k=count)
    with pytest.raises(ModelError, match=f"top_k={count}: expected"):
        pipeline("text-classification", folder("BertForSequenceClassification"))("the cat", top_k=count)
    with pytest.raises(ModelError, match=f"longest={count}: expected"):
        pipeline("question-answering", folder("BertForQuestionAnswering"))(("who", "the cat"), longest=count)


# ── Encoders with decoders ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="session")
def writers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of a BART with a vocabulary of bytes, and of a T5 with one without a mask token."""
    root = tmp_path_factory.mktemp("writers")
    train_tokenizer(TEXTS, kind="byte_bpe", vocab_size=300, path=root / "bytes.json")
    train_tokenizer(TEXTS, kind="unigram", vocab_size=60, path=root / "unigram.json")
    text = (root / "unigram.json").read_text().replace("<mask>", "<none>")
    (root / "unigram.json").write_text(text)
    shape = dict(encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2)
    shape |= dict(d_model=16, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=40, init_std=0.5)
    models = {
        "bart": bart.BartForConditionalGeneration(bart.BartConfig(**shape, vocab_size=300)),
        "t5": t5.T5ForConditionalGeneration(
            t5.T5Config(vocab_size=60, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
        ),
    }
    for (name, model), kind in zip(models.items(), ("bytes", "unigram"), strict=True):
        variables = nn.unbox(model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32)))
        hub.save(root / name, model, variables, tokenizer=root / f"{kind}.json")
    return {name: root / name for name in models}


def test_fill_mask_takes_the_mask_and_the_inputs_that_the_model_has(writers):
    text = "the<mask> sat on the mat"
    encoding = tokenizers.load(writers["bart"]).encode(text)
    model, variables = hub.load(writers["bart"])
    place = encoding.tokens.index("<mask>")
    shares = np.asarray(jax.nn.softmax(model.apply(variables, jnp.array([encoding.ids])).logits[0, place]))
    ask = pipeline("fill-mask", writers["bart"])
    answers = ask(text, top_k=300)
    np.testing.assert_allclose([shares[a["token"]] for a in answers], [a["score"] for a in answers], atol=1e-6)
    assert next(a for a in answers if a["token_str"] == " cat")["sequence"] == "the cat sat on the mat"
    with pytest.raises(ModelError, match="no <mask> in 'the cat': put one"):
        ask("the cat")
    with pytest.raises(ModelError, match="the tokenizer has no mask token: fill-mask takes"):
        pipeline("fill-mask", writers["t5"])


def test_a_vocabulary_without_a_mask_is_refused_in_one_sentence(writers, folder, tmp_path):
    shutil.copytree(folder("BertForMaskedLM"), tmp_path / "bert")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        path = tmp_path / "bert" / name
        path.write_text(path.read_text().replace("[MASK]", "[NONE]").replace("mask_token", "none_token"))
    with pytest.raises(ModelError, match="the tokenizer has no mask token: fill-mask takes"):
        pipeline("fill-mask", tmp_path / "bert")("the cat")


@pytest.mark.parametrize("name", ["bart", "t5"])
def test_writing_is_what_generate_gives(name, writers):
    """A text alone, unpadded, against several at a time; and the same answers under the names of the tasks."""
    texts = ["the cat sat on the mat and looked at the dog", "dogs", "a mat"]
    found = pipeline("text2text-generation", writers[name])(texts, max_new_tokens=6, num_beams=2)
    model, variables = hub.load(writers[name])
    tokenizer = tokenizers.load(writers[name])
    for text, (answer,) in zip(texts, found, strict=True):
        settings = GenerationConfig.from_json(of_model(model.config.to_json()), max_new_tokens=6, num_beams=2)
        sequence = generate(model, variables, [tokenizer.encode(text).ids], settings=settings).sequences[0]
        assert answer == {"generated_text": tokenizer.decode(np.asarray(sequence).tolist())}
    for task, key in (("summarization", "summary_text"), ("translation", "translation_text")):
        again = pipeline(task, writers[name])(texts[1], max_new_tokens=6, num_beams=2)
        assert again == [{key: found[1][0]["generated_text"]}]
    assert pipelines.writing_task(writers[name]) == "text2text-generation"
    with pytest.raises(ModelError, match="text-generation takes a model that sees what stands before"):
        pipeline("text-generation", writers[name])


def test_what_a_folder_says_of_a_task(writers, tmp_path):
    """Its prefix and its lengths; `generation_config.json` goes before `config.json`, the caller before both."""
    folder = shutil.copytree(writers["bart"], tmp_path / "bart")
    (folder / "generation_config.json").unlink()
    path = folder / "config.json"
    special = {"summarization": {"prefix": "the cat: ", "max_length": 4, "min_length": 4}}
    path.write_text(json.dumps({**json.loads(path.read_text()), "max_length": 9, "task_specific_params": special}))
    plain = pipeline("text2text-generation", writers["bart"])
    summary = pipeline("summarization", folder)("dogs")[0]["summary_text"]
    told = dict(max_new_tokens=3, min_new_tokens=3)
    assert summary == plain("the cat: dogs", **told)[0]["generated_text"] != plain("dogs", **told)[0]["generated_text"]
    general = pipeline("text2text-generation", folder)
    assert general("dogs") == plain("dogs", max_new_tokens=8) != plain("dogs", max_new_tokens=5)
    assert general("dogs", max_new_tokens=5) == plain("dogs", max_new_tokens=5)
    (folder / "generation_config.json").write_text('{"max_length": 6, "decoder_start_token_id": 2, "eos_token_id": 2}')
    unforced = pipeline("text2text-generation", folder)("dogs")
    assert unforced != general("dogs", max_new_tokens=5)  # nothing forces the last token any more
