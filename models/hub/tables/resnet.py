"""ResNet's names, as `transformers` publishes them."""

import dataclasses

from models.hub.names import Name, NameTable, batch_norm, convolution, linear
from models.resnet import ResNetConfig


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


def stage(number: int, published: str, ours: str) -> tuple[Name, ...]:
    """A stage's first layer, which may change resolution and channels, and the others, stacked."""
    published, ours = f"{published}encoder.stages.{number}.layers", f"{ours}stage_{number}"
    rest = (dataclasses.replace(name, layers=(1, 1)) for name in layer(f"{published}.{{layer}}", f"{ours}_rest"))
    return (*layer(f"{published}.0", f"{ours}_first"), *rest)


def trunk(published: str, ours: str) -> tuple[Name, ...]:
    """All below the head, behind these prefixes."""
    stages = (name for number in range(4) for name in stage(number, published, ours))
    return (*conv_norm(f"{published}embedder.embedder", f"{ours}embedder"), *stages)


def backbone(config: ResNetConfig, published: str, ours: str) -> tuple[Name, ...]:
    """The names of a backbone that is called so (`models.hub.backbones`)."""
    return trunk(f"{published}.", f"{ours}/")


TABLE = NameTable(
    names=(*trunk("resnet.", "resnet/"), *linear("classifier.1", "classifier")),
    prefix=("resnet.", "resnet/"),
)
