"""One contestant of `steps`: builds its train step, warms up, then runs some steps for each line on stdin.

    python steps_worker.py CONTESTANT MODEL [BATCH]

JAX_PLATFORMS says where, for torch too: `cpu`, or `cuda`, where both multiply float32 matrices in TF32, as JAX does unasked.
Runs under the interpreter of the library it measures, which may be another than ours: so a contestant imports what it needs
itself, and only ours import anything of this project.
Answers are lines of JSON on stdout: first `{"warm": seconds, "versions": …}`, then for each line `N` the seconds per step
over N steps, waiting for the last one's parameters.
"""

import dataclasses
import functools
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

LENGTH, MASKED = 128, 20
LEARNING_RATE, WEIGHT_DECAY, CLIP_NORM = 1e-4, 0.01, 1.0

PLATFORM = os.environ.get("JAX_PLATFORMS", "cpu")

Step = Callable[[], None]
Wait = Callable[[], object]


@dataclasses.dataclass(frozen=True)
class Work:
    """A model and what it is asked, for both sides the same.

    Attributes:
        architecture: class of both libraries.
        config: fields of the published `config.json` of both.
        objective: ours, by name; the batches of the others are as it leaves them.
        target: tokens that the decoder of an encoder-decoder is asked for.
        batch: sequences in a step.
    """

    architecture: str
    model_type: str
    config: dict[str, Any]
    objective: str
    target: int | None = None
    batch: int = 16


