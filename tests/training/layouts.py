"""The same 20 steps of BERT laid out over devices and processes in every way there is; a program for the tests.

    python -m tests.training.layouts FOLDER LAYOUT…                        in this process
    python -m tests.training.layouts FOLDER LAYOUT… ADDRESS COUNT NUMBER   as one process of several

writes `FOLDER/<layout>.npz`: the final parameters, and of each step the digest and the masked tokens of every shard.
"""

import dataclasses
import functools
import sys
from pathlib import Path
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from data.text.framing import Framing
from models.bert import BertConfig, BertForPreTraining
from models.layers.axes import axes_of
from objectives import MaskedLM, NextSentence, Sum
from objectives.losses import IGNORED
from tests.examples import batch
from tests.training import totals
from training.optimizers import AdamW
from training.parallel import Parallel, logical_axes
from training.state import Update
from training.step import corrupted, host_values, train_step

BATCH, LENGTH, STEPS, SEED, SHARDS = 32, 64, 20, 7, 8
LEARNING_RATE = 3e-4
"""Three times BERT's. At 1e-3 the loss jumps and one rounding of the start grows 1,000-fold, whatever the layout."""
VOCABULARY = SimpleNamespace(
    size=200,
    pad=0,
    unk=1,
    cls=2,
    sep=3,
    mask=4,
    special_ids=(0, 1, 2, 3, 4),
    starts_word=np.arange(200) % 3 > 0,
    framing=Framing((2,), (3,), (2,), (3,), (3,)),
)


@dataclasses.dataclass(frozen=True)
class Layout:
    """A way to run the steps: how they are spread, over how many processes, and what the model's layers do.

    Attributes:
        rounded: not a layout but a yardstick: move each initial parameter by about one rounding.
    """

    parallel: Parallel
    processes: int = 1
    scan_layers: bool = False
    remat: str = "none"
    rounded: bool = False


LAYOUTS = {
    "1 device": Layout(Parallel(devices=1)),
    "pmap × 8": Layout(Parallel()),
    "jit, data × 8": Layout(Parallel("jit")),
    "jit, fsdp 8": Layout(Parallel("jit", fsdp=8)),
    "jit, data 2 × fsdp 2 × tensor 2": Layout(Parallel("jit", fsdp=2, tensor=2)),
    "1 device, 4 micro-batches": Layout(Parallel(devices=1, micro_batches=4)),
    "1 device, scan": Layout(Parallel(devices=1), scan_layers=True),
    "1 device, remat full": Layout(Parallel(devices=1), remat="full"),
    "1 device, scan, remat dots": Layout(Parallel(devices=1), scan_layers=True, remat="dots"),
    "2 processes × 4 devices, pmap": Layout(Parallel(), processes=2),
    "2 processes × 4 devices, jit, data 2 × fsdp 2 × tensor 2": Layout(Parallel("jit", fsdp=2, tensor=2), processes=2),
    "2 processes × 4 devices, jit, tensor 8": Layout(Parallel("jit", tensor=8), processes=2),
    "4 processes × 2 devices, pmap": Layout(Parallel(), processes=4),
    "4 processes × 2 devices, jit, fsdp 8": Layout(Parallel("jit", fsdp=8), processes=4),
    "1 device, the start moved by one rounding": Layout(Parallel(devices=1), rounded=True),
}


@functools.partial(jax.jit, static_argnums=0)
def masked_tokens(objective, rows):
    """How many tokens are masked in each example."""
    return (corrupted(objective, SEED, rows)[0]["labels"] != IGNORED).sum(axis=1)


def examples(objective, step: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The batch of a step, each eighth of it with another number of masked tokens, and those numbers.

    Of many examples those are taken that have 3, 4, … 10 masked tokens, four of each.
    """
    rows = batch(range(12 * BATCH * step, 12 * BATCH * (step + 1)), LENGTH)
    masked = np.asarray(masked_tokens(objective, rows))
    chosen = np.concatenate([np.flatnonzero(masked == 3 + shard)[: BATCH // SHARDS] for shard in range(SHARDS)])
    assert len(chosen) == BATCH
    return {name: x[chosen] for name, x in rows.items()}, masked[chosen].reshape(SHARDS, -1).sum(axis=1)


def one_rounding(params, key):
    """`params`, each times 1 + 2⁻²⁴ ε with ε drawn from N(0, 1)."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    return tree.unflatten([x * (1 + 2**-24 * jax.random.normal(k, x.shape)) for k, x in zip(keys, leaves, strict=True)])


def run(layout: Layout) -> dict[str, np.ndarray]:
    """The final parameters by path, the digest of each step, and the masked tokens of each eighth of each batch."""
    config = BertConfig.tiny(
        vocab_size=VOCABULARY.size,
        max_position_embeddings=LENGTH,
        num_attention_heads=8,
        scan_layers=layout.scan_layers,
        remat=layout.remat,
    )
    assert config.hidden_dropout_prob == config.attention_probs_dropout_prob == 0.1
    model, objective = BertForPreTraining(config), Sum(MaskedLM(), NextSentence()).bind(VOCABULARY)
    settings = AdamW(learning_rate=LEARNING_RATE, warmup_steps=5, bias_correction=False)
    optimizer = settings.build(100, axes=axes_of(model.boxed_shapes()["params"]))

    def initial():
        params = model.init(jax.random.key(0), jnp.zeros((1, LENGTH), jnp.int32))["params"]
        params = one_rounding(params, jax.random.key(1)) if layout.rounded else params
        return Update(optimizer).first({"params": params})

    spread = layout.parallel.spread(logical_axes(jax.eval_shape(initial)))
    state = spread.put(jax.device_get(nn.unbox(jax.jit(initial)())))
    step = functools.partial(train_step, model=model, objective=objective, update=Update(optimizer), seed=SEED)
    step = spread.compile(step, donate=True)
    part, parts = spread.share
    digests, masked = [], []
    for number in range(STEPS):
        whole, counts = examples(objective, number)
        masked.append(counts)
        micro = {name: x.reshape(layout.parallel.micro_batches, parts, -1, *x.shape[1:]) for name, x in whole.items()}
        state, metrics = step(state, spread.put_batch({name: x[:, part] for name, x in micro.items()}))
        digests.append(host_values(spread.host(metrics))["digest"])
    gradient, losses = totals.one_step(layout.parallel)
    params = spread.gather(state.params)
    named = {jax.tree_util.keystr(path): x for path, x in jax.tree_util.tree_leaves_with_path(params)}
    beside = {"totals gradient": gradient, **{f"totals {name}": np.array(value) for name, value in losses.items()}}
    return {**named, **beside, "digests": np.array(digests), "masked": np.array(masked)}


def main(folder: str, *arguments: str) -> None:
    names = [name for name in arguments if name in LAYOUTS]
    if len(names) < len(arguments):
        address, count, number = arguments[len(names) :]
        jax.distributed.initialize(address, int(count), int(number))
    for name in names:
        found = run(LAYOUTS[name])
        if jax.process_index() == 0:
            np.savez(Path(folder) / f"{name}.npz", **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
