"""Labels of words, answers and choices, through the command line: fine-tuned, measured, exported, asked."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.text.tokenizers import train_tokenizer
from evaluation.metrics.squad import scores
from inference.pipeline import pipeline
from models import hub
from tests.data.text.annotated import test_choices as choices
from tests.data.text.annotated import test_questions as questions
from tests.data.text.annotated import test_tagged as tagged
from tests.experiments import small_annotated
from tests.experiments.training_runs.test_runs import lacuna, python_m

pytestmark = pytest.mark.slow

SMALL = str(Path(small_annotated.__file__))
CLASSES = {"tag": "TokenClassification", "answer": "QuestionAnswering", "choose": "MultipleChoice"}


def choices_of(count: int, seed: int) -> list[dict]:
    """Choices of which a colour is right."""
    random, found = np.random.default_rng(seed), []
    for number in range(count):
        endings, label = [str(word) for word in random.choice(choices.WORDS[3:], 3)], int(random.integers(3))
        endings[label] = str(random.choice(choices.WORDS[:3]))
        found.append({"context": f"{seed} {number}", "endings": endings, "label": label})
    return found


def questions_of(count: int, seed: int) -> list[dict]:
    """Questions whose answer is the only place of a context, which is longer than a window."""
    random, found = np.random.default_rng(seed), []
    for number in range(count):
        words = [str(word) for word in random.choice(questions.THINGS, 50)]
        place = int(random.integers(50))
        words[place] = str(random.choice(questions.PLACES))
        answers = {"text": [words[place]], "answer_start": [len(" ".join([*words[:place], ""]))]}
        found.append({"question": f"where {seed} {number}?", "context": " ".join(words), "answers": answers})
    return found


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, Path]:
    """A folder with a file to train on and one that is held out, of each."""
    folder = tmp_path_factory.mktemp("sources")
    for split, count, seed in (("train", 400, 0), ("validation", 40, 1)):
        tagged.write(folder / "tag" / f"{split}.conll", tagged.sentences(count, seed))
        for name, rows in (("answer", questions_of(count, seed)), ("choose", choices_of(count, seed))):
            (folder / name).mkdir(exist_ok=True)
            (folder / name / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return {name: folder / name for name in CLASSES}


@pytest.fixture(scope="module")
def published(sources, tmp_path_factory) -> Path:
    """A checkpoint of a classifier of words with three other labels, random, with its tokenizer."""
    folder = tmp_path_factory.mktemp("published")
    texts = [row.text for row in tagged.source(folder, sources["tag"]).opened().rows]
    texts += [f"{row['question']} {row['context']}" for row in questions_of(200, 0)]
    texts += [" ".join(choices.WORDS)] * 9
    train_tokenizer(texts, vocab_size=150, path=folder / "tokenizer.json")
    config = small_annotated.tag().model
    model = hub.model_class("bert", "BertForTokenClassification")(
        config.__class__(**{**vars(config), "labels": ("a", "b", "c")})
    )
    variables = jax.jit(model.init)(jax.random.key(7), jnp.zeros((1, 4), jnp.int32))
    hub.save(folder / "model", model, variables, tokenizer=folder / "tokenizer.json")
    return folder / "model"


@pytest.fixture(scope="module")
def runs(sources, published, environment, tmp_path_factory):
    """{task: folder of a finished run and what it wrote to the terminal}"""
    found = {}
    for name, source in sources.items():
        folder = tmp_path_factory.mktemp(name)
        command = [*python_m("train"), f"{SMALL}:{name}", "--folder", str(folder), "--data.source", str(source)]
        done = lacuna([*command, "--initial-model", str(published)], environment)
        assert done.returncode == 0, done.stderr
        found[name] = folder, done.stderr + done.stdout
    return found


def result(runs, name: str) -> dict:
    return json.loads((runs[name][0] / "result.json").read_text())


def test_heads_are_initialised_and_the_encoder_is_kept(runs):
    assert "3 other labels" in runs["tag"][1] and "freshly initialised" in runs["tag"][1]
    for name in ("answer", "choose"):
        assert "freshly initialised, for the file lacks them" in runs[name][1]


@pytest.mark.parametrize(
    ("name", "figure", "least"), [("tag", "f1", 0.9), ("answer", "f1", 0.8), ("choose", "accuracy", 0.9)]
)
def test_it_learns_and_the_best_checkpoint_has_the_best_figure(runs, name, figure, least):
    found = result(runs, name)
    low, high = found["intervals"][figure]
    assert low <= found["held_out"][figure] <= high and found["held_out"][figure] > least
    lines = [json.loads(line) for line in (runs[name][0] / "metrics.jsonl").read_text().splitlines()]
    measured = {line["step"]: line[figure] for line in lines if line["split"] == "held_out"}
    assert measured[found["best_step"]] == found["held_out"][figure] == max(measured.values())


def test_words_are_judged_and_labels_named(runs, sources):
    held_out = result(runs, "tag")["held_out"]
    assert held_out["word_accuracy"] == pytest.approx(held_out["top_1_accuracy"])
    about = json.loads((runs["tag"][0] / "model" / "config.json").read_text())
    assert about["id2label"] == {"0": "B-LOC", "1": "B-PER", "2": "I-PER", "3": "O"}


def test_what_is_scored_is_what_a_pipeline_answers(runs, sources):
    """The figures of the run are those of the exported model's answers to the held-out questions."""
    ask = pipeline("question-answering", runs["answer"][0] / "model")
    settings = dict(ranking="logits", max_answer_len=30, max_seq_len=40, doc_stride=12)
    rows = [json.loads(line) for line in (sources["answer"] / "validation.jsonl").read_text().splitlines()]
    answers = ask([(row["question"], row["context"]) for row in rows], **settings)
    found = [scores(answer["answer"], row["answers"]["text"]) for answer, row in zip(answers, rows, strict=True)]
    held_out = result(runs, "answer")["held_out"]
    assert np.mean(found, axis=0) == pytest.approx([held_out["exact_match"], held_out["f1"]])
    pair, settings = (rows[0]["question"], rows[0]["context"]), {**settings, "handle_impossible_answer": True}
    assert (
        ask(pair, **settings, null_threshold=1e9)["answer"] and not ask(pair, **settings, null_threshold=-1e9)["answer"]
    )


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("tag", ["token-classification", "Mary Ann went to Rio"]),
        ("answer", ["question-answering", "where 1 1?", "lamp book shelf map key"]),
        ("choose", ["multiple-choice", "1 1", "stone", "red", "old"]),
    ],
)
def test_the_exported_model_answers_on_the_command_line(runs, environment, name, asked):
    said = lacuna([*python_m("predict"), *asked, "--model", str(runs[name][0] / "model")], environment)
    assert said.returncode == 0, said.stderr
    answer = json.loads(said.stdout.splitlines()[0])
    expected = {
        "tag": lambda: {entity["entity"] for entity in answer} & {"B-PER", "B-LOC"},
        "answer": lambda: answer["answer"] == "shelf",
        "choose": lambda: answer[0]["choice"] == "red",
    }
    assert expected[name](), answer


