"""A student and its teacher as one model: what each says, where gradients go, and a student that begins as its teacher."""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from models.bert import BertConfig, BertForPreTraining, BertModel
from models.config import ModelConfig, ModelError
from models.convnext import ConvNextConfig, ConvNextModel
from models.distilbert import DistilBertConfig, DistilBertForMaskedLM
from models.gpt2 import GPT2Config, GPT2LMHeadModel
from models.layers.linear import dense
from models.layers.norm import BatchAxes
from models.model import Model
from models.outputs import ModelOutput
from models.student_teacher import FROZEN, StudentTeacher, as_teacher, check_pair, initial_params, stacked_paths
from objectives import Distillation

BERT = BertConfig(
    vocab_size=60,
    hidden_size=32,
    num_hidden_layers=4,
    num_attention_heads=4,
    intermediate_size=64,
    max_position_embeddings=20,
    hidden_dropout_prob=0.3,
)
DISTILBERT = DistilBertConfig(
    vocab_size=60, dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=20, dropout=0.3
)
GPT2 = GPT2Config(
    vocab_size=60, n_positions=20, n_embd=32, n_layer=4, n_head=4, bos_token_id=0, eos_token_id=0, resid_pdrop=0.3
)
PAIRS = {
    "BERT and DistilBERT": (DistilBertForMaskedLM(DISTILBERT), BertForPreTraining(BERT)),
    "GPT-2 and DistilGPT-2": (
        GPT2LMHeadModel(dataclasses.replace(GPT2, n_layer=2)),
        GPT2LMHeadModel(GPT2),
    ),
}


def params_of(model: nn.Module, seed: int = 0):
    """Perturbed, so that no bias is 0 and no scale 1."""
    params = nn.unbox(model.init(jax.random.key(seed), jnp.zeros((1, 2), jnp.int32)))["params"]
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    return tree.unflatten([x + 0.1 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)])


def read() -> dict[str, jax.Array]:
    rng = np.random.default_rng(0)
    arrays = {"input_ids": rng.integers(5, 60, (3, 12)), "attention_mask": np.arange(12)[None] < [[12], [7], [9]]}
    arrays |= {"token_type_ids": (np.arange(12) > 5)[None].repeat(3, 0), "masked_positions": rng.integers(0, 7, (3, 4))}
    return {name: jnp.asarray(value, jnp.int32) for name, value in arrays.items()}


def given(arrays, *names):
    return {name: arrays[name] for name in names}


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS)
def test_both_say_what_they_say_alone_and_the_teacher_drops_nothing(pair):
    student, teacher = PAIRS[pair]
    arrays, keys = read(), jax.random.split(jax.random.key(3), 3)
    params, frozen = params_of(student), params_of(teacher, 7)
    joint = StudentTeacher(student, teacher)
    outputs = joint.apply({"params": params, FROZEN: {"teacher": frozen}}, **arrays, dropout_keys=keys)
    both = ("input_ids", "attention_mask")
    masked = (*both, "masked_positions") if "BERT" in pair else both
    mine = student.apply({"params": params}, **given(arrays, *masked), dropout_keys=keys)
    theirs = teacher.apply(
        {"params": frozen}, **given(arrays, *masked, *(("token_type_ids",) if "BERT" in pair else ()))
    )
    np.testing.assert_array_equal(outputs.logits, mine.logits)
    np.testing.assert_array_equal(outputs.hidden, mine.last_hidden_state)
    np.testing.assert_array_equal(outputs.teacher_logits, theirs.get("prediction_logits", theirs.get("logits")))
    np.testing.assert_array_equal(outputs.teacher_hidden, theirs.last_hidden_state)
    dropped = student.apply({"params": params}, **given(arrays, *masked))
    assert float(jnp.abs(dropped.logits - mine.logits).max()) > 0.01, "the student drops something"


@pytest.mark.parametrize("pair", PAIRS)
def test_the_parameters_are_the_students_own(pair):
    student, teacher = PAIRS[pair]
    joint = jax.eval_shape(
        lambda: StudentTeacher(student, teacher).init(jax.random.key(0), input_ids=jnp.zeros((1, 2), int))
    )
    alone = jax.eval_shape(lambda: student.init(jax.random.key(0), jnp.zeros((1, 2), int)))
    assert jax.tree.structure(joint) == jax.tree.structure(alone)
    assert set(joint) == {"params"}


@pytest.mark.slow_but_first
@pytest.mark.parametrize("pair", PAIRS)
def test_no_gradient_reaches_the_teacher_whatever_is_asked_of_it(pair):
    student, teacher = PAIRS[pair]

    def value(params, frozen):
        outputs = StudentTeacher(student, teacher).apply({"params": params, FROZEN: {"teacher": frozen}}, **read())
        return sum((outputs[name] ** 2).mean() for name in ("logits", "hidden", "teacher_logits", "teacher_hidden"))

    mine, theirs = jax.grad(value, argnums=(0, 1))(params_of(student), params_of(teacher))
    assert all(not bool(x.any()) for x in jax.tree.leaves(theirs))
    assert all(bool(x.any()) for path, x in flatten_dict(mine, sep="/").items() if "key/bias" not in path)


@pytest.mark.parametrize("pair", PAIRS)
def test_a_student_begins_as_layers_of_its_teacher(pair):
    student, teacher = PAIRS[pair]
    theirs = params_of(teacher)
    ours = flatten_dict(initial_params(student, teacher, theirs, (1, 3)), sep="/")
    theirs = {
        path.removeprefix("bert/").removeprefix("transformer/"): x for path, x in flatten_dict(theirs, sep="/").items()
    }
    assert any("layers" in path for path in ours)
    for path, value in ours.items():
        bare = path.removeprefix("distilbert/").removeprefix("transformer/")
        np.testing.assert_array_equal(value, theirs[bare][np.array([1, 3])] if "layers/" in bare else theirs[bare])


