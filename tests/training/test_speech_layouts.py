"""Training on recordings is the same on any split: Wav2Vec2's pretraining, whose utterances are of any length and whose diversity
is no mean, and dictation, whose transcripts are of any length.
"""

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import numpy as np
import pytest

from data.audio.prompted import PromptedVocabulary
from data.audio.spectrograms import SpecAugment, Spectrograms
from models.model import Model
from models.wav2vec2 import Wav2Vec2Config, Wav2Vec2ForPreTraining
from models.whisper import WhisperConfig, WhisperForConditionalGeneration
from objectives import Augmented, Contrastive, Objective, Transcription
from objectives.losses import IGNORED
from tests.training.test_step import distance
from training.optimizers import AdamW
from training.parallel import Parallel, logical_axes
from training.state import Update
from training.step import corrupted, host_values, train_step

BATCH, SAMPLES, STEPS, SEED = 8, 900, 4, 5
LENGTHS = np.array([900, 850, 80, 310, 640, 70, 700, 500])
"""Of one of them too few frames are left for a span: it asks nothing."""
CONV = dict(conv_kernel=(10, 3, 3), conv_stride=(5, 2, 2))
OBJECTIVE = Contrastive(
    **CONV, mask_time_prob=0.5, mask_time_length=3, num_negatives=4, groups=2, codes=6, gumbel_decay=0.9
)
CONFIG = Wav2Vec2Config(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=24,
    conv_dim=(8, 8, 8),
    num_conv_pos_embeddings=4,
    num_conv_pos_embedding_groups=2,
    num_codevectors_per_group=6,
    codevector_dim=8,
    proj_codevector_dim=8,
    feat_extract_norm="layer",
    do_stable_layer_norm=True,
    layerdrop=0.3,
    feat_proj_dropout=0.1,
    feature_grad_mult=0.5,
    mask_time_prob=0.5,
    **CONV,
)


SIDES = {
    f"{side}_{name}": size
    for side in ("encoder", "decoder")
    for name, size in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 24))
}
TOKENS = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 0)
LISTENER = WhisperConfig(
    d_model=16,
    vocab_size=32,
    num_mel_bins=8,
    max_source_positions=10,
    max_target_positions=9,
    dropout=0.1,
    decoder_start_token_id=1,
    begin_suppress_tokens=None,
    **TOKENS,
    **SIDES,
)
SPELLED = (9, 2, 4, 1, 0, 7, 3, 5)
"""Tokens of each transcript; one recording has none."""


def heard(step: int) -> dict[str, np.ndarray]:
    """Noise, in which no two quarters of a batch have the same number of masked frames."""
    there = np.arange(SAMPLES) < LENGTHS[:, None]
    noise = np.random.default_rng(step).normal(size=there.shape)
    return {"input_values": (noise * there).astype(np.float32), "attention_mask": there.astype(np.int32)}


def dictated(step: int) -> dict[str, np.ndarray]:
    """Noise of 0.2 s with transcripts of which no two quarters of a batch have as many tokens."""
    random = np.random.default_rng(step)
    labels = random.integers(6, 32, (BATCH, max(SPELLED)))
    labels = np.where(np.arange(max(SPELLED)) < np.array(SPELLED)[:, None], labels, IGNORED)
    return {"input_values": random.normal(size=(BATCH, 3_200)).astype(np.float32), "labels": labels.astype(np.int32)}


@dataclasses.dataclass(frozen=True)
class Task:
    """What is trained, on which examples of a step, and what it measures."""

    model: Model
    objective: Objective
    examples: Callable[[int], dict[str, np.ndarray]]
    measured: tuple[str, ...]


VOCABULARY = PromptedVocabulary(32, "", start=1, eos=0, prompt=(2,))
TASKS = {
    "pretraining": Task(
        Wav2Vec2ForPreTraining(CONFIG),
        OBJECTIVE,
        heard,
        ("contrastive_loss", "diversity_loss", "feature_penalty", "contrastive_accuracy"),
    ),
    "dictation": Task(
        WhisperForConditionalGeneration(LISTENER),
        Augmented(Transcription(score_prompt=True).bind(VOCABULARY), Spectrograms(8, SpecAugment(1, 4, 1, 8))),
        dictated,
        ("transcription_loss", "target_accuracy"),
    ),
}


def examples(task: Task, step: int) -> dict[str, np.ndarray]:
    """Those of a step, with their places in the run."""
    return {"index": np.arange(step * BATCH, (step + 1) * BATCH, dtype=np.uint32), **task.examples(step)}


def run(task: Task, parallel: Parallel):
    """The final parameters and each step's metrics."""
    model = task.model
    optimizer = AdamW(learning_rate=1e-3, warmup_steps=0, clip_norm=None).build(STEPS)

    def initial():
        return Update(optimizer).first(model.init(jax.random.key(0), **model.blank()))

    spread = parallel.spread(logical_axes(jax.eval_shape(initial)))
    state = spread.put(jax.device_get(nn.unbox(jax.jit(initial)())))
    step = functools.partial(train_step, model=model, objective=task.objective, update=Update(optimizer), seed=SEED)
    step, metrics = spread.compile(step, donate=True), []
    part, parts = spread.share
    for number in range(STEPS):
        micro = {
            name: x.reshape(parallel.micro_batches, parts, -1, *x.shape[1:])
            for name, x in examples(task, number).items()
        }
        state, found = step(state, spread.put_batch({name: x[:, part] for name, x in micro.items()}))
        metrics.append(host_values(spread.host(found)))
    return jax.device_get(spread.whole(state)).params, metrics


@functools.cache
def alone(name: str):
    """The same of one device, which holds the whole batch."""
    return run(TASKS[name], Parallel(devices=1))


def test_quarters_of_a_batch_have_different_weights():
    for task in TASKS.values():
        seen, _ = corrupted(task.objective, SEED, jax.tree.map(jax.numpy.asarray, examples(task, 0)))
        asked = (np.asarray(seen["labels"]) != IGNORED).sum(axis=1)
        assert (asked == 0).sum() == 1 and len(set(asked.reshape(4, -1).sum(axis=1))) == 4


SPLITS = {
    "pmap on 4": Parallel(devices=4),
    "fsdp 2 × tensor 2": Parallel("jit", fsdp=2, tensor=2),
    "4 micro-batches": Parallel(devices=1, micro_batches=4),
}


@pytest.mark.parametrize(
    "name, split",
    [
        pytest.param(name, split, marks=[pytest.mark.slow] if "fsdp" in split else [])
        for name in TASKS
        for split in SPLITS
    ],
)
def test_any_split_is_the_same_training(name, split):
    task, (whole, before) = TASKS[name], alone(name)
    params, metrics = run(task, SPLITS[split])
    for figure in ("digest", *task.measured):
        values = [[one[figure] for one in several] for several in (metrics, before)]
        np.testing.assert_allclose(*values, rtol=1e-5, err_msg=figure)
    assert distance(whole, params) < 1e-5
