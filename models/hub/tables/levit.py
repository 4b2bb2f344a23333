"""LeViT's names, as `transformers` publishes them.

Layers are numbered through a stage, residual branch by residual branch: attention, MLP, attention, MLP, …, and what comes
before the next stage behind them.
"""

import dataclasses

from models.config import ModelError
from models.hub.names import Name, NameTable, batch_norm, convolution, linear
from models.levit import STAGES, STEM, LevitConfig


def linear_and_norm(published: str, ours: str, layers: tuple[int, int] = (0, 1)) -> tuple[Name, ...]:
    """A linear layer without bias, and its batch norm."""
    names = (linear(f"{published}.linear", f"{ours}/linear")[0], *batch_norm(f"{published}.batch_norm", f"{ours}/norm"))
    return tuple(dataclasses.replace(name, layers=layers) for name in names)


def mlp(published: str, ours: str, layers: tuple[int, int] = (0, 1)) -> tuple[Name, ...]:
    """An MLP, which is always a residual branch."""
    return (
        *linear_and_norm(f"{published}.module.linear_up", f"{ours}/up", layers),
        *linear_and_norm(f"{published}.module.linear_down", f"{ours}/down", layers),
    )


def stage(number: int, depth: int) -> tuple[Name, ...]:
    """The names of a stage with `depth` layers, with what comes behind them."""
    published, ours = f"levit.encoder.stages.{number}.layers", f"levit/stages_{number}"
    attention, layers = f"{published}.{{layer}}.module", f"{ours}/layers/attention"
    shrinking, last = f"{published}.{2 * depth}", f"{ours}/shrinking_attention"
    return (
        Name(f"{attention}.attention_biases", f"{layers}/bias", layers=(0, 2)),
        *linear_and_norm(f"{attention}.queries_keys_values", f"{layers}/qkv", (0, 2)),
        *linear_and_norm(f"{attention}.projection", f"{layers}/out", (0, 2)),
        *mlp(f"{published}.{{layer}}", f"{ours}/layers/mlp", (1, 2)),
        Name(f"{shrinking}.attention_biases", f"{last}/bias"),
        *linear_and_norm(f"{shrinking}.keys_values", f"{last}/key_value"),
        *linear_and_norm(f"{shrinking}.queries", f"{last}/query"),
        *linear_and_norm(f"{shrinking}.projection", f"{last}/out"),
        *mlp(f"{published}.{2 * depth + 1}", f"{ours}/shrinking_mlp"),
    )


def stem(number: int) -> tuple[Name, ...]:
    """A convolution of the stem, and its batch norm."""
    published, ours = f"levit.patch_embeddings.embedding_layer_{number + 1}", f"levit/stem_{number}"
    return (
        convolution(f"{published}.convolution", f"{ours}/convolution")[0],
        *batch_norm(f"{published}.batch_norm", f"{ours}/norm"),
    )


def classifier(name: str) -> tuple[Name, ...]:
    """A batch norm, and its linear layer."""
    return *batch_norm(f"{name}.batch_norm", f"{name}/norm"), *linear(f"{name}.linear", f"{name}/linear")


def of_shape(config: LevitConfig) -> tuple[Name, ...]:
    """The names of all stages.

    Raises:
        ModelError: the batch norms are fused, which nobody publishes.
    """
    if config.fused_norms:
        raise ModelError(
            "fused_norms is set: such a model is neither read nor written; save the one that it was made from, and use"
            " models.levit.fused behind load"
        )
    return tuple(name for number in range(STAGES) for name in stage(number, config.depths[number]))


TABLE = NameTable(
    names=(
        *(name for number in range(STEM) for name in stem(number)),
        *classifier("classifier"),
        *classifier("classifier_distill"),
    ),
    prefix=("levit.", "levit/"),
    of_shape=of_shape,
)
