"""A run that starts from a published checkpoint has its settings and its tokens, or hears in one sentence that it cannot."""

import dataclasses
import json
import shutil
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.forms import TextForm
from data.text.source import Text
from data.text.tokenizers import train_tokenizer
from experiments.assembly.assemble import assemble
from experiments.commands import parse_experiment
from experiments.experiment import Experiment, ExperimentError, Phase, describe, load
from experiments.initial import RECORD, Initial, open_initial
from models import hub
from models.config import ModelError
from models.llama import LlamaConfig, LlamaForCausalLM
from objectives import CausalLM
from training.checkpoints import write_json
from training.optimizers import AdamW
from training.parallel import Parallel

PUBLISHED = LlamaConfig(
    vocab_size=400, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=16, rms_norm_eps=1e-3, rope_theta=500.0, attention_bias=True, initializer_range=0.2,
    bos_token_id=0, eos_token_id=2, pad_token_id=1,
)  # fmt: skip
RECIPE = LlamaConfig(hidden_size=64, num_hidden_layers=3, attention_dropout=0.1, dtype="bfloat16")


def fresh(model: nn.Module, seed: int):
    return nn.unbox(model.init(jax.random.key(seed), jnp.zeros((1, 2), jnp.int32)))


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    words = ["wheat field tractor barley harvest farmer barn orchard apple meadow goat fence"] * 3
    train_tokenizer(words, kind="byte_bpe", vocab_size=400, path=folder / "words.json")
    model = LlamaForCausalLM(PUBLISHED)
    hub.save(folder, model, fresh(model, 1), tokenizer=folder / "words.json")
    (folder / "words.json").unlink()
    return folder


@pytest.fixture(scope="module")
def started(texts, published, tmp_path_factory) -> Experiment:
    cache = tmp_path_factory.mktemp("cache")
    return Experiment(
        name="started",
        architecture="LlamaForCausalLM",
        model=RECIPE,
        objective=CausalLM(),
        data=Text(source=str(texts), held_out=0.1, cache=str(cache)),
        optimizer=AdamW(learning_rate=1e-3, warmup_steps=2),
        batch_size=4,
        steps=4,
        phases=(Phase(1.0, TextForm(16)),),
        initial_model=str(published),
        parallel=Parallel(devices=1),
        evaluate_every=2,
        evaluation_examples=4,
        checkpoint_every=2,
        folder=str(cache / "run"),
    )


def test_settings_and_tokens_are_those_of_the_checkpoint(started, published):
    lines: list[str] = []
    assembly = assemble(started, say=lines.append)
    expected = dataclasses.replace(PUBLISHED, attention_dropout=0.1, dtype="bfloat16")
    assert assembly.experiment.model == expected
    assert assembly.student.config == dataclasses.replace(expected, attention="reference")  # what auto is on CPUs
    assert any(f"settings of {published}" in line and "rope_theta 500.0 (not 10000.0)" in line for line in lines)
    theirs = json.loads((published / "tokenizer.json").read_text())["model"]["vocab"]
    assert assembly.data.tokenizer.get_vocab() == theirs
    state = assembly.spread.gather(assembly.initial_state().params)
    jax.tree.map(np.testing.assert_array_equal, state, fresh(LlamaForCausalLM(PUBLISHED), 1)["params"])


def test_a_run_knows_its_checkpoint_again_when_that_has_moved_or_is_gone(started, published, tmp_path):
    first, second, run = tmp_path / "first", tmp_path / "second", tmp_path / "run"
    shutil.copytree(published, first)
    begun = dataclasses.replace(started, initial_model=str(first), folder=str(run))
    before = assemble(begun)
    run.mkdir()
    write_json(run / RECORD, before.initial.record)
    before.data.save(run, 16)
    first.rename(second)
    gone = assemble(begun)
    assert gone.description() == before.description() and gone.data.fingerprint == before.data.fingerprint
    assert gone.student == before.student
    with pytest.raises(ExperimentError, match="has no checkpoint to go on from"):
        gone.initial_state()
    moved = dataclasses.replace(begun, initial_model=str(second))
    assert assemble(moved).description() == before.description()
    model = LlamaForCausalLM(PUBLISHED)
    hub.save(second, model, fresh(model, 2), tokenizer=second / "tokenizer.json")
    assert assemble(moved).description() != before.description()
    with pytest.raises(ExperimentError, match="did not start from it, but from"):
        assemble(dataclasses.replace(begun, initial_model=str(tmp_path / "third")))


