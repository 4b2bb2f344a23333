"""One contestant of `vision_steps`, as `steps_worker` is one of `steps`.

python vision_steps_worker.py CONTESTANT MODEL
"""

import dataclasses
import sys
from typing import Any

from experiments.benchmarks.steps_worker import CLIP_NORM, LEARNING_RATE, WEIGHT_DECAY, Step, Wait, serve

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


def ours(work: Work) -> tuple[Step, Wait]:
    """One compiled program: forward, gradients, AdamW."""
    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    from models import hub
    from models.outputs import blank_inputs
    from objectives.objective import cross_entropy
    from training.optimizers import AdamW

    config = hub.config_class(work.model_type).from_json({"model_type": work.model_type, **work.published})
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


def theirs(work: Work) -> tuple[Step, Wait]:
    """`transformers` on PyTorch in train mode, with its default attention and fused AdamW."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(work.model_type, **work.published)
    model = getattr(transformers, work.architecture)(config).train()
    groups = [
        dict(params=[p for p in model.parameters() if p.ndim >= 2], weight_decay=WEIGHT_DECAY),
        dict(params=[p for p in model.parameters() if p.ndim < 2], weight_decay=0.0),
    ]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, fused=True)
    pixel_values, labels = torch.randn(work.batch, 3, SIZE, SIZE), torch.randint(LABELS, (work.batch,))

    def step() -> None:
        model(pixel_values=pixel_values, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step, lambda: None


CONTESTANTS = {OURS: (ours, ("jax", "flax")), THEIRS: (theirs, ("transformers", "torch"))}


if __name__ == "__main__":
    build, packages = CONTESTANTS[sys.argv[1]]
    serve(lambda: build(WORK[sys.argv[2]]), packages)
