"""Distillation as an experiment: the teacher stays what it is, a run goes on, and what does not fit is one sentence."""

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
from experiments.assembly.assemble import assemble
from experiments.bert import pretrain as bert
from experiments.campaigns.equality import differences
from experiments.commands.train import train
from experiments.distilbert import pretrain as distilbert
from experiments.experiment import Experiment, ExperimentError, Phase
from experiments.plan import plan_on
from models import hub
from models.bert import BertConfig, BertForMaskedLM, BertModel
from models.config import ModelError
from models.distilbert import DistilBertConfig, DistilBertForMaskedLM
from models.student_teacher import FROZEN
from objectives import CausalLM, Distillation, MaskedLM, NextSentence
from training.optimizers import AdamW
from training.parallel import Parallel, TrainingError
from training.planning.topologies import parse_topology

pytestmark = pytest.mark.slow

SHAPE = dict(vocab_size=512, max_position_embeddings=16)
TEACHER = BertConfig(
    **SHAPE, hidden_size=32, num_hidden_layers=4, num_attention_heads=2, intermediate_size=64, hidden_dropout_prob=0.2
)
STUDENT = DistilBertConfig(**SHAPE, dim=32, n_layers=2, n_heads=2, hidden_dim=64)
SPLITS = {
    "pmap": Parallel(devices=4),
    "fsdp 2 × tensor 2": Parallel("jit", fsdp=2, tensor=2),
    "2 micro-batches": Parallel(devices=1, micro_batches=2),
}


def fresh(model: nn.Module, seed: int):
    return nn.unbox(model.init(jax.random.key(seed), jnp.zeros((1, 2), jnp.int32)))


@pytest.fixture(scope="module")
def distilled(texts, tmp_path_factory) -> Experiment:
    """A very small DistilBERT, with a BERT for its teacher that reads the same tokens."""
    cache, teacher = (tmp_path_factory.mktemp(name) for name in ("cache", "teacher"))
    text = Text(source=str(texts), held_out=0.1, cache=str(cache))
    tokens = teacher / "tokens.json"
    text.prepare(512, teacher, say=lambda _: None).tokenizer.save(str(tokens))
    model = BertForMaskedLM(dataclasses.replace(TEACHER, initializer_range=0.2))
    hub.save(teacher, model, fresh(model, 5), tokenizer=tokens)
    return Experiment(
        name="distilled",
        architecture="DistilBertForMaskedLM",
        model=STUDENT,
        objective=Distillation(),
        data=text,
        optimizer=AdamW(learning_rate=1e-3, warmup_steps=2, weight_decay=0.1),
        batch_size=8,
        steps=6,
        phases=(Phase(1.0, TextForm(16)),),
        teacher=str(teacher),
        initial_layers=(0, 2),
        evaluate_every=3,
        evaluation_examples=16,
        checkpoint_every=3,
        folder=str(cache / "run"),
    )


def stepped(experiment: Experiment, steps: int = 3):
    """The parts of `experiment`, its state before and after some steps, and the frozen after them."""
    assembly = assemble(experiment)
    state, step = assembly.initial_state(), assembly.compile_train_step()
    before = assembly.spread.gather(state.params)
    for _, batch in zip(range(steps), assembly.batches(0, 0), strict=False):
        state, _ = step(state, assembly.spread.put_batch(batch))
    return assembly, before, state, assembly.frozen_spread.gather(assembly.frozen)


@pytest.fixture(scope="module")
def alone(distilled):
    assembly, _, state, _ = stepped(dataclasses.replace(distilled, parallel=Parallel(devices=1)))
    return assembly.spread.gather(state.params)


@pytest.mark.parametrize("split", SPLITS)
def test_the_teacher_stays_what_it_is_to_the_bit_however_it_is_spread(distilled, alone, split):
    assembly, before, state, frozen = stepped(dataclasses.replace(distilled, parallel=SPLITS[split]))
    _, theirs = hub.load(distilled.teacher)
    jax.tree.map(np.testing.assert_array_equal, frozen[FROZEN]["teacher"], theirs["params"])
    after = assembly.spread.gather(state.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), after, alone)
    moved = jax.tree.leaves(jax.tree.map(lambda a, b: bool(np.any(a != b)), before, after))
    assert all(moved), "a parameter of the student never moved"


