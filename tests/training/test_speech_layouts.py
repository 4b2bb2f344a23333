"""Wav2Vec2's pretraining, whose utterances are of any length and whose diversity is no mean, is the same on any split."""

import functools

import flax.linen as nn
import jax
import numpy as np
import pytest

from models.wav2vec2 import Wav2Vec2Config, Wav2Vec2ForPreTraining
from objectives import Contrastive
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


def examples(step: int) -> dict[str, np.ndarray]:
    """Noise, in which no two quarters of a batch have the same number of masked frames."""
    heard = np.arange(SAMPLES) < LENGTHS[:, None]
    noise = np.random.default_rng(step).normal(size=heard.shape)
    return {
        "index": np.arange(step * BATCH, (step + 1) * BATCH, dtype=np.uint32),
        "input_values": (noise * heard).astype(np.float32),
        "attention_mask": heard.astype(np.int32),
    }


def run(parallel: Parallel):
    """The final parameters and each step's metrics."""
    model = Wav2Vec2ForPreTraining(CONFIG)
    optimizer = AdamW(learning_rate=1e-3, warmup_steps=0, clip_norm=None).build(STEPS)

    def initial():
        return Update(optimizer).first(model.init(jax.random.key(0), **model.blank()))

    spread = parallel.spread(logical_axes(jax.eval_shape(initial)))
    state = spread.put(jax.device_get(nn.unbox(jax.jit(initial)())))
    step = functools.partial(train_step, model=model, objective=OBJECTIVE, update=Update(optimizer), seed=SEED)
    step, metrics = spread.compile(step, donate=True), []
    part, parts = spread.share
    for number in range(STEPS):
        micro = {
            name: x.reshape(parallel.micro_batches, parts, -1, *x.shape[1:]) for name, x in examples(number).items()
        }
        state, found = step(state, spread.put_batch({name: x[:, part] for name, x in micro.items()}))
        metrics.append(host_values(spread.host(found)))
    return jax.device_get(spread.whole(state)).params, metrics


@pytest.fixture(scope="module")
def alone():
    return run(Parallel(devices=1))


def test_quarters_of_a_batch_have_different_weights():
    seen, _ = corrupted(OBJECTIVE, SEED, jax.tree.map(jax.numpy.asarray, examples(0)))
    masked = (np.asarray(seen["labels"]) != IGNORED).sum(axis=1)
    assert masked[5] == 0 and len(set(masked.reshape(4, -1).sum(axis=1))) == 4


@pytest.mark.parametrize(
    "parallel",
    [
        Parallel(devices=4),
        pytest.param(Parallel("jit", fsdp=2, tensor=2), marks=pytest.mark.slow),
        Parallel(devices=1, micro_batches=4),
    ],
    ids=["pmap on 4", "fsdp 2 × tensor 2", "4 micro-batches"],
)
def test_any_split_is_the_same_training(alone, parallel):
    params, metrics = run(parallel)
    for name in ("digest", "contrastive_loss", "diversity_loss", "feature_penalty", "contrastive_accuracy"):
        np.testing.assert_allclose([m[name] for m in metrics], [m[name] for m in alone[1]], rtol=1e-5, err_msg=name)
    assert distance(alone[0], params) < 1e-5