@pytest.mark.parametrize("name", CLASSES)
def test_transformers_opens_it_and_gives_the_same_outputs(runs, name):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    theirs, about = getattr(transformers, f"AutoModelFor{CLASSES[name]}").from_pretrained(
        runs[name][0] / "model", output_loading_info=True
    )
    assert not about["missing_keys"] and not about["unexpected_keys"]
    model, variables = hub.load(runs[name][0] / "model")
    ids = np.random.default_rng(0).integers(5, 100, (2, 3, 12) if name == "choose" else (2, 12))
    with torch.no_grad():
        expected = theirs.eval()(input_ids=torch.tensor(ids))
    found = model.apply(variables, input_ids=jnp.asarray(ids, jnp.int32))
    for output in ("start_logits", "end_logits") if name == "answer" else ("logits",):
        np.testing.assert_allclose(found[output], expected[output].numpy(), atol=1e-5)


def test_reports_show_guesses(runs):
    for name, shown in (("tag", "B-PER"), ("answer", "where"), ("choose", "choice ")):
        assert shown in (runs[name][0] / "report.html").read_text().split("What it guesses")[1]


@pytest.mark.parametrize(("name", "shown"), [("tag", "B-LOC"), ("answer", "start_positions"), ("choose", "labels ")])
def test_explained(sources, environment, name, shown, tmp_path):
    command = [*python_m("explain"), f"{SMALL}:{name}", "--data.source", str(sources[name]), "--folder", str(tmp_path)]
    said = lacuna(command, environment)
    assert said.returncode == 0, said.stderr
    assert shown in said.stdout


def test_bad_rows_are_a_sentence_before_training(sources, environment, tmp_path):
    (tmp_path / "bad.jsonl").write_text(
        '{"question": "who", "context": "Anna", "answers": {"text": ["x"], "answer_start": [0]}}'
    )
    command = [*python_m("train"), f"{SMALL}:answer", "--data.source", str(tmp_path / "bad.jsonl")]
    done = lacuna([*command, "--folder", str(tmp_path / "run")], environment)
    assert done.returncode and "line 1: the answer 'x' does not stand at character 0" in done.stderr
    assert "Traceback" not in done.stderr and "compiling" not in done.stderr