def test_the_optimizer_and_the_checkpoint_hold_the_student_alone(distilled):
    assembly = assemble(distilled)
    state = jax.eval_shape(lambda: nn.unbox(assembly.boxed_state()))
    student = sum(x.size for x in jax.tree.leaves(state.params))
    assert student == sum(x.size for x in hub.shapes_of(DistilBertForMaskedLM(STUDENT)).values())
    counters = 4
    assert 2 * student <= sum(x.size for x in jax.tree.leaves(state.opt_state)) <= 2 * student + counters
    assert jax.tree.structure(assembly.spread.whole(assembly.initial_state())) == jax.tree.structure(state)


def test_it_starts_as_the_layers_of_its_teacher(distilled):
    assembly = assemble(distilled)
    ours = assembly.spread.gather(assembly.initial_state().params)
    theirs = hub.load(distilled.teacher)[1]["params"]
    kernels = [ours["distilbert"], theirs["bert"]]
    one, other = (np.asarray(tree["layers"]["attention"]["query"]["kernel"]) for tree in kernels)
    np.testing.assert_array_equal(one, other[[0, 2]])
    np.testing.assert_array_equal(*(np.asarray(tree["word_embeddings"]["embedding"]) for tree in kernels))
    np.testing.assert_array_equal(ours["predictions_bias"], theirs["predictions_bias"])


def test_work_and_memory_count_the_teacher_once(distilled):
    assembly, alone_ = assemble(distilled), assemble(dataclasses.replace(distilled, objective=MaskedLM()))
    shapes = {"input_ids": (8, 16), "masked_positions": (8, 3)}
    assert alone_.work(0)[1] == 3 * DistilBertForMaskedLM(STUDENT).forward_flops(shapes)
    assert assembly.work(0)[1] == 3 * DistilBertForMaskedLM(STUDENT).forward_flops(shapes) + BertForMaskedLM(
        TEACHER
    ).forward_flops(shapes)
    everywhere = assemble(dataclasses.replace(distilled, objective=Distillation(everywhere=True)))
    shapes["masked_positions"] = (8, 16)
    assert everywhere.work(0)[1] == 3 * DistilBertForMaskedLM(STUDENT).forward_flops(shapes) + BertForMaskedLM(
        TEACHER
    ).forward_flops(shapes)
    figures = [
        plan_on(
            dataclasses.replace(distilled, objective=objective, parallel=Parallel("jit")),
            parse_topology("v5e:2x2"),
            0,
            jax.devices()[:4],
        )
        for objective in (Distillation(), MaskedLM())
    ]
    teacher = sum(4 * x.size for x in hub.shapes_of(BertForMaskedLM(TEACHER)).values())
    assert figures[0].memory.parameters - figures[1].memory.parameters == teacher
    assert figures[0].memory.optimizer == figures[1].memory.optimizer
    assert figures[0].memory.total > figures[1].memory.total + teacher
    # Forward alone: with gradients it would be three times as much.
    more = figures[0].counted_flops - figures[1].counted_flops
    assert 1 < more / (figures[0].model_flops - figures[1].model_flops) < 2


def test_a_run_goes_on_to_the_bit_and_exports_the_student_alone(distilled, tmp_path):
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    train(dataclasses.replace(distilled, folder=str(whole)), "distilled.py")
    shutil.copytree(whole, parted)
    shutil.rmtree(parted / "checkpoints" / "6")
    (parted / "checkpoints.sums" / "6.json").unlink()
    (parted / "result.json").unlink()
    train(dataclasses.replace(distilled, folder=str(parted)), "distilled.py")
    assert differences(whole, parted) == []
    held_out = json.loads((parted / "result.json").read_text())["held_out"]
    assert held_out["loss"] == pytest.approx(
        sum(held_out[name] for name in ("distillation_loss", "weighted_masked_lm_loss", "cosine_loss"))
    )
    assert held_out["weighted_masked_lm_loss"] == pytest.approx(2 * held_out["masked_lm_loss"])
    model, _ = hub.load(whole / "model")
    assert type(model) is DistilBertForMaskedLM and model.config == STUDENT
    transformers = pytest.importorskip("transformers")
    _, info = transformers.DistilBertForMaskedLM.from_pretrained(whole / "model", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]

    other = tmp_path / "other"
    shutil.copytree(distilled.teacher, other)
    moved = dataclasses.replace(distilled, folder=str(whole), teacher=str(other))
    train(moved, "distilled.py")  # the same teacher elsewhere: the run is done, and says so
    hub.save(other, BertForMaskedLM(TEACHER), fresh(BertForMaskedLM(TEACHER), 6), tokenizer=other / "tokenizer.json")
    with pytest.raises(TrainingError, match=r"another experiment.*teacher"):
        train(moved, "distilled.py")


