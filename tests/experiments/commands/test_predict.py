"""`lacuna predict` of files and of standard input: a line for each input, and which line is at fault."""

import io
import json
import re
from pathlib import Path

import flax.linen as nn
import jax
import pytest

from data.text.tokenizers import train_tokenizer
from experiments.commands import inputs, predict
from experiments.experiment import ExperimentError
from inference import pipeline
from models import bert, gpt2, hub

TEXTS = ["the cat sat", "the mat looked at the dog", "a dog", "café \u2028 cat", "cat"]
SHAPE = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, vocab_size=60)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    """Models of one head each, in folders of their names."""
    root = tmp_path_factory.mktemp("models")
    train_tokenizer(["the cat sat on the mat and looked at the dog"] * 9, vocab_size=60, path=root / "tokenizer.json")
    for head in ("BertForSequenceClassification", "BertForQuestionAnswering", "BertForMultipleChoice"):
        config = bert.BertConfig(**SHAPE, max_position_embeddings=24, initializer_range=0.5, labels=("bad", "good"))
        model = getattr(bert, head)(config)
        variables = nn.unbox(model.init(jax.random.key(0), **model.blank()))
        hub.save(root / head, model, variables, tokenizer=root / "tokenizer.json")
    return root


@pytest.fixture
def ask(folders, capsys, monkeypatch):
    """The lines that a command prints, and the sentence that it ends with where it fails."""

    def of(task: str, head: str, *arguments: str, stdin: bytes = b"") -> tuple[list, str]:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        failure = ""
        try:
            predict.main([task, *arguments, "--model", str(folders / head)])
        except ExperimentError as error:
            failure = str(error)
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()], failure

    return of


def classified(ask, *arguments: str, stdin: bytes = b"") -> tuple[list, str]:
    return ask("text-classification", "BertForSequenceClassification", *arguments, stdin=stdin)


def near(found, expected) -> None:
    assert [[a["label"] for a in answer] for answer in found] == [[a["label"] for a in answer] for answer in expected]
    for one, other in zip(found, expected, strict=True):
        assert [a["score"] for a in one] == pytest.approx([a["score"] for a in other], abs=1e-6)


def test_every_way_to_ask_gives_the_same(ask, folders, tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "FIRST_BLOCK", 2)  # three blocks, of which the last is not full
    expected = pipeline("text-classification", folders / "BertForSequenceClassification")(TEXTS)
    lines = "\n".join(TEXTS).encode()
    (tmp_path / "texts.txt").write_bytes(b"\xef\xbb\xbf" + lines.replace(b"\n", b"\r\n"))
    (tmp_path / "texts.jsonl").write_text("\n\n".join(json.dumps({"text": text}) for text in TEXTS) + "\n")
    (tmp_path / "texts.tsv").write_bytes(b"text\n" + lines)
    (tmp_path / "texts").write_text("".join(json.dumps(text) + "\n" for text in TEXTS))
    for arguments, stdin in (
        (TEXTS, b""),
        (["--file", str(tmp_path / "texts.txt")], b""),
        (["--file", str(tmp_path / "texts.jsonl")], b""),
        (["--file", str(tmp_path / "texts.tsv")], b""),
        (["--file", str(tmp_path / "texts"), "--format", "jsonl"], b""),
        (["-"], lines),
        (["-", "--format", "tsv"], b"text\n" + lines + b"\n"),
    ):
        found, failure = classified(ask, *arguments, stdin=stdin)
        assert not failure
        near(found, expected)


def test_questions_and_choices(ask, tmp_path):
    context = "the cat sat on the mat"
    found, _ = ask("question-answering", "BertForQuestionAnswering", "who sat", context, "the dog", context)
    assert len(found) == 2
    lines = [{"question": "who sat", "context": context}, ["the dog", context]]
    stdin = "\n".join(map(json.dumps, lines)).encode()
    again, _ = ask("question-answering", "BertForQuestionAnswering", "-", stdin=stdin)
    assert [answer["answer"] for answer in again] == [answer["answer"] for answer in found]
    (tmp_path / "a.tsv").write_text(f"context\tquestion\n{context}\twho sat\n{context}\tthe dog\n")
    tables, _ = ask("question-answering", "BertForQuestionAnswering", "--file", str(tmp_path / "a.tsv"))
    assert [answer["answer"] for answer in tables] == [answer["answer"] for answer in found]
    chosen, _ = ask("multiple-choice", "BertForMultipleChoice", "the", "cat", "dog", "mat")
    (tmp_path / "b.tsv").write_text("text\tchoices\tchoices\tchoices\nthe\tcat\tdog\tmat\n")
    again, _ = ask("multiple-choice", "BertForMultipleChoice", "--file", str(tmp_path / "b.tsv"))
    assert [a["choice"] for a in again[0]] == [a["choice"] for a in chosen[0]] and len(chosen) == 1


