"""One contestant of `vision_steps`, as `steps_worker` is one of `steps`.

python vision_steps_worker.py CONTESTANT MODEL [BATCH]
"""

import dataclasses
from typing import Any

from experiments.benchmarks.steps_worker import CLIP_NORM, LEARNING_RATE, WEIGHT_DECAY, Step, Wait, main, torch_step

OURS, THEIRS = "ours", "transformers, torch"
LABELS, SIZE = 1_000, 224


@dataclasses.dataclass(frozen=True)
class Work:
    """A classifier of both libraries, by the fields of its published `config.json`, and the images in a batch."""

    architecture: str
    model_type: str
    batch: int
    config: dict[str, Any]

    @property
    def published(self) -> dict[str, Any]:
        names = {str(number): f"LABEL_{number}" for number in range(LABELS)}
        return {**self.config, "id2label": names, "label2id": {name: int(number) for number, name in names.items()}}


SMALL = dict(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, intermediate_size=1_536, patch_size=16)
WORK = {
    "resnet50": Work("ResNetForImageClassification", "resnet", 8, {}),
    "convnext-tiny": Work("ConvNextForImageClassification", "convnext", 4, {"drop_path_rate": 0.1}),
    "vit-small": Work("ViTForImageClassification", "vit", 8, SMALL),
}


def ours(work: Work, dtype: str) -> tuple[Step, Wait]:
    """One compiled program: forward, gradients, AdamW."""
    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    from models import hub
    from models.outputs import blank_inputs
    from objectives.losses import cross_entropy
    from training.optimizers import AdamW

    config = hub.config_class(work.model_type).from_json({"model_type": work.model_type, **work.published}, dtype=dtype)
    model = hub.model_class(work.model_type, work.architecture)(config)
    optimizer = AdamW(learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY, clip_norm=CLIP_NORM).build(10**6)
    random = np.random.default_rng(0)
    pixel_values = jnp.asarray(random.normal(size=(work.batch, SIZE, SIZE, 3)), jnp.float32)
    labels = jnp.asarray(random.integers(0, LABELS, work.batch), jnp.int32)
    training = {"batch_axes": ()} if getattr(model, "batch_statistics", False) else {}

    def init():
        variables = nn.unbox(model.init(jax.random.key(0), **blank_inputs(model)))
        params = variables.pop("params")
        return params, variables, optimizer.init(params)

    def train_step(state, key):
        params, statistics, opt_state = state

        def loss(params):
            outputs, moved = model.apply(
                {"params": params, **statistics},
                pixel_values,
                dropout_keys=jax.random.split(key, work.batch),
                mutable=["batch_stats"],
                **training,
            )
            amount, weight = cross_entropy(outputs.logits, labels)
            return amount / weight, moved

        gradients, statistics = jax.grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), statistics, opt_state

    state, compiled, done = jax.jit(init)(), jax.jit(train_step, donate_argnums=0), 0

    def step() -> None:
        nonlocal state, done
        state, done = compiled(state, jax.random.key(done)), done + 1

    return step, lambda: jax.block_until_ready(state)


def theirs(work: Work, dtype: str, compiled: bool = False) -> tuple[Step, Wait]:
    """`transformers` on PyTorch."""
    import numpy as np

    random = np.random.default_rng(0)
    pixel_values = random.normal(size=(work.batch, 3, SIZE, SIZE)).astype(np.float32)
    batch = {"pixel_values": pixel_values, "labels": random.integers(0, LABELS, work.batch)}
    return torch_step(work.architecture, work.model_type, work.published, batch, dtype, compiled)


JAX, TORCH = ("jax", "flax"), ("transformers", "torch")
CONTESTANTS = {
    OURS: (lambda work: ours(work, "float32"), JAX),
    "ours, bf16": (lambda work: ours(work, "bfloat16"), JAX),
    THEIRS: (lambda work: theirs(work, "float32"), TORCH),
    "transformers, torch, bf16 autocast": (lambda work: theirs(work, "bfloat16"), TORCH),
    "transformers, torch.compile": (lambda work: theirs(work, "float32", compiled=True), TORCH),
    "transformers, torch.compile, bf16 autocast": (lambda work: theirs(work, "bfloat16", compiled=True), TORCH),
}


if __name__ == "__main__":
    main(CONTESTANTS, WORK)