def small_change(**changes):
    return lambda experiment, folder: dataclasses.replace(experiment, **changes)


def of_teacher(model: nn.Module):
    """The experiment with `model` for its teacher, with the same tokens."""

    def changed(experiment: Experiment, folder: Path) -> Experiment:
        hub.save(folder, model, fresh(model, 0), tokenizer=Path(experiment.teacher) / "tokenizer.json")
        return dataclasses.replace(experiment, teacher=str(folder))

    return changed


def with_other_tokens(experiment: Experiment, folder: Path) -> Experiment:
    path = folder / "vocab.txt"
    path.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(400))]))
    return dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, tokenizer=str(path)))


def replaced(**changes):
    return dataclasses.replace(TEACHER, **changes)


REFUSED = {
    "no teacher": (small_change(teacher=None, initial_layers=None), ExperimentError, "--teacher"),
    "layers of no teacher": (lambda e, _: dataclasses.replace(e, teacher=None), ExperimentError, "want --teacher"),
    "no such folder": (
        small_change(teacher="/no/such/folder"),
        ExperimentError,
        "there is no teacher in /no/such/folder",
    ),
    "nothing to do": (small_change(objective=MaskedLM(), initial_layers=None), ExperimentError, "nothing to do"),
    "layers that it lacks": (small_change(initial_layers=(0, 4)), ModelError, "layers 0 to 3"),
    "too many layers": (small_change(initial_layers=(0, 1, 2)), ModelError, "has it as"),
    "another vocabulary": (of_teacher(BertForMaskedLM(replaced(vocab_size=600))), ModelError, "vocab"),
    "another width": (of_teacher(BertForMaskedLM(replaced(hidden_size=64))), ModelError, "different widths"),
    "other heads": (
        of_teacher(BertForMaskedLM(replaced(num_attention_heads=4))),
        ModelError,
        "num_attention_heads 2 and 4",
    ),
    "another activation": (
        of_teacher(BertForMaskedLM(replaced(hidden_act="relu"))),
        ModelError,
        "hidden_act gelu and relu",
    ),
    "another epsilon": (
        of_teacher(BertForMaskedLM(replaced(layer_norm_eps=0.1))),
        ModelError,
        "layer_norm_eps 1e-12 and 0.1",
    ),
    "other tokens": (with_other_tokens, ExperimentError, "other tokens"),
    "a teacher too short": (of_teacher(BertForMaskedLM(replaced(max_position_embeddings=8))), Exception, "8"),
    "a teacher without words": (of_teacher(BertModel(TEACHER)), ValueError, "has none"),
    "what both see": (small_change(objective=Distillation(CausalLM())), ValueError, "looks ahead"),
    "what neither says": (small_change(objective=Distillation(NextSentence())), ValueError, "does not take"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_before_anything_is_compiled(distilled, tmp_path, case):
    changed, kind, said = REFUSED[case]
    with pytest.raises(kind, match=said) as error:
        assemble(changed(distilled, tmp_path))
    assert "\n" not in str(error.value)


def test_a_wider_teacher_will_do_where_hidden_states_are_not_compared(distilled, tmp_path):
    wider = of_teacher(BertForMaskedLM(replaced(hidden_size=64)))(distilled, tmp_path)
    fits = dataclasses.replace(wider, initial_layers=None, objective=Distillation(cosine_weight=0.0))
    assert assemble(fits).losses == ("distillation_loss", "weighted_masked_lm_loss")
    with pytest.raises(ModelError, match="different widths, 32 and 64"):
        assemble(dataclasses.replace(fits, objective=Distillation()))


def test_the_recipes_are_pairs_that_fit():
    demo, alone_, teacher = distilbert.demo(), distilbert.alone(), bert.demo()
    assert demo.model == alone_.model and demo.data == alone_.data == teacher.data and demo.steps == alone_.steps
    assert demo.teacher == f"{teacher.run_folder}/model"
    published = distilbert.published()
    assert len(published.initial_layers) == published.model.n_layers
    weights = (
        published.objective.distillation_weight,
        published.objective.task_weight,
        published.objective.cosine_weight,
    )
    assert weights == (5, 2, 1) and published.objective.temperature == 2