def test_with_all_of_its_layers_a_student_is_its_teacher():
    teacher = GPT2LMHeadModel(GPT2)
    params = params_of(teacher)
    arrays = given(read(), "input_ids", "attention_mask")
    taken = initial_params(teacher, teacher, params, range(4))
    np.testing.assert_array_equal(
        teacher.apply({"params": params}, **arrays).logits, teacher.apply({"params": taken}, **arrays).logits
    )


@pytest.mark.parametrize(
    ("student", "teacher", "layers", "said"),
    [
        (*PAIRS["BERT and DistilBERT"], (0, 4), "layers 0 to 3"),
        (*PAIRS["BERT and DistilBERT"], (), "layers 0 to 3"),
        (*PAIRS["BERT and DistilBERT"], (-1, 2), "layers 0 to 3"),
        (*PAIRS["BERT and DistilBERT"], (0, 1, 2), "has it as"),
        (PAIRS["BERT and DistilBERT"][0], BertModel(BERT), (0, 2), "has none"),
        (PAIRS["BERT and DistilBERT"][0], GPT2LMHeadModel(GPT2), (0, 2), "has none"),
    ],
)
def test_layers_that_do_not_fit_are_refused(student, teacher, layers, said):
    with pytest.raises(ModelError, match=said):
        initial_params(student, teacher, params_of(teacher), layers)


def test_stacks_are_found_whatever_they_are_called():
    """ConvNeXt calls them `stage_0`, …; a GPT-2 has no other than `layers`."""
    images = ConvNextModel(ConvNextConfig(num_stages=2, hidden_sizes=(4, 8), depths=(1, 2), image_size=32))
    assert {path.split("/")[0] for path in stacked_paths(images)} == {"stage_0", "stage_1"}
    every = flatten_dict(nn.unbox(params_of(GPT2LMHeadModel(GPT2))), sep="/")
    assert stacked_paths(GPT2LMHeadModel(GPT2)) == {path for path in every if "layers" in path.split("/")}


def test_pairs_that_cannot_be_compared_are_refused():
    student, _ = PAIRS["BERT and DistilBERT"]
    wider = BertForPreTraining(dataclasses.replace(BERT, hidden_size=64))
    with pytest.raises(ModelError, match=r"different widths, 32 and 64.*cosine_weight"):
        check_pair(student, wider, hidden=True)
    check_pair(student, wider, hidden=False)
    with pytest.raises(ModelError, match="vocab_size 60 and 61"):
        check_pair(student, BertForPreTraining(dataclasses.replace(BERT, vocab_size=61)), hidden=False)
    assert ("hidden",) not in Distillation(cosine_weight=0.0).asks


@dataclasses.dataclass(frozen=True)
class SeenConfig(ModelConfig):
    """Of a model of pictures as small as can be."""

    labels: tuple[str, ...] = ("cat", "dog", "bird")
    num_channels: int = 3
    image_size: int = 4


class Seen(Model):
    """A projection of the mean colour, less that of the batch or a running one."""

    config: SeenConfig
    batch_statistics: ClassVar[bool] = True

    @nn.compact
    def __call__(self, pixel_values, *, dropout_keys=None, batch_axes: BatchAxes = None) -> ModelOutput:
        running = self.variable("batch_stats", "mean", jnp.zeros, pixel_values.shape[-1:])
        colours, mean = pixel_values.mean(axis=(1, 2)), running.value
        if batch_axes is not None:
            mean = colours.mean(axis=0)
            running.value = 0.9 * running.value + 0.1 * mean
        head = dense(self.config, len(self.config.labels), "classifier", ("embed", None))
        return ModelOutput(logits=head(colours - mean[None]))


def test_classifiers_are_paired_by_the_number_of_their_classes():
    student, teacher = Seen(SeenConfig()), Seen(SeenConfig(labels=("a", "b", "c")))
    check_pair(student, teacher, hidden=False)
    with pytest.raises(ModelError, match="different classes: 3 and 2 labels"):
        check_pair(student, Seen(SeenConfig(labels=("cat", "dog"))), hidden=False)
    with pytest.raises(ModelError, match="vocab_size None and 60"):
        check_pair(student, BertForPreTraining(BERT), hidden=False)


def test_a_student_with_batch_norms_uses_those_of_the_batch_and_its_teacher_running_ones():
    student, teacher = Seen(SeenConfig()), Seen(SeenConfig())
    pixels = jax.random.normal(jax.random.key(0), (5, 4, 4, 3)) * 2 + 1
    own, frozen = (nn.unbox(student.init(jax.random.key(seed), pixels)) for seed in (1, 2))
    frozen["batch_stats"] = {"mean": jnp.array([0.5, 0.2, -1.0])}
    joint = StudentTeacher(student, teacher)
    assert joint.batch_statistics and joint.inputs == ("pixel_values",)
    outputs, changed = joint.apply(
        {**own, **as_teacher(frozen)}, pixel_values=pixels, batch_axes=(), mutable=["batch_stats"]
    )
    alone, wanted = student.apply(own, pixels, batch_axes=(), mutable=["batch_stats"])
    np.testing.assert_array_equal(outputs.logits, alone.logits)
    jax.tree.map(np.testing.assert_array_equal, changed, wanted)
    np.testing.assert_array_equal(outputs.teacher_logits, teacher.apply(frozen, pixels).logits)
