"""A stack of like layers."""

import flax.linen as nn
import jax

from models.config import ModelConfig
from models.layers.linear import PROJECTION


def stack(layer: type[nn.Module], config: ModelConfig, count: int, name: str | None, **attributes) -> nn.Module:
    """`count` copies of `layer`, run one after the other, their parameters stacked on a first axis called `layers`.

    `layer(...)(carry, per_layer, shared) -> (carry, collected)`: of each array in `per_layer` a layer gets its slice of the
    first axis (`jnp.arange(count)` gives it its number), `shared` is the same for all, and `collected` comes back stacked. With
    `config.scan_layers` one layer is compiled and looped over; without, all are laid out one after another. `config.remat`
    says what the backward pass computes again. Neither changes parameters or numbers.
    """
    policies = {"dots": jax.checkpoint_policies.save_only_these_names(PROJECTION), "full": None}
    if config.remat != "none":
        layer = nn.remat(layer, policy=policies[config.remat], prevent_cse=not config.scan_layers)
    return nn.scan(
        layer,
        variable_axes={"params": 0, "batch_stats": 0},
        split_rngs={"params": True},
        in_axes=(0, nn.broadcast),
        length=count,
        unroll=1 if config.scan_layers else count,
        metadata_params={nn.PARTITION_NAME: "layers"},
    )(config, name=name, **attributes)
