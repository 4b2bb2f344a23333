"""CvT's names, as `transformers` publishes them."""

from models.cvt import CvtConfig
from models.hub.names import Name, NameTable, batch_norm, convolution, linear, norm


def projection(published: str, ours: str, name: str) -> tuple[Name, ...]:
    """Convolution, batch norm and linear layer of the queries, keys or values."""
    convolved = f"{published}.convolution_projection_{name}.convolution_projection"
    return (
        convolution(f"{convolved}.convolution", f"{ours}/{name}_conv")[0],
        *batch_norm(f"{convolved}.normalization", f"{ours}/{name}_norm"),
        *linear(f"{published}.projection_{name}", f"{ours}/{name}"),
    )


def stage(number: int) -> tuple[Name, ...]:
    """The names of a stage."""
    published, ours = f"cvt.encoder.stages.{number}", f"cvt/stages_{number}"
    embedding = f"{published}.embedding.convolution_embeddings"
    layer, layers = f"{published}.layers.{{layer}}", f"{ours}/layers"
    return (
        *convolution(f"{embedding}.projection", f"{ours}/embedding"),
        *norm(f"{embedding}.normalization", f"{ours}/embedding_norm"),
        Name(f"{published}.cls_token", f"{ours}/cls_token"),
        *norm(f"{layer}.layernorm_before", f"{layers}/attention_norm"),
        *(
            name
            for which in ("query", "key", "value")
            for name in projection(f"{layer}.attention.attention", f"{layers}/attention", which)
        ),
        *linear(f"{layer}.attention.output.dense", f"{layers}/attention/out"),
        *norm(f"{layer}.layernorm_after", f"{layers}/mlp_norm"),
        *linear(f"{layer}.intermediate.dense", f"{layers}/up"),
        *linear(f"{layer}.output.dense", f"{layers}/down"),
    )


def of_shape(config: CvtConfig) -> tuple[Name, ...]:
    """The names of all stages."""
    return tuple(name for number in range(config.stages) for name in stage(number))


TABLE = NameTable(
    names=(*norm("layernorm", "norm"), *linear("classifier", "classifier")), prefix=("cvt.", "cvt/"), of_shape=of_shape
)