def without_tokenizer(experiment: Experiment, folder: Path) -> Experiment:
    shutil.copytree(experiment.initial_model, folder, dirs_exist_ok=True)
    (folder / "tokenizer.json").unlink()
    return dataclasses.replace(experiment, initial_model=str(folder))


def with_other_tokens(experiment: Experiment, folder: Path) -> Experiment:
    train_tokenizer(["other words"], kind="byte_bpe", vocab_size=300, path=folder / "tokenizer.json")
    return dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, tokenizer=str(folder)))


def of_another_architecture(experiment: Experiment, folder: Path) -> Experiment:
    (folder / "config.json").write_text('{"model_type": "bert"}')
    return dataclasses.replace(experiment, initial_model=str(folder))


REFUSED = {
    "no tokenizer": (without_tokenizer, "has no tokenizer beside its parameters: set --data.tokenizer"),
    "other tokens": (
        with_other_tokens,
        "reads other tokens than the data are written in: .* has the id .* there and .* here",
    ),
    "another architecture": (of_another_architecture, "holds a bert, and the experiment trains a llama"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(started, tmp_path, case):
    changed, said = REFUSED[case]
    with pytest.raises(ExperimentError, match=said):
        assemble(changed(started, tmp_path))


def test_flags_that_contradict_the_checkpoint_are_refused_with_both_values(published):
    recipe = ["experiments/llama/pretrain.py", "--initial-model", str(published)]
    experiment, _ = parse_experiment("train", [*recipe, "--model.rope-theta", "7", "--model.num-hidden-layers=2"])
    with pytest.raises(ExperimentError, match=r"its rope_theta is 500\.0 and --model\.rope-theta says 7\.0; leave"):
        open_initial(experiment).adopted_by(experiment)
    flags = ["--model.rms-norm-eps", "1e-3", "--model.attention-dropout", "0.3", "--model.eos-token-id", "9"]
    experiment, _ = parse_experiment("train", [*recipe, *flags])
    model = open_initial(experiment).adopted_by(experiment).model
    assert (model.attention_dropout, model.eos_token_id, model.rope_theta) == (0.3, 9, 500.0)
    assert "set_of_model" not in experiment.description() and "set_of_model" not in describe(experiment)


def test_of_pictures_labels_and_size_are_the_experiments():
    from experiments.vit import pretrain as vit

    recipe = vit.digits()
    labels = tuple("abcdefg")
    ours = dataclasses.replace(recipe.model, labels=labels, image_size=48, hidden_dropout_prob=0.3)
    published = dataclasses.replace(
        ours, labels=("x",), image_size=32, num_attention_heads=1, layer_norm_eps=0.5, hidden_act="relu"
    )
    initial = Initial("published", None, dataclasses.replace(published, hidden_dropout_prob=0.0), "", None)
    model = initial.adopted_by(dataclasses.replace(recipe, model=ours)).model
    assert model == dataclasses.replace(published, labels=labels, image_size=48, hidden_dropout_prob=0.3)


@pytest.mark.parametrize("flag", ["initial_model", "teacher"])
def test_a_checkpoint_that_is_not_there_is_missed_before_pictures_are_fetched(flag, tmp_path, monkeypatch):
    """Preparing a data set of TFDS takes hours."""
    experiment = load("experiments/levit/pretrain.py:levit_256")
    experiment = dataclasses.replace(experiment, **{"teacher": None, flag: str(tmp_path / "gone")})
    monkeypatch.setattr(type(experiment.data), "prepare", lambda *_: pytest.fail("the data were prepared first"))
    with pytest.raises((ModelError, ExperimentError), match="gone"):
        assemble(experiment)
