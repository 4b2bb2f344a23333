"""GLPN's names, as `transformers` publishes them."""

from models.glpn import GLPNConfig
from models.hub.names import Name, NameTable, batch_norm, convolution
from models.hub.tables.segformer import stages


def fusion(number: int) -> tuple[Name, ...]:
    """A stage of the decoder: where its features are made as many as the others, and where they are fused."""
    published, ours = f"decoder.stages.{number}", f"decoder/fusion_{number}"
    layer = f"{published}.fusion.convolutional_layer"
    return (
        *convolution(f"{published}.convolution", f"decoder/convolution_{number}"),
        *convolution(f"{layer}1.0", f"{ours}/conv_0"),
        *batch_norm(f"{layer}1.1", f"{ours}/norm_0"),
        *convolution(f"{layer}2.0", f"{ours}/conv_1"),
        *batch_norm(f"{layer}2.1", f"{ours}/norm_1"),
        *convolution(f"{layer}3", f"{ours}/conv_2"),
    )


def of_shape(config: GLPNConfig) -> tuple[Name, ...]:
    """The names of all stages, of the encoder and of the decoder."""
    decoder = (name for number in range(config.num_encoder_blocks) for name in fusion(number))
    return (*stages(config, "glpn"), *decoder)


TABLE = NameTable(
    names=(*convolution("head.head.0", "head_0"), *convolution("head.head.2", "head_1")),
    prefix=("glpn.", "encoder/"),
    of_shape=of_shape,
)
