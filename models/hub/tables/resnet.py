"""ResNet's names, as `transformers` publishes them."""

import dataclasses

from models.hub.names import Name, NameTable, batch_norm, convolution, linear


def conv_norm(published: str, ours: str) -> tuple[Name, ...]:
    """A convolution without bias and its batch norm."""
    return (
        convolution(f"{published}.convolution", f"{ours}/convolution")[0],
        *batch_norm(f"{published}.normalization", f"{ours}/normalization"),
    )


def layer(published: str, ours: str) -> tuple[Name, ...]:
    """A basic layer, a bottleneck, and what stands beside them."""
    inner = (conv_norm(f"{published}.layer.{number}", f"{ours}/conv_{number}") for number in range(3))
    return tuple(name for part in (*inner, conv_norm(f"{published}.shortcut", f"{ours}/shortcut")) for name in part)


def stage(number: int) -> tuple[Name, ...]:
    """A stage's first layer, which may change resolution and channels, and the others, stacked."""
    published, ours = f"resnet.encoder.stages.{number}.layers", f"resnet/stage_{number}"
    rest = (dataclasses.replace(name, layers=(1, 1)) for name in layer(f"{published}.{{layer}}", f"{ours}_rest"))
    return (*layer(f"{published}.0", f"{ours}_first"), *rest)


TABLE = NameTable(
    names=(
        *conv_norm("resnet.embedder.embedder", "resnet/embedder"),
        *(name for number in range(4) for name in stage(number)),
        *linear("classifier.1", "classifier"),
    ),
    prefix=("resnet.", "resnet/"),
)
