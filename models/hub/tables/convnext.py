"""ConvNeXt's names, as `transformers` publishes them."""

from models.hub.names import Name, NameTable, convolution, linear, norm


def stage(number: int) -> tuple[Name, ...]:
    """A stage's blocks, and what halves the resolution before it (in all stages but the first)."""
    published = f"convnext.encoder.stages.{number}"
    layer, ours = f"{published}.layers.{{layer}}", f"convnext/stage_{number}"
    return (
        *norm(f"{published}.downsampling_layer.0", f"convnext/downsampling_{number}_norm"),
        *convolution(f"{published}.downsampling_layer.1", f"convnext/downsampling_{number}"),
        *convolution(f"{layer}.dwconv", f"{ours}/depthwise"),
        *norm(f"{layer}.layernorm", f"{ours}/norm"),
        *linear(f"{layer}.pwconv1", f"{ours}/up"),
        *linear(f"{layer}.pwconv2", f"{ours}/down"),
        Name(f"{layer}.layer_scale_parameter", f"{ours}/layer_scale"),
    )


TABLE = NameTable(
    names=(
        *convolution("convnext.embeddings.patch_embeddings", "convnext/patches"),
        *norm("convnext.embeddings.layernorm", "convnext/patches_norm"),
        *(name for number in range(4) for name in stage(number)),
        *norm("convnext.layernorm", "convnext/norm"),
        *linear("classifier", "classifier"),
    ),
    prefix=("convnext.", "convnext/"),
)