BERT = dict(vocab_size=30_522, num_hidden_layers=4, hidden_size=512, num_attention_heads=8, intermediate_size=2_048)
BART = dict(
    vocab_size=32_000,
    d_model=512,
    max_position_embeddings=LENGTH,
    encoder_layers=2,
    encoder_attention_heads=8,
    encoder_ffn_dim=2_048,
    decoder_layers=2,
    decoder_attention_heads=8,
    decoder_ffn_dim=2_048,
)
T5 = dict(
    decoder_start_token_id=0,
    vocab_size=32_128,
    d_model=512,
    d_kv=64,
    num_layers=2,
    num_decoder_layers=2,
    num_heads=8,
    dropout_rate=0.1,
)
WORK = {
    "bert": Work("BertForPreTraining", "bert", BERT, "MaskedLM+NextSentence"),
    "distilbert": Work(
        "DistilBertForMaskedLM",
        "distilbert",
        dict(vocab_size=30_522, dim=512, n_layers=4, n_heads=8, hidden_dim=2_048),
        "MaskedLM",
    ),
    "gpt2": Work(
        "GPT2LMHeadModel",
        "gpt2",
        dict(vocab_size=32_000, n_positions=LENGTH, n_embd=512, n_layer=4, n_head=8),
        "CausalLM",
    ),
    "llama": Work(
        "LlamaForCausalLM",
        "llama",
        dict(
            vocab_size=32_000,
            hidden_size=512,
            intermediate_size=1_376,
            num_hidden_layers=4,
            num_attention_heads=8,
            num_key_value_heads=8,
            tie_word_embeddings=True,
        ),
        "CausalLM",
    ),
    "marian": Work(
        "MarianMTModel", "marian", dict(BART, pad_token_id=1, decoder_start_token_id=1), "Infilling", LENGTH
    ),
    "bart": Work("BartForConditionalGeneration", "bart", BART, "Infilling", LENGTH),
    "mbart": Work("MBartForConditionalGeneration", "mbart", BART, "Infilling", LENGTH),
    "t5": Work("T5ForConditionalGeneration", "t5", dict(T5, d_ff=2_048), "SpanCorruption", 29),
    "t5-v1.1": Work(
        "T5ForConditionalGeneration",
        "t5",
        dict(T5, d_ff=1_024, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
        "SpanCorruption",
        29,
    ),
}
"""Four layers × 512 (two and two where there are an encoder and a decoder), about 30 million parameters."""


def examples_of(work: Work, objective, vocabulary):
    """A batch of what `objective` reads, before the corruption: token ids at random, sentences of 16 tokens."""
    import numpy as np

    from data.forms import TextForm
    from data.text.source import Text

    random = np.random.default_rng(0)
    examples = {}
    for name, blank in Text().outline(vocabulary.size).training(TextForm(LENGTH).read_by(objective), 0)[0].items():
        shape = (work.batch, *np.shape(blank))
        if name.endswith("tokens"):
            examples[name] = random.integers(1_000, work.config["vocab_size"], shape, dtype=np.int32)
        elif name.endswith("sentence_ids"):
            examples[name] = np.broadcast_to(np.arange(shape[-1], dtype=np.int32) // 16, shape)
        else:
            examples[name] = np.zeros(shape, np.int32)
    return examples


def corruption(work: Work) -> tuple[Step, Wait]:
    """What the objective does to a batch, and nothing else of the step."""
    import jax
    import numpy as np

    from data.text.source import SENTINELS
    from data.text.tokenizers import blank_vocabulary
    from objectives import named
    from training.step import corrupted

    vocabulary = blank_vocabulary(work.config["vocab_size"], SENTINELS)
    objective = named(work.objective).bind(vocabulary)
    examples, done, seen = examples_of(work, objective, vocabulary), 0, None
    compiled = jax.jit(lambda rows: corrupted(objective, 0, rows)[0])

    def step() -> None:
        nonlocal seen, done
        seen = compiled({**examples, "index": np.arange(done, done + work.batch, dtype=np.uint32)})
        done += work.batch

    return step, lambda: jax.block_until_ready(seen)


def ours(work: Work, kind: str, dtype: str) -> tuple[Step, Wait]:
    """`training.step.train_step` as a run compiles it: a fresh corruption of every batch is part of the step."""
    import flax.linen as nn
    import jax
    import numpy as np

    from data.text.source import SENTINELS
    from data.text.tokenizers import blank_vocabulary
    from experiments.assembly.shapes import boxed_state
    from models import hub
    from objectives import named
    from training.optimizers import AdamW
    from training.parallel import Parallel, logical_axes
    from training.step import train_step

    config = hub.config_class(work.model_type).from_json({"model_type": work.model_type, **work.config}, dtype=dtype)
    model = hub.model_class(work.model_type, work.architecture)(config)
    vocabulary = blank_vocabulary(config.vocab_size, SENTINELS)
    objective = named(work.objective).bind(vocabulary)
    optimizer = AdamW(learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY, clip_norm=CLIP_NORM).build(10**6)

    def init():
        return boxed_state(model, optimizer, 0)

    spread = Parallel(kind=kind).spread(logical_axes(jax.eval_shape(init)))
    state = spread.put(jax.device_get(nn.unbox(jax.jit(init)())))
    compiled = spread.compile(
        functools.partial(train_step, model=model, objective=objective, optimizer=optimizer, seed=0), donate=True
    )
    examples = examples_of(work, objective, vocabulary)
    done = 0

    def step() -> None:
        nonlocal state, done
        batch = {**examples, "index": np.arange(done, done + work.batch, dtype=np.uint32)}
        state, _ = compiled(state, spread.put_batch({name: x[None] for name, x in batch.items()}))
        done += work.batch

    return step, lambda: jax.block_until_ready(state)


def batch_of_theirs(work: Work, numpy):
    """Arrays of the shapes that a collator hands over: ids drawn at random, nothing hidden in them, and labels, -100 where
    nothing is asked. So the steps of others corrupt nothing, and ours do.
    """
    random = numpy.random.default_rng(0)
    input_ids = random.integers(1_000, work.config["vocab_size"], (work.batch, LENGTH), dtype=numpy.int64)
    batch = dict(input_ids=input_ids, attention_mask=numpy.ones_like(input_ids), labels=input_ids)
    if work.target is not None:
        batch["labels"] = random.integers(
            1_000, work.config["vocab_size"], (work.batch, work.target), dtype=numpy.int64
        )
    if "MaskedLM" in work.objective:
        batch["labels"] = numpy.full((work.batch, LENGTH), -100, numpy.int64)
        for row in range(work.batch):
            places = random.choice(LENGTH, MASKED, replace=False)
            batch["labels"][row, places] = input_ids[row, places]
    if "NextSentence" in work.objective:
        batch["token_type_ids"] = numpy.tile(numpy.arange(LENGTH) * 2 // LENGTH, (work.batch, 1))
        batch["next_sentence_label"] = random.integers(0, 2, work.batch)
    return batch


def torch(work: Work, dtype: str, compiled: bool = False) -> tuple[Step, Wait]:
    """`transformers` on PyTorch, with its default (sdpa) attention."""
    import numpy

    batch = {name: numpy.asarray(x, numpy.int64) for name, x in batch_of_theirs(work, numpy).items()}
    return torch_step(work.architecture, work.model_type, work.config, batch, dtype, compiled)


def torch_step(architecture: str, model_type: str, config, batch, dtype: str, compiled: bool) -> tuple[Step, Wait]:
    """A step of `transformers` on PyTorch in train mode, with fused AdamW; `batch` is what the model is called with."""
    import torch
    import transformers

    torch.manual_seed(0)
    if PLATFORM == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
    config = transformers.AutoConfig.for_model(model_type, **config)
    model = getattr(transformers, architecture)(config).train().to(PLATFORM)
    compute = torch.compile(model) if compiled else model
    plain = [p for p in model.parameters() if p.ndim < 2]
    weights = [p for p in model.parameters() if p.ndim >= 2]
    groups = [dict(params=weights, weight_decay=WEIGHT_DECAY), dict(params=plain, weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, fused=True)
    batch = {name: torch.from_numpy(x).to(PLATFORM) for name, x in batch.items()}

    def step() -> None:
        with torch.autocast(PLATFORM, torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = compute(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step, torch.cuda.synchronize if PLATFORM == "cuda" else lambda: None


def flax(work: Work, one_hot: bool) -> tuple[Step, Wait]:
    """The former Flax BERT of `transformers`, its step after `examples/flax/language-modeling/run_mlm_flax.py`.

    `one_hot` is how that example computes the cross-entropy; without it, from integer labels, which is kinder to it.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax
    from flax.training import train_state
    from flax.training.common_utils import onehot
    from transformers import BertConfig, FlaxBertForPreTraining

    model = FlaxBertForPreTraining(BertConfig(**work.config), input_shape=(1, LENGTH), seed=0)
    optimizer = optax.chain(optax.clip_by_global_norm(CLIP_NORM), optax.adamw(LEARNING_RATE, weight_decay=WEIGHT_DECAY))
    state = train_state.TrainState.create(apply_fn=model.__call__, params=model.params, tx=optimizer)
    batch = {name: np.asarray(x, np.int32) for name, x in batch_of_theirs(work, np).items()}

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


CONTESTANTS: dict[str, tuple[Callable[[Work], tuple[Step, Wait]], tuple[str, ...]]] = {
    "ours, pmap": (lambda work: ours(work, "pmap", "float32"), ("jax", "flax")),
    "ours, jit": (lambda work: ours(work, "jit", "float32"), ("jax", "flax")),
    "ours, pmap, bf16": (lambda work: ours(work, "pmap", "bfloat16"), ("jax", "flax")),
    "ours, jit, bf16": (lambda work: ours(work, "jit", "bfloat16"), ("jax", "flax")),
    "ours, corruption alone": (corruption, ("jax",)),
    "transformers, torch": (lambda work: torch(work, "float32"), ("transformers", "torch")),
    "transformers, torch, bf16 autocast": (lambda work: torch(work, "bfloat16"), ("transformers", "torch")),
    "transformers, torch.compile": (lambda work: torch(work, "float32", compiled=True), ("transformers", "torch")),
    "transformers, torch.compile, bf16 autocast": (
        lambda work: torch(work, "bfloat16", compiled=True),
        ("transformers", "torch"),
    ),
    "transformers, Flax": (lambda work: flax(work, one_hot=True), ("transformers", "jax", "flax")),
    "transformers, Flax, integer labels": (lambda work: flax(work, one_hot=False), ("transformers", "jax", "flax")),
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


def serve(build: Callable[[], tuple[Step, Wait]], packages: tuple[str, ...]) -> None:
    """Build and warm up, then run steps as stdin asks."""
    answers, sys.stdout = sys.stdout, sys.stderr
    step, wait = build()
    versions = {name: importlib.metadata.version(name) for name in packages}
    warm = warm_up(step, wait)
    print(json.dumps({"warm": warm, "versions": versions}), file=answers, flush=True)
    for line in sys.stdin:
        print(seconds_per_step(step, wait, int(line)), file=answers, flush=True)


def main(contestants, works) -> None:
    """Serve as the command line says."""
    name, model, *batch = sys.argv[1:]
    build, packages = contestants[name]
    work = dataclasses.replace(works[model], **({"batch": int(batch[0])} if batch else {}))
    serve(lambda: build(work), packages)


if __name__ == "__main__":
    main(CONTESTANTS, WORK)
