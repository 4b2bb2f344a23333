"""Names of the Mix Transformer, as `transformers` writes them into files, and of SegFormer's head over classes.

In memory `transformers` 5 has other names for SegFormer's; `RENAMED` says which. A file may have either.
"""

from models.hub.names import Name, NameTable, convolution, linear, norm
from models.mix_transformer import MixTransformerConfig

MOST_STAGES = 8
"""Stages whose names of today are known."""

RENAMED = {
    **{
        f"stages.{number}.{new}.": f"encoder.{old}.{number}."
        for number in range(MOST_STAGES)
        for new, old in (("patch_embeddings", "patch_embeddings"), ("blocks", "block"), ("layer_norm", "layer_norm"))
    },
    "attention.sequence_reduction.sequence_reduction.": "attention.self.sr.",
    "attention.sequence_reduction.layer_norm.": "attention.self.layer_norm.",
    **{f"attention.{name[0]}_proj.": f"attention.self.{name}." for name in ("query", "key", "value")},
    "attention.o_proj.": "attention.output.dense.",
    "mlp.fc1.": "mlp.dense1.",
    "mlp.fc2.": "mlp.dense2.",
    "layernorm_before.": "layer_norm_1.",
    "layernorm_after.": "layer_norm_2.",
}


def stage(number: int, published: str) -> tuple[Name, ...]:
    """The names of a stage, of an encoder that is published as `published`."""
    encoder, ours = f"{published}.encoder", f"encoder/stages_{number}"
    embedding, block, layers = f"{encoder}.patch_embeddings.{number}", f"{encoder}.block.{number}", f"{ours}/layers"
    layer, attention = f"{block}.{{layer}}", f"{ours}/layers/attention"
    return (
        *convolution(f"{embedding}.proj", f"{ours}/embedding"),
        *norm(f"{embedding}.layer_norm", f"{ours}/embedding_norm"),
        *norm(f"{layer}.layer_norm_1", f"{layers}/attention_norm"),
        *(
            name
            for which in ("query", "key", "value")
            for name in linear(f"{layer}.attention.self.{which}", f"{attention}/{which}")
        ),
        *convolution(f"{layer}.attention.self.sr", f"{attention}/sequence_reduction"),
        *norm(f"{layer}.attention.self.layer_norm", f"{attention}/sequence_reduction_norm"),
        *linear(f"{layer}.attention.output.dense", f"{attention}/out"),
        *norm(f"{layer}.layer_norm_2", f"{layers}/mlp_norm"),
        *linear(f"{layer}.mlp.dense1", f"{layers}/up"),
        *convolution(f"{layer}.mlp.dwconv.dwconv", f"{layers}/depthwise"),
        *linear(f"{layer}.mlp.dense2", f"{layers}/down"),
        *norm(f"{encoder}.layer_norm.{number}", f"{ours}/norm"),
    )


def stages(config: MixTransformerConfig, published: str) -> tuple[Name, ...]:
    """The names of all stages, of an encoder that is published as `published`."""
    return tuple(name for number in range(config.num_encoder_blocks) for name in stage(number, published))


TABLE = NameTable(
    names=linear("classifier", "classifier"),
    prefix=("segformer.", "encoder/"),
    renamed=RENAMED,
    of_shape=lambda config: stages(config, "segformer"),
)
