"""One contestant of `bert_step`: builds its train step, warms up, then runs some steps for each line on stdin.

Runs under the interpreter of the library it measures, so only that library is imported and this file stands alone.
Answers are lines of JSON on stdout: first `{"warm": seconds, "versions": …}`, then for each line `N` the seconds per step
over N steps, waiting for the last one's parameters.
"""

import functools
import importlib.metadata
import json
import sys
import time
from collections.abc import Callable

LAYERS, HIDDEN, HEADS, INNER, VOCABULARY = 4, 512, 8, 2_048, 30_522
BATCH, LENGTH, MASKED = 16, 128, 20
DROPOUT, LEARNING_RATE, WEIGHT_DECAY, CLIP_NORM = 0.1, 1e-4, 0.01, 1.0

Step = Callable[[], None]
Wait = Callable[[], object]


def ours(kind: str, dtype: str) -> tuple[Step, Wait]:
    """`training.step.train_step` as a run compiles it: a fresh corruption of every batch is part of the step."""
    from types import SimpleNamespace

    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    import numpy as np

    from models.bert import BertConfig, BertForPreTraining
    from objectives import MaskedLM, NextSentence, Sum
    from training.optimizers import AdamW
    from training.parallel import Parallel, logical_axes
    from training.step import create_state, train_step

    vocabulary = SimpleNamespace(size=VOCABULARY, pad=0, unk=100, cls=101, sep=102, mask=103)
    objective = Sum(MaskedLM(), NextSentence()).bind(vocabulary)
    model = BertForPreTraining(BertConfig.small(dtype=dtype))
    shape = model.config.num_hidden_layers, model.config.hidden_size, model.config.num_attention_heads
    assert (*shape, model.config.intermediate_size) == (LAYERS, HIDDEN, HEADS, INNER)
    assert model.config.hidden_dropout_prob == model.config.attention_probs_dropout_prob == DROPOUT
    optimizer = AdamW(learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY, clip_norm=CLIP_NORM).build(10**6)
    parallel = Parallel(kind=kind)

    def init():
        params = model.init(jax.random.key(0), jnp.zeros((1, LENGTH), jnp.int32))["params"]
        return create_state(params, optimizer)

    spread = parallel.spread(logical_axes(jax.eval_shape(init)))
    state = spread.put(jax.device_get(nn.unbox(jax.jit(init)())))
    compiled = spread.compile(
        functools.partial(train_step, model=model, objective=objective, optimizer=optimizer, seed=0), donate=True
    )
    random, window = np.random.default_rng(0), 2 * LENGTH
    sentences = np.tile(np.arange(window, dtype=np.int32) // 16, (BATCH, 1))
    tokens = random.integers(1_000, VOCABULARY, (2, BATCH, window), dtype=np.int32)
    nothing = np.zeros((BATCH, LENGTH), np.int32)
    examples = dict(
        **dict.fromkeys(("input_ids", "attention_mask", "token_type_ids", "special_tokens_mask"), nothing),
        **dict(tokens=tokens[0], sentence_ids=sentences, other_tokens=tokens[1], other_sentence_ids=sentences),
    )
    done = 0

    def step() -> None:
        nonlocal state, done
        batch = {**examples, "index": np.arange(done, done + BATCH, dtype=np.uint32)}
        state, _ = compiled(state, spread.put_batch({name: x[None] for name, x in batch.items()}))
        done += BATCH

    return step, lambda: jax.block_until_ready(state)


def batch_of_theirs(numpy):
    """What a collator would hand over, already masked: token ids, 20 of 128 labels, the others -100."""
    random = numpy.random.default_rng(0)
    input_ids = random.integers(1_000, VOCABULARY, (BATCH, LENGTH), dtype=numpy.int64)
    labels = numpy.full((BATCH, LENGTH), -100, numpy.int64)
    for row in range(BATCH):
        places = random.choice(LENGTH, MASKED, replace=False)
        labels[row, places] = input_ids[row, places]
    return dict(
        input_ids=input_ids,
        attention_mask=numpy.ones_like(input_ids),
        token_type_ids=numpy.tile(numpy.arange(LENGTH) * 2 // LENGTH, (BATCH, 1)),
        labels=labels,
        next_sentence_label=random.integers(0, 2, BATCH),
    )


def config_of_theirs():
    from transformers import BertConfig

    return BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=INNER,
        hidden_dropout_prob=DROPOUT,
        attention_probs_dropout_prob=DROPOUT,
    )


def torch(dtype: str) -> tuple[Step, Wait]:
    """`transformers` on PyTorch: BertForPreTraining in train mode, its default (sdpa) attention, fused AdamW."""
    import numpy
    import torch
    from transformers import BertForPreTraining

    torch.manual_seed(0)
    model = BertForPreTraining(config_of_theirs()).train()
    plain = [p for p in model.parameters() if p.ndim < 2]
    weights = [p for p in model.parameters() if p.ndim >= 2]
    groups = [dict(params=weights, weight_decay=WEIGHT_DECAY), dict(params=plain, weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, fused=True)
    batch = {name: torch.from_numpy(numpy.asarray(x, numpy.int64)) for name, x in batch_of_theirs(numpy).items()}

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step, lambda: None


def flax(one_hot: bool) -> tuple[Step, Wait]:
    """The former Flax BERT of `transformers`, its step after `examples/flax/language-modeling/run_mlm_flax.py`.

    `one_hot` is how that example computes the cross-entropy; without it, from integer labels, which is kinder to it.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax
    from flax.training import train_state
    from flax.training.common_utils import onehot
    from transformers import FlaxBertForPreTraining

    model = FlaxBertForPreTraining(config_of_theirs(), input_shape=(1, LENGTH), seed=0)
    optimizer = optax.chain(optax.clip_by_global_norm(CLIP_NORM), optax.adamw(LEARNING_RATE, weight_decay=WEIGHT_DECAY))
    state = train_state.TrainState.create(apply_fn=model.__call__, params=model.params, tx=optimizer)
    batch = {name: np.asarray(x, np.int32) for name, x in batch_of_theirs(np).items()}

    def cross_entropy(logits, labels):
        if one_hot:
            return optax.softmax_cross_entropy(logits, onehot(labels, logits.shape[-1]))
        return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(labels, 0))

    def train_step(state, batch, dropout_rng):
        dropout_rng, next_dropout_rng = jax.random.split(dropout_rng)
        labels, is_random = batch["labels"], batch["next_sentence_label"]
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}

        def loss_fn(params):
            logits, relationship = state.apply_fn(**inputs, params=params, dropout_rng=dropout_rng, train=True)[:2]
            asked = jnp.where(labels > 0, 1.0, 0.0)
            masked = (cross_entropy(logits, labels) * asked).sum() / asked.sum()
            return masked + cross_entropy(relationship, is_random).mean()

        loss, gradients = jax.value_and_grad(loss_fn)(state.params)
        return state.apply_gradients(grads=gradients), loss, next_dropout_rng

    compiled = jax.jit(train_step, donate_argnums=(0,))
    dropout_rng = jax.random.PRNGKey(0)

    def step() -> None:
        nonlocal state, dropout_rng
        state, _, dropout_rng = compiled(state, batch, dropout_rng)

    return step, lambda: jax.block_until_ready(state.params)


CONTESTANTS: dict[str, tuple[Callable[[], tuple[Step, Wait]], tuple[str, ...]]] = {
    "ours, pmap": (lambda: ours("pmap", "float32"), ("jax", "flax")),
    "ours, jit": (lambda: ours("jit", "float32"), ("jax", "flax")),
    "ours, jit, bf16": (lambda: ours("jit", "bfloat16"), ("jax", "flax")),
    "transformers, torch": (lambda: torch("float32"), ("transformers", "torch")),
    "transformers, torch, bf16 autocast": (lambda: torch("bfloat16"), ("transformers", "torch")),
    "transformers, Flax": (lambda: flax(one_hot=True), ("transformers", "jax", "flax")),
    "transformers, Flax, integer labels": (lambda: flax(one_hot=False), ("transformers", "jax", "flax")),
}


def seconds_per_step(step: Step, wait: Wait, count: int) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        step()
    wait()
    return (time.perf_counter() - begin) / count


def warm_up(step: Step, wait: Wait, at_least: int = 6, at_most: int = 40) -> float:
    """Steps until three in a row lie within 8 % of the fastest: the first ones can take ten times as long."""
    times = []
    while len(times) < at_least or (len(times) < at_most and max(times[-3:]) > 1.08 * min(times)):
        times.append(seconds_per_step(step, wait, 1))
    return sum(times)


def main() -> None:
    build, packages = CONTESTANTS[sys.argv[1]]
    answers, sys.stdout = sys.stdout, sys.stderr
    step, wait = build()
    versions = {name: importlib.metadata.version(name) for name in packages}
    warm = warm_up(step, wait)
    print(json.dumps({"warm": warm, "versions": versions}), file=answers, flush=True)
    for line in sys.stdin:
        print(seconds_per_step(step, wait, int(line)), file=answers, flush=True)


if __name__ == "__main__":
    main()
