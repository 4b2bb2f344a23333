"""BART with a source encoder, from a BART checkpoint: what the first stage trains and what it leaves, what the second does."""

import dataclasses
import itertools
import json
from pathlib import Path

import jax
import numpy as np
import pytest
import sacrebleu
from flax.traverse_util import flatten_dict

from data.errors import DataError
from data.forms import PairForm
from experiments.assembly.assemble import assemble
from experiments.bart.translate import FIRST, bible, stages
from experiments.commands.train import train
from experiments.experiment import Experiment, ExperimentError
from inference.pipeline import pipeline
from models import hub
from models.bart import BartConfig
from tests.experiments.fine_tuning.numbers import HELD_OUT, experiment

pytestmark = pytest.mark.slow
SHAPE = dict(
    vocab_size=300,
    max_position_embeddings=32,
    d_model=32,
    encoder_layers=2,
    encoder_attention_heads=2,
    encoder_ffn_dim=64,
    decoder_layers=1,
    decoder_attention_heads=2,
    decoder_ffn_dim=64,
    dropout=0.0,
)


@pytest.fixture(scope="module")
def began(tmp_path_factory) -> Path:
    """A folder with the table of pairs and a run of BART on them, which is the checkpoint to begin with."""
    folder = tmp_path_factory.mktemp("stages")
    one = dataclasses.replace(
        experiment(folder),
        architecture="BartForConditionalGeneration",
        model=BartConfig(**SHAPE),
        steps=2,
        folder=str(folder / "bart"),
    )
    train(one, "a test")
    return folder


def two_stages(folder: Path, **settings) -> Experiment:
    """Spanish to English: the tokenizer of the checkpoint writes, one of its own reads."""
    base, recipe = experiment(folder), bible()
    data = dataclasses.replace(
        recipe.data, source=base.data.source, cache=base.data.cache, source_vocab_size=280, held_out=0.1
    )
    shape = dict(source_vocab_size=280, source_layers=1, source_attention_heads=2, source_ffn_dim=64)
    return dataclasses.replace(
        recipe,
        model=dataclasses.replace(recipe.model, **SHAPE, **shape),
        data=data,
        optimizer=dataclasses.replace(base.optimizer, learning_rate=5e-3),
        phases=stages(PairForm(24, 24), 0.5),
        evaluations=base.evaluations,
        evaluate_every=1_000,
        checkpoint_every=1_000,
        initial_model=str(folder / "bart/model"),
        folder=str(folder / "run"),
        **settings,
    )


def flat(state) -> dict[str, np.ndarray]:
    return flatten_dict(state["params"], sep="/")


def trained(one: Experiment, phase: int, count: int):
    """The parameters before and after some steps of a phase."""
    assembly = assemble(one).at(phase)
    state = assembly.initial_state()
    before = assembly.spread.gather(state.variables)
    step = assembly.compile_train_step(phase)
    for batch in itertools.islice(assembly.batches(phase, 0), count):
        state, _ = step(state, assembly.spread.put_batch(batch))
    return flat(before), flat(assembly.spread.gather(state.variables))


def test_it_begins_with_the_checkpoint_and_a_fresh_source_encoder(began: Path):
    before, _ = trained(two_stages(began), 0, 0)
    _, published = hub.load(began / "bart/model")
    published = flat(published)
    assert {name for name in before if not name.startswith("model/source/")} == set(published)
    for name, x in published.items():
        np.testing.assert_array_equal(before[name], x)
    assert before["model/source/words/embedding"].shape == (280, 32)


def test_the_first_stage_trains_what_the_paper_says_and_nothing_else(began: Path):
    before, after = trained(two_stages(began), 0, 3)
    moved = {name for name in before if (before[name] != after[name]).any()}
    projections = {f"model/encoder/layers/attention/{one}/kernel" for one in ("query", "key", "value")}
    positions = {f"model/{side}/position_embeddings/embedding" for side in ("encoder", "decoder")}
    assert {name for name in moved if not name.startswith("model/source/")} >= projections | positions
    allowed = projections | positions | {name.replace("kernel", "bias") for name in projections}
    assert all(name in allowed or name.startswith("model/source/") for name in moved)
    for name in projections:
        np.testing.assert_array_equal(before[name][1], after[name][1], err_msg="the second layer is frozen")
        assert (before[name][0] != after[name][0]).any()
    assert "model/source/words/embedding" in moved and FIRST


def test_the_second_stage_trains_all(began: Path):
    before, after = trained(two_stages(began), 1, 3)
    moved = {name for name in before if (before[name] != after[name]).any()}
    assert {name for name in before if "key/bias" not in name} - moved <= {"final_logits_bias"}


def test_what_it_leaves_translates_as_it_was_scored(began: Path):
    train(two_stages(began, steps=300), "a test")
    result = json.loads((began / "run/result.json").read_text())
    written = result["evaluations"]["written"]["bleu"]
    prepared = assemble(two_stages(began)).data
    items = prepared.held_out_items
    sources, right = prepared.texts(items[np.arange(HELD_OUT) * len(items) // HELD_OUT])
    answers = pipeline("translation", began / "run/model")(sources)
    texts = [best["translation_text"] for best, *_ in answers]
    assert sacrebleu.corpus_bleu(texts, [right]).score == pytest.approx(written) and written > 5
    assert "uno" in sources[0] or "dos" in " ".join(sources)


def test_other_checkpoints_and_missing_vocabularies_are_a_sentence(began: Path):
    with pytest.raises(DataError, match=r"set --data\.source-vocab-size 280"):
        one = two_stages(began)
        assemble(dataclasses.replace(one, data=dataclasses.replace(one.data, source_vocab_size=None)))
    with pytest.raises(DataError, match="leave it out"):
        one = experiment(began)
        assemble(dataclasses.replace(one, data=dataclasses.replace(one.data, source_vocab_size=280)))
    model = hub.model_class("mbart", "MBartForConditionalGeneration")(hub.config_class("mbart")(**SHAPE))
    variables = jax.jit(model.init)(jax.random.key(0), **model.blank())
    hub.save(began / "mbart", model, variables, tokenizer=began / "bart/tokenizer.json")
    with pytest.raises(ExperimentError, match="holds a mbart, and the experiment trains a bart_translation"):
        assemble(dataclasses.replace(two_stages(began), initial_model=str(began / "mbart")))