LONG = " ".join(["cat"] * 30)


@pytest.mark.parametrize(
    ("name", "content", "before", "message"),
    [
        (
            "a.txt",
            f"a cat\nthe dog\n{LONG}\nthe mat\n",
            2,
            "a.txt, line 3: a text of 32 tokens does not fit a model wi",
        ),
        ("a.txt", b"a cat\nthe \xff dog\n", 1, "a.txt, line 2 is not UTF-8 (invalid start byte): convert it"),
        ("a.jsonl", '"a cat"\n\n{"text": "a\n', 1, "a.jsonl, line 3 is no JSON: "),
        (
            "a.jsonl",
            '"a cat"\n{"txt": "a"}\n',
            1,
            "a.jsonl, line 2: text-classification takes a text, or a pair (text, t",
        ),
        (
            "a.jsonl",
            '"a cat"\n"dog"\n7\n',
            2,
            "a.jsonl, line 3: text-classification takes a text, or a pair (text, text_p",
        ),
        ("a.tsv", "text\ttext_pair\na\tb\na\tb\tc\n", 1, "a.tsv, line 3 has 3 columns, and the first line names 2: te"),
        ("a.tsv", "txt\na cat\n", 0, "a.tsv, line 1 names a column 'txt': did you mean 'text'?"),
        ("a.tsv", "text_pair\na cat\n", 0, "a.tsv, line 1 names no column 'text', but text_pair"),
        ("a.csv", "a cat\n", 0, "a.csv is neither .txt nor .jsonl nor .tsv: say which with --format"),
    ],
)
@pytest.mark.parametrize("block", [1, 2, 32])
def test_what_is_wrong_with_a_line_is_said_when_those_before_it_are_answered(
    name, content, before, message, block, ask, tmp_path, monkeypatch
):
    monkeypatch.setattr(inputs, "FIRST_BLOCK", block)
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    found, failure = classified(ask, "--file", str(tmp_path / name))
    assert len(found) == before and message in failure


def test_what_writes_has_the_flags_of_generation(folders, capsys):
    config = gpt2.GPT2Config(vocab_size=60, n_positions=24, n_embd=16, n_layer=1, n_head=2, initializer_range=0.5)
    model = gpt2.GPT2LMHeadModel(config)
    variables = nn.unbox(model.init(jax.random.key(0), **model.blank()))
    hub.save(folders / "gpt2", model, variables, tokenizer=folders / "tokenizer.json")
    ask, texts = pipeline("text-generation", folders / "gpt2"), ["the cat", "a dog"]
    for flags, settings in (
        (
            "--max-new-tokens 3 --num-beams 3 --num-return-sequences 2",
            dict(max_new_tokens=3, num_beams=3, num_return_sequences=2),
        ),
        ("--do-sample --temperature 5 --seed 4", dict(do_sample=True, temperature=5.0, seed=4)),
    ):
        predict.main(["text-generation", *texts, *flags.split(), "--model", str(folders / "gpt2")])
        found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert found == ask(texts, **settings) != ask(texts)
    with pytest.raises(ExperimentError, match="text-generation has no --num-beam; `lacuna predict text-gen"):
        predict.main(["text-generation", "a", "--num-beam", "3", "--model", str(folders / "gpt2")])
    with pytest.raises(SystemExit):
        predict.main(["text-generation", "--help"])
    shown = capsys.readouterr().out
    assert "--return-full-text" in shown and "--no-repeat-ngram-size" in shown and "--model" in shown


def test_nothing_or_too_much_is_asked(ask, tmp_path):
    for arguments in ([], ["a cat", "--file", "x.txt"]):
        found, failure = classified(ask, *arguments)
        assert not found and re.match("give inputs, or - for standard input, or a --file of them", failure)
    assert "x.txt cannot be read: No such file" in classified(ask, "--file", str(tmp_path / "x.txt"))[1]
    assert classified(ask, "-") == ([], "")
