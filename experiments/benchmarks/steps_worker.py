"""One contestant of `steps`: builds its train step, warms up, then runs some steps for each line on stdin.

    python steps_worker.py CONTESTANT MODEL [BATCH]
    python steps_worker.py CONTESTANT FOLDER                   of `tuning`: a step is all batches of a file, one after the other

JAX_PLATFORMS says where, for torch too: `cpu`, or `cuda`, where both multiply float32 matrices in TF32, as JAX does unasked.
Runs under the interpreter of the library it measures, which may be another than ours: so a contestant imports what it needs
itself, and only ours import anything of this project but the table of works.
Answers are lines of JSON on stdout: first `{"warm": seconds, "versions": …}`, then for each line `N` the seconds per step
over N steps, waiting for the last one's parameters.
"""

import dataclasses
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable

from experiments.benchmarks.work import Work
from experiments.benchmarks.works import LENGTH, WORK, TuningWork

LEARNING_RATE, WEIGHT_DECAY, CLIP_NORM = 1e-4, 0.01, 1.0

PLATFORM = os.environ.get("JAX_PLATFORMS", "cpu")

Step = Callable[[], None]
Wait = Callable[[], object]


def assembled(work: Work, kind: str = "pmap", dtype: str = "float32", trainable: str = ""):
    """Our assembly for `work`, as `lacuna train` makes it but for the data, which are blank, and batches to fill them with.

    Args:
        trainable: pattern of the parameters that are trained; all where it is empty.
    """
    import itertools

    import numpy as np

    from experiments.assembly.assemble import assemble
    from experiments.experiment import Experiment, Phase
    from models import hub
    from objectives import named
    from training.optimizers import AdamW
    from training.parallel import Parallel

    optimizer = AdamW(learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY, clip_norm=CLIP_NORM)
    if isinstance(work, TuningWork):
        assembly = assemble(dataclasses.replace(work.recipe(), optimizer=optimizer, parallel=Parallel(kind=kind)))
        batches = itertools.islice(assembly.batches(0, 0), work.batches)
        return assembly, [{name: x[0] for name, x in batch.items() if name != "index"} for batch in batches]
    published = {"model_type": work.model_type, **work.published}
    source, form = work.data()
    experiment = Experiment(
        name="benchmark",
        architecture=work.architecture,
        model=hub.config_class(work.model_type).from_json(published, dtype=dtype),
        objective=named(work.objective),
        data=source,
        optimizer=optimizer,
        batch_size=work.batch,
        phases=(Phase(1.0, form, trainable),),
        parallel=Parallel(kind=kind),
    )
    assembly, random = assemble(experiment, data=experiment.outline), np.random.default_rng(0)
    blank = assembly.data.training(assembly.form(0), 0)[0]
    batch = {name: work.drawn(name, (work.batch, *np.shape(x)), random) for name, x in blank.items() if name != "index"}
    return assembly, [batch]


def numbered(work: Work, batch, done: int):
    """The batch as examples of a run that has seen `done` before."""
    import numpy as np

    return {**batch, "index": np.arange(done, done + work.batch, dtype=np.uint32)}


def corruption(work: Work) -> tuple[Step, Wait]:
    """What the objective does to a batch, and the augmentation before it; nothing else of the step."""
    import jax

    from training.step import corrupted

    assembly, (batch,) = assembled(work)
    done, seen = 0, None
    compiled = jax.jit(lambda rows: corrupted(assembly.training_objective, 0, rows)[0])

    def step() -> None:
        nonlocal seen, done
        seen, done = compiled(numbered(work, batch, done)), done + work.batch

    return step, lambda: jax.block_until_ready(seen)


def ours(work: Work, kind: str, dtype: str, trainable: str = "") -> tuple[Step, Wait]:
    """The step that a run trains with: a fresh corruption of every batch is part of it."""
    import jax

    assembly, batches = assembled(work, kind, dtype, trainable)
    state, compiled, done = assembly.initial_state(), assembly.compile_train_step(), 0

    def step() -> None:
        nonlocal state, done
        for batch in batches:
            rows = {name: x[None] for name, x in numbered(work, batch, done).items()}
            state, _ = compiled(state, assembly.spread.put_batch(rows))
            done += work.batch

    return step, lambda: jax.block_until_ready(state)


def torch_step(work: Work, dtype: str, compiled: bool = False) -> tuple[Step, Wait]:
    """A step of `transformers` on PyTorch in train mode, with its default (sdpa) attention and fused AdamW."""
    import numpy
    import torch
    import transformers

    torch.manual_seed(0)
    if PLATFORM == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
    config = transformers.AutoConfig.for_model(work.model_type, **work.published)
    model = work.made_ready(getattr(transformers, work.architecture)(config).train()).to(PLATFORM)
    compute = torch.compile(model) if compiled else model
    plain = [p for p in model.parameters() if p.ndim < 2]
    weights = [p for p in model.parameters() if p.ndim >= 2]
    groups = [dict(params=weights, weight_decay=WEIGHT_DECAY), dict(params=plain, weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, fused=True)

    def tensors(x):
        if isinstance(x, list):
            return [tensors(one) for one in x]
        if isinstance(x, dict):
            return {name: tensors(one) for name, one in x.items()}
        return torch.from_numpy(x).to(PLATFORM)

    batches = tensors(work.batches_of_theirs(numpy))

    def step() -> None:
        for batch in batches:
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
    batch = {name: np.asarray(x, np.int32) for name, x in work.batch_of_theirs(np).items()}

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


OURS, TORCH, FLAX = ("jax", "flax"), ("transformers", "torch"), ("transformers", "jax", "flax")
"""The packages whose versions count."""
CONTESTANTS: dict[str, tuple[Callable[[Work], tuple[Step, Wait]], tuple[str, ...]]] = {
    "ours, pmap": (lambda work: ours(work, "pmap", "float32"), OURS),
    "ours, jit": (lambda work: ours(work, "jit", "float32"), OURS),
    "ours, pmap, bf16": (lambda work: ours(work, "pmap", "bfloat16"), OURS),
    "ours, jit, bf16": (lambda work: ours(work, "jit", "bfloat16"), OURS),
    "ours, corruption alone": (corruption, ("jax",)),
    "transformers, torch": (lambda work: torch_step(work, "float32"), TORCH),
    "transformers, torch, bf16 autocast": (lambda work: torch_step(work, "bfloat16"), TORCH),
    "transformers, torch.compile": (lambda work: torch_step(work, "float32", compiled=True), TORCH),
    "transformers, torch.compile, bf16 autocast": (lambda work: torch_step(work, "bfloat16", compiled=True), TORCH),
    "transformers, Flax": (lambda work: flax(work, one_hot=True), FLAX),
    "transformers, Flax, integer labels": (lambda work: flax(work, one_hot=False), FLAX),
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


def main() -> None:
    """Serve as the command line says."""
    name, model, *batch = sys.argv[1:]
    build, packages = CONTESTANTS[name]
    work = WORK[model] if model in WORK else TuningWork.open(model)
    work = dataclasses.replace(work, **({"batch": int(batch[0])} if batch else {}))
    serve(lambda: build(work), packages)


if __name__ == "__main__":
    main()
