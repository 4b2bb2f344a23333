"""A task of one's own: one new file, anywhere, that `lacuna predict` is given."""

import json
import re
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.text import tokenizers
from experiments.commands import predict
from experiments.experiment import ExperimentError
from models import bert, gpt2, hub
from models.config import ModelError
from tests.experiments.training_runs.test_runs import lacuna, python_m

FILE = '''
"""How surprising a masked language model finds each word of a text, read as it stands."""

import dataclasses

import numpy as np

from inference.scores import softmax
from inference.task import Output, Task


@dataclasses.dataclass(frozen=True)
class Surprise(Task):
    """The tokens of a text with their surprise, the most surprising first.

    Attributes:
        most: tokens to name.
        bits: measure in bits, not in nats.
    """

    name = "surprise"
    asks = (Output("logits", "tokens vocabulary", also=("prediction_logits",)),)
    causal = False

    most: int = 3
    bits: bool = False

    def answer(self, reader, given, read, outputs):
        scores = softmax(outputs["logits"])[np.arange(len(read.ids)), read.ids]
        surprise = -np.log(scores) / (np.log(2) if self.bits else 1)
        order = np.argsort(-surprise)[: self.most]
        return [{"token": read.tokens[place], "surprise": float(surprise[place])} for place in order]
'''


@pytest.fixture(scope="module")
def models_here(tmp_path_factory) -> Path:
    """A folder with two models: of both sides, and of what comes before."""
    root = tmp_path_factory.mktemp("models")
    tokenizers.train_tokenizer(["the cat sat on the mat and looked"] * 9, vocab_size=60, path=root / "tokenizer.json")
    small = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    for model in (
        bert.BertForPreTraining(bert.BertConfig(vocab_size=60, initializer_range=0.5, **small)),
        gpt2.GPT2LMHeadModel(gpt2.GPT2Config(vocab_size=60, n_embd=16, n_layer=1, n_head=2, eos_token_id=3)),
    ):
        variables = nn.unbox(model.init(jax.random.key(0), **model.blank()))
        hub.save(root / model.config.model_type, model, variables, tokenizer=root / "tokenizer.json")
    return root


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "surprise.py").write_text(FILE)
    return str(tmp_path / "surprise.py")


def test_a_task_of_one_file_is_asked(file, models_here, environment):
    texts = ["the cat sat", "the mat looked on and on and on"]
    done = lacuna(
        [*python_m("predict"), file, *texts, "--most", "2", "--bits", "--model", str(models_here / "bert")], environment
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    model, variables = hub.load(models_here / "bert")
    for text, answer in zip(texts, answers, strict=True):
        encoding = tokenizers.load(models_here / "bert").encode(text)
        logits = model.apply(variables, jnp.array([encoding.ids])).prediction_logits[0]
        surprise = -np.asarray(jax.nn.log_softmax(logits))[np.arange(len(encoding.ids)), encoding.ids] / np.log(2)
        np.testing.assert_allclose([a["surprise"] for a in answer], np.sort(surprise)[::-1][:2], rtol=1e-4)
        assert answer[0]["token"] == encoding.tokens[surprise.argmax()]


@pytest.mark.parametrize(
    ("which", "arguments", "model", "message"),
    [
        ("", [], "gpt2", "surprise takes a model that sees both sides of a token, and GPT2LMHeadModel does not"),
        (":Surprises", [], "bert", "has no task 'Surprises': did you mean 'Surprise'?"),
        ("", ["--top-k", "3"], "bert", "surprise has no --top-k; `lacuna predict surprise --help` says what it has"),
    ],
)
def test_what_does_not_fit_is_a_sentence(which, arguments, model, message, file, models_here):
    with pytest.raises((ModelError, ExperimentError), match=re.escape(message)):
        predict.main([file + which, "a cat", *arguments, "--model", str(models_here / model)])


def test_its_settings_are_flags_that_help_names(file, capsys):
    with pytest.raises(SystemExit):
        predict.main([file, "--help"])
    shown = capsys.readouterr().out
    assert "tokens to name." in shown and "--bits" in shown and "--model" in shown
