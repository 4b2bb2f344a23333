"""Models asked by lm-evaluation-harness: the same log-likelihoods and texts as through its adapter for `transformers`."""

import json
import math

import numpy as np
import pytest

from data.text import tokenizers
from tests.parity.folders.folders_out import ARCHITECTURES, their_model
from tests.parity.folders.published_tokenizers import PUBLISHED, sentences
from tests.parity.reference import transformers

pytest.importorskip("lm_eval")
pytestmark = pytest.mark.slow

from lm_eval import simple_evaluate  # noqa: E402 - only where it is installed
from lm_eval.api.instance import Instance  # noqa: E402
from lm_eval.models.huggingface import HFLM  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

from experiments.commands import harness  # noqa: E402
from experiments.experiment import ExperimentError  # noqa: E402
from inference.harness import HarnessModel  # noqa: E402
from inference.pipeline import pipeline  # noqa: E402
from models.config import ModelError  # noqa: E402

FAMILIES = {
    "GPT-2": "vocab.json of GPT-2",
    "Llama": "tokenizer.json of Llama 3",
    "T5": "T5Tokenizer",
}


@pytest.fixture(scope="module", params=FAMILIES)
def both(request, tmp_path_factory):
    """Our adapter and theirs, of one folder with random parameters."""
    folder = tmp_path_factory.mktemp("harness")
    PUBLISHED[FAMILIES[request.param]](folder)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    model = their_model(ARCHITECTURES[request.param], tokenizers.vocabulary(tokenizers.load(folder)))
    model.save_pretrained(folder)
    backend = "seq2seq" if request.param == "T5" else "causal"
    return HarnessModel(folder), HFLM(pretrained=model, tokenizer=theirs, backend=backend, batch_size=4), folder


def asked(kind: str, *arguments) -> list[Instance]:
    return [Instance(kind, {}, given, number) for number, given in enumerate(arguments)]


def texts() -> list[str]:
    return [text for text in sentences() if len(text) > 40][:40]


def test_log_likelihoods(both):
    ours, theirs, _ = both
    pairs = [(text[:20], text[20:]) for text in texts()]
    pairs += [("", "the cat"), ("ends with a space ", "word"), ("long " * 80, "end"), ("a", " b" * 15)]
    requests = asked("loglikelihood", *pairs)
    for one, other in zip(ours.loglikelihood(requests), theirs.loglikelihood(requests), strict=True):
        assert one[0] == pytest.approx(other[0], abs=2e-4)
        assert one[1] == other[1]


def test_whole_texts(both):
    ours, theirs, _ = both
    requests = asked("loglikelihood_rolling", *((text * 4,) for text in texts()[:12]), ("short",))
    np.testing.assert_allclose(
        ours.loglikelihood_rolling(requests), theirs.loglikelihood_rolling(requests), rtol=1e-5, atol=1e-3
    )


def test_texts_until(both):
    ours, theirs, _ = both
    for settings in ({"until": ["e"], "max_gen_toks": 12}, {"until": [], "max_gen_toks": 7, "do_sample": False}):
        requests = asked("generate_until", *((text, settings) for text in texts()[:9]))
        assert ours.generate_until(requests) == [theirs.generate_until([request])[0] for request in requests]


def test_perplexity_is_that_of_the_harness(both):
    ours, _, folder = both
    if ours.backend == "seq2seq":
        with pytest.raises(ModelError, match="perplexity takes a model that sees what stands before"):
            pipeline("perplexity", folder)
        return
    text = " ".join(texts()[:6])
    answer = pipeline("perplexity", folder)(text)
    whole = ours.loglikelihood_rolling(asked("loglikelihood_rolling", (text,)))[0]
    first = len(ours.tok_encode(text)) - answer["tokens"]  # Llama 3 reads what begins a text twice in the harness
    if not first:
        assert answer["loss"] * answer["tokens"] == pytest.approx(-whole, rel=1e-5)
    assert answer["bits_per_byte"] == pytest.approx(
        answer["loss"] * answer["tokens"] / math.log(2) / len(text.encode()), rel=1e-6
    )
    assert answer["perplexity"] == pytest.approx(math.exp(answer["loss"]), rel=1e-6)


TASK = """task: last_word
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: {kind}
doc_to_text: "{{{{context}}}}"
doc_to_target: "{target}"
{rest}
"""


@pytest.fixture
def task_file(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    rows = [{"context": text.rpartition(" ")[0], "word": text.rpartition(" ")[2]} for text in texts()[:20]]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "last_word.yaml"
    metrics = "{metric: perplexity, aggregation: perplexity}, {metric: acc, aggregation: mean}"
    rest = f"metric_list: [{metrics}]"
    path.write_text(TASK.format(file=tmp_path / "rows.jsonl", kind="loglikelihood", target=" {{word}}", rest=rest))
    return path


def test_a_task_file_of_ones_own(both, task_file, tmp_path, capsys):
    _, theirs, folder = both
    harness.main([str(task_file), "--model", str(folder), "--output", str(tmp_path / "out.json")])
    assert "last_word" in capsys.readouterr().out
    found = json.loads((tmp_path / "out.json").read_text())["results"]["last_word"]
    expected = simple_evaluate(model=theirs, tasks=[str(task_file)], task_manager=TaskManager(), bootstrap_iters=10)[
        "results"
    ]["last_word"]
    assert found["perplexity,none"] == pytest.approx(expected["perplexity,none"], rel=1e-4)
    assert found["acc,none"] == expected["acc,none"]


def test_what_cannot_be_asked(both, tmp_path):
    _, _, folder = both
    with pytest.raises(ExperimentError, match="there is no file"):
        harness.main([str(tmp_path / "none.yaml"), "--model", str(folder)])
    with pytest.raises(ExperimentError, match="has no task 'no_such_task'"):
        harness.main(["no_such_task", "--model", str(folder)])
